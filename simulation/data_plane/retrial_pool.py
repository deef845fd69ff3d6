"""A serving pool that can be stopped at any instant, changed, and continued: exact per request, in bounded memory."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulation.data_plane import retrial_kernel as k
from simulation.errors import InvalidWorkload
from simulation.plan import Client, ServiceTime

FloatArray = NDArray[np.float64]
RunningWork = Literal["drain", "evict_and_requeue", "hand_over"]
_KINDS = {
    "deterministic": k.DETERMINISTIC,
    "exponential": k.EXPONENTIAL,
    "lognormal": k.LOGNORMAL,
    "hyperexponential": k.HYPEREXPONENTIAL,
    "erlang": k.ERLANG,
}
_MOST_OPEN = 1 << 21  # attempts open at once, beyond which a pool is called overloaded


class Overloaded(RuntimeError):
    """More work came in than can ever be finished: the queue passed two million open attempts."""


class ConservationBroken(AssertionError):
    """A request was lost or counted twice: an error in the simulator, never in its input."""


@dataclass(frozen=True)
class Counts:
    """How requests and attempts ended so far; `in_flight` are still waiting, in service, or about to try again."""

    offered: int
    attempts: int
    served: int
    rejected: int
    timed_out: int
    failed: int
    good: int
    in_flight: int


class RetrialPool:
    """
    Exact online FCFS pool of `servers` with a finite queue, client timeouts, retries and a retry budget.

    Parameters
    ----------
    servers : how many requests are worked on at once
    service : distribution of the service requirement
    client : patience, retries, backoff, jitter, budget
    queue_limit : waiting places; None: no limit, 0: a loss system
    slo_s : a request answered without error within this latency is good
    seed : key of all draws
    n_minutes : length of the counters per minute; later events fall into the last one

    Notes
    -----
    A rejected attempt is answered at once and not tried again (callers honour Retry-After); a client that timed out
    leaves its work behind. Runs split at any instants equal one run, bit for bit.
    """

    def __init__(
        self,
        *,
        servers: int,
        service: ServiceTime,
        client: Client,
        queue_limit: int | None,
        slo_s: float,
        seed: int,
        n_minutes: int,
    ) -> None:
        if servers < 0 or n_minutes < 1:
            raise InvalidWorkload(f"servers {servers} and n_minutes {n_minutes} must be at least 0 and 1")
        if service.distribution == "hyperexponential" and service.scv < 1:
            raise InvalidWorkload(f"service_time.scv {service.scv:g} is below 1; a hyperexponential needs 1 or more")
        if service.distribution == "erlang" and not (0 < service.scv <= 1 and abs(1 / service.scv % 1 - 0.5) > 0.49):
            raise InvalidWorkload(
                f"service_time.scv {service.scv:g} is not 1, 1/2, 1/3 …; an Erlang needs 1/stages, use a lognormal"
            )
        self._seed, self._kind = seed, _KINDS[service.distribution]
        self._limit = -1 if queue_limit is None else queue_limit
        self._retries = client.retries
        self._reals = np.zeros(k.N_REALS)
        self._reals[k.TIMEOUT] = np.inf if client.timeout_ms is None else client.timeout_ms / 1000
        self._reals[k.BACKOFF] = client.backoff_ms / 1000
        self._reals[k.JITTER] = client.jitter_ratio
        self._reals[k.MEAN_S], self._reals[k.SCV] = service.mean_ms / 1000, service.scv
        self._reals[k.SLOWDOWN], self._reals[k.SLO_S] = 1.0, slo_s
        self._reals[k.BUDGET_RATIO] = -1.0 if client.retry_budget_ratio is None else client.retry_budget_ratio
        self._reals[k.BUDGET] = 10.0
        self._ints = np.zeros(k.N_INTEGERS, dtype=np.int64)
        self._ints[k.SERVERS] = servers
        self._ring_real, self._ring_int = np.zeros((1024, 4)), np.zeros((1024, 4), dtype=np.int64)
        self._finish, self._slots = np.zeros(max(servers, 8)), np.zeros(max(servers, 8), dtype=np.int64)
        self._retry_times, self._retry_ids = np.zeros(256), np.zeros(256, dtype=np.int64)
        self._retry_real, self._retry_int = np.zeros(256), np.zeros((256, 2), dtype=np.int64)
        self._retry_free = np.arange(256, dtype=np.int64)
        self.histogram = np.zeros(k.HISTOGRAM_BUCKETS, dtype=np.int64)
        self.minutes = np.zeros((n_minutes, k.N_MINUTE))
        self._arrivals, self._next = np.empty(0), 0

    @property
    def now_s(self) -> float:
        """The instant up to which the pool has been played."""
        return float(self._reals[k.NOW])

    @property
    def queue_length(self) -> int:
        """Attempts that wait for a server."""
        return int(self._ints[k.N_WAITING])

    @property
    def busy(self) -> int:
        """Servers at work."""
        return int(self._ints[k.BUSY])

    def offer(self, arrivals_s: FloatArray) -> None:
        """Add first attempts, shape (n,), non-decreasing seconds, none before what was offered or played already."""
        if arrivals_s.size == 0:
            return
        last = self._arrivals[-1] if self._arrivals.size else self.now_s
        if (
            not np.isfinite(arrivals_s).all()
            or (np.diff(arrivals_s) < 0).any()
            or arrivals_s[0] < max(last, self.now_s)
        ):
            raise InvalidWorkload("arrivals_s must be finite, in order, and not before what was offered or played")
        self._arrivals = np.concatenate((self._arrivals[self._next :], arrivals_s))
        self._next = 0

    def advance(self, until_s: float) -> None:
        """Play every event before `until_s`, seconds; raise `Overloaded` when the backlog passes all bounds."""
        if until_s < self.now_s:
            raise InvalidWorkload(f"until_s {until_s:g} lies before {self.now_s:g}, which is played already")
        while True:
            self._next, status = k.advance(
                self._arrivals, self._next, until_s, self._seed, self._kind, self._limit, self._retries,
                self._reals, self._ints, self._ring_real, self._ring_int, self._finish, self._slots,
                self._retry_times, self._retry_ids, self._retry_real, self._retry_int, self._retry_free,
                self.histogram, self.minutes,
            )  # fmt: skip
            if status == k.DONE_ALL:
                return
            self._grow()

    def set_servers(self, servers: int, running_work: RunningWork = "drain") -> None:
        """
        Change the number of servers now.

        drain: running work finishes first. evict_and_requeue: the youngest running attempts go back to the head of
        the queue and start anew with the same requirement. hand_over: the same, keeping what was done.
        """
        if servers < 0:
            raise InvalidWorkload(f"servers {servers} is negative; use 0 or more")
        n = max(servers, self.busy)
        if n > self._finish.size:
            self._finish, self._slots = np.resize(self._finish, n), np.resize(self._slots, n)
        self._ints[k.SERVERS] = servers
        if running_work != "drain" and self.busy > servers:
            self._evict(self.busy - servers, keep_done=running_work == "hand_over")
        self._start_waiting()

    def set_slowdown(self, factor: float) -> None:
        """Make service take `factor` times as long from now on, the rest of running work included."""
        if not factor >= 1e-6 or not np.isfinite(factor):
            raise InvalidWorkload(f"slowdown {factor:g} must be positive and finite")
        old, now, n = self._reals[k.SLOWDOWN], self.now_s, self.busy
        if factor != old:  # equal speeds must leave the bits of finish times alone
            self._finish[:n] = now + (self._finish[:n] - now) * (factor / old)
            self._reals[k.SLOWDOWN] = factor

    def set_error_ratio(self, ratio: float) -> None:
        """Let this share of answers be errors from now on."""
        if not 0 <= ratio <= 1:
            raise InvalidWorkload(f"error ratio {ratio:g} is not between 0 and 1")
        self._reals[k.ERROR_RATIO] = ratio

    def counts(self) -> Counts:
        """Return how requests ended so far, after checking that none was lost or counted twice."""
        n = self._ints
        open_retries = int(n[k.N_RETRY])
        mask = self._ring_int.shape[0] - 1
        places = np.arange(n[k.BASE], n[k.TAIL]) & mask
        open_attempts = int(((self._ring_int[places, 2] != k.DONE) & (self._ring_int[places, 3] == 0)).sum())
        ended = int(n[k.SERVED] + n[k.REJECTED] + n[k.TIMED_OUT] + n[k.FAILED])
        in_flight = open_attempts + open_retries
        if ended + in_flight != n[k.OFFERED] or int(n[k.GOOD] + n[k.FINISHED_BAD]) != ended:
            raise ConservationBroken(f"{int(n[k.OFFERED])} requests came, {ended} ended and {in_flight} are in flight")
        return Counts(
            offered=int(n[k.OFFERED]), attempts=int(n[k.ATTEMPTS]), served=int(n[k.SERVED]),
            rejected=int(n[k.REJECTED]), timed_out=int(n[k.TIMED_OUT]), failed=int(n[k.FAILED]),
            good=int(n[k.GOOD]), in_flight=in_flight,
        )  # fmt: skip

    def fingerprint(self) -> str:
        """Return a digest over counters, histogram and minutes: equal runs, equal fingerprints."""
        parts = (self._ints[k.OFFERED :], self.histogram, self.minutes)
        return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()

    def _start_waiting(self) -> None:
        k.start_waiting(self.now_s, self._kind, self._seed, self._reals, self._ints, self._ring_real,
                        self._ring_int, self._finish, self._slots)  # fmt: skip

    def _evict(self, n: int, *, keep_done: bool) -> None:
        """Put the n youngest running attempts back at the head of the queue."""
        busy, mask, now = self.busy, self._ring_int.shape[0] - 1, self.now_s
        order = np.argsort(self._slots[:busy])
        out = order[busy - n :]
        for place in out:
            i = int(self._slots[place])
            slot = i & mask
            self._ring_int[slot, 2] = k.WAITING
            if keep_done:
                self._ring_real[slot, 2] = max(0.0, self._finish[place] - now) / self._reals[k.SLOWDOWN]
            if self._ints[k.N_WAITING] == 0:
                self._ints[k.QUEUE_HEAD] = i
            self._ints[k.QUEUE_HEAD] = min(int(self._ints[k.QUEUE_HEAD]), i)
            self._ints[k.N_WAITING] += 1
        stay = order[: busy - n]
        pairs = sorted(zip(self._finish[stay].tolist(), self._slots[stay].tolist(), strict=True))
        self._ints[k.BUSY] = len(pairs)
        for j, (finish, i) in enumerate(pairs):  # a sorted array is a heap
            self._finish[j], self._slots[j] = finish, i

    def _grow(self) -> None:
        """Double the room for open attempts and retries, keeping every place's meaning."""
        if self._ring_int.shape[0] >= _MOST_OPEN or self._retry_times.size >= _MOST_OPEN:
            raise Overloaded(
                f"overloaded at {self.now_s:,.0f} s: {self.queue_length:,} attempts wait, more come than can leave"
            )
        if self._ints[k.TAIL] - self._ints[k.BASE] > self._ring_int.shape[0] - 1:
            old, size = self._ring_int.shape[0], self._ring_int.shape[0] * 2
            places = np.arange(self._ints[k.BASE], self._ints[k.TAIL])
            real, integer = np.zeros((size, 4)), np.zeros((size, 4), dtype=np.int64)
            real[places & (size - 1)] = self._ring_real[places & (old - 1)]
            integer[places & (size - 1)] = self._ring_int[places & (old - 1)]
            self._ring_real, self._ring_int = real, integer
        else:
            old = self._retry_times.size
            self._retry_times = np.concatenate((self._retry_times, np.zeros(old)))
            self._retry_ids = np.concatenate((self._retry_ids, np.zeros(old, dtype=np.int64)))
            self._retry_real = np.concatenate((self._retry_real, np.zeros(old)))
            self._retry_int = np.concatenate((self._retry_int, np.zeros((old, 2), dtype=np.int64)))
            self._retry_free = np.concatenate((self._retry_free, np.arange(old, 2 * old)))


def histogram_quantile(histogram: NDArray[np.int64], level: float) -> float:
    """Return the latency quantile in seconds, within 0.75 % of the true one; NaN for an empty histogram."""
    total = int(histogram.sum())
    if total == 0:
        return float("nan")
    bucket = int(np.searchsorted(np.cumsum(histogram), level * total))
    if bucket == 0:
        return k.HISTOGRAM_FLOOR_S
    return float(k.HISTOGRAM_FLOOR_S * k.HISTOGRAM_GROWTH ** (bucket - 0.5))
