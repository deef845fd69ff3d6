"""The openings to come and the one-off runs in UTC that stand for them: made, withdrawn and shown in one way."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flows.cycle import NEXT
from simulation.errors import InvalidPlan
from simulation.plan import Plan
from simulation.planning.openings import N_OPENINGS, Opening, openings
from simulation.traffic.calendar import Calendar, read_calendar

FLOW = "retrain"
_BACK = dt.timedelta(days=2)  # denials that began before now still hold


class Runs(Protocol):
    """What is asked of an orchestrator here."""

    def start(
        self, flow: str, deployment: str, parameters: Mapping[str, object], *, at: dt.datetime | None = None
    ) -> str:
        """Create a run at a UTC instant; the same instant twice creates one run."""
        ...

    def planned_runs(self, flow: str, deployment: str) -> dict[dt.datetime, str]:
        """Return the ids of the runs made for an instant that has not come, by instant."""
        ...

    def withdraw(self, run_id: str) -> None:
        """Take back a run that has not begun."""
        ...


@dataclass(frozen=True)
class Ahead:
    """The openings that have a run now, and how many runs were made and taken back to get there."""

    openings: tuple[Opening, ...]
    n_created: int
    n_withdrawn: int

    def sentence(self) -> str:
        """Say what was done."""
        first = f"; the first at {self.openings[0].opens_at:%Y-%m-%d %H:%M} UTC" if self.openings else ""
        return f"{len(self.openings)} openings have a run, {self.n_created} new, {self.n_withdrawn} taken back{first}"


def plan_calendar(plan: Plan, folder: Path, since: dt.datetime, until: dt.datetime | None = None) -> Calendar:
    """Return the plan's calendar from two days before `since` (UTC); relative files are looked up in `folder`."""
    section = plan.calendar
    end = until or since + dt.timedelta(days=section.horizon_days if section is not None else 400)
    return read_calendar(
        section, folder=folder, time_zone=plan.window.time_zone, since=since - _BACK, until=end, regions=_regions(plan)
    )


def next_openings(plan: Plan, calendar: Calendar, now: dt.datetime, count: int = N_OPENINGS) -> tuple[Opening, ...]:
    """
    Return the next `count` openings that nothing denies.

    Raises
    ------
    InvalidPlan
        If the calendar denies every one of them; the sentence names the rules.
    """
    free: list[Opening] = []
    denied: dict[str, None] = {}
    for opening in openings(plan, calendar, now):
        if not opening.is_denied:
            free.append(opening)
        denied |= dict.fromkeys(opening.denied_by)
        if len(free) == count:
            break
    if not free:
        raise InvalidPlan(
            f"plan {plan.name}: no window opens before {calendar.until:%Y-%m-%d}; all are denied by "
            f"{' and '.join(denied) or 'a horizon that is too short'}; change the rule or the window"
        )
    return tuple(free)


def plan_ahead(runs: Runs, plan: Plan, calendar: Calendar, now: dt.datetime) -> Ahead:
    """
    Make one run for each of the next openings, and take back those that are openings no more.

    Can be repeated: what is there already stays. Runs that a person started for now are left alone.
    """
    ahead = next_openings(plan, calendar, now)
    wanted = {opening.opens_at for opening in ahead}
    there = runs.planned_runs(FLOW, plan.name)
    stale = [run_id for at, run_id in there.items() if at not in wanted and at > now]
    for run_id in stale:
        runs.withdraw(run_id)
    missing = sorted(wanted - there.keys())
    for opens_at in missing:
        runs.start(FLOW, plan.name, {"cycle": NEXT}, at=opens_at)
    return Ahead(ahead, len(missing), len(stale))


def _regions(plan: Plan) -> tuple[str, ...] | None:
    """Return whose personal data any of the plan's jobs reads; None if one of them does not say."""
    told = [job.personal_data_regions for job in plan.training.all_jobs()]
    if any(regions is None for regions in told):
        return None
    return tuple(sorted({region for regions in told for region in regions or ()}))
