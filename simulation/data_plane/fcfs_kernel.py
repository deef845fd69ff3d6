"""
The compiled first-come-first-served recursion, for one run or for the stretch up to a control epoch.

Start at `serve_until`. All compiled code of the FCFS queue stands in this file, because numba's cache notices
a change of the file that a kernel stands in, and of no other.

The Kiefer-Wolfowitz recursion in absolute time: a request starts at ``max(arrival, earliest free server)``.
The earliest server comes out of a tournament of losers (Knuth, TAOCP 3, section 5.4.1): replacing the winner needs one
comparison per level and no search, and each level is a conditional move. The bare recursion, million requests per
second on one core: 200 at c = 4, 145 at 16, 113 at 64, 89 at 256; a linear scan gives 148, 38, -, -; sorted insertion
82, 63, 37, 13; a binary heap 87, 42, 27, 20. So there is one algorithm for every c.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]
Codes = NDArray[np.uint8]

# How a request stands. The first three are final; a run to infinity leaves WAITING only where no server ever comes.
SERVED, REJECTED, ABANDONED, WAITING, PREEMPTED, RUNNING, ELSEWHERE = range(7)
# What happens to running work above a smaller capacity.
DRAIN, EVICT, RESTART, HAND_OVER = range(4)

UNLIMITED = -1  # room without limit; patience without limit is infinity, or no array at all


@njit(cache=True, nogil=True)
def latest_start(arrival_s: float, patience_s: float) -> float:
    """Return the last moment d with ``d - arrival_s <= patience_s`` in floating point: a later start is too late."""
    # arrival + patience may round to either side; what the caller can check afterwards is start - arrival.
    last_s = arrival_s + patience_s
    if last_s == np.inf:
        return last_s
    while last_s - arrival_s > patience_s:
        last_s = np.nextafter(last_s, -np.inf)
    if patience_s <= arrival_s:  # differences of numbers this close are exact: nothing later can pass
        return last_s
    after_s = np.nextafter(last_s, np.inf)
    while after_s - arrival_s <= patience_s:
        last_s = after_s
        after_s = np.nextafter(last_s, np.inf)
    return last_s


@njit(cache=True, nogil=True)
def free_times(active: Positions, finish_s: Floats, code: Codes, now_s: float, servers: int) -> Floats:
    """Return when each of the servers is next free, given the work that runs on them at ``now_s``."""
    busy = np.empty(active.shape[0])
    n_busy = 0
    for i in active:
        if code[i] == RUNNING:
            busy[n_busy] = finish_s[i]
            n_busy += 1
    free_s = np.full(servers, now_s)
    # Draining: with more running than servers, the next start waits until one fewer than `servers` run,
    # which is to say that only the longest `servers` of them count.
    kept = np.sort(busy[:n_busy])[max(0, n_busy - servers) :]
    free_s[: kept.shape[0]] = kept
    return free_s


@njit(cache=True, nogil=True)
def plant_tree(free_s: Floats) -> tuple[Floats, Positions, float, int]:
    """Return the losers of a tournament for the least of ``free_s``: their times, their leaves, the winner's two."""
    size = 1
    while size < free_s.shape[0]:
        size *= 2
    leaf_time_s = np.full(size, np.inf)  # a missing server is never free
    leaf_time_s[: free_s.shape[0]] = free_s
    winners = np.empty(2 * size, np.int64)
    winners[size:] = np.arange(size)
    time_s = np.empty(size)
    leaf = np.empty(size, np.int64)
    for node in range(size - 1, 0, -1):
        won, lost = winners[2 * node], winners[2 * node + 1]
        if leaf_time_s[lost] < leaf_time_s[won]:
            won, lost = lost, won
        winners[node], leaf[node], time_s[node] = won, lost, leaf_time_s[lost]
    return time_s, leaf, leaf_time_s[winners[1]], winners[1]


@njit(cache=True, nogil=True)
def push(heap: Floats, size: int, value: float) -> None:
    """Add a value to the least-first heap of that size."""
    at = size
    while at > 0 and heap[(at - 1) // 2] > value:
        heap[at] = heap[(at - 1) // 2]
        at = (at - 1) // 2
    heap[at] = value


@njit(cache=True, nogil=True)
def drop_least(heap: Floats, size: int) -> None:
    """Take the least value out of the heap of that size."""
    last = heap[size - 1]
    at = 0
    while 2 * at + 1 < size - 1:
        child = 2 * at + 1
        if child + 1 < size - 1 and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= last:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = last


@njit(cache=True, nogil=True)
def settle(active: Positions, finish_s: Floats, code: Codes, until_s: float) -> Positions:
    """Close what runs and finishes by ``until_s``; return the positions that wait."""
    line = np.empty(active.shape[0], np.int64)
    n_line = 0
    for i in active:
        if code[i] == WAITING or code[i] == PREEMPTED:
            line[n_line] = i
            n_line += 1
        elif finish_s[i] <= until_s:
            code[i] = SERVED
    return line[:n_line]


@njit(cache=True, nogil=True)
def still_in_system(active: Positions, first: int, last: int, code: Codes) -> Positions:
    """Return the positions among ``active`` and ``first:last`` whose fate is open, in order of arrival."""
    n_still = 0
    for i in active:
        n_still += code[i] >= WAITING
    for i in range(first, last):
        n_still += code[i] >= WAITING
    still = np.empty(n_still, np.int64)
    at = 0
    for i in active:
        if code[i] >= WAITING:
            still[at] = i
            at += 1
    if at < n_still:
        for i in range(first, last):
            if code[i] >= WAITING:
                still[at] = i
                at += 1
    return still


@njit(cache=True, nogil=True)
def serve_until(
    arrivals_s: Floats,
    left_s: Floats,
    patience_s: Floats | None,
    room: int,
    slowdown: float,
    servers: int,
    now_s: float,
    until_s: float,
    active: Positions,
    first: int,
    last: int,
    starts_s: Floats,
    finish_s: Floats,
    code: Codes,
) -> Positions:
    """
    Play the queue from ``now_s`` up to, and without, ``until_s``; return the positions still in the system.

    ``active``: the positions in the system at ``now_s``, in order of arrival; ``first:last`` arrive after them and
    before ``until_s``. ``left_s`` is work in seconds at full speed. ``starts_s``, ``finish_s`` and ``code`` are
    written. A start at ``until_s`` or later stays open: what the controller does then may change it.
    """
    loser_s, leaf, free_s, winner = plant_tree(free_times(active, finish_s, code, now_s, servers))
    line = settle(active, finish_s, code, until_s)
    n_leaves = loser_s.shape[0]
    n_carried = line.shape[0]
    # Who waits at an arrival: without patience a ring of the last `room` starts, which never decrease;
    # with it a heap of the moments of leaving the line, since the impatient leave out of order.
    limited = 0 <= room < n_carried + last - first
    leaving_s = np.full(max(room, 1) + n_carried if limited else 1, -np.inf)
    asked_when = limited or until_s < np.inf  # otherwise it is enough that the impatient leave
    slot = 0
    n_waiting = 0
    for j in range(n_carried + last - first):
        carried = j < n_carried
        i = line[j] if carried else first + j - n_carried
        arrival_s = arrivals_s[i]
        start_s = max(arrival_s, free_s)
        if limited and start_s > arrival_s and not carried:
            if patience_s is None:
                full = room == 0 or leaving_s[slot] > arrival_s
            else:
                while n_waiting > 0 and leaving_s[0] <= arrival_s:
                    drop_least(leaving_s, n_waiting)
                    n_waiting -= 1
                full = n_waiting >= room
            if full:
                code[i] = REJECTED
                starts_s[i] = np.nan
                finish_s[i] = np.nan
                continue
        leaves_line_s = start_s
        abandons = False
        if patience_s is not None and start_s - arrival_s > patience_s[i]:
            leaves_line_s = latest_start(arrival_s, patience_s[i]) if asked_when else arrival_s
            abandons = leaves_line_s < until_s
        if limited and leaves_line_s > arrival_s:
            if patience_s is None:
                leaving_s[slot] = leaves_line_s
                slot = slot + 1 if slot + 1 < room else 0
            else:
                push(leaving_s, n_waiting, leaves_line_s)
                n_waiting += 1
        if abandons or start_s >= until_s:
            if abandons or not carried:
                code[i] = ABANDONED if abandons else WAITING
                starts_s[i] = np.nan
                finish_s[i] = np.nan
            continue
        ends_s = start_s + left_s[i] * slowdown
        if not (carried and code[i] == PREEMPTED):  # a wait ends when service first starts
            starts_s[i] = start_s
        finish_s[i] = ends_s
        code[i] = SERVED if ends_s <= until_s else RUNNING
        free_s = ends_s
        node = (winner + n_leaves) >> 1
        while node > 0:  # the new time climbs from its leaf; the later of two stays at the node
            other_s, other = loser_s[node], leaf[node]
            sooner = other_s < free_s
            loser_s[node] = free_s if sooner else other_s
            leaf[node] = winner if sooner else other
            free_s = other_s if sooner else free_s
            winner = other if sooner else winner
            node >>= 1
    return still_in_system(active, first, last, code)


@njit(cache=True, nogil=True)
def change_servers(
    left_s: Floats,
    patience_s: Floats | None,
    slowdown: float,
    new_slowdown: float,
    servers: int,
    shrink: int,
    now_s: float,
    active: Positions,
    finish_s: Floats,
    code: Codes,
) -> None:
    """Let what runs at ``now_s`` meet the new number of servers and the new speed."""
    n_running = 0
    for i in active:
        n_running += code[i] == RUNNING
    surplus = max(0, n_running - servers) if shrink != DRAIN else 0
    for i in active[::-1]:  # the last to arrive lose their servers
        if code[i] != RUNNING:
            continue
        if surplus > 0:
            surplus -= 1
            if shrink == HAND_OVER:
                code[i] = ELSEWHERE
                continue
            if shrink == EVICT:
                left_s[i] = (finish_s[i] - now_s) / slowdown
            if patience_s is not None:
                patience_s[i] = np.inf
            finish_s[i] = np.nan
            code[i] = PREEMPTED
        elif new_slowdown != slowdown:  # nothing else may touch an absolute time: (F - t) + t loses bits
            finish_s[i] = now_s + (finish_s[i] - now_s) * (new_slowdown / slowdown)


@njit(cache=True, nogil=True)
def serve_schedule(
    arrivals_s: Floats,
    left_s: Floats,
    patience_s: Floats | None,
    room: int,
    epochs_s: Floats,
    servers: Positions,
    slowdowns: Floats,
    shrink: int,
    starts_s: Floats,
    finish_s: Floats,
    code: Codes,
) -> Positions:
    """Play a whole run whose capacity changes at known epochs; return the positions that are never served."""
    active = np.empty(0, np.int64)
    first = 0
    for k in range(epochs_s.shape[0]):
        now_s = epochs_s[k]
        until_s = epochs_s[k + 1] if k + 1 < epochs_s.shape[0] else np.inf
        if k > 0:
            change_servers(
                left_s, patience_s, slowdowns[k - 1], slowdowns[k], servers[k], shrink, now_s, active, finish_s, code
            )
        last = first
        while last < arrivals_s.shape[0] and arrivals_s[last] < until_s:
            last += 1
        active = serve_until(
            arrivals_s, left_s, patience_s, room, slowdowns[k], servers[k], now_s, until_s, active, first, last,
            starts_s, finish_s, code,
        )  # fmt: skip
        first = last
    return active
