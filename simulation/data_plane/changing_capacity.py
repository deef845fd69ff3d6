"""
First come, first served, while a controller changes servers, speed or room: `FcfsQueue`, step by step.

For changes that are all known beforehand there is `serve_schedule`. Both run the recursion of `serve_queue`.
Simultaneous events, in this order: services end, capacity changes, waiting requests start, the impatient leave,
requests arrive (each starts, waits or is rejected before the next one comes).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulation.data_plane import fcfs_kernel as kernel
from simulation.data_plane.fcfs import Floats, QueueResult
from simulation.data_plane.workload import (
    checked_arrivals,
    checked_count,
    checked_patience,
    checked_room,
    checked_services,
    frozen,
)
from simulation.errors import InvalidWorkload


class Shrink(StrEnum):
    """What happens to running requests when fewer servers remain; the order is that of the kernel's codes."""

    DRAIN = "drain"  # they finish where they run; nobody starts until fewer run than servers remain
    EVICT = "evict"  # the last to arrive go back to the head of the line and later go on where they stopped
    RESTART = "restart"  # the same, and their service begins anew with the same requirement
    HAND_OVER = "hand over"  # the last to arrive finish elsewhere, on time, and hold no server here


class CapacityStep(NamedTuple):
    """From ``from_s`` on there are ``servers``, and every service takes ``slowdown`` times as long."""

    from_s: float
    servers: int
    slowdown: float = 1.0


@dataclass(frozen=True)
class Settled(QueueResult):
    """Requests whose fate was sealed in one step, in order of arrival; ``numbers`` counts all requests from 0."""

    numbers: NDArray[np.int64]
    arrivals_s: Floats


@dataclass(frozen=True)
class QueueState:
    """
    All that the future of a queue depends on, exact to the bit; arrays have one row per request not yet settled.

    ``left_s`` is work in seconds at slowdown 1; ``finish_s`` is an absolute time, NaN for a request that is not
    running; ``codes`` are those of `simulation.data_plane.fcfs_kernel`. Rows from ``n_in_system`` on are still to come.
    """

    now_s: float
    servers: int
    slowdown: float
    room: int | None
    numbers: NDArray[np.int64]
    arrivals_s: Floats
    left_s: Floats
    patience_s: Floats
    starts_s: Floats
    finish_s: Floats
    codes: NDArray[np.uint8]
    n_in_system: int
    n_offered: int


def _checked_slowdown(name: str, slowdown: float) -> float:
    if not 0.0 < slowdown < np.inf:
        raise InvalidWorkload(f"{name} is {slowdown!r}; it must be finite and above 0 (2 doubles every service time)")
    return float(slowdown)


def _checked_shrink(running: str) -> int:
    names = [choice.value for choice in Shrink]
    if running not in names:
        raise InvalidWorkload(f"running is {running!r}; choose one of {', '.join(map(repr, names))}")
    return names.index(running)


class FcfsQueue:
    """
    The queue of `serve_queue`, stopped at control epochs and continued after changes.

    `offer` requests in any chunks, `advance` to an epoch, look, `change` what the controller decides, go on. A run
    split anywhere is one run, bit for bit. A start at the epoch or later is never settled before the epoch.

    Parameters
    ----------
    servers : >= 0
        How many requests are served at once; 0 closes the queue for service.
    room : >= 0, optional
        Waiting places for those who arrive; evicted requests always find one.
    slowdown : > 0
        Factor on every service time.
    now_s : seconds
        When the queue opens, empty.

    Raises
    ------
    InvalidWorkload
        Here and in each method, for a value out of its range and for an epoch in the past.

    Notes
    -----
    Memory grows with the requests in the system and those offered ahead, not with those settled.
    A wait ends when service first starts; an evicted request has no patience limit any more.
    """

    def __init__(self, servers: int, *, room: int | None = None, slowdown: float = 1.0, now_s: float = 0.0) -> None:
        if not 0.0 <= now_s < np.inf:
            raise InvalidWorkload(f"now_s is {now_s!r}; a queue opens at a finite time, 0 or later")
        checked_room(room)
        none = np.empty(0)
        self._state = QueueState(
            float(now_s), checked_count("servers", servers, 0), _checked_slowdown("slowdown", slowdown), room,
            np.empty(0, np.int64), none, none, none, none, none, np.empty(0, np.uint8), 0, 0,
        )  # fmt: skip

    @classmethod
    def resume(cls, state: QueueState) -> Self:
        """Return a queue that goes on from the state; the state itself can be resumed again."""
        queue = cls.__new__(cls)
        queue._state = state
        return queue

    @property
    def state(self) -> QueueState:
        """The exact state now."""
        return self._state

    @property
    def now_s(self) -> float:
        """The epoch that was advanced to last."""
        return self._state.now_s

    @property
    def n_running(self) -> int:
        """Requests on a server of this queue now."""
        return int(np.count_nonzero(self._state.codes[: self._state.n_in_system] == kernel.RUNNING))

    @property
    def n_waiting(self) -> int:
        """Requests in line now, evicted ones included; at an epoch they start only with the next `advance`."""
        codes = self._state.codes[: self._state.n_in_system]
        return int(np.count_nonzero((codes == kernel.WAITING) | (codes == kernel.PREEMPTED)))

    @property
    def n_in_system(self) -> int:
        """Requests that run, wait, or finish elsewhere."""
        return self._state.n_in_system

    def offer(self, arrivals_s: ArrayLike, services_s: ArrayLike, patience_s: ArrayLike | None = None) -> None:
        """
        Add requests that arrive after all offered so far, at ``now_s`` or later.

        Parameters are those of `serve_queue`; a chunk may be of any size.
        """
        state = self._state
        earliest_s = max(state.now_s, state.arrivals_s[-1]) if state.arrivals_s.shape[0] else state.now_s
        arrivals = checked_arrivals(arrivals_s, earliest_s)
        n = arrivals.shape[0]
        services = checked_services(services_s, n)
        patience = checked_patience(patience_s, n)
        self._state = replace(
            state,
            numbers=np.concatenate([state.numbers, np.arange(state.n_offered, state.n_offered + n)]),
            arrivals_s=np.concatenate([state.arrivals_s, arrivals]),
            left_s=np.concatenate([state.left_s, services]),
            patience_s=np.concatenate([state.patience_s, np.full(n, np.inf) if patience is None else patience]),
            starts_s=np.concatenate([state.starts_s, np.full(n, np.nan)]),
            finish_s=np.concatenate([state.finish_s, np.full(n, np.nan)]),
            codes=np.concatenate([state.codes, np.full(n, kernel.WAITING, np.uint8)]),
            n_offered=state.n_offered + n,
        )

    def advance(self, until_s: float) -> Settled:
        """
        Play all that happens before ``until_s`` (and the services that end at it); infinity plays to the end.

        Returns
        -------
        Settled
            The requests that were served, rejected or gave up in this step.
        """
        state = self._state
        if not until_s >= state.now_s:
            raise InvalidWorkload(f"until_s is {until_s!r}; the queue is already at {state.now_s:g} s: it goes forward")
        starts, finish, codes = state.starts_s.copy(), state.finish_s.copy(), state.codes.copy()
        last = int(np.searchsorted(state.arrivals_s, until_s, side="left"))
        last = max(last, state.n_in_system)
        patience = None if np.isinf(state.patience_s[:last]).all() else frozen(state.patience_s)
        still = kernel.serve_until(
            frozen(state.arrivals_s), frozen(state.left_s), patience, checked_room(state.room), state.slowdown,
            state.servers, state.now_s, float(until_s), frozen(np.arange(state.n_in_system)), state.n_in_system, last,
            starts, finish, codes,
        )  # fmt: skip
        gone = np.ones(last, np.bool_)
        gone[still] = False
        keep = np.concatenate([still, np.arange(last, codes.shape[0])])
        self._state = replace(
            state,
            now_s=float(until_s),
            numbers=state.numbers[keep],
            arrivals_s=state.arrivals_s[keep],
            left_s=state.left_s[keep],
            patience_s=state.patience_s[keep],
            starts_s=starts[keep],
            finish_s=finish[keep],
            codes=codes[keep],
            n_in_system=still.shape[0],
        )
        out = np.flatnonzero(gone)
        arrived = state.arrivals_s[out]
        return Settled(
            frozen(starts[out]), frozen(finish[out]), frozen(starts[out] - arrived), frozen(codes[out]),
            frozen(state.numbers[out]), frozen(arrived),
        )  # fmt: skip

    def change(
        self,
        *,
        servers: int | None = None,
        slowdown: float | None = None,
        room: int | Literal["keep"] | None = "keep",
        running: str = Shrink.DRAIN,
    ) -> None:
        """
        Change capacity at ``now_s``; what is not named stays.

        Parameters
        ----------
        servers : >= 0, optional
            With fewer than run, ``running`` says what becomes of the surplus.
        slowdown : > 0, optional
            Running requests finish their remaining work at the new speed.
        room : >= 0 or None, optional
            Nobody already in line is turned away.
        running : "drain", "evict", "restart" or "hand over"
            See `Shrink`.
        """
        state = self._state
        new_servers = state.servers if servers is None else checked_count("servers", servers, 0)
        new_slowdown = state.slowdown if slowdown is None else _checked_slowdown("slowdown", slowdown)
        new_room = state.room if room == "keep" else room
        checked_room(new_room)
        left, patience = state.left_s.copy(), state.patience_s.copy()
        finish, codes = state.finish_s.copy(), state.codes.copy()
        kernel.change_servers(
            left, patience, state.slowdown, new_slowdown, new_servers, _checked_shrink(running), state.now_s,
            frozen(np.arange(state.n_in_system)), finish, codes,
        )  # fmt: skip
        self._state = replace(
            state,
            servers=new_servers,
            slowdown=new_slowdown,
            room=new_room,
            left_s=left,
            patience_s=patience,
            finish_s=finish,
            codes=codes,
        )


def _checked_steps(capacity: Sequence[CapacityStep]) -> tuple[Floats, NDArray[np.int64], Floats]:
    if not capacity or capacity[0].from_s != 0.0:
        raise InvalidWorkload("capacity must begin with a step from_s=0: say how many servers there are at first")
    columns = list(zip(*capacity, strict=True))
    epochs, slowdowns = np.array(columns[0], np.float64), np.array(columns[2], np.float64)
    servers = np.array(columns[1])
    if servers.dtype.kind not in "iu" or servers.min() < 0:
        for k, step in enumerate(capacity):
            checked_count(f"capacity[{k}].servers", step.servers, 0)
    for k in np.flatnonzero(~((slowdowns > 0.0) & (slowdowns < np.inf)))[:1]:
        _checked_slowdown(f"capacity[{k}].slowdown", capacity[k].slowdown)
    for k in np.flatnonzero(~((np.diff(epochs) > 0.0) & (epochs[1:] < np.inf)))[:1]:
        before, after = epochs[k], epochs[k + 1]
        raise InvalidWorkload(f"capacity[{k + 1}].from_s is {after:g} after {before:g}; steps go forward in time")
    return epochs, servers.astype(np.int64), slowdowns


def serve_schedule(
    arrivals_s: ArrayLike,
    services_s: ArrayLike,
    capacity: Sequence[CapacityStep],
    *,
    patience_s: ArrayLike | None = None,
    room: int | None = None,
    running: str = Shrink.DRAIN,
) -> QueueResult:
    """
    Serve first come, first served, while capacity follows a schedule that is known beforehand.

    Parameters
    ----------
    capacity : steps in order of time, the first from 0 s
        Servers and speed from each moment on.
    running : "drain", "evict", "restart" or "hand over"
        What becomes of running requests where servers become fewer; see `Shrink`.
    arrivals_s, services_s, patience_s, room
        As in `serve_queue`.

    Returns
    -------
    QueueResult
        As `FcfsQueue` gives it, bit for bit; "waiting" marks what no server ever takes.

    Raises
    ------
    InvalidWorkload
        As `serve_queue`, and where the steps do not go forward from 0 s.

    Examples
    --------
    >>> steps = [CapacityStep(0, 0), CapacityStep(5, 1), CapacityStep(10, 0), CapacityStep(15, 1)]
    >>> serve_schedule([0, 0, 0], [5, 5, 5], steps).departures_s
    array([10., 20., 25.])
    """
    arrivals = checked_arrivals(arrivals_s)
    n = arrivals.shape[0]
    left = checked_services(services_s, n).copy()
    patience = checked_patience(patience_s, n)
    epochs, servers, slowdowns = _checked_steps(capacity)
    starts, departures, codes = np.empty(n), np.empty(n), np.empty(n, np.uint8)
    open_ended = kernel.serve_schedule(
        frozen(arrivals), left, None if patience is None else patience.copy(), checked_room(room),
        epochs, servers, slowdowns, _checked_shrink(running), starts, departures, codes,
    )  # fmt: skip
    codes[open_ended] = kernel.WAITING
    return QueueResult(frozen(starts), frozen(departures), frozen(starts - arrivals), frozen(codes))
