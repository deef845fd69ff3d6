"""
The compiled event loop of a serving pool: requests in, counters out, exact to the bit; start at `advance`.

Order of simultaneous events, and why:

1. completions, the lowest server first: an answer at the very deadline still counts;
2. control changes, which are made between two calls of `advance`: an interval of capacity [a, b) is half-open;
3. starts of waiting work, so that a wait equal to the patience is served;
4. abandonments and client timeouts, by request number: a place given up at t serves who arrives at t;
5. first attempts, in the order offered: who is new keeps the order of the trace, whatever retries do;
6. retries, by request number.
"""

import numpy as np

from simulation.data_plane import pool_layout as at
from simulation.data_plane.histogram import N_BINS, TICKS_PER_S, bin_of
from simulation.data_plane.pool_layout import Chunk, FloatArray, IntArray
from simulation.data_plane.pool_structures import (
    add_to_agenda,
    append_idle,
    append_waiting,
    called,
    drop_first,
    free_slot,
    inlined,
    next_in_agenda_s,
    pointer,
    queue_at,
    remove_waiting,
    server_at,
    set_finish,
    take_from_agenda,
    take_idle,
    take_slot,
)
from simulation.randomness import (
    EXPONENTIAL,
    LOGNORMAL,
    Purpose,
    bits_at,
    duration_of,
    exponential_of,
    further_bits,
    normal_near_middle,
    normal_of,
    portable_exp,
    stream_key,
    uniform_of,
)

SERVICE, BACKOFF, SPLIT = int(Purpose.SERVICE), int(Purpose.BACKOFF), int(Purpose.SPLIT)
ERROR, ROUTE, PATIENCE = int(Purpose.ERROR), int(Purpose.ROUTE), int(Purpose.PATIENCE)


@inlined
def replica_at(i: IntArray, replica: int) -> int:
    """Return where the row of a replica's whole numbers starts."""
    return i[at.REPLICAS] + replica * at.REPLICA_WIDTH


@inlined
def tick_of(time_s: float) -> int:
    """Return the whole ticks of a time: integrals over ticks are whole numbers, equal however a run is split."""
    return np.int64(time_s * TICKS_PER_S)


@inlined
def _integrate(f: FloatArray, i: IntArray, to_s: float) -> None:
    tick = tick_of(to_s)
    passed = tick - i[at.LAST_TICK]
    i[i[at.CELL] + at.C_QUEUE_TICKS] += passed * i[at.ALL_WAITING]
    i[i[at.CELL] + at.C_BUSY_TICKS] += passed * i[at.ALL_BUSY]
    i[at.LAST_TICK] = tick


@inlined
def settle(f: FloatArray, i: IntArray, to_s: float) -> None:
    """Carry the time integrals of queue and work on to a time, bucket by bucket."""
    while to_s >= f[at.NEXT_BUCKET_AT]:
        _integrate(f, i, f[at.NEXT_BUCKET_AT])
        i[at.BUCKET] += 1
        i[at.CELL] += i[at.VERSIONS] * at.N_COUNTERS
        f[at.NEXT_BUCKET_AT] = (i[at.BUCKET] + 1) * f[at.BUCKET_S]
        i[i[at.CELL] + at.C_QUEUE_MAX] = i[at.ALL_WAITING]
    _integrate(f, i, to_s)
    f[at.SETTLED_AT] = to_s


@inlined
def count(f: FloatArray, i: IntArray, slot: int, counter: int) -> None:
    """Count one for the version of a slot in the present bucket of time."""
    i[i[at.CELL] + i[slot + at.VERSION] * at.N_COUNTERS + counter] += 1


@inlined
def _bits(f: FloatArray, i: IntArray, request: int, attempt: int, purpose: int) -> np.uint64:
    """Return the draw of one attempt; the keys of the first few attempts are kept ready."""
    if attempt < at.N_KEYED:
        key = np.int64(i[at.KEYS + at.N_PURPOSES * attempt + purpose]).view(np.uint64)
    else:
        key = stream_key(i[at.SEED], attempt, purpose)
    return bits_at(key, request)


@inlined
def leave(f: FloatArray, i: IntArray, slot: int, now_s: float) -> None:
    """Count the time that an attempt spent in the pool, for Little's identity."""
    i[at.SOJOURN_TICKS] += tick_of(now_s) - tick_of(f[slot + at.ARRIVED_AT])


@inlined
def conclude(f: FloatArray, i: IntArray, slot: int, now_s: float, outcome: int) -> None:
    """End a request, in one of the ways there are."""
    i[at.N_CLIENTS] -= 1
    i[slot + at.HAS_CLIENT] = 0
    if i[at.KEEPS_RECORDS]:
        row = i[at.RECORDS] + i[slot + at.REQUEST] * at.RECORD_WIDTH
        times = i[at.RECORDS_F] + i[slot + at.REQUEST] * at.RECORD_WIDTH_F
        i[row + at.R_OUTCOME] = outcome
        i[row + at.R_ATTEMPTS] = i[slot + at.ATTEMPT] + 1
        i[row + at.R_VERSION] = i[slot + at.VERSION]
        f[times + at.R_END] = now_s
        if outcome == at.O_SERVED:
            f[times + at.R_START] = f[slot + at.STARTED_AT]


@called
def _delay_s(f: FloatArray, i: IntArray, request: int, attempt: int) -> float:
    """Return how long the client waits after attempt `attempt` has failed."""
    delay_s = f[at.DELAYS + min(attempt, at.N_DELAYS - 1)]
    jitter = i[at.JITTER]
    if jitter == at.NO_JITTER:
        return delay_s
    bits = _bits(f, i, request, attempt, BACKOFF)
    if jitter == at.RATIO_JITTER:
        return delay_s * (1.0 + f[at.JITTER_RATIO] * (2.0 * uniform_of(bits) - 1.0))
    if jitter == at.FULL_JITTER:
        return delay_s * uniform_of(bits)
    return delay_s * exponential_of(bits)


@inlined
def react(f: FloatArray, i: IntArray, slot: int, now_s: float, reason: int) -> None:
    """Let the client of a failed attempt plan a retry, in a slot of its own, or give the request up."""
    attempt = i[slot + at.ATTEMPT]
    may_retry = i[at.RETRY_ON] & reason and attempt < i[at.RETRIES]
    if may_retry and i[at.HAS_BUDGET]:
        if f[at.TOKENS] >= 1.0:
            f[at.TOKENS] -= 1.0
        else:
            count(f, i, slot, at.C_BUDGET_DENIED)
            may_retry = False
    if not may_retry:
        if reason == at.BY_TIMEOUT:
            count(f, i, slot, at.C_TIMED_OUT)
            conclude(f, i, slot, now_s, at.O_TIMED_OUT)
        elif reason == at.BY_REJECTION:
            count(f, i, slot, at.C_REJECTED)
            conclude(f, i, slot, now_s, at.O_REJECTED)
        else:
            count(f, i, slot, at.C_FAILED)
            conclude(f, i, slot, now_s, at.O_FAILED)
        return
    i[slot + at.HAS_CLIENT] = 0
    request = i[slot + at.REQUEST]
    retry = take_slot(i)
    i[retry + at.REQUEST] = request
    i[retry + at.ATTEMPT] = attempt + 1
    i[retry + at.STAGE] = at.IN_BACKOFF
    i[retry + at.PRIORITY] = i[slot + at.PRIORITY]
    i[retry + at.FORCED_VERSION] = i[slot + at.FORCED_VERSION]
    f[retry + at.FIRST_AT] = f[slot + at.FIRST_AT]
    f[retry + at.PATIENCE_S] = f[slot + at.PATIENCE_S]
    f[retry + at.SERVICE_S] = f[slot + at.SERVICE_S]
    add_to_agenda(f, i, at.RETRYING, now_s + _delay_s(f, i, request, attempt), request, retry)


@called
def feed_breaker(f: FloatArray, i: IntArray, slot: int, now_s: float, has_failed: bool) -> None:
    """Tell the circuit breaker how an attempt ended that it had let through in its present state."""
    if i[slot + at.GENERATION] != i[at.BREAKER_GENERATION]:
        return
    window_s = f[at.TRIP_WINDOW_S]
    is_closed = i[at.BREAKER] == at.CLOSED
    if is_closed and now_s >= f[at.BREAKER_WINDOW_END]:
        f[at.BREAKER_WINDOW_END] = (np.floor(now_s / window_s) + 1.0) * window_s
        i[at.BREAKER_OK] = 0
        i[at.BREAKER_BAD] = 0
    i[at.BREAKER_BAD if has_failed else at.BREAKER_OK] += 1
    bad, ok = i[at.BREAKER_BAD], i[at.BREAKER_OK]
    is_bad_window = bad + ok >= i[at.TRIP_MINIMUM] and bad >= f[at.TRIP_RATIO] * (bad + ok)
    trips = is_bad_window if is_closed else has_failed
    if trips:
        i[at.BREAKER] = at.OPEN
        f[at.BREAKER_UNTIL] = now_s + f[at.OPEN_S]
    elif is_closed or ok < i[at.PROBES]:
        return
    else:
        i[at.BREAKER] = at.CLOSED
        f[at.BREAKER_WINDOW_END] = (np.floor(now_s / window_s) + 1.0) * window_s
    i[at.BREAKER_GENERATION] += 1
    i[at.BREAKER_OK] = 0
    i[at.BREAKER_BAD] = 0


@called
def _guard(f: FloatArray, i: IntArray, slot: int, now_s: float) -> int:
    """Return the counter of refusals if breaker or rate limit turn an attempt away, else -1."""
    if i[at.HAS_BREAKER]:
        if i[at.BREAKER] == at.OPEN and now_s >= f[at.BREAKER_UNTIL]:
            i[at.BREAKER] = at.HALF_OPEN
            i[at.BREAKER_LET] = 0
            i[at.BREAKER_GENERATION] += 1
        if i[at.BREAKER] == at.OPEN:
            return at.C_REJECTED_OPEN
        if i[at.BREAKER] == at.HALF_OPEN:
            if i[at.BREAKER_LET] >= i[at.PROBES]:
                return at.C_REJECTED_OPEN
            i[at.BREAKER_LET] += 1
        i[slot + at.GENERATION] = i[at.BREAKER_GENERATION]
    if i[at.HAS_RATE]:
        earned = (now_s - f[at.RATE_AT]) * f[at.RATE_RPS]
        f[at.RATE_TOKENS] = min(f[at.RATE_BURST], f[at.RATE_TOKENS] + earned)
        f[at.RATE_AT] = now_s
        if f[at.RATE_TOKENS] < 1.0:
            return at.C_REJECTED_RATE
        f[at.RATE_TOKENS] -= 1.0
    return -1


@called
def _load(f: FloatArray, i: IntArray, station: int) -> int:
    queue = queue_at(i, station)
    return i[queue + at.N_WAITING] + i[queue + at.N_BUSY]


@called
def _route_to_replica(f: FloatArray, i: IntArray, slot: int, version: int) -> int:
    """Return the queue of the replica that takes an attempt, or NOBODY if none is open."""
    first_open = i[at.OPEN_LISTS] + version * i[at.OPEN_WIDTH] + 1
    n_open = i[first_open - 1]
    if n_open == 0:
        return at.NOBODY
    routing = i[at.ROUTING]
    if routing == at.ROUND_ROBIN:
        place = i[at.ROUND_BLUE + version] % n_open
        i[at.ROUND_BLUE + version] += 1
        return i[first_open + place]
    if routing == at.LEAST_LOADED:
        best = i[first_open]
        for place in range(first_open + 1, first_open + n_open):
            station = i[place]
            if _load(f, i, station) < _load(f, i, best):
                best = station
        return best
    bits = _bits(f, i, i[slot + at.REQUEST], i[slot + at.ATTEMPT], ROUTE)
    first = min(n_open - 1, np.int64(uniform_of(bits) * n_open))
    if n_open == 1:
        return i[first_open]
    second = min(n_open - 2, np.int64(uniform_of(further_bits(bits, 1)) * (n_open - 1)))
    if second >= first:
        second += 1
    one, other = i[first_open + first], i[first_open + second]
    return other if _load(f, i, other) < _load(f, i, one) else one


@inlined
def route(f: FloatArray, i: IntArray, slot: int, version: int) -> int:
    """Return the queue that takes an attempt, or NOBODY."""
    if i[at.ROUTING] == at.SHARED:
        return version
    return _route_to_replica(f, i, slot, version)


@inlined
def start(f: FloatArray, i: IntArray, server: int, slot: int, now_s: float) -> None:
    """Start the work of a slot on a free server."""
    work_s = f[slot + at.WORK_S]
    if np.isnan(work_s):
        request = i[slot + at.REQUEST]
        # Work that is done anew after an eviction is drawn anew, as another try at the same attempt.
        attempt = i[slot + at.ATTEMPT] + (i[slot + at.RESTARTS] << 32)
        bits = _bits(f, i, request, attempt, SERVICE)
        if i[at.SERVICE_KIND] == EXPONENTIAL:
            work_s = f[at.SERVICE_A] * exponential_of(bits)
        else:
            kind = i[at.SERVICE_KIND]
            work_s = duration_of(bits, kind, f[at.SERVICE_A], f[at.SERVICE_B], f[at.SERVICE_C])
    row = server_at(i, server)
    replica = replica_at(i, i[row + at.REPLICA])
    times = i[at.REPLICAS_F] + i[row + at.REPLICA] * at.REPLICA_WIDTH_F
    cold = 1.0
    if i[replica + at.COLD_STARTS] > 0 or now_s < f[times + at.COLD_UNTIL]:
        cold = f[at.COLD_SLOWDOWN]
        i[replica + at.COLD_STARTS] = max(0, i[replica + at.COLD_STARTS] - 1)
    pace = f[times + at.PACE]
    # Even no work at all is not done by a replica that stands still (0 × infinity is no time).
    finish_s = now_s + work_s * cold * pace if pace < np.inf else np.inf
    f[slot + at.WORK_S] = work_s
    f[slot + at.COLD] = cold
    f[slot + at.STARTED_AT] = now_s
    f[slot + at.LEAVES_AT] = np.inf
    i[slot + at.STAGE] = at.RUNNING
    i[slot + at.STATION] = i[replica + at.HOME]
    i[slot + at.SERVER] = server
    i[row + at.ON_SERVER] = slot
    i[row + at.MODE] = at.BUSY
    set_finish(f, i, server, finish_s)
    i[queue_at(i, i[replica + at.HOME]) + at.N_BUSY] += 1
    i[at.ALL_BUSY] += 1
    watch_deadline(f, i, slot, finish_s)


@inlined
def watch_deadline(f: FloatArray, i: IntArray, slot: int, finish_s: float) -> None:
    """Enter the client's deadline, if it comes before the end of the work and is not yet entered; else drop it."""
    if finish_s > f[slot + at.DEADLINE]:
        if i[slot + at.HAS_CLIENT] and not i[slot + at.HAS_ENTRY]:
            i[slot + at.HAS_ENTRY] = 1
            add_to_agenda(f, i, at.TIMEOUTS, f[slot + at.DEADLINE], 2 * i[slot + at.REQUEST] + 1, slot)
    elif i[slot + at.HAS_ENTRY] and drop_first(f, i, at.TIMEOUTS, f[slot + at.DEADLINE], slot):
        # The queue is served in the order of its deadlines, so mostly it is the first one: an event less to play.
        i[slot + at.HAS_ENTRY] = 0


@inlined
def next_waiting(f: FloatArray, i: IntArray, station: int, now_s: float) -> int:
    """Take out the slot whose turn it is, or return NOBODY; on the way drop expired work, if that is the rule."""
    drops = i[at.CANCELLATION] == at.CANCEL_AT_START
    line = queue_at(i, station) + at.LISTS
    end = line + 2 * i[at.PRIORITIES]
    while line < end:
        slot = i[line]
        if slot == at.NOBODY:
            line += 2
            continue
        remove_waiting(i, slot)
        if not drops or i[slot + at.HAS_CLIENT]:
            return slot
        count(f, i, slot, at.C_DROPPED_EXPIRED)
        leave(f, i, slot, now_s)
        free_slot(i, slot)
    return at.NOBODY


@inlined
def unload(i: IntArray, server: int) -> int:
    """Take the running slot off a server, which is then neither busy nor idle, and return it."""
    row = server_at(i, server)
    home = i[replica_at(i, i[row + at.REPLICA]) + at.HOME]
    i[queue_at(i, home) + at.N_BUSY] -= 1
    i[at.ALL_BUSY] -= 1
    return i[row + at.ON_SERVER]


@inlined
def _refill(f: FloatArray, i: IntArray, server: int, now_s: float) -> None:
    """Give a server that has just become free its next work, or make it idle, or retire it."""
    row = server_at(i, server)
    replica = replica_at(i, i[row + at.REPLICA])
    if i[replica + at.DEBT] > 0:
        i[replica + at.DEBT] -= 1
        i[row + at.MODE] = at.RETIRED
        set_finish(f, i, server, np.inf)
        return
    station = i[replica + at.HOME]
    slot = at.NOBODY
    if i[queue_at(i, station) + at.N_WAITING] > 0:
        slot = next_waiting(f, i, station, now_s)
    if slot == at.NOBODY:
        append_idle(i, station, server)
        set_finish(f, i, server, np.inf)
    else:
        start(f, i, server, slot, now_s)


@inlined
def finish_work(f: FloatArray, i: IntArray, server: int, now_s: float) -> None:
    """End the work on a server: an answer goes out, to a client who may have left."""
    slot = unload(i, server)
    version = i[slot + at.VERSION]
    count(f, i, slot, at.C_COMPLETED)
    leave(f, i, slot, now_s)
    answer_s = now_s - f[slot + at.ARRIVED_AT]
    answer_bin = bin_of(answer_s)
    i[i[at.CELL] + version * at.N_COUNTERS + at.C_ANSWER_TICKS] += tick_of(answer_s)
    i[at.ANSWERS + version * N_BINS + answer_bin] += 1
    if f[at.LONGEST + version] < answer_s:
        f[at.LONGEST + version] = answer_s
    error_ratio = f[at.ERROR_BLUE + version]
    is_error = False
    if error_ratio > 0.0:
        bits = _bits(f, i, i[slot + at.REQUEST], i[slot + at.ATTEMPT], ERROR)
        is_error = uniform_of(bits) < error_ratio
        if is_error:
            count(f, i, slot, at.C_ERRORS)
    if i[slot + at.HAS_CLIENT]:
        if i[at.HAS_BREAKER]:
            feed_breaker(f, i, slot, now_s, is_error)
        if is_error:
            react(f, i, slot, now_s, at.BY_ERROR)
        else:
            _serve(f, i, slot, now_s, version, answer_s, answer_bin)
    free_slot(i, slot)


@inlined
def _serve(f: FloatArray, i: IntArray, slot: int, now_s: float, version: int, answer_s: float, answer_bin: int) -> None:
    """End a request well; its latency counts from its first arrival."""
    latency_s, latency_bin = answer_s, answer_bin
    if i[slot + at.ATTEMPT] > 0:
        latency_s = now_s - f[slot + at.FIRST_AT]
        latency_bin = bin_of(latency_s)
    cell = i[at.CELL] + version * at.N_COUNTERS
    i[cell + at.C_SERVED] += 1
    if latency_s <= f[at.SLO_S]:
        i[cell + at.C_GOOD] += 1
    i[cell + at.C_LATENCY_TICKS] += tick_of(latency_s)
    i[at.LATENCIES + version * N_BINS + latency_bin] += 1
    if f[at.LONGEST + 2 + version] < latency_s:
        f[at.LONGEST + 2 + version] = latency_s
    if i[at.KEEPS_BUCKET_LATENCIES]:
        i[i[at.BUCKET_LATENCIES] + i[at.BUCKET] * N_BINS + latency_bin] += 1
    conclude(f, i, slot, now_s, at.O_SERVED)


@called
def _drop_expired(f: FloatArray, i: IntArray, station: int, now_s: float) -> bool:
    """Drop the oldest waiting attempt without a client, from the least urgent class that has one at its head."""
    for priority in range(i[at.PRIORITIES] - 1, -1, -1):
        slot = i[queue_at(i, station) + at.LISTS + 2 * priority]
        if slot != at.NOBODY and not i[slot + at.HAS_CLIENT]:
            remove_waiting(i, slot)
            count(f, i, slot, at.C_DROPPED_EXPIRED)
            leave(f, i, slot, now_s)
            free_slot(i, slot)
            return True
    return False


@called
def last_start_s(arrived_s: float, patience_s: float) -> float:
    """Return the last moment d with ``d - arrived_s <= patience_s`` in floating point: later starts are too late."""
    last_s = arrived_s + patience_s
    if last_s == np.inf:
        return last_s
    while last_s - arrived_s > patience_s:
        last_s = np.nextafter(last_s, -np.inf)
    after_s = np.nextafter(last_s, np.inf)
    while after_s - arrived_s <= patience_s:
        last_s = after_s
        after_s = np.nextafter(last_s, np.inf)
    return last_s


@called
def _watch_patience(f: FloatArray, i: IntArray, slot: int, now_s: float) -> None:
    """Enter when a waiting client loses patience."""
    patience_s = f[slot + at.PATIENCE_S]
    request = i[slot + at.REQUEST]
    if np.isnan(patience_s):
        bits = _bits(f, i, request, i[slot + at.ATTEMPT], PATIENCE)
        kind = i[at.PATIENCE_KIND]
        patience_s = duration_of(bits, kind, f[at.PATIENCE_A], f[at.PATIENCE_B], f[at.PATIENCE_C])
    leaves_s = last_start_s(now_s, patience_s)
    f[slot + at.LEAVES_AT] = leaves_s
    if leaves_s < np.inf:
        add_to_agenda(f, i, at.TIMEOUTS, leaves_s, 2 * request, slot)


@inlined
def _wait(f: FloatArray, i: IntArray, station: int, slot: int, now_s: float) -> None:
    """Let an attempt wait, with its deadlines entered."""
    append_waiting(i, station, slot)
    f[slot + at.LEAVES_AT] = np.inf
    if i[at.PATIENCE_KIND] >= 0 or not np.isnan(f[slot + at.PATIENCE_S]):
        _watch_patience(f, i, slot, now_s)
    watch_deadline(f, i, slot, np.inf)


@inlined
def refuse(f: FloatArray, i: IntArray, slot: int, now_s: float, counter: int) -> None:
    """Turn an attempt away at the door."""
    count(f, i, slot, counter)
    if i[at.HAS_BREAKER] and counter != at.C_REJECTED_OPEN:
        feed_breaker(f, i, slot, now_s, True)
    react(f, i, slot, now_s, at.BY_REJECTION)
    free_slot(i, slot)


@inlined
def _lacks_room(f: FloatArray, i: IntArray, station: int, slot: int, now_s: float) -> int:
    """Return the counter of refusals if the queue has no place for an attempt, else -1."""
    waiting = i[queue_at(i, station) + at.N_WAITING]
    shed_length = i[at.SHED_LENGTHS + i[slot + at.PRIORITY]]
    if waiting < shed_length and waiting < i[at.QUEUE_LIMIT]:
        return -1
    if i[at.DROPS_EXPIRED] and _drop_expired(f, i, station, now_s):
        return -1
    return at.C_REJECTED_SHED if waiting >= shed_length else at.C_REJECTED_FULL


@called
def _draw_ahead(f: FloatArray, i: IntArray, first: int) -> None:
    """Draw the services of the first attempts of a block of requests."""
    key = np.int64(i[at.KEYS + SERVICE]).view(np.uint64)
    kind, a, b, c = i[at.SERVICE_KIND], f[at.SERVICE_A], f[at.SERVICE_B], f[at.SERVICE_C]
    # Loops of their own, without branches, which the compiler turns into vector instructions.
    if kind == EXPONENTIAL:
        for k in range(at.N_AHEAD):
            f[at.AHEAD + k] = a * exponential_of(bits_at(key, first + k))
    elif kind == LOGNORMAL:
        for k in range(at.N_AHEAD):
            f[at.AHEAD + k] = normal_near_middle(uniform_of(bits_at(key, first + k)))
        for k in range(at.N_AHEAD):
            bits = bits_at(key, first + k)
            if abs(uniform_of(bits) - 0.5) > 0.425:
                f[at.AHEAD + k] = normal_of(bits)
        for k in range(at.N_AHEAD):
            f[at.AHEAD + k] = portable_exp(a + b * f[at.AHEAD + k])
    else:
        for k in range(at.N_AHEAD):
            f[at.AHEAD + k] = duration_of(bits_at(key, first + k), kind, a, b, c)
    i[at.AHEAD_UNTIL] = first + at.N_AHEAD


@inlined
def _first_service_s(f: FloatArray, i: IntArray, request: int) -> float:
    """Return the drawn service of the first attempt of the next request."""
    if request >= i[at.AHEAD_UNTIL]:
        _draw_ahead(f, i, request)
    return f[at.AHEAD + request - (i[at.AHEAD_UNTIL] - at.N_AHEAD)]


@inlined
def _admit(f: FloatArray, i: IntArray, slot: int, now_s: float, work_s: float) -> None:
    """Take an attempt in, or turn it away."""
    request = i[slot + at.REQUEST]
    version = i[slot + at.FORCED_VERSION]
    if version < 0:
        version = 0
        share = f[at.GREEN_SHARE]
        # The draw belongs to the request, not to the attempt: retries stay with their version while the share stands.
        if share > 0.0 and uniform_of(_bits(f, i, request, 0, SPLIT)) < share:
            version = 1
    cell = i[at.CELL] + version * at.N_COUNTERS
    i[cell + at.C_ATTEMPTS] += 1
    i[cell + (at.C_OFFERED if i[slot + at.ATTEMPT] == 0 else at.C_RETRIES)] += 1
    i[slot + at.VERSION] = version
    i[slot + at.HAS_CLIENT] = 1
    i[slot + at.HAS_ENTRY] = 0
    i[slot + at.RESTARTS] = 0
    f[slot + at.ARRIVED_AT] = now_s
    f[slot + at.DEADLINE] = now_s + f[at.TIMEOUT_S]
    f[slot + at.WORK_S] = work_s
    refusal = _guard(f, i, slot, now_s) if i[at.IS_GUARDED] else -1
    station = route(f, i, slot, version) if refusal < 0 else at.NOBODY
    if refusal < 0 and station == at.NOBODY:
        refusal = at.C_REJECTED_DOWN
    if refusal < 0:
        server = take_idle(i, station)
        if server != at.NOBODY:
            start(f, i, server, slot, now_s)
            return
        refusal = _lacks_room(f, i, station, slot, now_s)
        if refusal < 0:
            _wait(f, i, station, slot, now_s)
            return
    refuse(f, i, slot, now_s, refusal)


@inlined
def _expire(f: FloatArray, i: IntArray, now_s: float) -> None:
    """Let the next deadline pass, if somebody is still waiting for it."""
    key, slot = take_from_agenda(f, i, at.TIMEOUTS)
    if i[slot + at.REQUEST] != key >> 1 or not i[slot + at.HAS_CLIENT]:
        return
    stage = i[slot + at.STAGE]
    if key & 1 == 0:
        if stage != at.WAITING or f[slot + at.LEAVES_AT] != now_s:
            return
        settle(f, i, now_s)
        remove_waiting(i, slot)
        leave(f, i, slot, now_s)
        count(f, i, slot, at.C_LEFT_QUEUE)
        count(f, i, slot, at.C_ABANDONED)
        if i[at.HAS_BREAKER]:
            feed_breaker(f, i, slot, now_s, True)
        conclude(f, i, slot, now_s, at.O_ABANDONED)
        free_slot(i, slot)
        return
    if (stage != at.WAITING and stage != at.RUNNING) or f[slot + at.DEADLINE] != now_s:
        return
    settle(f, i, now_s)
    count(f, i, slot, at.C_TIMEOUTS)
    if i[at.HAS_BREAKER]:
        feed_breaker(f, i, slot, now_s, True)
    react(f, i, slot, now_s, at.BY_TIMEOUT)
    if i[at.CANCELLATION] >= at.CANCEL_QUEUED:
        _cancel(f, i, slot, now_s)


@called
def _cancel(f: FloatArray, i: IntArray, slot: int, now_s: float) -> None:
    """Stop the work that nobody waits for any more, as far as the rule goes."""
    if i[slot + at.STAGE] == at.WAITING:
        remove_waiting(i, slot)
        count(f, i, slot, at.C_CANCELLED_QUEUED)
        leave(f, i, slot, now_s)
        free_slot(i, slot)
    elif i[at.CANCELLATION] == at.CANCEL_ALL:
        server = i[slot + at.SERVER]
        unload(i, server)
        count(f, i, slot, at.C_CANCELLED_RUNNING)
        leave(f, i, slot, now_s)
        free_slot(i, slot)
        _refill(f, i, server, now_s)


@inlined
def _new_request(
    f: FloatArray, i: IntArray, arrival_s: float, service_s: float, priority: int, patience_s: float, version: int
) -> int:
    """Return a slot for the next request."""
    slot = take_slot(i)
    i[slot + at.REQUEST] = i[at.NEXT_REQUEST]
    i[slot + at.ATTEMPT] = 0
    i[slot + at.PRIORITY] = priority
    i[slot + at.FORCED_VERSION] = version
    f[slot + at.FIRST_AT] = arrival_s
    f[slot + at.PATIENCE_S] = patience_s
    f[slot + at.SERVICE_S] = service_s
    i[at.NEXT_REQUEST] += 1
    i[at.N_CLIENTS] += 1
    if i[at.HAS_BUDGET]:
        f[at.TOKENS] = min(f[at.BUDGET_BURST], f[at.TOKENS] + f[at.BUDGET_RATIO])
    return slot


@called
def advance(f: FloatArray, i: IntArray, chunk: Chunk, position: int, until_s: float, is_last: bool) -> tuple[int, int]:
    """
    Play all events before `until_s`; return why it stopped and how many arrivals of the chunk are in.

    With `is_last` False another chunk follows, so nothing after the last arrival of this one may happen yet.
    """
    n = chunk.arrivals_s.shape[0]
    arrivals_s, services_s = pointer(chunk.arrivals_s), pointer(chunk.services_s)
    priorities, patience_s, versions = pointer(chunk.priorities), pointer(chunk.patience_s), pointer(chunk.versions)
    has_services, has_priorities = chunk.services_s.shape[0] > 0, chunk.priorities.shape[0] > 0
    has_patience, has_versions = chunk.patience_s.shape[0] > 0, chunk.versions.shape[0] > 0
    slot_limit = i[at.SLOT_LIMIT]
    while True:
        arrival_s = arrivals_s[position] if position < n else np.inf
        completion_s = f[i[at.FINISH_S] + 1]
        timeout_s = next_in_agenda_s(f, i, at.TIMEOUTS)
        retry_s = next_in_agenda_s(f, i, at.RETRYING)
        now_s = completion_s if completion_s < timeout_s else timeout_s
        now_s = now_s if now_s < arrival_s else arrival_s
        now_s = now_s if now_s < retry_s else retry_s
        if position >= n and not is_last:
            return at.OUT_OF_ARRIVALS, position
        if now_s >= until_s:
            return at.REACHED, position
        if i[at.IN_USE] >= slot_limit or i[at.IS_CRAMPED]:
            return at.NEEDS_ROOM, position
        if completion_s > now_s and timeout_s == now_s:
            _expire(f, i, now_s)
            continue
        settle(f, i, now_s)
        if completion_s == now_s:
            server = i[i[at.WINNERS] + 1]
            finish_work(f, i, server, now_s)
            _refill(f, i, server, now_s)
        else:
            if arrival_s == now_s:
                work_s = services_s[position] if has_services else _first_service_s(f, i, i[at.NEXT_REQUEST])
                slot = _new_request(
                    f,
                    i,
                    arrival_s,
                    work_s if has_services else np.nan,
                    priorities[position] if has_priorities else 0,
                    patience_s[position] if has_patience else np.nan,
                    versions[position] if has_versions else -1,
                )
                position += 1
            else:
                slot = take_from_agenda(f, i, at.RETRYING)[1]
                work_s = f[slot + at.SERVICE_S]
            _admit(f, i, slot, now_s, work_s)
