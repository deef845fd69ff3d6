"""
Whether a rollout can decide anything with the traffic that is forecast, and when; start at `decidability`.

Low traffic is good for training and starves a canary: said before the training, it is a choice; found out afterwards,
it is a lost night. The requests that a test needs are those of the normal approximation.
"""

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from simulation.errors import InvalidPlan
from simulation.plan import Plan, RolloutEvidence
from simulation.traffic.forecast import Forecast
from simulation.traffic.history import FloatArray

_LOW, _MIDDLE = 0.05, 0.5


@dataclass(frozen=True)
class StepOutlook:
    """
    One step of the rollout against the forecast.

    Attributes
    ----------
    name : "shadow" or "canary 10%"
    traffic_ratio : share of the requests that the step can use
    needed : requests of the pool that must come in, all of them counted, for the test to have its power
    begins_at, decided_at : UTC; when the step begins at the earliest, and when `needed` have come at the middling
        load; None if not within the forecast
    decided_late_at : the same at a low load (5 % quantile)
    lasts_enough : whether the plan's own minimum of answers comes within `rollout.step_timeout_s` at a low load
    reason : a sentence
    """

    name: str
    traffic_ratio: float
    needed: int
    begins_at: dt.datetime
    decided_at: dt.datetime | None
    decided_late_at: dt.datetime | None
    lasts_enough: bool
    reason: str


@dataclass(frozen=True)
class Decidability:
    """Whether and when the rollout of a plan can decide; `best` is the step that decides first."""

    trained_at: dt.datetime
    steps: tuple[StepOutlook, ...]
    can_decide_in_window: bool
    decided_at: dt.datetime | None
    best: str | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; times as ISO text."""
        plain = asdict(self)
        plain["steps"] = [{k: _text(v) for k, v in asdict(step).items()} for step in self.steps]
        return {key: _text(value) for key, value in plain.items()}


def requests_unpaired(evidence: RolloutEvidence, canary_ratio: float) -> int:
    """
    Return how many requests both arms together need to show that failures grew by less than the margin.

    Notes
    -----
    One-sided non-inferiority of two shares of equal base rate p, a share r of all requests in the canary:
    ``(z_alpha + z_power)² p (1 − p) (1 / r + 1 / (1 − r)) / margin²``.

    References
    ----------
    Chow, Shao, Wang, Lokhnygina (2017), "Sample size calculations in clinical research", chapter 4.

    Examples
    --------
    >>> requests_unpaired(RolloutEvidence(), 0.1), requests_unpaired(RolloutEvidence(), 0.5)
    (37681, 13566)
    """
    if not 0.0 < canary_ratio < 1.0:
        raise InvalidPlan(f"canary_ratio {canary_ratio:g} leaves one arm empty; give a share between 0 and 1")
    p = evidence.base_failed_ratio
    spread = p * (1 - p) * (1 / canary_ratio + 1 / (1 - canary_ratio))
    return math.ceil(_z_sum(evidence) ** 2 * spread / evidence.margin**2)


def requests_paired(evidence: RolloutEvidence) -> int:
    """
    Return how many requests, scored by both models, show the same; only those on which the models differ count.

    References
    ----------
    Liu, Hsueh, Hsieh, Chen (2002), "Tests for equivalence or non-inferiority for paired binary data".

    Examples
    --------
    >>> requests_paired(RolloutEvidence())
    6852
    """
    return math.ceil(_z_sum(evidence) ** 2 * evidence.disagreement_ratio / evidence.margin**2)


def decidability(plan: Plan, load: Forecast, opens_at: dt.datetime) -> Decidability:
    """
    Return whether the plan's rollout can decide with the forecast traffic, in the window or later, and when.

    Parameters
    ----------
    load : requests per second, with the levels 0.05 and 0.5; steps that it does not know bring no requests
    opens_at : UTC, the window's opening

    Notes
    -----
    Training is taken to end at the sum of the stages' p95. Steps follow each other; each is given the time that its
    test needs at the middling load, or its timeout where the forecast ends before.
    """
    trained_at = opens_at + dt.timedelta(minutes=sum(stage.minutes_p95 for stage in plan.training.stages))
    closes_at = opens_at + dt.timedelta(minutes=plan.window.duration_min)
    evidence, rollout = plan.rollout.evidence, plan.rollout
    wanted = [("shadow", 1.0, requests_paired(evidence), rollout.shadow_requests)]
    for ratio in rollout.canary_ratios:
        wanted.append((f"canary {ratio:.0%}", ratio, requests_unpaired(evidence, ratio), rollout.requests_per_step))
    steps: list[StepOutlook] = []
    begins_at = trained_at
    for name, ratio, needed, minimum in wanted:
        step = _outlook(load, name, ratio, needed, minimum, begins_at, rollout.step_timeout_s)
        steps.append(step)
        begins_at = step.decided_at or begins_at + dt.timedelta(seconds=rollout.step_timeout_s)
    deciding = [step for step in steps if step.decided_at is not None]
    first = min(deciding, key=lambda step: (step.decided_at, step.name)) if deciding else None
    decided_at = first.decided_at if first else None
    in_window = decided_at is not None and decided_at <= closes_at
    return Decidability(
        trained_at, tuple(steps), in_window, decided_at, first.name if first else None,
        _summary(first, closes_at, in_window, load.end),
    )  # fmt: skip


def _z_sum(evidence: RolloutEvidence) -> float:
    return float(norm.ppf(1 - evidence.alpha) + norm.ppf(evidence.power))


def _outlook(
    load: Forecast, name: str, ratio: float, needed: int, minimum: int, begins_at: dt.datetime, timeout_s: float
) -> StepOutlook:
    middling = _reached_at(load, _MIDDLE, begins_at, needed)
    low = _reached_at(load, _LOW, begins_at, needed)
    enough = _reached_at(load, _LOW, begins_at, minimum / ratio)
    in_time = enough is not None and (enough - begins_at).total_seconds() <= timeout_s
    if middling is None:
        told = f"{name} needs {needed:,} requests, which do not come before the forecast ends"
    else:
        hours = (middling - begins_at).total_seconds() / 3600
        told = f"{name} needs {needed:,} requests; at the forecast load they have come {hours:.1f} h after it begins"
    if not in_time:
        told += f"; its minimum of {minimum:,} answers does not come within {timeout_s:g} s when traffic is low"
    return StepOutlook(name, ratio, needed, begins_at, middling, low, in_time, told + ".")


def _reached_at(load: Forecast, level: float, since: dt.datetime, requests: float) -> dt.datetime | None:
    """Return when so many requests have come since a moment at a level of the load, or None within the forecast."""
    edges, counts = _counts(load, level, since)
    total = np.cumsum(counts)
    k = int(np.searchsorted(total, requests))
    if since < load.start or k == len(total):
        return None
    before = total[k - 1] if k else 0.0
    share = (requests - before) / counts[k] if counts[k] else 0.0
    return since + dt.timedelta(seconds=float(edges[k] + share * (edges[k + 1] - edges[k])))


def _counts(load: Forecast, level: float, since: dt.datetime) -> tuple[Sequence[float], FloatArray]:
    """Return edges in seconds since a moment, and the requests between them."""
    offset_s = (load.start - since).total_seconds()
    edges = np.clip(offset_s + np.arange(len(load.load_rps) + 1) * load.step_s, 0.0, None)
    return edges.tolist(), np.nan_to_num(load.at(level), nan=0.0) * np.diff(edges)


def _summary(first: StepOutlook | None, closes_at: dt.datetime, in_window: bool, forecast_ends: dt.datetime) -> str:
    if first is None or first.decided_at is None:
        return (
            f"No step of the rollout can decide before the forecast ends ({forecast_ends:%Y-%m-%d %H:%M} UTC): "
            "widen the margin, send more traffic to the canary, or choose a busier window."
        )
    where = "inside the window" if in_window else f"after the window has closed ({closes_at:%H:%M} UTC)"
    return f"The {first.name} can decide first, at {first.decided_at:%Y-%m-%d %H:%M} UTC, {where}."


def _text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, dt.datetime) else value
