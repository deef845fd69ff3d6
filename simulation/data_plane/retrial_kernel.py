"""
The compiled heart of a serving pool whose clients time out and try again; start at `advance`.

One FCFS queue, c servers, work that goes on when its client has left. Simultaneous events happen in this order:
completions, timeouts, retries, first attempts; so an answer at the very deadline still counts, a place freed at t
serves who arrives at t, and a control change at t (made between two calls) precedes all of them.

All helpers stand in this file: numba's cache does not see a change in another one.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Integer state, by place.
BUSY, SERVERS, QUEUE_HEAD, TAIL, BASE, TIMEOUT_HEAD, N_WAITING, N_RETRY, NEXT_ID = range(9)
OFFERED, ATTEMPTS, SERVED, REJECTED, TIMED_OUT, FAILED, BUDGET_DENIED, GOOD, FINISHED_BAD = range(9, 18)
N_INTEGERS = 18
# Real parameters and state, by place.
NOW, TIMEOUT, BACKOFF, JITTER, MEAN_S, SCV, SLOWDOWN, ERROR_RATIO, BUDGET, SLO_S, LATENCY_SUM, BUDGET_RATIO = range(12)
N_REALS = 12
# Columns of the counters per minute.
M_OFFERED, M_DONE, M_BAD, M_FAILED, M_LATENCY, M_QUEUE_MAX = range(6)
N_MINUTE = 6
WAITING, RUNNING, DONE = 1, 2, 3  # of an attempt's work
DETERMINISTIC, EXPONENTIAL, LOGNORMAL, HYPEREXPONENTIAL, ERLANG = range(5)
HISTOGRAM_FLOOR_S = 1e-5
HISTOGRAM_GROWTH = 1.015  # bucket edges; the geometric middle is at most 0.75 % away from any value inside
HISTOGRAM_BUCKETS = 1600  # up to two days: a backlog of a whole night still has its true quantiles
DONE_ALL, NEED_ROOM = 0, 1


@njit(cache=True, nogil=True, inline="always")
def mix(x: np.uint64) -> np.uint64:
    """Return 64 well-mixed bits of x (the finaliser of splitmix64, Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def uniform(seed: int, request: int, attempt: int, purpose: int) -> float:
    """Return a draw from (0, 1) that depends on the four keys alone, so no other request can shift it."""
    x = mix(np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15))
    x = mix(x ^ (np.uint64(request) * np.uint64(0x9E3779B97F4A7C15)))
    x = mix(x ^ (np.uint64(attempt) << np.uint64(32)) ^ np.uint64(purpose))
    return (np.float64(x >> np.uint64(11)) + 0.5) * (1.0 / 9007199254740992.0)


@njit(cache=True, nogil=True)
def service_draw(seed: int, request: int, attempt: int, kind: int, mean_s: float, scv: float) -> float:
    """Return a service requirement in seconds of the given mean and squared coefficient of variation."""
    if kind == DETERMINISTIC:
        return mean_s
    u = uniform(seed, request, attempt, 1)
    if kind == EXPONENTIAL:
        return float(-mean_s * np.log(u))
    if kind == LOGNORMAL:
        z = np.sqrt(-2.0 * np.log(u)) * np.cos(2.0 * np.pi * uniform(seed, request, attempt, 2))
        sigma2 = np.log1p(scv)
        return float(mean_s * np.exp(np.sqrt(sigma2) * z - 0.5 * sigma2))
    if kind == HYPEREXPONENTIAL:  # balanced means
        p = 0.5 * (1.0 + np.sqrt((scv - 1.0) / (scv + 1.0)))
        branch = p if uniform(seed, request, attempt, 2) < p else 1.0 - p
        return float(-mean_s / (2.0 * branch) * np.log(u))
    stages = max(1, int(np.rint(1.0 / scv)))
    product = u
    for k in range(1, stages):
        product *= uniform(seed, request, attempt, 2 + k)
    return float(-mean_s / stages * np.log(product))


@njit(cache=True, nogil=True)
def push(times: Floats, keys: Ints, n: int, time: float, key: int) -> None:
    """Add to a heap ordered by (time, key)."""
    i = n
    while i > 0:
        parent = (i - 1) >> 1
        if times[parent] < time or (times[parent] == time and keys[parent] <= key):
            break
        times[i], keys[i] = times[parent], keys[parent]
        i = parent
    times[i], keys[i] = time, key


@njit(cache=True, nogil=True)
def pop(times: Floats, keys: Ints, n: int) -> None:
    """Take the first of a heap of n away; it stays readable at place n - 1."""
    first_time, first_key = times[0], keys[0]
    last = n - 1
    time, key = times[last], keys[last]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= last:
            break
        right = child + 1
        if right < last and (
            times[right] < times[child] or (times[right] == times[child] and keys[right] < keys[child])
        ):
            child = right
        if times[child] > time or (times[child] == time and keys[child] > key):
            break
        times[i], keys[i] = times[child], keys[child]
        i = child
    times[i], keys[i] = time, key
    times[last], keys[last] = first_time, first_key


@njit(cache=True, nogil=True)
def start_waiting(
    now: float, kind: int, seed: int, reals: Floats, ints: Ints, ring_real: Floats, ring_int: Ints, finish: Floats,
    slots: Ints,
) -> None:  # fmt: skip
    """Let free servers take from the head of the queue."""
    mask = ring_int.shape[0] - 1
    while ints[N_WAITING] > 0 and ints[BUSY] < ints[SERVERS]:
        i = ints[QUEUE_HEAD]
        while ring_int[i & mask, 2] != WAITING:
            i += 1
        slot = i & mask
        work = ring_real[slot, 2]
        if work < 0.0:
            work = service_draw(seed, ring_int[slot, 0], ring_int[slot, 1], kind, reals[MEAN_S], reals[SCV])
            ring_real[slot, 2] = work
        ring_int[slot, 2] = RUNNING
        ring_real[slot, 3] = now
        push(finish, slots, ints[BUSY], now + work * reals[SLOWDOWN], i)
        ints[BUSY] += 1
        ints[N_WAITING] -= 1
        ints[QUEUE_HEAD] = i + 1


@njit(cache=True, nogil=True)
def record_end(
    now: float, first_arrival: float, is_good: bool, is_failed: bool, reals: Floats, ints: Ints, histogram: Ints,
    minutes: Floats,
) -> None:  # fmt: skip
    """Count a request whose fate is settled; its latency runs from its first attempt."""
    latency = now - first_arrival
    minute = min(int(now / 60.0), minutes.shape[0] - 1)
    minutes[minute, M_DONE] += 1
    minutes[minute, M_LATENCY] += latency
    if is_failed:
        minutes[minute, M_FAILED] += 1
    else:
        reals[LATENCY_SUM] += latency
        bucket = 0
        if latency > HISTOGRAM_FLOOR_S:
            bucket = 1 + int(np.log(latency / HISTOGRAM_FLOOR_S) / np.log(HISTOGRAM_GROWTH))
        histogram[min(bucket, HISTOGRAM_BUCKETS - 1)] += 1
    if is_good:
        ints[GOOD] += 1
    else:
        ints[FINISHED_BAD] += 1
        minutes[minute, M_BAD] += 1


@njit(cache=True, nogil=True)
def attempt_arrives(
    now: float, first_arrival: float, request: int, attempt: int, limit: int, kind: int, seed: int, reals: Floats,
    ints: Ints, ring_real: Floats, ring_int: Ints, finish: Floats, slots: Ints, histogram: Ints, minutes: Floats,
) -> None:  # fmt: skip
    """Take one attempt in: it is refused when all servers are busy and the queue is full."""
    ints[ATTEMPTS] += 1
    if ints[BUSY] >= ints[SERVERS] and limit >= 0 and ints[N_WAITING] >= limit:
        ints[REJECTED] += 1
        record_end(now, first_arrival, False, True, reals, ints, histogram, minutes)
        return
    mask = ring_int.shape[0] - 1
    i = ints[TAIL]
    slot = i & mask
    ring_real[slot, 0], ring_real[slot, 1], ring_real[slot, 2], ring_real[slot, 3] = now, first_arrival, -1.0, -1.0
    ring_int[slot, 0], ring_int[slot, 1], ring_int[slot, 2], ring_int[slot, 3] = request, attempt, WAITING, 0
    if ints[N_WAITING] == 0:
        ints[QUEUE_HEAD] = i
    ints[TAIL] = i + 1
    ints[N_WAITING] += 1
    if ints[BUSY] < ints[SERVERS]:
        start_waiting(now, kind, seed, reals, ints, ring_real, ring_int, finish, slots)
    else:
        minute = min(int(now / 60.0), minutes.shape[0] - 1)
        minutes[minute, M_QUEUE_MAX] = max(minutes[minute, M_QUEUE_MAX], ints[N_WAITING])


@njit(cache=True, nogil=True)
def advance(
    arrivals: Floats, begin: int, until: float, seed: int, kind: int, limit: int, retries: int, reals: Floats,
    ints: Ints, ring_real: Floats, ring_int: Ints, finish: Floats, slots: Ints, retry_times: Floats, retry_ids: Ints,
    retry_real: Floats, retry_int: Ints, retry_free: Ints, histogram: Ints, minutes: Floats,
) -> tuple[int, int]:  # fmt: skip
    """
    Play every event before `until`; return (index of the next first attempt, DONE_ALL or NEED_ROOM).

    arrivals : sorted seconds, of which those from `begin` on are still to come
    ring_real : attempt arrival, first arrival, work or -1, start; ring_int : request, attempt, work state, client left
    """
    mask = ring_int.shape[0] - 1
    n_arrivals = arrivals.shape[0]
    i_arrival = begin
    has_timeout = np.isfinite(reals[TIMEOUT])
    while True:
        if ints[TAIL] - ints[BASE] > mask or ints[N_RETRY] >= retry_times.shape[0] - 1:
            return i_arrival, NEED_ROOM
        t_done = finish[0] if ints[BUSY] > 0 else np.inf
        t_out = np.inf
        if has_timeout:
            # Attempts leave the list of deadlines when they are answered; the oldest open one is the next.
            while ints[TIMEOUT_HEAD] < ints[TAIL] and ring_int[ints[TIMEOUT_HEAD] & mask, 2] == DONE:
                ints[TIMEOUT_HEAD] += 1
            if ints[TIMEOUT_HEAD] < ints[TAIL]:
                t_out = ring_real[ints[TIMEOUT_HEAD] & mask, 0] + reals[TIMEOUT]
        t_retry = retry_times[0] if ints[N_RETRY] > 0 else np.inf
        t_new = arrivals[i_arrival] if i_arrival < n_arrivals else np.inf
        now = min(min(t_done, t_out), min(t_retry, t_new))
        if not now < until:
            break
        if t_done == now:
            i = slots[0]
            pop(finish, slots, ints[BUSY])
            ints[BUSY] -= 1
            slot = i & mask
            if ring_int[slot, 3] == 0:
                latency = now - ring_real[slot, 1]
                failed = reals[ERROR_RATIO] > 0.0 and (
                    uniform(seed, ring_int[slot, 0], ring_int[slot, 1], 60) < reals[ERROR_RATIO]
                )
                if failed:
                    ints[FAILED] += 1
                else:
                    ints[SERVED] += 1
                good = (not failed) and latency <= reals[SLO_S]
                record_end(now, ring_real[slot, 1], good, failed, reals, ints, histogram, minutes)
            ring_int[slot, 2] = DONE
            while ints[BASE] < ints[TAIL] and ring_int[ints[BASE] & mask, 2] == DONE:
                ints[BASE] += 1
            ints[TIMEOUT_HEAD] = max(ints[TIMEOUT_HEAD], ints[BASE])
            start_waiting(now, kind, seed, reals, ints, ring_real, ring_int, finish, slots)
        elif t_out == now:
            slot = ints[TIMEOUT_HEAD] & mask
            ints[TIMEOUT_HEAD] += 1
            ring_int[slot, 3] = 1
            attempt = ring_int[slot, 1]
            may_retry = attempt < retries
            if may_retry and reals[BUDGET_RATIO] >= 0.0:
                may_retry = reals[BUDGET] >= 1.0
                if may_retry:
                    reals[BUDGET] -= 1.0
                else:
                    ints[BUDGET_DENIED] += 1
            if may_retry:
                spread = 1.0 + reals[JITTER] * (2.0 * uniform(seed, ring_int[slot, 0], attempt, 61) - 1.0)
                place = retry_free[ints[N_RETRY]]
                retry_real[place] = ring_real[slot, 1]
                retry_int[place, 0], retry_int[place, 1] = ring_int[slot, 0], attempt + 1
                push(retry_times, retry_ids, ints[N_RETRY], now + reals[BACKOFF] * spread, place)
                ints[N_RETRY] += 1
            else:
                ints[TIMED_OUT] += 1
                record_end(now, ring_real[slot, 1], False, True, reals, ints, histogram, minutes)
        elif t_retry == now:
            place = retry_ids[0]
            pop(retry_times, retry_ids, ints[N_RETRY])
            ints[N_RETRY] -= 1
            retry_free[ints[N_RETRY]] = place
            attempt_arrives(
                now, retry_real[place], retry_int[place, 0], retry_int[place, 1], limit, kind, seed, reals, ints,
                ring_real, ring_int, finish, slots, histogram, minutes,
            )  # fmt: skip
        else:
            ints[OFFERED] += 1
            minutes[min(int(now / 60.0), minutes.shape[0] - 1), M_OFFERED] += 1
            if reals[BUDGET_RATIO] >= 0.0:
                reals[BUDGET] = min(reals[BUDGET] + reals[BUDGET_RATIO], 10.0)
            request = ints[NEXT_ID]
            ints[NEXT_ID] += 1
            i_arrival += 1
            attempt_arrives(
                now, now, request, 0, limit, kind, seed, reals, ints, ring_real, ring_int, finish, slots,
                histogram, minutes,
            )  # fmt: skip
    reals[NOW] = until
    return i_arrival, DONE_ALL
