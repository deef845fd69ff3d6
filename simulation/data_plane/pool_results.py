"""What a pool reports: observations for a controller, results for a verdict, records for a close look."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulation.data_plane import pool_layout as at
from simulation.data_plane.histogram import TICKS_PER_S, LatencyHistogram

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class VersionObservation:
    """What a gateway saw of one version: answers sent, errors among them, and their latencies."""

    attempts: int
    finished: int
    errors: int
    latency: LatencyHistogram


@dataclass(frozen=True)
class Observation:
    """
    What a gateway could see in [from_s, to_s): never the future, never the true service time.

    It cannot tell a retry from a first attempt, so latencies run from the attempt's arrival to its answer.
    """

    from_s: float
    to_s: float
    attempts: int
    finished: int
    errors: int
    rejected: int
    timeouts: int
    queue_length: int
    busy: int
    latency: LatencyHistogram
    by_version: tuple[VersionObservation, ...]

    @property
    def duration_s(self) -> float:
        """Length of the interval."""
        return self.to_s - self.from_s


@dataclass(frozen=True)
class VersionResult:
    """The whole run of one version; `latency` is that of served requests, from their first arrival."""

    counters: Mapping[str, int]
    latency: LatencyHistogram

    def __getattr__(self, name: str) -> int:
        # Only reached for names that are not fields: served, good, errors, completed, ...
        counters: Mapping[str, int] = object.__getattribute__(self, "counters")
        if name not in counters:
            raise AttributeError(f"a version's result has no {name!r}; it has {', '.join(counters)}")
        return counters[name]


@dataclass(frozen=True)
class Minutes:
    """
    Counters per bucket of time, by name: ``minutes["attempts"]``.

    Whole numbers: all of `pool_layout.COUNTERS` that are counts, `bad` (ended, and not good) and `queue_max`. Floats:
    `latency_sum_s`, `queue_mean`, `busy_mean` over the part of the bucket that was played. A request counts where it
    ended, an attempt where it arrived or met its fate.
    """

    cells: IntArray
    bucket_s: float
    end_s: float

    @property
    def start_s(self) -> FloatArray:
        """When each bucket starts."""
        return np.arange(self.cells.shape[0]) * self.bucket_s

    @property
    def names(self) -> tuple[str, ...]:
        """All names that can be asked for."""
        return (*at.COUNTERS[: at.C_LATENCY_TICKS], "bad", "queue_max", "latency_sum_s", "queue_mean", "busy_mean")

    def __len__(self) -> int:
        return self.cells.shape[0]

    def counts(self, name: str) -> IntArray:
        """Return a column of whole numbers."""
        return np.asarray(self[name], np.int64)

    def __getitem__(self, name: str) -> NDArray[np.int64] | FloatArray:
        sums: IntArray = self.cells.sum(axis=1)
        if name == "bad":
            ended = sums[:, [at.C_SERVED, at.C_REJECTED, at.C_TIMED_OUT, at.C_ABANDONED, at.C_FAILED]].sum(axis=1)
            bad: IntArray = ended - sums[:, at.C_GOOD]
            return bad
        if name == "latency_sum_s":
            return np.asarray(sums[:, at.C_LATENCY_TICKS] / TICKS_PER_S, np.float64)
        if name in ("queue_mean", "busy_mean"):
            ticks = sums[:, at.C_QUEUE_TICKS if name == "queue_mean" else at.C_BUSY_TICKS]
            played_s = np.clip(self.end_s - self.start_s, 0.0, self.bucket_s)
            return np.divide(ticks / TICKS_PER_S, played_s, out=np.zeros(len(self)), where=played_s > 0.0)
        if name not in self.names:
            raise KeyError(f"there is no {name!r} per minute; there are {', '.join(self.names)}")
        return np.asarray(sums[:, at.COUNTERS.index(name)], np.int64)


@dataclass(frozen=True)
class PoolResult:
    """
    The whole run so far.

    `counters` holds each name of `pool_layout.COUNTERS` that is a count, and `in_flight`, `waiting`, `running`,
    `in_backoff` as they are now. `latency` is that of served requests, from their first arrival.
    """

    counters: Mapping[str, int]
    latency: LatencyHistogram
    by_version: tuple[VersionResult, ...]
    minutes: Minutes
    minute_latency: tuple[LatencyHistogram, ...] | None
    mean_queue: float
    mean_busy: float
    ended_at_s: float
    overloaded_at_s: float | None

    @property
    def mean_latency_s(self) -> float:
        """Mean time from first arrival to answer of the served requests."""
        return self.latency.mean_s


@dataclass(frozen=True)
class RequestRecords:
    """
    One entry per request, in the order offered.

    `outcome` is a place in `OUTCOMES`; `starts_s` (of the attempt that was served) is NaN unless served, `ends_s` is
    NaN while in flight.
    """

    outcome: NDArray[np.int8]
    attempts: IntArray
    version: NDArray[np.int8]
    starts_s: FloatArray
    ends_s: FloatArray

    OUTCOMES = at.OUTCOMES

    def is_outcome(self, name: str) -> NDArray[np.bool_]:
        """Return which requests ended so."""
        return np.asarray(self.outcome == self.OUTCOMES.index(name))
