"""From the arrays of a pool to what it reports: observations, results, records, the check of its laws, a digest."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.data_plane import pool_layout as at
from simulation.data_plane.histogram import N_BINS, TICKS_PER_S, LatencyHistogram
from simulation.data_plane.pool_machine import Machine
from simulation.data_plane.pool_results import (
    Minutes,
    Observation,
    PoolResult,
    RequestRecords,
    VersionObservation,
    VersionResult,
)
from simulation.errors import InvalidWorkload, LullError

IntArray = NDArray[np.int64]

N_COUNTS = at.C_LATENCY_TICKS  # the counters from here on are sums and a maximum
REFUSALS = [at.C_REJECTED_FULL, at.C_REJECTED_RATE, at.C_REJECTED_SHED, at.C_REJECTED_OPEN, at.C_REJECTED_DOWN]
_FATES = [
    at.C_COMPLETED,
    *REFUSALS,
    at.C_DROPPED_EXPIRED,
    at.C_CANCELLED_QUEUED,
    at.C_CANCELLED_RUNNING,
    at.C_LEFT_QUEUE,
    at.C_LOST,
]
_OUTCOMES = [at.C_SERVED, at.C_REJECTED, at.C_TIMED_OUT, at.C_ABANDONED, at.C_FAILED]


class ConservationError(LullError):
    """The pool has lost or invented something: a fault of the simulator, never of its user."""


class Seen:
    """What has been observed so far, so that the next observation is only what is new."""

    def __init__(self, machine: Machine) -> None:
        self._at_s = machine.now_s
        self._bucket = int(machine.s.i[at.BUCKET])
        self._row = machine.s.cells[self._bucket].copy()
        self._answers = [_counts(machine, v, 0) for v in range(machine.s.cells.shape[1])]

    def observe(self, machine: Machine) -> Observation:
        """Return what is new since the last call."""
        present = int(machine.s.i[at.BUCKET])
        new = machine.s.cells[self._bucket : present + 1].sum(axis=0) - self._row
        answers = [_counts(machine, v, 0) for v in range(new.shape[0])]
        fresh = [
            # The sum of all answers so far is not needed, and would cost a walk over all buckets at every look.
            LatencyHistogram(counts, 0, _longest_s(machine, v, 0)).since(before, int(new[v, at.C_ANSWER_TICKS]))
            for v, (counts, before) in enumerate(zip(answers, self._answers, strict=True))
        ]
        by_version = tuple(
            VersionObservation(int(row[at.C_ATTEMPTS]), int(row[at.C_COMPLETED]), int(row[at.C_ERRORS]), latency)
            for row, latency in zip(new, fresh, strict=True)
        )
        total = new.sum(axis=0)
        observation = Observation(
            from_s=self._at_s,
            to_s=machine.now_s,
            attempts=int(total[at.C_ATTEMPTS]),
            finished=int(total[at.C_COMPLETED]),
            errors=int(total[at.C_ERRORS]),
            rejected=int(total[REFUSALS].sum()),
            timeouts=int(total[at.C_TIMEOUTS]),
            queue_length=int(machine.s.i[at.ALL_WAITING]),
            busy=int(machine.s.i[at.ALL_BUSY]),
            latency=sum(fresh[1:], start=fresh[0]),
            by_version=by_version,
        )
        self._at_s, self._bucket, self._answers = machine.now_s, present, answers
        self._row = machine.s.cells[present].copy()
        return observation


def _counts(machine: Machine, version: int, which: int) -> IntArray:
    """Return the bins of answers (0) or of served requests (1) of a version."""
    first = (at.ANSWERS, at.LATENCIES)[which] + version * N_BINS
    return machine.s.i[first : first + N_BINS].copy()


def _longest_s(machine: Machine, version: int, which: int) -> float:
    return float(machine.s.f[at.LONGEST + 2 * which + version])


def _histogram(machine: Machine, version: int, which: int) -> LatencyHistogram:
    """Return the histogram of answers (0) or of served requests (1) of a version."""
    present = int(machine.s.i[at.BUCKET])
    column = (at.C_ANSWER_TICKS, at.C_LATENCY_TICKS)[which]
    ticks = int(machine.s.cells[: present + 1, version, column].sum())
    return LatencyHistogram(_counts(machine, version, which), ticks, _longest_s(machine, version, which))


def _played(machine: Machine) -> IntArray:
    """Return the cells of the buckets that have begun; one that begins just now only if something was counted in it."""
    present = int(machine.s.i[at.BUCKET])
    cells = machine.s.cells[: present + 1].copy()
    begins_now = present > 0 and present * machine.settings.bucket_s >= machine.now_s
    return cells[:-1] if begins_now and not cells[-1, :, :N_COUNTS].any() else cells


def result(machine: Machine, overloaded_at_s: float | None) -> PoolResult:
    """Return counters, histograms and buckets of the whole run so far."""
    s = machine.s
    cells = _played(machine)
    by_version = cells.sum(axis=0)
    names = at.COUNTERS[:N_COUNTS]
    counters = {name: int(n) for name, n in zip(names, by_version.sum(axis=0)[:N_COUNTS], strict=True)}
    counters["in_flight"] = int(s.i[at.N_CLIENTS])
    counters["waiting"], counters["running"] = int(s.i[at.ALL_WAITING]), int(s.i[at.ALL_BUSY])
    counters["in_backoff"] = int((s.column(at.STAGE) == at.IN_BACKOFF).sum())
    latencies = [_histogram(machine, v, 1) for v in range(len(by_version))]
    versions = tuple(
        VersionResult({name: int(n) for name, n in zip(names, row[:N_COUNTS], strict=True)}, latency)
        for row, latency in zip(by_version, latencies, strict=True)
    )
    minutes = Minutes(cells, machine.settings.bucket_s, machine.now_s)
    ticks = by_version[0]
    played = machine.now_s * TICKS_PER_S
    return PoolResult(
        counters=counters,
        latency=sum(latencies[1:], start=latencies[0]),
        by_version=versions,
        minutes=minutes,
        minute_latency=_bucket_latencies(machine, len(minutes)),
        mean_queue=float(ticks[at.C_QUEUE_TICKS] / played) if played else 0.0,
        mean_busy=float(ticks[at.C_BUSY_TICKS] / played) if played else 0.0,
        ended_at_s=machine.now_s,
        overloaded_at_s=overloaded_at_s,
    )


def _bucket_latencies(machine: Machine, n: int) -> tuple[LatencyHistogram, ...] | None:
    if not machine.s.i[at.KEEPS_BUCKET_LATENCIES]:
        return None
    ticks = machine.s.cells[:n, :, at.C_LATENCY_TICKS].sum(axis=1)
    longest_s = float(machine.s.f[at.LONGEST + 2 : at.LONGEST + 4].max())
    rows = zip(machine.s.bucket_latencies[:n], ticks, strict=True)
    return tuple(LatencyHistogram(counts.copy(), int(total), longest_s) for counts, total in rows)


def worked_s(machine: Machine) -> float:
    """Return the server-seconds of work up to `now_s`; what runs since the last event is added."""
    s = machine.s
    since = int(machine.now_s * TICKS_PER_S) - int(s.i[at.LAST_TICK])
    ticks = int(s.cells[: int(s.i[at.BUCKET]) + 1, 0, at.C_BUSY_TICKS].sum()) + since * int(s.i[at.ALL_BUSY])
    return ticks / TICKS_PER_S


def records(machine: Machine) -> RequestRecords:
    """Return one record per request that has arrived so far."""
    s = machine.s
    if not s.i[at.KEEPS_RECORDS]:
        raise InvalidWorkload("no records were kept; make the pool with records=True")
    n = int(s.i[at.NEXT_REQUEST])
    integers, floats = s.record_i[:n].copy(), s.record_f[:n].copy()
    stage = s.column(at.STAGE)
    in_pool = (stage >= at.WAITING) & (s.column(at.HAS_CLIENT) == 1)
    for which, arrived in ((in_pool, 1), (stage == at.IN_BACKOFF, 0)):
        integers[s.column(at.REQUEST)[which], at.R_ATTEMPTS] = s.column(at.ATTEMPT)[which] + arrived
    return RequestRecords(
        outcome=integers[:, at.R_OUTCOME].astype(np.int8),
        attempts=integers[:, at.R_ATTEMPTS],
        version=integers[:, at.R_VERSION].astype(np.int8),
        starts_s=floats[:, at.R_START],
        ends_s=floats[:, at.R_END],
    )


def check_conservation(machine: Machine, *, may_start: bool) -> None:
    """Raise `ConservationError` if a law is broken; `may_start` says that starts are still due after a change."""
    s, i = machine.s, machine.s.i
    totals = s.cells.sum(axis=(0, 1))
    stage, has_client = s.column(at.STAGE), s.column(at.HAS_CLIENT) == 1
    waiting, running = stage == at.WAITING, stage == at.RUNNING
    inside = waiting | running
    n_waiting, n_running = waiting.sum(), running.sum()
    clients = (inside & has_client).sum() + (stage == at.IN_BACKOFF).sum()
    busy = np.flatnonzero(s.server_i[:, at.MODE] == at.BUSY)
    arrived_ticks = (s.column(at.ARRIVED_AT, floats=True)[inside] * TICKS_PER_S).astype(np.int64)
    sojourn = i[at.SOJOURN_TICKS] + (i[at.LAST_TICK] - arrived_ticks).sum()
    over_time = totals[at.C_QUEUE_TICKS] + totals[at.C_BUSY_TICKS]
    finish_s = s.finish_s[s.finish_s.shape[0] // 2 + busy]
    is_beside = (s.queue_i[:, at.IDLE_HEAD] != at.NOBODY) & (s.queue_i[:, at.N_WAITING] > 0)
    outcomes = totals[_OUTCOMES].sum() + clients
    laws: list[tuple[str, Any, Any]] = [
        ("requests offered = requests with an outcome + in flight", totals[at.C_OFFERED], outcomes),
        ("clients counted = clients found", i[at.N_CLIENTS], clients),
        ("attempts = offered + retries", totals[at.C_ATTEMPTS], totals[at.C_OFFERED] + totals[at.C_RETRIES]),
        ("attempts = attempts with a fate + inside", totals[at.C_ATTEMPTS], totals[_FATES].sum() + inside.sum()),
        ("waiting counted = waiting found", i[at.ALL_WAITING], n_waiting),
        ("waiting per queue = waiting found", s.queue_i[:, at.N_WAITING].sum(), n_waiting),
        ("waiting in line = waiting found", _in_line(machine), n_waiting),
        ("busy counted = running found", i[at.ALL_BUSY], n_running),
        ("busy per queue = running found", s.queue_i[:, at.N_BUSY].sum(), n_running),
        ("busy servers = running found", len(busy), n_running),
        ("answers binned = completed", i[at.ANSWERS : at.LATENCIES].sum(), totals[at.C_COMPLETED]),
        ("latencies binned = served", i[at.LATENCIES : at.SLOTS_I].sum(), totals[at.C_SERVED]),
        ("Little: requests over time = time over requests", over_time, sojourn),
        ("work finished in the past = 0", (finish_s < machine.now_s).sum(), 0),
        ("queues with an idle server = 0", 0 if may_start else is_beside.sum(), 0),
    ]
    for law, left, right in laws:
        if left != right:
            raise ConservationError(f"at {machine.now_s!r} s: {law}: {int(left)} against {int(right)}; report this")


def _in_line(machine: Machine) -> int:
    """Walk all waiting lines and count; a line that bites its tail ends one past the number of slots."""
    found, most = 0, machine.s.column(at.STAGE).shape[0]
    for slot in machine.s.queue_i[:, at.LISTS :: 2][:, : machine.settings.priorities].ravel():
        while slot != at.NOBODY and found <= most:
            found += 1
            slot = machine.s.i[slot + at.NEXT]
    return found


def fingerprint(machine: Machine) -> str:
    """Return the SHA-256 of counters, histograms and all that is inside, whatever the places it lies in."""
    s = machine.s
    stage = s.column(at.STAGE)
    used = np.flatnonzero(stage != at.FREE)
    slots = used[np.lexsort((s.column(at.ATTEMPT)[used], s.column(at.REQUEST)[used]))]
    admitted = slots[stage[slots] != at.IN_BACKOFF]
    servers = s.column(at.SERVER)[slots[stage[slots] == at.RUNNING]]
    parts = [
        np.array([machine.now_s, s.f[at.TOKENS], s.f[at.RATE_TOKENS]]),
        s.i[[at.N_CLIENTS, at.ALL_WAITING, at.ALL_BUSY, at.SOJOURN_TICKS, at.NEXT_REQUEST, at.BREAKER]],
        s.cells[: int(s.i[at.BUCKET]) + 1],
        s.i[at.ANSWERS : at.SLOTS_I],
        s.f[at.LONGEST : at.LONGEST + 4],
        *(s.column(name)[slots] for name in (at.REQUEST, at.ATTEMPT, at.STAGE)),
        s.column(at.FIRST_AT, floats=True)[slots],
        *(s.column(name)[admitted] for name in (at.HAS_CLIENT, at.VERSION, at.STATION, at.PRIORITY)),
        *(s.column(name, floats=True)[admitted] for name in (at.ARRIVED_AT, at.DEADLINE)),
        servers,
        s.finish_s[s.finish_s.shape[0] // 2 + servers],
    ]
    if s.i[at.KEEPS_RECORDS]:
        kept = records(machine)
        parts += [kept.outcome, kept.attempts, kept.starts_s, kept.ends_s]
    digest = hashlib.sha256()
    for part in parts:
        array = np.ascontiguousarray(part)
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
