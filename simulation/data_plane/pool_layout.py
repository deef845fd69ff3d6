"""
Where everything lies in the two arrays, of floats and of whole numbers, that the pool's kernels share; see `State`.

All state of a pool is in `f` and `i`, so a kernel can stop anywhere and go on, and a call passes two pointers: with
thirty arrays in a tuple the kernel was fifty times slower and took minutes to compile. A slot holds one attempt of one
request, from its arrival (or from the moment its retry is planned) until neither the pool nor a client has to do with
it. Its handle is its offset: ``i[slot + ATTEMPT]``, ``f[slot + DEADLINE]``.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulation.data_plane.histogram import N_BINS

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

NOBODY = -1
ENDLESS = 2**62
MOST_CLASSES = 8
N_DELAYS = 64  # later retries wait as long as the last of these

# --- f, fixed part: settings (seconds, ratios), then state
TIMEOUT_S, SLO_S, GREEN_SHARE, BUCKET_S, ERROR_BLUE, ERROR_GREEN, SERVICE_A, SERVICE_B, SERVICE_C = range(9)
PATIENCE_A, PATIENCE_B, PATIENCE_C, BUDGET_RATIO, BUDGET_BURST, RATE_RPS, RATE_BURST = range(9, 16)
TRIP_RATIO, TRIP_WINDOW_S, OPEN_S, JITTER_RATIO, COLD_SLOWDOWN = range(16, 21)
TOKENS, RATE_TOKENS, RATE_AT, BREAKER_UNTIL, BREAKER_WINDOW_END, NEXT_BUCKET_AT, SETTLED_AT = range(21, 28)
LONGEST = 28  # longest answer of blue, of green, longest latency of blue, of green
DELAYS = 32
AHEAD = DELAYS + N_DELAYS  # services of first attempts, drawn a block at a time
N_AHEAD = 256
SLOTS_F = AHEAD + N_AHEAD

# --- i, fixed part: settings, then state, then where the other parts start
SEED, SERVICE_KIND, PATIENCE_KIND, CANCELLATION, RETRIES, RETRY_ON, HAS_BUDGET, JITTER, QUEUE_LIMIT = range(9)
PRIORITIES, ROUTING, VERSIONS, HAS_RATE, HAS_BREAKER, TRIP_MINIMUM, PROBES, DROPS_EXPIRED = range(9, 17)
KEEPS_RECORDS, KEEPS_BUCKET_LATENCIES, SLOT_LIMIT, IS_GUARDED = range(17, 21)
FREE_HEAD, IN_USE, N_CLIENTS, ALL_WAITING, ALL_BUSY, LAST_TICK, BUCKET, SOJOURN_TICKS, IS_CRAMPED = range(21, 30)
BREAKER, BREAKER_GENERATION, BREAKER_OK, BREAKER_BAD, BREAKER_LET, ROUND_BLUE, ROUND_GREEN, NEXT_REQUEST = range(30, 38)
CELL = 38  # where the row of blue in the present bucket starts; green's follows
LEAVES, FINISH_S, WINNERS, SERVERS, REPLICAS_F, REPLICAS, N_QUEUES, QUEUES, OPEN_LISTS, OPEN_WIDTH = range(39, 49)
CELLS, BUCKET_LATENCIES, RECORDS_F, RECORDS = range(49, 53)
TIMEOUTS, RETRYING = 53, 62
# An agenda from its base on: ring (head, tail, mask, where floats and pairs start), heap (size, room, where).
HEAD, TAIL, MASK, RING_F, RING_I, SIZE, ROOM, HEAP_F, HEAP_I = range(9)
SHED_LENGTHS = 71
AHEAD_UNTIL = SHED_LENGTHS + MOST_CLASSES  # the first request whose service is not drawn ahead
KEYS = AHEAD_UNTIL + 1  # of each purpose of the data plane, for the first attempts of a request
N_PURPOSES, N_KEYED = 16, 4
ANSWERS = KEYS + N_PURPOSES * N_KEYED
LATENCIES = ANSWERS + 2 * N_BINS
SLOTS_I = LATENCIES + 2 * N_BINS

CANCEL_NONE, CANCEL_AT_START, CANCEL_QUEUED, CANCEL_ALL = range(4)
SHARED, ROUND_ROBIN, LEAST_LOADED, POWER_OF_TWO = range(4)
NO_JITTER, RATIO_JITTER, FULL_JITTER, EXPONENTIAL_JITTER = range(4)
CLOSED, OPEN, HALF_OPEN = range(3)

# --- slots: handles are multiples of SLOT_WIDTH in both arrays
SLOT_WIDTH = 16
# SERVICE_S is the given service time (NaN: drawn), WORK_S what is left of it (NaN: draw at the start).
FIRST_AT, ARRIVED_AT, DEADLINE, LEAVES_AT, PATIENCE_S, SERVICE_S, WORK_S, COLD, STARTED_AT = range(SLOTS_F, SLOTS_F + 9)
REQUEST, ATTEMPT, STAGE, HAS_CLIENT, PRIORITY, VERSION, STATION, NEXT, PREVIOUS = range(SLOTS_I, SLOTS_I + 9)
RESTARTS, HAS_ENTRY, FORCED_VERSION, GENERATION, SERVER = range(SLOTS_I + 9, SLOTS_I + 14)
FREE, IN_BACKOFF, WAITING, RUNNING = range(4)

# --- rows of servers, replicas, queues
SERVER_WIDTH = 4
ON_SERVER, REPLICA, NEXT_IDLE, MODE = range(4)
RETIRED, IDLE, BUSY = range(3)
# PACE is the product of all slowdowns; DEBT counts running requests above a lowered limit.
REPLICA_WIDTH, REPLICA_WIDTH_F = 8, 4
OF_VERSION, NUMBER, HOME, LIMIT, DEBT, IS_UP, COLD_STARTS = range(7)
PACE, SLOWDOWN, COLD_UNTIL = range(3)
# from LISTS on head and tail of the waiting line of each class
QUEUE_WIDTH = 4 + 2 * MOST_CLASSES
N_WAITING, N_BUSY, IDLE_HEAD, IDLE_TAIL, LISTS = range(5)

# --- cells: counters per bucket of time and version. The first seven are about requests, the others about attempts.
COUNTERS = (
    "offered", "served", "good", "rejected", "timed_out", "abandoned", "failed",
    "attempts", "retries", "completed", "errors",
    "rejected_full", "rejected_rate", "rejected_shed", "rejected_open", "rejected_down",
    "dropped_expired", "cancelled_queued", "cancelled_running", "left_queue", "lost", "timeouts", "budget_denied",
    "latency_ticks", "answer_ticks", "queue_max", "queue_ticks", "busy_ticks",
)  # fmt: skip
(
    C_OFFERED, C_SERVED, C_GOOD, C_REJECTED, C_TIMED_OUT, C_ABANDONED, C_FAILED,
    C_ATTEMPTS, C_RETRIES, C_COMPLETED, C_ERRORS,
    C_REJECTED_FULL, C_REJECTED_RATE, C_REJECTED_SHED, C_REJECTED_OPEN, C_REJECTED_DOWN,
    C_DROPPED_EXPIRED, C_CANCELLED_QUEUED, C_CANCELLED_RUNNING, C_LEFT_QUEUE, C_LOST, C_TIMEOUTS, C_BUDGET_DENIED,
    C_LATENCY_TICKS, C_ANSWER_TICKS, C_QUEUE_MAX, C_QUEUE_TICKS, C_BUSY_TICKS,
) = range(28)  # fmt: skip
N_COUNTERS = 32

# Why an attempt came to nothing: bits, as in `retry_on`.
BY_TIMEOUT, BY_REJECTION, BY_ERROR = 1, 2, 4

# --- records
RECORD_WIDTH, RECORD_WIDTH_F = 3, 2
R_OUTCOME, R_ATTEMPTS, R_VERSION = range(3)
R_START, R_END = range(2)
OUTCOMES = ("in_flight", "served", "rejected", "timed_out", "abandoned", "failed")
O_IN_FLIGHT, O_SERVED, O_REJECTED, O_TIMED_OUT, O_ABANDONED, O_FAILED = range(6)

# What a kernel stopped for.
REACHED, OUT_OF_ARRIVALS, NEEDS_ROOM = range(3)


class Chunk(NamedTuple):
    """Arrivals in order, with what was given about them; arrays of length 0 stand for what was not."""

    arrivals_s: FloatArray
    services_s: FloatArray
    priorities: IntArray
    patience_s: FloatArray
    versions: IntArray


# The parts that grow, and the place in `i` that says where each starts (slots start where the fixed part ends).
_GROWING_F = {
    "slot_f": None,
    "finish_s": FINISH_S,
    "replica_f": REPLICAS_F,
    "timeout_ring_s": TIMEOUTS + RING_F,
    "timeout_heap_s": TIMEOUTS + HEAP_F,
    "retry_ring_s": RETRYING + RING_F,
    "retry_heap_s": RETRYING + HEAP_F,
    "record_f": RECORDS_F,
}
_GROWING_I = {
    "slot_i": None,
    "winner": WINNERS,
    "server_i": SERVERS,
    "replica_i": REPLICAS,
    "queue_i": QUEUES,
    "open_i": OPEN_LISTS,
    "timeout_ring_i": TIMEOUTS + RING_I,
    "timeout_heap_i": TIMEOUTS + HEAP_I,
    "retry_ring_i": RETRYING + RING_I,
    "retry_heap_i": RETRYING + HEAP_I,
    "cells": CELLS,
    "bucket_latencies": BUCKET_LATENCIES,
    "record_i": RECORDS,
}


class State:
    """
    The arrays `f` and `i`, and named views of their parts for the Python side; `replace` gives a part another size.

    `slot_f` and `slot_i` are handled by `column`, because their column numbers are offsets in `f` and `i`.
    """

    finish_s: FloatArray
    replica_f: FloatArray
    record_f: FloatArray
    winner: IntArray
    server_i: IntArray
    replica_i: IntArray
    queue_i: IntArray
    open_i: IntArray
    cells: IntArray
    bucket_latencies: IntArray
    record_i: IntArray

    def __init__(self, parts: Mapping[str, NDArray[Any]]) -> None:
        self.f, self.i = np.zeros(SLOTS_F), np.zeros(SLOTS_I, np.int64)
        self._parts: dict[str, NDArray[Any]] = {}
        self.replace(**parts)

    def __getattr__(self, name: str) -> NDArray[Any]:
        parts: dict[str, NDArray[Any]] = self.__dict__.get("_parts", {})
        if name not in parts:
            raise AttributeError(f"the state has no part {name!r}")
        return parts[name]

    def replace(self, **parts: NDArray[Any]) -> None:
        """Lay the given parts anew, of whatever size; all views made before are void."""
        self._parts.update(parts)
        if not parts.keys().isdisjoint(_GROWING_F):
            self.f = self._packed(self.f[:SLOTS_F], _GROWING_F)
        self.i = self._packed(self.i[:SLOTS_I], _GROWING_I)
        self.i[LEAVES], self.i[N_QUEUES] = self.finish_s.shape[0] // 2, self.queue_i.shape[0]
        self.i[OPEN_WIDTH] = self.open_i.shape[1]
        self.i[CELL] = self.i[CELLS] + self.i[BUCKET] * self.cells.shape[1] * N_COUNTERS
        for base, name in ((TIMEOUTS, "timeout"), (RETRYING, "retry")):
            self.i[base + MASK] = self._parts[f"{name}_ring_s"].shape[0] - 1
            self.i[base + ROOM] = self._parts[f"{name}_heap_s"].shape[0]

    def _packed(self, fixed: NDArray[Any], places: Mapping[str, int | None]) -> NDArray[Any]:
        """Return fixed and growing parts end to end, with the views and the places of the latter made new."""
        flat = np.concatenate([fixed, *(self._parts[name].ravel() for name in places)])
        start = fixed.shape[0]
        where = flat if flat.dtype == np.int64 else self.i
        for name, place in places.items():
            part = self._parts[name]
            self._parts[name] = flat[start : start + part.size].reshape(part.shape)
            if place is not None:
                where[place] = start
            start += part.size
        return flat

    def column(self, name: int, *, floats: bool = False) -> NDArray[Any]:
        """Return one column of all slots, as a view."""
        flat, first = (self.f, SLOTS_F) if floats else (self.i, SLOTS_I)
        n = self._parts["slot_f" if floats else "slot_i"].shape[0]
        return flat[name : first + n * SLOT_WIDTH : SLOT_WIDTH]


def empty_ring(size: int) -> tuple[FloatArray, IntArray]:
    """Return times and (key, slot) pairs of an empty ring (its size a power of two, its tail infinite) or heap."""
    return np.full(size, np.inf), np.zeros((size, 2), np.int64)


def grown(array: NDArray[Any], rows: int, fill: float = 0.0) -> NDArray[Any]:
    """Return a copy with that many rows, the new ones filled."""
    bigger = np.full((rows, *array.shape[1:]), fill, array.dtype)
    bigger[: array.shape[0]] = array
    return bigger


def empty_state(n_versions: int, n_slots: int, n_buckets: int, *, keeps_bucket_latencies: bool) -> State:
    """Return a pool without replicas, of which settings and keys are still to be filled in."""
    slot_i = np.zeros((n_slots, SLOT_WIDTH), np.int64)
    slot_i[:, NEXT - SLOTS_I] = np.arange(1, n_slots + 1) * SLOT_WIDTH
    slot_i[-1, NEXT - SLOTS_I] = NOBODY
    agendas = {}
    for name in ("timeout_ring", "timeout_heap", "retry_ring", "retry_heap"):
        agendas[f"{name}_s"], agendas[f"{name}_i"] = empty_ring(n_slots)
    return State(
        {
            "slot_f": np.zeros((n_slots, SLOT_WIDTH)),
            "slot_i": slot_i,
            "finish_s": np.full(2, np.inf),
            "winner": np.zeros(2, np.int64),
            "server_i": np.zeros((0, SERVER_WIDTH), np.int64),
            "replica_f": np.zeros((0, REPLICA_WIDTH_F)),
            "replica_i": np.zeros((0, REPLICA_WIDTH), np.int64),
            "queue_i": np.zeros((0, QUEUE_WIDTH), np.int64),
            "open_i": np.zeros((n_versions, 1), np.int64),
            "cells": np.zeros((n_buckets, n_versions, N_COUNTERS), np.int64),
            "bucket_latencies": np.zeros((n_buckets if keeps_bucket_latencies else 0, N_BINS), np.int64),
            "record_f": np.zeros((0, RECORD_WIDTH_F)),
            "record_i": np.zeros((0, RECORD_WIDTH), np.int64),
            **agendas,
        }
    )
