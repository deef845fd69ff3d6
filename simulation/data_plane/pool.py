"""
A serving pool that is played request by request up to a moment, changed there, and played on; start at `ServingPool`.

What the pool is says `pool_settings`, what it reports `pool_results`; the event loop and the order of simultaneous
events stand in `pool_kernel`, the arrays that hold all state in `pool_layout`.
"""

import math
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulation import randomness
from simulation.data_plane import pool_layout as at
from simulation.data_plane import pool_report
from simulation.data_plane.pool_capacity import Capacity
from simulation.data_plane.pool_layout import Chunk
from simulation.data_plane.pool_look import Look, Watch
from simulation.data_plane.pool_machine import Machine
from simulation.data_plane.pool_results import Observation, PoolResult, RequestRecords
from simulation.data_plane.pool_settings import (
    BLUE,
    GREEN,
    CircuitBreaker,
    Client,
    PoolSettings,
    RateLimit,
    RunningWork,
    Shedding,
)
from simulation.errors import InvalidWorkload, LullError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_NO_FLOATS, _NO_INTS = np.zeros(0), np.zeros(0, np.int64)
_NO_ARRIVALS = Chunk(_NO_FLOATS, _NO_FLOATS, _NO_INTS, _NO_FLOATS, _NO_INTS)
# Beyond this the whole ticks of a time integral could overflow.
_LAST_MOMENT_S = 1e9


class Overloaded(LullError):
    """More requests are inside than the settings allow, so the pool has stopped for good."""


class ServingPool:
    """
    The exact state of a serving pool, driven from outside: `offer` arrivals, `advance` to a moment, change, go on.

    Parameters
    ----------
    settings : PoolSettings
        The pool and its callers at the start.
    seed : 0 <= seed < 2**63
        Of the trial; two pools with one seed serve the same day, whatever their plans.
    records : bool
        Keep one record per request (33 bytes each); without, memory does not grow with the number of requests.
    minute_latencies : bool
        Keep a latency histogram per bucket of time (20 KiB each).

    Raises
    ------
    InvalidWorkload
        If the seed is not in its range.

    Notes
    -----
    However a run is cut into offers and advances, the results are the same to the bit. Each pool may be driven by a
    thread of its own: the kernels do not hold the interpreter's lock. Servers that idle longest serve next.

    Examples
    --------
    >>> from simulation.data_plane.pool_settings import Distribution, PoolSettings
    >>> pool = ServingPool(PoolSettings.simple(1, Distribution("exponential", 1.0)), seed=1, records=True)
    >>> pool.offer([0.0, 1.0, 2.0], [1.5, 1.5, 1.5])
    >>> pool.finish()
    >>> pool.records().ends_s
    array([1.5, 3. , 4.5])
    """

    def __init__(
        self, settings: PoolSettings, seed: int, *, records: bool = False, minute_latencies: bool = False
    ) -> None:
        self._machine = Machine(
            settings, randomness.check_seed(seed), records=records, bucket_latencies=minute_latencies
        )
        self._capacity = Capacity(self._machine)
        self._chunks: deque[Chunk] = deque()
        self._position = 0
        self._offered = 0
        self._last_offered_s = 0.0
        self._must_start = True
        self._can_retry_without_end = settings.client.retries is None
        self._seen = pool_report.Seen(self._machine)
        self.overloaded_at_s: float | None = None

    @property
    def now_s(self) -> float:
        """The moment up to which everything has happened."""
        return self._machine.now_s

    @property
    def is_overloaded(self) -> bool:
        """Whether more came in than `max_in_system`; the pool then stands still at `overloaded_at_s`."""
        return self.overloaded_at_s is not None

    def offer(
        self,
        arrivals_s: ArrayLike,
        services_s: ArrayLike | None = None,
        *,
        priorities: ArrayLike | None = None,
        patience_s: ArrayLike | None = None,
        versions: ArrayLike | None = None,
    ) -> None:
        """
        Hand over the next first attempts, in order, in chunks of any size.

        Parameters
        ----------
        arrivals_s : shape (n,), seconds, non-decreasing, from `now_s` and the last one offered on
            Not copied if they are float64; leave them alone afterwards.
        services_s : shape (n,), seconds, >= 0, or None
            How long each works a server at nominal speed, in every attempt; None: drawn per attempt.
        priorities : shape (n,), 0 to `priorities` - 1, or None
            None: all of class 0.
        patience_s : shape (n,), seconds, >= 0, or None
            The longest wait before service starts, per attempt; NaN or None: as the settings say.
        versions : shape (n,), -1, 0 or 1, or None
            The version that must serve a request; -1 or None: by the share of traffic.

        Raises
        ------
        InvalidWorkload
            If a shape, an order or a value is wrong; nothing is taken in then.
        Overloaded
            If the pool stands still.
        """
        self._refuse_if_overloaded()
        arrivals = _floats("arrivals_s", arrivals_s)
        n = arrivals.shape[0]
        if n == 0:
            return
        earliest_s = max(self._last_offered_s, self.now_s)
        _check_order(arrivals, earliest_s)
        services, classes, patience, wanted = _NO_FLOATS, _NO_INTS, _NO_FLOATS, _NO_INTS
        if services_s is not None:
            services = _floats("services_s", services_s, n)
            is_good = (services >= 0.0) & (services < np.inf)
            _check_all("services_s", services, is_good, "a number of seconds from 0 on")
        if priorities is not None:
            last = self._machine.settings.priorities - 1
            classes = _whole("priorities", priorities, n)
            _check_all("priorities", classes, (classes >= 0) & (classes <= last), f"a class from 0 to {last}")
        if patience_s is not None:
            patience = _floats("patience_s", patience_s, n)
            _check_all("patience_s", patience, ~(patience < 0.0), "a number of seconds from 0 on, or NaN")
        if versions is not None:
            last = len(self._machine.settings.versions) - 1
            wanted = _whole("versions", versions, n)
            _check_all("versions", wanted, (wanted >= -1) & (wanted <= last), f"-1 to {last}")
        self._chunks.append(Chunk(arrivals, services, classes, patience, wanted))
        self._last_offered_s = float(arrivals[-1])
        self._offered += n
        self._machine.make_records(self._offered)

    def advance(self, until_s: float) -> None:
        """
        Play every event before `until_s`, which is then `now_s`; what happens at `until_s` is still to come.

        Raises
        ------
        InvalidWorkload
            If `until_s` is not a moment from `now_s` on.
        """
        if not self.now_s <= until_s <= _LAST_MOMENT_S:
            raise InvalidWorkload(f"until_s is {until_s!r}; give seconds from now_s, {self.now_s!r}, to 1e9")
        if not self.is_overloaded:
            self._play(float(until_s), carries_on=True)

    def finish(self) -> None:
        """
        Play until nothing is left that can move; `now_s` is then the moment of the last event.

        Raises
        ------
        InvalidWorkload
            If clients retry without end, because there may be no last event.
        """
        if self._can_retry_without_end:
            raise InvalidWorkload("finish() may never end, because retries is None; use advance(until_s)")
        while not self.is_overloaded:
            next_s = self._next_s()
            if next_s == math.inf:
                break
            if next_s > _LAST_MOMENT_S:
                raise InvalidWorkload(
                    f"the next event is due at {next_s!r} s, beyond 1e9; shorten services or timeouts"
                )
            self._play(next_s + 64.0 * self._machine.settings.bucket_s, carries_on=False)
            self._machine.now_s = float(self._machine.s.f[at.SETTLED_AT])

    def _next_s(self) -> float:
        """Return when the next thing happens, or infinity."""
        arrival_s = self._chunks[0].arrivals_s[self._position] if self._chunks else math.inf
        change_s = self.now_s if self._must_start else math.inf
        return float(min(arrival_s, change_s, self._machine.next_event_s()))

    def _play(self, until_s: float, *, carries_on: bool) -> None:
        machine = self._machine
        machine.make_buckets(until_s)
        if self._must_start and until_s > self.now_s:
            machine.make_room(machine.s.server_i.shape[0])
            machine.call("start_waiting", self.now_s)
            self._must_start = False
        stopped = at.OUT_OF_ARRIVALS
        while stopped == at.OUT_OF_ARRIVALS:
            chunk = self._chunks[0] if self._chunks else _NO_ARRIVALS
            is_last = len(self._chunks) <= 1
            stopped, self._position = machine.play(chunk, self._position, until_s, is_last, carries_on)
            if self._chunks and self._position == chunk.arrivals_s.shape[0]:
                self._chunks.popleft()
                self._position = 0
        machine.now_s = until_s
        if stopped == at.NEEDS_ROOM:
            self.overloaded_at_s = machine.now_s = float(machine.s.f[at.SETTLED_AT])

    def set_capacity(
        self,
        *,
        version: int = BLUE,
        replicas: int | None = None,
        servers_per_replica: int | None = None,
        running_work: RunningWork | None = None,
        cold: bool = False,
    ) -> None:
        """
        Change now how many replicas a version has, or how many requests each works on at once.

        Parameters
        ----------
        version : BLUE or GREEN
        replicas, servers_per_replica : None: as before
            Of fewer replicas those with the highest numbers close. More servers per replica is a higher limit.
        running_work : required when capacity goes down
            "drain": running work is finished (above a lowered limit, the next completions are not refilled; a closed
            replica with a queue of its own serves that too). "evict_and_requeue": back to the head of the queue, all
            work lost; drawn services are drawn anew. "hand_over": the same, but what is left of the work goes on.
            "fail": clients get an error. The newest-started work goes first. Waiting requests of a closed replica with
            a queue of its own are sent to the ends of other queues, or fail.
        cold : bool
            Whether replicas that open now start cold.

        Raises
        ------
        InvalidWorkload
            If a value is out of range, or `running_work` is missing; nothing has changed then.
        """
        self._capacity.check_version(version)
        _check_choice("running_work", running_work, (None, "drain", "evict_and_requeue", "hand_over", "fail"))
        for name, value, least in (("replicas", replicas, 0), ("servers_per_replica", servers_per_replica, 1)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise InvalidWorkload(f"{name} is {value!r}; give a count from {least} on")
        before = self._capacity.replicas[version], self._capacity.servers[version]
        wanted = replicas if replicas is not None else before[0], servers_per_replica or before[1]
        self._capacity.replicas[version], self._capacity.servers[version] = wanted
        try:
            self._reconcile(running_work, cold=cold)
        except InvalidWorkload:
            self._capacity.replicas[version], self._capacity.servers[version] = before
            raise

    def set_replica(
        self,
        number: int,
        *,
        version: int = BLUE,
        up: bool | None = None,
        slowdown: float | None = None,
        running_work: RunningWork | None = None,
        cold: bool = False,
    ) -> None:
        """
        Take one replica down or up again, or change its pace, now; arguments and errors as for `set_capacity`.

        A replica that is down stays so whatever `set_capacity` says. `slowdown` multiplies its service times, running
        work included; infinity: it stands still. `cold` makes it start cold now.
        """
        replica = self._capacity.replica(version, number)
        _check_choice("running_work", running_work, (None, "drain", "evict_and_requeue", "hand_over", "fail"))
        if slowdown is not None:
            _check_factor("slowdown", slowdown)
        if up is not None:
            row = self._machine.s.replica_i[replica]
            before, row[at.IS_UP] = row[at.IS_UP], up
            # Who drained may now crash: what still runs there is dealt with once more.
            also = None if up or running_work in (None, "drain") else replica
            try:
                self._reconcile(running_work, cold=cold, also=also)
            except InvalidWorkload:
                self._machine.s.replica_i[replica, at.IS_UP] = before
                raise
        if slowdown is not None:
            self._rescale(slowdown, replica=replica)
        if cold:
            self._capacity.warm_from_cold(replica)

    def set_slowdown(self, factor: float, *, version: int | None = None) -> None:
        """Set now the factor on service times of one version, or (None) of the whole pool; rescales running work."""
        _check_factor("factor", factor)
        if version is not None:
            self._capacity.check_version(version)
        self._rescale(factor, version=version)

    def set_error_ratio(self, ratio: float, *, version: int = BLUE) -> None:
        """Set the share of answers that are errors, from now on."""
        self._capacity.check_version(version)
        _check_share("ratio", ratio)
        self._machine.s.f[at.ERROR_BLUE + version] = ratio

    def set_green_share(self, ratio: float) -> None:
        """Set the share of requests that go to green from now on; a greater share keeps all who were there."""
        self._capacity.check_version(GREEN if ratio else BLUE)
        _check_share("ratio", ratio)
        self._machine.s.f[at.GREEN_SHARE] = ratio

    def set_queue_limit(self, limit: int | None) -> None:
        """Set the waiting places of each queue (None: no limit); who waits already stays."""
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise InvalidWorkload(f"limit is {limit!r}; give a count from 0 on, or None")
        self._machine.set_queue_limit(limit)

    def set_client(self, client: Client) -> None:
        """Set how callers behave from now on; deadlines and backoffs that run already stand."""
        self._can_retry_without_end = client.retries is None
        self._machine.set_client(client)

    def set_rate_limit(self, limit: RateLimit | None) -> None:
        """Set or lift the rate limit; tokens earned so far are kept, up to the new burst."""
        self._machine.set_rate_limit(limit)

    def set_shedding(self, shedding: Shedding | None) -> None:
        """Set or lift load shedding."""
        n_classes = self._machine.settings.priorities
        if shedding is not None and len(shedding.queue_lengths) != n_classes:
            raise InvalidWorkload(f"shedding.queue_lengths has {len(shedding.queue_lengths)} entries; give {n_classes}")
        self._machine.set_shedding(shedding)

    def set_breaker(self, breaker: CircuitBreaker | None) -> None:
        """Set or lift the circuit breaker; a new one is closed."""
        self._machine.set_breaker(breaker)

    def _reconcile(self, running_work: RunningWork | None, *, cold: bool, also: int | None = None) -> None:
        self._machine.make_buckets(self.now_s)
        self._capacity.reconcile(running_work, cold=cold, also=also)
        self._must_start = True

    def _rescale(self, factor: float, *, version: int | None = None, replica: int | None = None) -> None:
        self._machine.make_buckets(self.now_s)
        self._capacity.set_slowdown(float(factor), version=version, replica=replica)
        self._must_start = True

    def observe(self) -> Observation:
        """Return what a gateway saw since the last call of this method, or since the start."""
        return self._seen.observe(self._machine)

    def look(self) -> Look:
        """Return a pair of eyes that reports what is new, cheaply; each remembers for itself what it saw."""
        return Look(self._machine)

    def watch(self) -> Watch:
        """Return an observer that reports as `observe` does, from now on, with a memory of its own."""
        return Watch(self._machine)

    @property
    def worked_s(self) -> float:
        """Server-seconds of work up to `now_s`, both versions together, to within a tick per event."""
        return pool_report.worked_s(self._machine)

    def result(self) -> PoolResult:
        """Return counters, histograms and buckets of the whole run so far."""
        return pool_report.result(self._machine, self.overloaded_at_s)

    def records(self) -> RequestRecords:
        """
        Return one record per request that has arrived so far.

        Raises
        ------
        InvalidWorkload
            If the pool was made without `records=True`.
        """
        return pool_report.records(self._machine)

    def check_conservation(self) -> None:
        """
        Check that nothing was lost or invented: every request in one outcome, every attempt in one fate, the time in
        the pool counted from inside and from outside to the same tick (Little), nothing finished in the past.

        Raises
        ------
        ConservationError
            If a law is broken; it names the law and the numbers.
        """
        pool_report.check_conservation(self._machine, may_start=self._must_start)

    def fingerprint(self) -> str:
        """Return the SHA-256 of all counters, histograms and the state: equal for equal runs, however they were cut."""
        return pool_report.fingerprint(self._machine)

    def _refuse_if_overloaded(self) -> None:
        if self.overloaded_at_s is not None:
            limit = self._machine.settings.max_in_system
            raise Overloaded(
                f"the pool is overloaded since {self.overloaded_at_s:.3f} s: over {limit} requests are inside; "
                f"read result(), or raise max_in_system"
            )


def _floats(name: str, values: ArrayLike, n: int | None = None) -> FloatArray:
    try:
        array = np.ascontiguousarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidWorkload(f"{name} cannot be read as numbers: {error}") from error
    _check_shape(name, array, n)
    return array


def _whole(name: str, values: ArrayLike, n: int) -> IntArray:
    array = np.asarray(values)
    if array.dtype.kind not in "iub":
        raise InvalidWorkload(f"{name} has type {array.dtype}; give whole numbers")
    _check_shape(name, array, n)
    return np.ascontiguousarray(array, np.int64)


def _check_shape(name: str, array: NDArray[Any], n: int | None) -> None:
    if array.ndim != 1 or (n is not None and array.shape[0] != n):
        wanted = "one dimension" if n is None else f"shape ({n},), as arrivals_s"
        raise InvalidWorkload(f"{name} has shape {array.shape}; give {wanted}")


def _check_order(arrivals_s: FloatArray, earliest_s: float) -> None:
    if not arrivals_s[0] >= earliest_s:
        raise InvalidWorkload(f"arrivals_s[0] is {arrivals_s[0]!r}; the next arrival cannot be before {earliest_s!r} s")
    in_order = arrivals_s[1:] >= arrivals_s[:-1]
    if not in_order.all():
        i = int(np.argmin(in_order)) + 1
        raise InvalidWorkload(f"arrivals_s[{i}] is {arrivals_s[i]!r} after {arrivals_s[i - 1]!r}; sort the arrivals")
    if not arrivals_s[-1] <= _LAST_MOMENT_S:
        raise InvalidWorkload(f"arrivals_s[{arrivals_s.shape[0] - 1}] is {arrivals_s[-1]!r}; give seconds up to 1e9")


def _check_all(name: str, array: NDArray[Any], is_good: NDArray[np.bool_], wanted: str) -> None:
    if not is_good.all():
        i = int(np.argmin(is_good))
        raise InvalidWorkload(f"{name}[{i}] is {array[i]!r}; give {wanted}")


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise InvalidWorkload(f"{name} is {value!r}; choose one of {', '.join(str(c) for c in choices if c)}")


def _check_factor(name: str, value: float) -> None:
    if not value > 0.0:
        raise InvalidWorkload(f"{name} is {value!r}; give a factor above 0 (infinity: it stands still)")


def _check_share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise InvalidWorkload(f"{name} is {value!r}; give a share from 0 to 1")
