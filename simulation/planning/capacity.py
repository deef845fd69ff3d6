"""
Whether a night can work at all, by arithmetic and queueing formulas, before anything is simulated; start at `screen`.

What it rules out for certain is arithmetic: work that is longer than its window never starts. The rest is an
approximation (steady states, first come, first served, no retries), says so, and leaves the last word to simulation.
"""

import datetime as dt
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from simulation.errors import InvalidPlan
from simulation.plan import Plan, ServiceTime
from simulation.planning.packing import Packing, pack
from simulation.theory import balanced_hyperexponential, erlang_c
from simulation.traffic.forecast import Forecast
from simulation.traffic.history import FloatArray

ASSUMPTIONS = (
    "The screen takes every ten minutes of the forecast's 95 % load as a steady state of one first-come-first-served "
    "queue (Allen-Cunneen), stages at their p95, without retries, timeouts, queue limits, cold starts or pauses: only "
    "simulation shows that a plan holds."
)
_LOAD_LEVEL = 0.95
_MOST_REPLICAS = 1000  # as plans allow
_POINTS = 2000  # of the service distribution, for the share that is answered late


@dataclass(frozen=True)
class Requirement:
    """
    One thing that a night needs.

    Attributes
    ----------
    name : what needs it: "work", "memory", "envelope", "utilisation" or "latency"
    value, limit : the number and what it may be at most, in the unit that the sentence names
    is_certain : whether breaking it leaves no chance; else it rests on an approximation
    sentence : value and limit in words
    remedy : what would make it fit, with numbers; empty when it is kept
    """

    name: str
    value: float
    limit: float
    is_certain: bool
    sentence: str
    remedy: str

    @property
    def is_kept(self) -> bool:
        """Whether the value keeps its limit."""
        return self.value <= self.limit

    @property
    def excess(self) -> float:
        """Value over limit, as a ratio; over 1 when it is broken."""
        return self.value / self.limit if self.limit > 0 else math.inf


@dataclass(frozen=True)
class Screen:
    """What can be said of a night without simulating it; `late_ratio` is the share of requests over the SLO."""

    requirements: tuple[Requirement, ...]
    late_ratio: float

    @property
    def fits(self) -> bool:
        """Whether every requirement is kept. It is no promise that the plan holds."""
        return all(requirement.is_kept for requirement in self.requirements)

    @property
    def is_ruled_out(self) -> bool:
        """Whether a requirement is broken that leaves no chance."""
        return any(r.is_certain and not r.is_kept for r in self.requirements)

    @property
    def binding(self) -> Requirement:
        """The requirement that binds: a broken one that leaves no chance, else the one with the largest excess."""
        broken = [r for r in self.requirements if r.is_certain and not r.is_kept]
        return max(broken or self.requirements, key=lambda r: r.excess)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "fits": self.fits,
            "is_ruled_out": self.is_ruled_out,
            "late_ratio": self.late_ratio,
            "binding": self.binding.name,
            "requirements": [{**asdict(r), "is_kept": r.is_kept} for r in self.requirements],
            "assumptions": ASSUMPTIONS,
        }


def screen(plan: Plan, load: Forecast, opens_at: dt.datetime, *, replicas_lost: int = 1) -> Screen:
    """
    Hold one night of a plan against what arithmetic and queueing formulas say of it.

    Parameters
    ----------
    load : requests per second, with the level 0.95; it must know the window
    opens_at : UTC, when the window opens
    replicas_lost : how many replicas the pool must be able to lose at its busiest

    Raises
    ------
    InvalidPlan
        If the forecast does not know the load of the whole window.

    References
    ----------
    Allen (1990), "Probability, Statistics, and Queueing Theory": the wait of G/G/c as that of M/M/c times
    (1 + scv) / 2 for Poisson arrivals; here also for its tail.
    """
    loads_rps = _loads(plan, load, opens_at)
    packing = pack(plan)
    slowdowns = _slowdowns(plan, packing, load.step_s, len(loads_rps))
    late = _late_ratio(plan, loads_rps, slowdowns, _servers(plan))
    requirements = (
        _work(plan, packing),
        _memory(plan),
        _envelope(plan),
        _utilisation(plan, loads_rps, slowdowns, replicas_lost),
        _latency(plan, loads_rps, slowdowns, late),
    )
    return Screen(requirements, late)


def late_probability(arrival_rps: float, service: ServiceTime, servers: int, within_s: float, slowdown: float) -> float:
    """
    Return the share of requests that are answered later than `within_s`, in a steady state; 1 where there is none.

    Parameters
    ----------
    arrival_rps : >= 0, Poisson
    service : of one request when nothing slows it
    servers : >= 0
    within_s : > 0, seconds from arrival to answer
    slowdown : >= 1, factor on service times

    Notes
    -----
    Exact for exponential services (M/M/c). Else Allen and Cunneen's mean wait, spread as in M/M/c: those who wait do
    so for an exponential time.
    """
    mean_s = service.mean_ms / 1000 * slowdown
    if servers < 1 or arrival_rps * mean_s >= servers:
        return 1.0
    services, weights = _service_points(service)
    left_s = within_s - services * mean_s
    late = left_s <= 0.0
    if arrival_rps > 0.0:
        must_wait = erlang_c(arrival_rps * mean_s, servers)
        scv = 1.0 if service.distribution == "exponential" else _scv(service)
        ends_rps = (servers / mean_s - arrival_rps) * 2 / (1 + scv)
        chances = np.where(late, 1.0, must_wait * np.exp(-ends_rps * np.maximum(left_s, 0.0)))
    else:
        chances = late.astype(np.float64)
    return float(np.dot(weights, chances))


# The requirements ------------------------------------------------------------------------------------------------


def _work(plan: Plan, packing: Packing) -> Requirement:
    """Every job, at its p95, ends before the reserve begins; if not, one of them never starts."""
    window, room = plan.window, packing.room_min
    needed = packing.needed_min
    told = (
        f"the work takes {needed:g} minutes at its p95, the window of {window.duration_min:g} less its reserve of "
        f"{window.rollback_reserve_min:g} has {room:g}"
    )
    over = needed - room
    remedy = f"lengthen the window to {window.duration_min + over:g} minutes, or shorten the work by {over:g}"
    return Requirement("work", needed, room, True, told, remedy if over > 0 else "")


def _memory(plan: Plan) -> Requirement:
    """No stage wants more memory than its envelope has; if one does, it is killed."""
    job, stage = max(
        ((job, stage) for job in plan.training.all_jobs() for stage in job.stages),
        key=lambda pair: pair[1].memory_gib / pair[0].envelope.memory_gib,
    )
    limit = job.envelope.memory_gib
    told = f"stage {stage.name} of {job.model} takes {stage.memory_gib:g} GiB, its envelope has {limit:g}"
    remedy = f"raise envelope.memory_gib to {stage.memory_gib:g}" if stage.memory_gib > limit else ""
    return Requirement("memory", stage.memory_gib, limit, True, told, remedy)


def _envelope(plan: Plan) -> Requirement:
    """The stages, stretched by what the envelope keeps from them, end before its minutes and the window's are over."""
    room = plan.window.duration_min - plan.window.rollback_reserve_min
    found = []
    for job in plan.training.all_jobs():
        takes = sum(stage.minutes_p95 * job.envelope.stretch(stage) for stage in job.stages)
        limit = min(job.envelope.minutes, room)
        cpus = max(stage.cpus for stage in job.stages)
        told = f"inside its envelope {job.model} takes {takes:g} minutes at its p95, it has {limit:g}"
        remedy = f"give it {max(cpus, job.envelope.cpus):g} CPUs and {takes:g} minutes" if takes > limit else ""
        found.append(Requirement("envelope", takes, limit, False, told, remedy))
    return max(found, key=lambda requirement: requirement.excess)


def _utilisation(plan: Plan, loads_rps: FloatArray, slowdowns: FloatArray, lost: int) -> Requirement:
    """At its busiest, beside training and with replicas lost, the pool still finishes what comes."""
    serving = plan.serving
    work = float((loads_rps * slowdowns).max()) * serving.service_time.mean_ms / 1000  # servers kept busy
    left = _servers(plan) - lost * serving.servers_per_replica
    busiest = int((loads_rps * slowdowns).argmax())
    value = work / left if left > 0 else math.inf
    told = (
        f"at {loads_rps[busiest]:,.3g} requests/s (95 % load), {slowdowns[busiest]:.3g} times slower beside training "
        f"and {lost} replica(s) lost, {f'{value:.0%} of the servers are' if left > 0 else 'no server is left, all are'}"
        " busy"
    )
    enough = math.floor(work / serving.servers_per_replica) + 1 + lost
    return Requirement("utilisation", value, 1.0, False, told, f"use {enough} replicas" if value > 1.0 else "")


def _latency(plan: Plan, loads_rps: FloatArray, slowdowns: FloatArray, late: float) -> Requirement:
    """Over the night no more requests are answered late than the SLO allows."""
    slo = plan.serving.slo
    limit = 1 - slo.good_ratio
    told = (
        f"by a queueing formula {late:.2%} of the requests are answered after {slo.latency_ms:g} ms at the 95 % load, "
        f"the SLO allows {limit:.2%}"
    )
    remedy = ""
    if late > limit:
        each = plan.serving.servers_per_replica
        enough = _fewest(lambda n: _late_ratio(plan, loads_rps, slowdowns, n * each) <= limit)
        if enough is not None:
            remedy = f"use {enough} replicas"
        else:
            remedy = "no number of replicas is enough: promise more time, or make service faster"
    return Requirement("latency", late, limit, False, told, remedy)


# What they rest on -----------------------------------------------------------------------------------------------


def _loads(plan: Plan, load: Forecast, opens_at: dt.datetime) -> FloatArray:
    """Return the 95 % load of each step that touches the window, requests per second."""
    step = dt.timedelta(seconds=load.step_s)
    closes_at = opens_at + dt.timedelta(minutes=plan.window.duration_min)
    first = load.start + (opens_at - load.start) // step * step
    part = load.between(first, closes_at)
    loads = part.at(_LOAD_LEVEL)
    if opens_at < load.start or closes_at > load.end or not np.isfinite(loads).all():
        raise InvalidPlan(
            f"the forecast does not know the whole window from {opens_at:%Y-%m-%d %H:%M} to {closes_at:%H:%M} UTC; "
            "choose an opening inside of it"
        )
    return loads


def _slowdowns(plan: Plan, packing: Packing, step_s: int, n_steps: int) -> FloatArray:
    """Return the largest slowdown by training in each step, stages at their p95; jobs side by side multiply."""
    marks: list[tuple[float, float, float]] = []
    for slot in packing.slots:
        at = slot.begins_min
        for stage in slot.job.stages:
            cpus = min(stage.cpus, slot.job.envelope.cpus)
            ends = at + stage.minutes_p95 * slot.job.envelope.stretch(stage)
            marks.append((at, ends, max(stage.serving_slowdown, plan.serving.slowdown_beside(cpus))))
            at = ends
    found = np.ones(n_steps)
    for k in range(n_steps):
        begin, end = k * step_s / 60, (k + 1) * step_s / 60
        moments = [begin, *(m[0] for m in marks if begin <= m[0] < end)]
        found[k] = max(math.prod(s for a, b, s in marks if a <= moment < b) for moment in moments)
    return found


def _late_ratio(plan: Plan, loads_rps: FloatArray, slowdowns: FloatArray, servers: int) -> float:
    """Return the share of all requests of the window that is answered after the promised time."""
    service, within_s = plan.serving.service_time, plan.serving.slo.latency_ms / 1000
    if loads_rps.sum() <= 0.0:
        return 0.0
    shares = [
        late_probability(float(rps), service, servers, within_s, float(slowdown))
        for rps, slowdown in zip(loads_rps, slowdowns, strict=True)
    ]
    return float(np.average(shares, weights=loads_rps))


def _servers(plan: Plan) -> int:
    """Return the servers at the busiest moment: an autoscaler is taken to have opened all that it may."""
    scaler = plan.serving.autoscaler
    replicas = plan.serving.replicas if scaler is None else scaler.max_replicas
    return replicas * plan.serving.servers_per_replica


def _fewest(is_enough: Callable[[int], bool]) -> int | None:
    """Return the smallest number of replicas that is enough, by bisection: more of them never wait longer."""
    if not is_enough(_MOST_REPLICAS):
        return None
    low, high = 0, _MOST_REPLICAS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _scv(service: ServiceTime) -> float:
    return 0.0 if service.distribution == "deterministic" else service.scv


def _service_points(service: ServiceTime) -> tuple[FloatArray, FloatArray]:
    """Return points of the service distribution with mean 1, and their weights: middles of equal shares."""
    shares = (np.arange(_POINTS) + 0.5) / _POINTS
    even = np.full(_POINTS, 1 / _POINTS)
    if _scv(service) == 0.0 and service.distribution != "exponential":
        return np.ones(1), np.ones(1)
    if service.distribution == "exponential" or (service.distribution == "hyperexponential" and service.scv == 1.0):
        return -np.log1p(-shares), even
    if service.distribution == "erlang":
        return np.asarray(stats.gamma.ppf(shares, 1 / service.scv) * service.scv), even
    if service.distribution == "hyperexponential":
        chance, fast, slow = balanced_hyperexponential(1.0, service.scv)
        points = -np.log1p(-shares)
        return np.concatenate([points / fast, points / slow]), np.concatenate([chance * even, (1 - chance) * even])
    sigma = math.sqrt(math.log1p(service.scv))
    return np.exp(sigma * stats.norm.ppf(shares) - sigma * sigma / 2), even
