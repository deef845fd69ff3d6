"""
Compiled building blocks of the pool: the next completion, dated agendas, waiting lines, idle servers, slots.

The next completion comes out of a tournament over the servers' finish times (Knuth, TAOCP 3, section 5.4.1): changing
one costs one comparison per level, and ties go to the lower server. An agenda is a ring for entries that come in order
of time, as those of a constant timeout do, and a binary heap for the others; an entry is (time, key), smallest first.
"""

from typing import Any

import numpy as np
from numba import config, njit, types
from numba.extending import intrinsic

from simulation.data_plane import pool_layout as at
from simulation.data_plane.pool_layout import FloatArray, IntArray

inlined = njit(nogil=True, error_model="numpy", forceinline=True)
called = njit(nogil=True, error_model="numpy")


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(typing_context: Any, array: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    return types.CPointer(array.dtype)(array), codegen


def _same(array: Any) -> Any:
    return array


# Helpers take pointers to the data, not arrays: an array that passes through a call is counted in and out by atomic
# operations, and each of its indices is tested for a negative sign.
pointer = _same if config.DISABLE_JIT else _pointer


@inlined
def set_finish(f: FloatArray, i: IntArray, server: int, finish_s: float) -> None:
    """Set when a server finishes (infinity: it is not busy), and replay its matches."""
    times, winners = i[at.FINISH_S], i[at.WINNERS]
    place, winner = i[at.LEAVES] + server, server
    f[times + place] = finish_s
    # All the way up and without a branch: to stop where nothing changes costs more in wrong guesses than it saves.
    while place > 1:
        rival_s = f[times + (place ^ 1)]
        rival = i[winners + (place ^ 1)]
        # The left player is the lower server and wins ties; no time is NaN.
        is_beaten = (rival_s < finish_s) | ((not rival_s > finish_s) & ((place & 1) == 1))
        winner = rival if is_beaten else winner
        finish_s = rival_s if rival_s < finish_s else finish_s
        place >>= 1
        f[times + place] = finish_s
        i[winners + place] = winner


@called
def _sift_up(
    f: FloatArray, i: IntArray, heap_f: int, heap_i: int, place: int, at_s: float, key: int, slot: int
) -> None:
    while place > 0:
        parent = (place - 1) >> 1
        if f[heap_f + parent] < at_s or (f[heap_f + parent] == at_s and i[heap_i + 2 * parent] <= key):
            break
        f[heap_f + place] = f[heap_f + parent]
        i[heap_i + 2 * place] = i[heap_i + 2 * parent]
        i[heap_i + 2 * place + 1] = i[heap_i + 2 * parent + 1]
        place = parent
    f[heap_f + place] = at_s
    i[heap_i + 2 * place] = key
    i[heap_i + 2 * place + 1] = slot


@called
def _drop_top(f: FloatArray, i: IntArray, heap_f: int, heap_i: int, size: int) -> None:
    """Take the top out of a heap of `size` entries; a place beyond the end holds infinity."""
    last = size - 1
    at_s, key, slot = f[heap_f + last], i[heap_i + 2 * last], i[heap_i + 2 * last + 1]
    f[heap_f + last] = np.inf
    place = 0
    while 2 * place + 1 < last:
        child = 2 * place + 1
        one, other = heap_f + child, heap_f + child + 1
        if child + 1 < last and (
            f[other] < f[one] or (f[other] == f[one] and i[heap_i + 2 * child + 2] < i[heap_i + 2 * child])
        ):
            child += 1
        f[heap_f + place] = f[heap_f + child]
        i[heap_i + 2 * place] = i[heap_i + 2 * child]
        i[heap_i + 2 * place + 1] = i[heap_i + 2 * child + 1]
        place = child
    if last > 0:
        _sift_up(f, i, heap_f, heap_i, place, at_s, key, slot)


@inlined
def add_to_agenda(f: FloatArray, i: IntArray, agenda: int, at_s: float, key: int, slot: int) -> None:
    """Enter that something is due; say so if the agenda is nearly full."""
    head, tail, mask = i[agenda + at.HEAD], i[agenda + at.TAIL], i[agenda + at.MASK]
    ring_f, ring_i = i[agenda + at.RING_F], i[agenda + at.RING_I]
    before = (tail - 1) & mask
    before_s = f[ring_f + before]
    if head == tail or before_s < at_s or (before_s == at_s and i[ring_i + 2 * before] <= key):
        here = tail & mask
        f[ring_f + here] = at_s
        i[ring_i + 2 * here] = key
        i[ring_i + 2 * here + 1] = slot
        f[ring_f + ((tail + 1) & mask)] = np.inf
        i[agenda + at.TAIL] = tail + 1
        if tail - head > mask - 8:
            i[at.IS_CRAMPED] = 1
    else:
        size = i[agenda + at.SIZE]
        _sift_up(f, i, i[agenda + at.HEAP_F], i[agenda + at.HEAP_I], size, at_s, key, slot)
        i[agenda + at.SIZE] = size + 1
        if size > i[agenda + at.ROOM] - 8:
            i[at.IS_CRAMPED] = 1


@inlined
def next_in_agenda_s(f: FloatArray, i: IntArray, agenda: int) -> float:
    """Return when the first entry is due, or infinity."""
    ring_s, heap_s = f[i[agenda + at.RING_F] + (i[agenda + at.HEAD] & i[agenda + at.MASK])], f[i[agenda + at.HEAP_F]]
    return ring_s if ring_s < heap_s else heap_s


@inlined
def take_from_agenda(f: FloatArray, i: IntArray, agenda: int) -> tuple[int, int]:
    """Take out the entry that is due first; return its key and slot."""
    head = i[agenda + at.HEAD] & i[agenda + at.MASK]
    ring_s, heap_s = f[i[agenda + at.RING_F] + head], f[i[agenda + at.HEAP_F]]
    ring, heap = i[agenda + at.RING_I] + 2 * head, i[agenda + at.HEAP_I]
    if ring_s < heap_s or (ring_s == heap_s and i[ring] < i[heap]):
        i[agenda + at.HEAD] += 1
        return i[ring], i[ring + 1]
    key, slot = i[heap], i[heap + 1]
    _drop_top(f, i, i[agenda + at.HEAP_F], heap, i[agenda + at.SIZE])
    i[agenda + at.SIZE] -= 1
    return key, slot


@inlined
def drop_first(f: FloatArray, i: IntArray, agenda: int, at_s: float, slot: int) -> bool:
    """Take the first entry out of the ring if it is the one of this slot at this time; say whether it was."""
    head = i[agenda + at.HEAD] & i[agenda + at.MASK]
    is_first = f[i[agenda + at.RING_F] + head] == at_s and i[i[agenda + at.RING_I] + 2 * head + 1] == slot
    i[agenda + at.HEAD] += is_first
    return is_first


@inlined
def take_slot(i: IntArray) -> int:
    """Return a free slot."""
    slot = i[at.FREE_HEAD]
    i[at.FREE_HEAD] = i[slot + at.NEXT]
    i[at.IN_USE] += 1
    return slot


@inlined
def free_slot(i: IntArray, slot: int) -> None:
    """Give a slot back."""
    i[slot + at.STAGE] = at.FREE
    i[slot + at.NEXT] = i[at.FREE_HEAD]
    i[at.FREE_HEAD] = slot
    i[at.IN_USE] -= 1


@inlined
def queue_at(i: IntArray, station: int) -> int:
    """Return where the row of a queue starts."""
    return i[at.QUEUES] + station * at.QUEUE_WIDTH


@inlined
def _count_in(i: IntArray, station: int, slot: int) -> None:
    i[slot + at.STAGE] = at.WAITING
    i[slot + at.STATION] = station
    i[queue_at(i, station) + at.N_WAITING] += 1
    i[at.ALL_WAITING] += 1
    longest = i[at.CELL] + at.C_QUEUE_MAX
    if i[longest] < i[at.ALL_WAITING]:
        i[longest] = i[at.ALL_WAITING]


@inlined
def append_waiting(i: IntArray, station: int, slot: int) -> None:
    """Put a slot at the end of its class's waiting line."""
    line = queue_at(i, station) + at.LISTS + 2 * i[slot + at.PRIORITY]
    last = i[line + 1]
    i[slot + at.PREVIOUS] = last
    i[slot + at.NEXT] = at.NOBODY
    if last == at.NOBODY:
        i[line] = slot
    else:
        i[last + at.NEXT] = slot
    i[line + 1] = slot
    _count_in(i, station, slot)


@inlined
def prepend_waiting(i: IntArray, station: int, slot: int) -> None:
    """Put a slot at the head of its class's waiting line."""
    line = queue_at(i, station) + at.LISTS + 2 * i[slot + at.PRIORITY]
    first = i[line]
    i[slot + at.PREVIOUS] = at.NOBODY
    i[slot + at.NEXT] = first
    if first == at.NOBODY:
        i[line + 1] = slot
    else:
        i[first + at.PREVIOUS] = slot
    i[line] = slot
    _count_in(i, station, slot)


@inlined
def remove_waiting(i: IntArray, slot: int) -> None:
    """Take a slot out of its waiting line, wherever it stands."""
    queue = queue_at(i, i[slot + at.STATION])
    line = queue + at.LISTS + 2 * i[slot + at.PRIORITY]
    previous, following = i[slot + at.PREVIOUS], i[slot + at.NEXT]
    if previous == at.NOBODY:
        i[line] = following
    else:
        i[previous + at.NEXT] = following
    if following == at.NOBODY:
        i[line + 1] = previous
    else:
        i[following + at.PREVIOUS] = previous
    i[queue + at.N_WAITING] -= 1
    i[at.ALL_WAITING] -= 1


@inlined
def server_at(i: IntArray, server: int) -> int:
    """Return where the row of a server starts."""
    return i[at.SERVERS] + server * at.SERVER_WIDTH


@inlined
def append_idle(i: IntArray, station: int, server: int) -> None:
    """Put a server at the end of the idle ones: the longest idle serves next, so that slow replicas get their share."""
    row, queue = server_at(i, server), queue_at(i, station)
    i[row + at.MODE] = at.IDLE
    i[row + at.NEXT_IDLE] = at.NOBODY
    last = i[queue + at.IDLE_TAIL]
    if last == at.NOBODY:
        i[queue + at.IDLE_HEAD] = server
    else:
        i[server_at(i, last) + at.NEXT_IDLE] = server
    i[queue + at.IDLE_TAIL] = server


@inlined
def take_idle(i: IntArray, station: int) -> int:
    """Take out the server that is idle longest, or return NOBODY."""
    queue = queue_at(i, station)
    server = i[queue + at.IDLE_HEAD]
    if server != at.NOBODY:
        following = i[server_at(i, server) + at.NEXT_IDLE]
        i[queue + at.IDLE_HEAD] = following
        if following == at.NOBODY:
            i[queue + at.IDLE_TAIL] = at.NOBODY
    return server
