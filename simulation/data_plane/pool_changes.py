"""
Compiled changes of a pool between two stretches (work taken off, rescaled, sent elsewhere), and the entry points.

Start at `EntryPoints`. They close over a digest of all files that they are made of, so that none is ever stale.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit

import simulation.randomness
from simulation.data_plane import histogram, pool_kernel, pool_structures
from simulation.data_plane import pool_layout as at
from simulation.data_plane.compiled_sources import digest_of
from simulation.data_plane.pool_kernel import (
    count,
    feed_breaker,
    finish_work,
    leave,
    next_waiting,
    react,
    refuse,
    replica_at,
    route,
    settle,
    start,
    unload,
    watch_deadline,
)
from simulation.data_plane.pool_layout import FloatArray, IntArray
from simulation.data_plane.pool_structures import (
    append_idle,
    append_waiting,
    called,
    free_slot,
    pointer,
    prepend_waiting,
    queue_at,
    remove_waiting,
    server_at,
    set_finish,
    take_idle,
)

DRAIN, EVICT, HAND_OVER, FAIL = range(4)
HOW = {"drain": DRAIN, "evict_and_requeue": EVICT, "hand_over": HAND_OVER, "fail": FAIL}


@called
def _finish_due(f: FloatArray, i: IntArray, now_s: float) -> None:
    """Complete what is due now, without refilling: a control change comes between completions and starts."""
    settle(f, i, now_s)
    while f[i[at.FINISH_S] + 1] == now_s:
        server = i[i[at.WINNERS] + 1]
        finish_work(f, i, server, now_s)
        set_finish(f, i, server, np.inf)
        row = server_at(i, server)
        replica = replica_at(i, i[row + at.REPLICA])
        if i[replica + at.DEBT] > 0:
            i[replica + at.DEBT] -= 1
            i[row + at.MODE] = at.RETIRED
        else:
            append_idle(i, i[replica + at.HOME], server)


@called
def _start_waiting(f: FloatArray, i: IntArray, now_s: float) -> None:
    """Start what can start after a change, queue by queue."""
    for station in range(i[at.N_QUEUES]):
        queue = queue_at(i, station)
        while i[queue + at.IDLE_HEAD] != at.NOBODY and i[queue + at.N_WAITING] > 0:
            slot = next_waiting(f, i, station, now_s)
            if slot == at.NOBODY:
                break
            start(f, i, take_idle(i, station), slot, now_s)


@called
def _break_off(f: FloatArray, i: IntArray, slot: int, now_s: float) -> None:
    """Lose an attempt with its replica: its client sees an error."""
    count(f, i, slot, at.C_LOST)
    leave(f, i, slot, now_s)
    if i[slot + at.HAS_CLIENT]:
        if i[at.HAS_BREAKER]:
            feed_breaker(f, i, slot, now_s, True)
        react(f, i, slot, now_s, at.BY_ERROR)
    free_slot(i, slot)


@called
def _redirect(f: FloatArray, i: IntArray, slot: int, now_s: float, at_head: bool) -> None:
    """Send an attempt that the pool had taken in to another queue, whatever its length."""
    station = route(f, i, slot, i[slot + at.VERSION])
    if station != at.NOBODY:
        if at_head:
            prepend_waiting(i, station, slot)
        else:
            append_waiting(i, station, slot)
        watch_deadline(f, i, slot, np.inf)
        return
    leave(f, i, slot, now_s)
    if i[slot + at.HAS_CLIENT]:
        refuse(f, i, slot, now_s, at.C_REJECTED_DOWN)
    else:
        count(f, i, slot, at.C_LOST)
        free_slot(i, slot)


@called
def _newest(f: FloatArray, i: IntArray, replica: int, n_servers: int) -> int:
    """Return the busy server of a replica whose work started last; of equals the highest."""
    best, best_s = at.NOBODY, -np.inf
    for server in range(n_servers):
        row = server_at(i, server)
        if i[row + at.REPLICA] == replica and i[row + at.MODE] == at.BUSY:
            started_s = f[i[row + at.ON_SERVER] + at.STARTED_AT]
            if started_s >= best_s:
                best, best_s = server, started_s
    return best


@called
def _arrived_later(f: FloatArray, i: IntArray, one: int, other: int) -> bool:
    one_s, other_s = f[one + at.ARRIVED_AT], f[other + at.ARRIVED_AT]
    return one_s > other_s or (one_s == other_s and i[one + at.REQUEST] > i[other + at.REQUEST])


@called
def _take_off(f: FloatArray, i: IntArray, replica: int, n: int, how: int, n_servers: int, now_s: float) -> None:
    """Take the `n` newest works off a replica and retire their servers; the oldest arrival ends first in line."""
    slots = np.empty(n, np.int64)
    pace = f[i[at.REPLICAS_F] + replica * at.REPLICA_WIDTH_F + at.PACE]
    for k in range(n):
        server = _newest(f, i, replica, n_servers)
        slot = unload(i, server)
        remaining_s = f[i[at.FINISH_S] + i[at.LEAVES] + server] - now_s
        if how == EVICT:
            f[slot + at.WORK_S] = f[slot + at.SERVICE_S]
            i[slot + at.RESTARTS] += 1
        elif remaining_s < np.inf:  # standing work keeps in WORK_S what is left of it
            f[slot + at.WORK_S] = remaining_s / pace / f[slot + at.COLD]
        i[server_at(i, server) + at.MODE] = at.RETIRED
        set_finish(f, i, server, np.inf)
        place = k  # by arrival, the newest first; few enough for insertion
        while place > 0 and _arrived_later(f, i, slot, slots[place - 1]):
            slots[place] = slots[place - 1]
            place -= 1
        slots[place] = slot
    for slot in slots:
        if how == FAIL:
            _break_off(f, i, slot, now_s)
        else:
            _redirect(f, i, slot, now_s, True)


@called
def _send_away(f: FloatArray, i: IntArray, station: int, how: int, now_s: float) -> None:
    """Empty the waiting lines of a replica that has closed."""
    for priority in range(i[at.PRIORITIES]):
        line = queue_at(i, station) + at.LISTS + 2 * priority
        while i[line] != at.NOBODY:
            slot = i[line]
            remove_waiting(i, slot)
            if how == FAIL:
                _break_off(f, i, slot, now_s)
            else:
                _redirect(f, i, slot, now_s, False)


@called
def _rescale(f: FloatArray, i: IntArray, replica: int, pace: float, n_servers: int, now_s: float) -> None:
    """Give a replica another pace; running work keeps its server and stretches what is left of it."""
    old = f[i[at.REPLICAS_F] + replica * at.REPLICA_WIDTH_F + at.PACE]
    f[i[at.REPLICAS_F] + replica * at.REPLICA_WIDTH_F + at.PACE] = pace
    for server in range(n_servers):
        row = server_at(i, server)
        if i[row + at.REPLICA] != replica or i[row + at.MODE] != at.BUSY:
            continue
        slot = i[row + at.ON_SERVER]
        remaining_s = f[i[at.FINISH_S] + i[at.LEAVES] + server] - now_s
        if pace == np.inf:
            f[slot + at.WORK_S] = remaining_s / old / f[slot + at.COLD]
            finish_s = np.inf
        elif old == np.inf:
            finish_s = now_s + f[slot + at.WORK_S] * f[slot + at.COLD] * pace
        else:
            finish_s = now_s + remaining_s * (pace / old)
        set_finish(f, i, server, finish_s)
        watch_deadline(f, i, slot, finish_s)


class EntryPoints(NamedTuple):
    """The compiled functions that Python calls; each works on `f` and `i` in place, without the interpreter's lock."""

    advance: Callable[..., Any]
    finish_due: Callable[..., Any]
    start_waiting: Callable[..., Any]
    take_off: Callable[..., Any]
    send_away: Callable[..., Any]
    rescale: Callable[..., Any]


def _entry_points(sources: int) -> EntryPoints:
    keyed = njit(cache=True, nogil=True, error_model="numpy")

    @keyed
    def advance(f_array, i_array, chunk, position, until_s, is_last, carries_on):  # type: ignore[no-untyped-def]  # numba's types
        _ = sources
        f, i = pointer(f_array), pointer(i_array)
        stopped, position = pool_kernel.advance(f, i, chunk, position, until_s, is_last)
        if stopped == at.REACHED and carries_on:
            settle(f, i, until_s)
        return stopped, position

    @keyed
    def finish_due(f_array, i_array, now_s):  # type: ignore[no-untyped-def]
        _ = sources
        f, i = pointer(f_array), pointer(i_array)
        _finish_due(f, i, now_s)

    @keyed
    def start_waiting(f_array, i_array, now_s):  # type: ignore[no-untyped-def]
        _ = sources
        f, i = pointer(f_array), pointer(i_array)
        _start_waiting(f, i, now_s)

    @keyed
    def take_off(f_array, i_array, replica, n, how, n_servers, now_s):  # type: ignore[no-untyped-def]
        _ = sources
        f, i = pointer(f_array), pointer(i_array)
        _take_off(f, i, replica, n, how, n_servers, now_s)

    @keyed
    def send_away(f_array, i_array, station, how, now_s):  # type: ignore[no-untyped-def]
        _ = sources
        f, i = pointer(f_array), pointer(i_array)
        _send_away(f, i, station, how, now_s)

    @keyed
    def rescale(f_array, i_array, replica, pace, n_servers, now_s):  # type: ignore[no-untyped-def]
        _ = sources
        f, i = pointer(f_array), pointer(i_array)
        _rescale(f, i, replica, pace, n_servers, now_s)

    return EntryPoints(advance, finish_due, start_waiting, take_off, send_away, rescale)


SOURCES = (simulation.randomness, histogram, at, pool_structures, pool_kernel)
COMPILED = _entry_points(digest_of(*SOURCES, __file__))
