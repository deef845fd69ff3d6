"""Scores requests a second time with the slot that does not answer, in a thread of its own; start at `Shadow`."""

import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from flows.adapters.flags import Slot
from flows.gateway.contract import ScoreSummary, ShadowResults
from flows.gateway.model_package import Model

_LOOK_EVERY_S = 0.01
Offered = tuple[str, list[float], Model, float]


class Shadow:
    """
    Pairs of scores for the same request, each request id once.

    Parameters
    ----------
    slot, model
        Who shadows.
    max_requests
        Ends by itself after this many distinct requests.
    max_waiting
        Offers beyond this many are dropped and counted: the requests' own path never waits.
    record
        Called with (request id, slot, version, score) for each shadow score, for the log.

    Notes
    -----
    The answering model is asked again beside the shadow, so that both latencies were taken in the same conditions.
    """

    def __init__(
        self,
        slot: Slot,
        model: Model,
        *,
        max_requests: int,
        max_waiting: int,
        record: Callable[[str, Slot, str, float], None],
    ) -> None:
        self.slot: Slot = slot
        self.model = model
        self._max_requests = max_requests
        self._max_waiting = max_waiting
        self._record = record
        self._waiting: deque[Offered] = deque()
        self._seen: set[str] = set()
        self._pairs: list[tuple[str, float, float, float, float]] = []
        self._live_version: str | None = None
        self._n_duplicates = 0
        self._n_dropped = 0
        self._n_errors = 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="lull-shadow", daemon=True)
        self._thread.start()

    @property
    def is_on(self) -> bool:
        """Whether it still takes requests."""
        return not self._stop.is_set()

    def offer(self, request_id: str, values: list[float], answered_by: Model, score: float) -> None:
        """Take one answered request, encoded as `values`; returns at once."""
        if self._stop.is_set() or answered_by is self.model:
            return
        if len(self._waiting) >= self._max_waiting:
            self._n_dropped += 1
        else:
            self._waiting.append((request_id, values, answered_by, score))

    def close(self, *, wait_s: float = 0.0) -> None:
        """Take no more requests; those already taken are scored, and the results stay."""
        self._stop.set()
        self._thread.join(timeout=wait_s)

    def results(self, *, include_scores: bool = False) -> ShadowResults:
        """Return the pairs so far in summary, and the pairs themselves if asked for."""
        with self._lock:
            pairs = list(self._pairs)
            counts = (self._n_duplicates, self._n_dropped, self._n_errors)
        columns = np.array([pair[1:] for pair in pairs], dtype=np.float64).reshape(-1, 4)
        differences = np.abs(columns[:, 0] - columns[:, 1])
        return ShadowResults(
            slot=self.slot,
            version=self.model.version,
            live_version=self._live_version,
            is_on=self.is_on,
            n=len(pairs),
            n_duplicates=counts[0],
            n_dropped=counts[1],
            n_errors=counts[2],
            mean_abs_diff=float(differences.mean()) if len(pairs) else None,
            max_abs_diff=float(differences.max()) if len(pairs) else None,
            live=summary(columns[:, 0]),
            shadow=summary(columns[:, 1]),
            live_latency_us=summary(columns[:, 2]),
            shadow_latency_us=summary(columns[:, 3]),
            request_ids=[pair[0] for pair in pairs] if include_scores else [],
            live_scores=columns[:, 0].tolist() if include_scores else [],
            shadow_scores=columns[:, 1].tolist() if include_scores else [],
            live_latencies_us=columns[:, 2].tolist() if include_scores else [],
            shadow_latencies_us=columns[:, 3].tolist() if include_scores else [],
        )

    def _run(self) -> None:
        while True:
            is_last = self._stop.is_set()
            while self._waiting:
                self._score(*self._waiting.popleft())
            if is_last:
                return
            self._stop.wait(_LOOK_EVERY_S)

    def _score(self, request_id: str, values: list[float], answered_by: Model, score: float) -> None:
        if len(self._pairs) >= self._max_requests:
            self._stop.set()
            return
        with self._lock:
            if request_id in self._seen:
                self._n_duplicates += 1
                return
            self._seen.add(request_id)
        try:
            began = time.perf_counter()
            answered_by.predictor.predict_one(values)
            between = time.perf_counter()
            shadow_score = self.model.predictor.predict_one(values)
            ended = time.perf_counter()
        except Exception:  # noqa: BLE001 - an error of the shadow is evidence against it, never an error of the gateway
            self._n_errors += 1
            return
        pair = (request_id, score, shadow_score, (between - began) * 1e6, (ended - between) * 1e6)
        with self._lock:
            self._live_version = answered_by.version
            self._pairs.append(pair)
        self._record(request_id, self.slot, self.model.version, shadow_score)


def summary(sample: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> ScoreSummary:
    """Return a sample, shape (n,), in a few numbers."""
    if not len(sample):
        return ScoreSummary(n=0)
    quantiles = np.quantile(sample, (0.05, 0.25, 0.5, 0.75, 0.95)).tolist()
    return ScoreSummary(
        n=len(sample),
        mean=float(sample.mean()),
        std=float(sample.std(ddof=1)) if len(sample) > 1 else None,
        minimum=float(sample.min()),
        maximum=float(sample.max()),
        **dict(zip(("q05", "q25", "q50", "q75", "q95"), quantiles, strict=True)),
    )


NO_SHADOW = ShadowResults(
    slot=None,
    version=None,
    live_version=None,
    is_on=False,
    n=0,
    n_duplicates=0,
    n_dropped=0,
    n_errors=0,
    mean_abs_diff=None,
    max_abs_diff=None,
    live=ScoreSummary(n=0),
    shadow=ScoreSummary(n=0),
    live_latency_us=ScoreSummary(n=0),
    shadow_latency_us=ScoreSummary(n=0),
)
