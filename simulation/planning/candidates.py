"""
The plans among which a recommendation chooses: start × duration × replicas × envelope × jobs at a time.

Start at `candidates`. Each is screened by formulas when it is made; what cannot be a plan is kept with its reason.
"""

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulation.control_plane.night import LEAD_S, TAIL_S
from simulation.errors import InvalidPlan, InvalidScenario
from simulation.plan import WEEKDAYS, Plan
from simulation.plan_file import window_rule
from simulation.planning.capacity import Screen, screen
from simulation.planning.objective import Objective
from simulation.planning.openings import next_whole_opening
from simulation.planning.variation import Variation, changed, combinations
from simulation.planning.windows import find_windows
from simulation.scenario import ReplicaLost, Scenario, ZoneLost
from simulation.traffic.calendar import Calendar
from simulation.traffic.forecast import Forecast

START, DURATION, REPLICAS = "window.starts_at_local", "window.duration_min", "serving.replicas"
CPUS, MINUTES, CONCURRENT = "training.envelope.cpus", "training.envelope.minutes", "training.max_concurrent"
_MOST = 5000


@dataclass(frozen=True)
class SearchSpace:
    """
    What may be chosen; an empty tuple leaves a field as the plan has it.

    Attributes
    ----------
    starts_local : "HH:MM" on the clocks of the plan's zone; empty: the starts of the `n_windows` quietest windows
    durations_min, replicas, envelope_cpus, max_concurrent : values to try
    """

    starts_local: tuple[str, ...] = ()
    durations_min: tuple[float, ...] = ()
    replicas: tuple[int, ...] = ()
    envelope_cpus: tuple[float, ...] = ()
    max_concurrent: tuple[int, ...] = ()
    n_windows: int = 3


@dataclass(frozen=True)
class Candidate:
    """One plan that could be recommended: what was changed, the night it is judged by, and its screen."""

    changes: dict[str, Any]
    plan: Plan
    opens_at: dt.datetime
    screen: Screen
    predicted: float

    @property
    def label(self) -> str:
        """The choice in one line."""
        window, training = self.plan.window, self.plan.training
        told = f"{window.starts_at_local} for {window.duration_min:g} min, {self.plan.serving.replicas} replicas"
        told += f", {training.envelope.cpus:g} CPUs" if CPUS in self.changes else ""
        return told + (f", {training.max_concurrent} jobs at a time" if CONCURRENT in self.changes else "")

    @property
    def utilisation(self) -> float:
        """The screen's busiest moment, as a share of the servers."""
        return next(r.value for r in self.screen.requirements if r.name == "utilisation")

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "choice": self.label,
            "changes": self.changes,
            "opens_at": self.opens_at.isoformat(),
            "plan_digest": self.plan.digest(),
            "predicted": self.predicted,
            "screen": self.screen.to_dict(),
        }


@dataclass(frozen=True)
class NoPlan:
    """A combination that cannot be a plan or cannot be played, and why."""

    changes: dict[str, Any]
    reason: str


def candidates(
    plan: Plan,
    load: Forecast,
    space: SearchSpace,
    scenarios: Sequence[Scenario],
    objective: Objective,
    calendar: Calendar | None,
) -> tuple[list[Candidate], list[NoPlan]]:
    """
    Return all candidates, the most promising first, and the combinations that are none.

    They are ordered by the objective that their medians give; equal ones by their busiest moment, quietest first.

    Raises
    ------
    InvalidPlan
        If there are more than 5,000 combinations, or no window can be found.
    """
    found: list[Candidate] = []
    refused: list[NoPlan] = []
    for changes in _choices(plan, load, space, calendar, objective.after):
        try:
            variant = changed(plan, changes)
            for scenario in scenarios:
                scenario.check_against(variant)
            opens_at = _opening(variant, load, calendar, objective.after)
            looked_at = screen(variant, load, opens_at, replicas_lost=_replicas_lost(variant, scenarios))
        except (InvalidPlan, InvalidScenario) as problem:
            refused.append(NoPlan(changes, str(problem)))
            continue
        found.append(Candidate(changes, variant, opens_at, looked_at, objective.predicted(variant, opens_at)))
    order = sorted(found, key=lambda c: (round(c.predicted, 9), c.utilisation, c.screen.late_ratio, c.opens_at))
    return order, refused


def _choices(
    plan: Plan, load: Forecast, space: SearchSpace, calendar: Calendar | None, after: dt.datetime
) -> Iterator[dict[str, Any]]:
    """Yield the changes of each combination."""
    fields = {
        REPLICAS: space.replicas, CPUS: space.envelope_cpus, CONCURRENT: space.max_concurrent
    }  # fmt: skip
    rest = [Variation(name, values) for name, values in fields.items() if values]
    durations = space.durations_min or (plan.window.duration_min,)
    starts = {
        minutes: space.starts_local or _quiet_starts(plan, load, minutes, space.n_windows, calendar, after)
        for minutes in durations
    }
    n = sum(map(len, starts.values())) * math.prod(len(variation.values) for variation in rest)
    if n > _MOST:
        raise InvalidPlan(f"recommend: {n:,} combinations are too many to look at, at most {_MOST:,}; widen the steps")
    for minutes in durations:
        for start in starts[minutes]:
            for others in combinations(rest):
                yield {START: start, DURATION: minutes, **others}


def _quiet_starts(
    plan: Plan, load: Forecast, minutes: float, count: int, calendar: Calendar | None, after: dt.datetime
) -> tuple[str, ...]:
    """Return the local starts of the quietest windows, on the plan's days if any lies on them."""
    windows = find_windows(
        load, duration_min=minutes, time_zone=plan.window.time_zone, threshold_rps=plan.window.threshold_rps,
        count=28, calendar=calendar, earliest=max(after, load.start + dt.timedelta(seconds=LEAD_S)),
    )  # fmt: skip
    allowed = [w for w in windows if WEEKDAYS[w.opens_local.weekday()] in plan.window.weekdays] or windows
    return tuple(dict.fromkeys(f"{window.opens_local:%H:%M}" for window in allowed))[:count]


def _opening(plan: Plan, load: Forecast, calendar: Calendar | None, after: dt.datetime) -> dt.datetime:
    """Return the night by which a candidate is judged: the first whole one, if the forecast covers it."""
    if calendar is None:
        opens_at = window_rule(plan).next_opening(after)
    else:
        opening = next_whole_opening(plan, calendar, after)
        if opening is None:
            raise InvalidPlan("the calendar denies every opening, or a part of it")
        opens_at = opening.opens_at
    begins_at = opens_at - dt.timedelta(seconds=LEAD_S)
    ends_at = opens_at + dt.timedelta(minutes=plan.window.duration_min, seconds=TAIL_S)
    known = load.between(begins_at - dt.timedelta(seconds=load.step_s), ends_at).load_rps
    if begins_at < load.start or ends_at > load.end or not np.isfinite(known).all():
        raise InvalidPlan(f"the forecast does not cover the night that opens at {opens_at:%Y-%m-%d %H:%M} UTC")
    return opens_at


def _replicas_lost(plan: Plan, scenarios: Sequence[Scenario]) -> int:
    """Return the most replicas that any of the scenarios takes away at once."""
    lost = [0]
    for event in (event for scenario in scenarios for event in scenario.events):
        if isinstance(event, ReplicaLost):
            lost.append(event.replicas)
        elif isinstance(event, ZoneLost):
            lost.append(math.ceil(plan.serving.replicas / plan.serving.zones))
    return max(lost)
