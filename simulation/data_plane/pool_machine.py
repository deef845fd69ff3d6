"""The arrays of one pool: filled from the settings, enlarged when a kernel asks for room; start at `Machine`."""

import math
from typing import Any

import numpy as np
from numba import config

from simulation.data_plane import pool_layout as at
from simulation.data_plane.pool_changes import COMPILED
from simulation.data_plane.pool_layout import Chunk
from simulation.data_plane.pool_settings import CircuitBreaker, Client, PoolSettings, RateLimit, Shedding
from simulation.randomness import stream_key

_REASONS = {"timeout": at.BY_TIMEOUT, "rejection": at.BY_REJECTION, "error": at.BY_ERROR}
_CANCELLATIONS = {
    "none": at.CANCEL_NONE,
    "at_start": at.CANCEL_AT_START,
    "queued": at.CANCEL_QUEUED,
    "all": at.CANCEL_ALL,
}
_JITTERS = {
    "none": at.NO_JITTER,
    "ratio": at.RATIO_JITTER,
    "full": at.FULL_JITTER,
    "exponential": at.EXPONENTIAL_JITTER,
}
_ROUTINGS = {
    "shared": at.SHARED,
    "round_robin": at.ROUND_ROBIN,
    "least_loaded": at.LEAST_LOADED,
    "power_of_two": at.POWER_OF_TWO,
}
_SPARE = 16  # places that must be free before an event is played; the kernels ask for 8


class Machine:
    """
    The state of a pool and the settings as the kernels read them.

    Everything here happens between two stretches, at `now_s`; what it does to requests is done by compiled functions.
    """

    def __init__(self, settings: PoolSettings, seed: int, *, records: bool, bucket_latencies: bool) -> None:
        self.settings = settings
        self.now_s = 0.0
        self.s = at.empty_state(len(settings.versions), 1024, 64, keeps_bucket_latencies=bucket_latencies)
        f, i = self.s.f, self.s.i
        i[at.SEED] = seed
        i[at.KEEPS_RECORDS], i[at.KEEPS_BUCKET_LATENCIES] = records, bucket_latencies
        i[at.PRIORITIES], i[at.ROUTING] = settings.priorities, _ROUTINGS[settings.routing]
        i[at.VERSIONS] = len(settings.versions)
        i[at.SERVICE_KIND], *f[at.SERVICE_A : at.SERVICE_C + 1] = settings.service.parameters()
        f[at.SLO_S], f[at.BUCKET_S], f[at.GREEN_SHARE] = settings.slo_s, settings.bucket_s, settings.green_share
        f[at.COLD_SLOWDOWN] = settings.cold.slowdown
        for version, given in enumerate(settings.versions):
            f[at.ERROR_BLUE + version] = given.error_ratio
        with np.errstate(over="ignore"):
            keys = [stream_key(seed, k, purpose) for k in range(at.N_KEYED) for purpose in range(at.N_PURPOSES)]
        i[at.KEYS : at.ANSWERS] = np.array(keys, np.uint64).view(np.int64)
        f[at.NEXT_BUCKET_AT] = settings.bucket_s
        self.set_queue_limit(settings.queue_limit)
        self.set_client(settings.client)
        self.set_rate_limit(settings.rate_limit)
        self.set_shedding(settings.shedding)
        self.set_breaker(settings.breaker)
        self._set_slot_limit()

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a compiled function on the state."""
        function = getattr(COMPILED, name)
        if not config.DISABLE_JIT:
            return function(self.s.f, self.s.i, *arguments)
        # Without the compiler numpy scalars do the arithmetic of the draws, and warn about the meant wrap-around.
        with np.errstate(over="ignore", invalid="ignore"):
            return function(self.s.f, self.s.i, *arguments)

    def play(self, chunk: Chunk, position: int, until_s: float, is_last: bool, carries_on: bool) -> tuple[int, int]:
        """Play events before `until_s`; return why it stopped (for room: too much is inside) and the arrivals done."""
        while True:
            stopped, position = self.call("advance", chunk, position, until_s, is_last, carries_on)
            if stopped != at.NEEDS_ROOM or self.s.i[at.IN_USE] > self.settings.max_in_system:
                return stopped, position
            self.make_room(_SPARE)

    def next_event_s(self) -> float:
        """Return when the next thing happens that is not an arrival, or infinity."""
        i, s = self.s.i, self.s
        timeout, retry = (
            ring[i[agenda + at.HEAD] & i[agenda + at.MASK]]
            for agenda, ring in ((at.TIMEOUTS, s.timeout_ring_s), (at.RETRYING, s.retry_ring_s))
        )
        return float(min(s.finish_s[1], timeout, s.timeout_heap_s[0], retry, s.retry_heap_s[0]))

    def make_room(self, spare: int) -> None:
        """Enlarge slots and agendas until each has `spare` free places and the kernels find theirs."""
        slots, in_use = self.s.slot_i.shape[0], self.s.i[at.IN_USE]
        wanted = slots
        while wanted - in_use < spare + _SPARE:
            wanted *= 2
        if wanted > slots:
            slot_i = at.grown(self.s.slot_i, wanted)
            following = np.arange(slots + 1, wanted + 1) * at.SLOT_WIDTH
            following[-1] = self.s.i[at.FREE_HEAD]
            slot_i[slots:, at.NEXT - at.SLOTS_I] = following
            self.s.i[at.FREE_HEAD] = slots * at.SLOT_WIDTH
            self.s.replace(slot_i=slot_i, slot_f=at.grown(self.s.slot_f, wanted))
        for base, name in ((at.TIMEOUTS, "timeout"), (at.RETRYING, "retry")):
            self._enlarge_agenda(base, name, spare + _SPARE)
        self.s.i[at.IS_CRAMPED] = 0
        self._set_slot_limit()

    def _enlarge_agenda(self, base: int, name: str, spare: int) -> None:
        head, tail, in_heap = (int(self.s.i[base + place]) for place in (at.HEAD, at.TAIL, at.SIZE))
        ring_s, ring_i = getattr(self.s, f"{name}_ring_s"), getattr(self.s, f"{name}_ring_i")
        size = ring_s.shape[0]
        if size - (tail - head) < spare:
            while size - (tail - head) < spare:
                size *= 2
            bigger_s, bigger_i = at.empty_ring(size)
            places = np.arange(head, tail) & (ring_s.shape[0] - 1)
            bigger_s[: tail - head], bigger_i[: tail - head] = ring_s[places], ring_i[places]
            self.s.i[[base + at.HEAD, base + at.TAIL]] = 0, tail - head
            self.s.replace(**{f"{name}_ring_s": bigger_s, f"{name}_ring_i": bigger_i})
        heap_s, heap_i = getattr(self.s, f"{name}_heap_s"), getattr(self.s, f"{name}_heap_i")
        size = heap_s.shape[0]
        if size - in_heap < spare:
            while size - in_heap < spare:
                size *= 2
            bigger = {f"{name}_heap_s": at.grown(heap_s, size, np.inf), f"{name}_heap_i": at.grown(heap_i, size)}
            self.s.replace(**bigger)

    def _set_slot_limit(self) -> None:
        self.s.i[at.SLOT_LIMIT] = min(self.s.slot_i.shape[0] - 8, self.settings.max_in_system + 1)

    def make_buckets(self, until_s: float) -> None:
        """Make sure that there is a bucket for every moment up to and with `until_s`."""
        wanted = int(until_s / self.settings.bucket_s) + 2
        rows = self.s.cells.shape[0]
        if wanted <= rows:
            return
        rows = max(wanted, rows + rows // 2)
        self.s.replace(cells=at.grown(self.s.cells, rows))
        if self.s.i[at.KEEPS_BUCKET_LATENCIES]:
            self.s.replace(bucket_latencies=at.grown(self.s.bucket_latencies, rows))

    def make_records(self, n: int) -> None:
        """Make sure that there are records for `n` requests, if they are kept."""
        rows = self.s.record_i.shape[0]
        if self.s.i[at.KEEPS_RECORDS] and n > rows:
            rows = max(n, rows + rows // 2)
            record_f = at.grown(self.s.record_f, rows, math.nan)
            self.s.replace(record_f=record_f, record_i=at.grown(self.s.record_i, rows))

    def set_queue_limit(self, limit: int | None) -> None:
        """Set the waiting places of each queue; who waits already stays."""
        self.s.i[at.QUEUE_LIMIT] = at.ENDLESS if limit is None else limit

    def set_client(self, client: Client) -> None:
        """Set how callers behave from now on; deadlines that run already stand."""
        f, i = self.s.f, self.s.i
        f[at.TIMEOUT_S] = math.inf if client.timeout_s is None else client.timeout_s
        i[at.CANCELLATION] = _CANCELLATIONS[client.cancellation]
        i[at.RETRIES] = at.ENDLESS if client.retries is None else client.retries
        i[at.RETRY_ON] = sum(_REASONS[reason] for reason in set(client.retry_on))
        i[at.JITTER], f[at.JITTER_RATIO] = _JITTERS[client.backoff.jitter], client.backoff.jitter_ratio
        delay_s = client.backoff.base_s
        for k in range(at.N_DELAYS):
            f[at.DELAYS + k] = min(client.backoff.max_s, delay_s)
            delay_s *= client.backoff.factor
        if client.budget is not None:
            f[at.BUDGET_RATIO], f[at.BUDGET_BURST] = client.budget.ratio, client.budget.burst
            is_new = not i[at.HAS_BUDGET]
            held = f[at.TOKENS]
            f[at.TOKENS] = client.budget.burst if is_new else min(held, client.budget.burst)
        i[at.HAS_BUDGET] = client.budget is not None
        i[at.PATIENCE_KIND] = -1
        if client.patience is not None:
            i[at.PATIENCE_KIND], *f[at.PATIENCE_A : at.PATIENCE_C + 1] = client.patience.parameters()

    def set_rate_limit(self, limit: RateLimit | None) -> None:
        """Set or lift the rate limit; tokens earned so far are kept, up to the new burst."""
        f, i = self.s.f, self.s.i
        if limit is not None:
            earned = (self.now_s - f[at.RATE_AT]) * f[at.RATE_RPS]
            held = min(f[at.RATE_BURST], f[at.RATE_TOKENS] + earned) if i[at.HAS_RATE] else limit.burst
            f[at.RATE_TOKENS], f[at.RATE_AT] = min(held, limit.burst), self.now_s
            f[at.RATE_RPS], f[at.RATE_BURST] = limit.rate_rps, limit.burst
        i[at.HAS_RATE] = limit is not None
        i[at.IS_GUARDED] = i[at.HAS_RATE] or i[at.HAS_BREAKER]

    def set_shedding(self, shedding: Shedding | None) -> None:
        """Set or lift load shedding."""
        lengths = [None] * self.settings.priorities if shedding is None else shedding.queue_lengths
        for k, n in enumerate(lengths):
            self.s.i[at.SHED_LENGTHS + k] = at.ENDLESS if n is None else n
        self.s.i[at.DROPS_EXPIRED] = shedding is not None and shedding.drop == "expired_first"

    def set_breaker(self, breaker: CircuitBreaker | None) -> None:
        """Set or lift the circuit breaker; a new one is closed."""
        f, i = self.s.f, self.s.i
        if breaker is not None:
            f[at.TRIP_RATIO], f[at.TRIP_WINDOW_S] = breaker.failure_ratio, breaker.window_s
            f[at.OPEN_S] = breaker.open_s
            i[at.TRIP_MINIMUM], i[at.PROBES] = breaker.minimum, breaker.probes
        i[[at.BREAKER, at.BREAKER_OK, at.BREAKER_BAD]] = 0
        i[at.BREAKER_GENERATION] += 1
        f[at.BREAKER_WINDOW_END] = 0.0
        i[at.HAS_BREAKER] = breaker is not None
        i[at.IS_GUARDED] = i[at.HAS_RATE] or i[at.HAS_BREAKER]
