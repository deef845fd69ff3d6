"""
Can a night tip the serving pool into a bad state that outlasts its cause, and until when does stopping training help?

Training takes capacity, so a retraining window is a trigger. Start at `assess_metastability`; the feedback itself is
derived in `retry_feedback`, and what is estimated here is confirmed request by request in `storm_trials`.
"""

import datetime as dt
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.data_plane.fluid_queue import fluid_line
from simulation.errors import InvalidPlan
from simulation.plan import Plan
from simulation.planning.retry_feedback import Callers, bad_state, exceeds, tipping_backlog
from simulation.planning.serving_night import ServingNight, Surge, night_of
from simulation.traffic.forecast import Forecast

FloatArray = NDArray[np.float64]

_DRAINED = 1.0  # a line of no more than one request
_MOST_BEGINS = 120  # moments of an abort curve
_MOST_FACTOR = 20.0
_GRID = 1025


@dataclass(frozen=True)
class SurgeEstimate:
    """
    The smallest surge that tips the pool, as a fluid; infinite if none up to 20 times the load does.

    `storm_trials.simulated_surge` finds the factor for which half of the simulated days stay down.
    """

    at_min: float
    minutes: float
    factor: float
    reason: str


@dataclass(frozen=True)
class AbortCurve:
    """
    Until when stopping training lets the line drain before the window closes.

    Attributes
    ----------
    begins_min : shape (n,), minutes after the opening at which a surge begins
    latest_min : shape (n,), the last minute at which stopping still helps; the close where nothing need be stopped,
        NaN where even stopping at once is too late
    surge_minutes, surge_factor : the surge
    reason : a sentence
    """

    begins_min: FloatArray
    latest_min: FloatArray
    surge_minutes: float
    surge_factor: float
    reason: str


@dataclass(frozen=True)
class MetastabilityReport:
    """
    How near a night is to a bad state that sustains itself.

    Attributes
    ----------
    minutes : shape (n,), since the opening, one per minute to half an hour after the close
    load_rps : shape (n,), the forecast's quantile, retries not counted
    capacity_rps, full_capacity_rps : shape (n,), with training, and with training stopped
    attempts_rps : shape (n,), load with the retries of the bad state: λ (1 + r) without budget and queue limit
    margin_rps : shape (n,), capacity less attempts: where it is negative, a line would not go away by itself
    is_vulnerable : shape (n,), load below capacity, yet the bad state would sustain itself
    is_overloaded : shape (n,), load at or above capacity: no trigger is needed
    vulnerable_min : spans (from, to) in minutes since the opening
    stopping_restores : whether the bad state ends, at every vulnerable minute, once training is stopped
    surge, abort : see there
    reasons : sentences
    """

    minutes: FloatArray
    load_rps: FloatArray
    capacity_rps: FloatArray
    full_capacity_rps: FloatArray
    attempts_rps: FloatArray
    margin_rps: FloatArray
    is_vulnerable: NDArray[np.bool_]
    is_overloaded: NDArray[np.bool_]
    vulnerable_min: tuple[tuple[float, float], ...]
    stopping_restores: bool
    surge: SurgeEstimate
    abort: AbortCurve
    reasons: tuple[str, ...]

    @property
    def least_margin_rps(self) -> float:
        """The margin of the worst minute."""
        return float(self.margin_rps.min())

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; infinite and unknown numbers are null."""
        return {
            "least_margin_rps": self.least_margin_rps,
            "vulnerable_min": [list(span) for span in self.vulnerable_min],
            "overloaded_minutes": int(self.is_overloaded.sum()),
            "stopping_restores": self.stopping_restores,
            "surge": {
                "at_min": self.surge.at_min,
                "minutes": self.surge.minutes,
                "factor": self.surge.factor if np.isfinite(self.surge.factor) else None,
            },
            "abort": {
                "begins_min": self.abort.begins_min.tolist(),
                "latest_min": [m if np.isfinite(m) else None for m in self.abort.latest_min.tolist()],
                "surge_minutes": self.abort.surge_minutes,
                "surge_factor": self.abort.surge_factor,
            },
            "minutes": self.minutes.tolist(),
            "load_rps": self.load_rps.tolist(),
            "capacity_rps": self.capacity_rps.tolist(),
            "margin_rps": self.margin_rps.tolist(),
            "reasons": list(self.reasons),
        }


def line_of(night: ServingNight, surge: Surge | None = None) -> FloatArray:
    """Return how many wait at the end of each step, as a fluid, shape (n,); see `fluid_queue`."""
    # Steps of at most a quarter of the surge, or a short one would be spread thin.
    parts = 1 if surge is None else max(1, int(np.ceil(4.0 * night.step_s / surge.length_s)))
    night = night.refined(parts)
    callers = night.callers
    timeout_s = np.inf if callers.timeout_s is None else callers.timeout_s
    grid = np.linspace(0.0, timeout_s, _GRID) if np.isfinite(timeout_s) else np.zeros(2)
    line = fluid_line(
        night.load_rps if surge is None else night.load_rps * surge.factors(night),
        night.capacity_rps,
        night.slowdown,
        step_s=night.step_s,
        exceeds=exceeds(callers.service, grid),
        timeout_s=timeout_s,
        retries=callers.retries,
        most_attempts=np.inf if callers.budget_ratio is None else 1.0 + callers.budget_ratio,
        longest=np.inf if callers.queue_limit is None else float(callers.queue_limit),
    )
    return line[parts - 1 :: parts]


def _stays_down(night: ServingNight, surge: Surge) -> bool:
    """Say whether the line at the end of the night is beyond the one at which retries outrun the pool."""
    tips = tipping_backlog(night.callers, night.load_rps[-1], float(night.servers[-1]), float(night.slowdown[-1]))
    return bool(line_of(night, surge)[-1] >= tips)


def estimated_surge(night: ServingNight, at_s: float, length_s: float) -> SurgeEstimate:
    """
    Return the smallest factor on the load of [at_s, at_s + length_s) that leaves the pool down when the night ends.

    The line after the surge decides: beyond `tipping_backlog` it grows by retries alone. Bisection to 0.1 %; a greater
    surge never leaves a shorter line.
    """
    at_min, minutes = at_s / 60.0, length_s / 60.0
    if _stays_down(night, Surge(at_s, length_s, 1.0)):
        reason = "the load alone brings the pool down and keeps it there; no surge is needed."
        return SurgeEstimate(at_min, minutes, 1.0, reason)
    low, high = 1.0, _MOST_FACTOR
    if not _stays_down(night, Surge(at_s, length_s, high)):
        reason = (
            f"no surge of {minutes:g} min at minute {at_min:g}, up to {high:g} times the load, leaves a line "
            "that retries keep up until the end of the night."
        )
        return SurgeEstimate(at_min, minutes, float("inf"), reason)
    while high - low > 1e-3 * low:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if _stays_down(night, Surge(at_s, length_s, middle)) else (middle, high)
    reason = f"{minutes:g} min at {high:.2f} times the load, from minute {at_min:g} on, tip the pool for good."
    return SurgeEstimate(at_min, minutes, high, reason)


def abort_curve(night: ServingNight, close_s: float, length_s: float, factor: float) -> AbortCurve:
    """
    Return, for a surge beginning at each minute before `close_s`, the last minute at which stopping training helps.

    A surge of that length and factor; stopping gives services their usual speed from that minute on. Whoever stops
    later leaves no shorter a line, so the minute is found by bisection. A window of over two hours is looked at in
    120 places.
    """
    close = min(int(close_s // night.step_s), night.load_rps.shape[0])
    begins = np.arange(0, close, max(1, -(-close // _MOST_BEGINS)))
    latest = np.array([_latest_stop(night, int(begin), close, length_s, factor) for begin in begins])
    per_min = night.step_s / 60.0
    return AbortCurve(
        begins * per_min, latest * per_min, length_s / 60.0, factor, _abort_reason(begins, latest, close, per_min)
    )


def _latest_stop(night: ServingNight, begin: int, close: int, length_s: float, factor: float) -> float:
    """Return the last step in [begin, close] at which stopping leaves no line at the close, or NaN."""
    surge = Surge(begin * night.step_s, length_s, factor)

    def drains(stop: int) -> bool:
        return bool(line_of(night.without_training_from(stop * night.step_s), surge)[close - 1] <= _DRAINED)

    if drains(close):
        return float(close)
    if not drains(begin):
        return float("nan")
    good, bad = begin, close
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if drains(middle) else (good, middle)
    return float(good)


def _abort_reason(begins: NDArray[np.int64], latest: FloatArray, close: int, per_min: float) -> str:
    lost, asked = np.isnan(latest), latest < close
    if not (lost | asked).any():
        return "whenever the surge comes, the line drains before the close though training goes on."
    parts = []
    if asked.any():
        shortest = int(np.nanargmin(np.where(asked, latest - begins, np.nan)))
        parts.append(
            f"a surge at minute {begins[shortest] * per_min:g} leaves the least time: "
            f"training must stop by minute {latest[shortest] * per_min:g}"
        )
    if lost.any():
        first = begins[int(np.argmax(lost))] * per_min
        parts.append(f"from {first:g} on there are minutes at which even stopping at once is too late to drain")
    return "; ".join(parts) + "."


def assess_metastability(
    plan: Plan,
    forecast: Forecast,
    opens_at: dt.datetime,
    *,
    level: float = 0.95,
    lost_replicas: int = 0,
    surge_minutes: float = 10.0,
    surge_factor: float = 2.0,
    surge_at_min: float | None = None,
) -> MetastabilityReport:
    """
    Say how near the plan's night is to a bad state that outlasts its cause.

    Parameters
    ----------
    opens_at : UTC, when the window opens; the forecast must reach half an hour beyond its close
    level : the forecast's quantile taken as load
    lost_replicas : replicas that are away all night
    surge_minutes, surge_factor : the trouble that the abort curve is drawn for; the length also of the surge sought
    surge_at_min : when the surge sought begins; without it, at the minute of the window with the least margin

    Raises
    ------
    InvalidPlan, InvalidHistory
        See `night_of`; and if the surge does not begin inside the window.
    """
    night = night_of(plan, forecast, opens_at, level=level, lost_replicas=lost_replicas)
    state = bad_state(night.callers, night.load_rps, night.servers, night.slowdown)
    overloaded = night.load_rps >= state.capacity_rps
    vulnerable = state.sustains_itself & ~overloaded
    usual = bad_state(night.callers, night.load_rps, night.servers)
    close_s = 60.0 * plan.window.duration_min
    inside = night.starts_s < close_s
    if surge_at_min is None:
        surge_at_min = float(np.argmin(np.where(inside, state.margin_rps, np.inf)))
    if not (0.0 <= surge_at_min < plan.window.duration_min and surge_minutes > 0.0 and 1.0 <= surge_factor < np.inf):
        raise InvalidPlan(
            f"a surge of {surge_minutes:g} min and factor {surge_factor:g} at minute {surge_at_min:g}: it begins "
            f"within the window's {plan.window.duration_min:g} min, is longer than 0 and has a factor of 1 or more"
        )
    surge = estimated_surge(night, 60.0 * surge_at_min, 60.0 * surge_minutes)
    abort = abort_curve(night, close_s, 60.0 * surge_minutes, surge_factor)
    restores = not (vulnerable & usual.sustains_itself).any()
    report = MetastabilityReport(
        minutes=night.starts_s / 60.0,
        load_rps=night.load_rps,
        capacity_rps=state.capacity_rps,
        full_capacity_rps=usual.capacity_rps,
        attempts_rps=state.attempts_rps,
        margin_rps=state.margin_rps,
        is_vulnerable=vulnerable,
        is_overloaded=overloaded,
        vulnerable_min=spans(vulnerable),
        stopping_restores=restores,
        surge=surge,
        abort=abort,
        reasons=(),
    )
    return replace(report, reasons=_reasons(report, night.callers, level))


def spans(is_so: NDArray[np.bool_]) -> tuple[tuple[float, float], ...]:
    """Return the half-open spans of steps in which something is so."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_so, [False]]).astype(np.int8)))
    return tuple((float(a), float(b)) for a, b in zip(edges[::2], edges[1::2], strict=True))


def _reasons(report: MetastabilityReport, callers: Callers, level: float) -> tuple[str, ...]:
    worst = int(np.argmin(report.margin_rps))
    most = report.attempts_rps[worst] / max(report.load_rps[worst], 1e-300)
    found = [
        f"At the {level:.0%} load of {report.load_rps[worst]:,.3g} requests/s, {most:.2f} attempts each when the pool "
        f"is down, minute {worst} has the least margin: {report.margin_rps[worst]:,.3g} of "
        f"{report.capacity_rps[worst]:,.3g} requests/s."
    ]
    if report.is_overloaded.any():
        first = int(np.argmax(report.is_overloaded))
        found.append(f"The load alone reaches capacity in {report.is_overloaded.sum()} minutes, first at {first}.")
    if report.vulnerable_min:
        times = ", ".join(f"{a:g} to {b:g}" for a, b in report.vulnerable_min)
        found.append(f"Vulnerable in minutes {times}: load below capacity, and a bad state would sustain itself.")
        found.append(
            "Stopping training ends it."
            if report.stopping_restores
            else "Stopping training does not end it: the bad state sustains itself at full capacity too."
        )
    else:
        found.append(f"No minute is vulnerable: {_why_safe(report, callers)}.")
    return (*found, report.surge.reason[0].upper() + report.surge.reason[1:], "Abort: " + report.abort.reason)


def _why_safe(report: MetastabilityReport, callers: Callers) -> str:
    if callers.timeout_s is None or callers.retries == 0:
        return "nobody retries after a timeout"
    if (report.margin_rps >= 0.0).all():
        budget = "" if callers.budget_ratio is None else f", of which the budget allows {callers.budget_ratio:g} each"
        return f"capacity exceeds the load with all its retries{budget}"
    if callers.queue_limit is not None:
        return f"the queue limit of {callers.queue_limit} leaves time to answer, so most are answered out of it"
    return "where it could not recover it is overloaded anyway"
