"""Whether heavy work may start now: the flow asks itself, as an orchestrator promises a start, not a window."""

import datetime as dt
from dataclasses import dataclass
from typing import Literal
from zoneinfo import ZoneInfo

from simulation.errors import InvalidPlan
from simulation.plan import Plan
from simulation.plan_file import window_rule
from simulation.planning.job_order import work_p95_min
from simulation.planning.openings import next_opening
from simulation.planning.window_rule import load_zone
from simulation.traffic.calendar import Calendar, CalendarEntry

_HORIZON = dt.timedelta(days=400)


@dataclass(frozen=True)
class WindowDecision:
    """
    Yes or no, the reason in a sentence, and the interval or the next opening in UTC.

    `rule` names what refused: "window", "cutoff", or the rule of a denial; it is empty for a yes. `next_opening` is
    None when the calendar denies every opening that it knows of.
    """

    is_open: bool
    reason: str
    opens_at: dt.datetime | None
    closes_at: dt.datetime | None
    cutoff: dt.datetime | None
    next_opening: dt.datetime | None
    rule: str = ""


def window_in_force(
    plan: Plan,
    now: dt.datetime,
    *,
    next_stage: int = 0,
    calendar: Calendar | None = None,
    purpose: Literal["work", "rollback"] = "work",
) -> WindowDecision:
    """
    Tell whether stage number `next_stage` may start at `now` (UTC).

    The cutoff is the end of the window, or of the piece that denials leave of it, less the p95 of the work that is
    left and the rollback reserve; a start at the cutoff is allowed, a start at the closing instant is not. A way back
    is never refused: a rollback is exempt from windows, cutoffs and denials.

    Raises
    ------
    UnknownZone
        On an unknown zone: never a silent yes.
    InvalidPlan
        If the plan has a calendar that was not handed over, or that does not reach as far as this window.
    """
    if purpose == "rollback":
        return WindowDecision(True, "a rollback is exempt from windows, cutoffs and denials", None, None, None, None)
    known = _calendar(plan, now, calendar)
    rule, zone = window_rule(plan), load_zone(plan.window.time_zone)
    following = next_opening(plan, known, now)
    upcoming = following.opens_at if following is not None else None
    when = _when(upcoming, known, zone)
    occurrence = rule.occurrence_at(now)
    if occurrence is None:
        denied = _denied_at(known, now)
        also = f"; {denied} says no as well" if denied else ""
        return WindowDecision(False, f"no window is open{also}; {when}", None, None, None, upcoming, "window")
    if occurrence[1] > known.until:
        raise InvalidPlan(f"plan {plan.name}: its calendar ends before tonight's window does; read it further ahead")
    denials = known.denials(now, now + dt.timedelta(microseconds=1))
    if denials:
        entry = max(denials, key=lambda found: found.ends_at)
        reason = f"{entry.sentence()} denies it until {entry.ends_at.astimezone(zone):%a %H:%M %Z}; {when}"
        return WindowDecision(False, reason, *occurrence, None, upcoming, entry.rule)
    return _by_cutoff(plan, now, next_stage, known, occurrence, upcoming)


def _by_cutoff(
    plan: Plan,
    now: dt.datetime,
    next_stage: int,
    known: Calendar,
    occurrence: tuple[dt.datetime, dt.datetime],
    upcoming: dt.datetime | None,
) -> WindowDecision:
    """Decide inside an open piece of a window: there is time for the work that is left, or there is not."""
    zone = load_zone(plan.window.time_zone)
    when = _when(upcoming, known, zone)
    opens, closes = next(piece for piece in known.clear(*occurrence) if piece[0] <= now < piece[1])
    cutoff = closes - dt.timedelta(minutes=_left_min(plan, next_stage) + plan.window.rollback_reserve_min)
    ending = "".join(f", as {entry.sentence()} begins then" for entry in _ending(known, closes, occurrence[1]))
    if now > cutoff:
        name = plan.training.stages[next_stage].name if next_stage < len(plan.training.stages) else "promotion"
        late = (now - cutoff).total_seconds() / 60
        reason = (
            f"{name} would start {late:,.1f} minutes after its cutoff {cutoff.astimezone(zone):%H:%M %Z}"
            f"{ending and f' (it must end by {closes.astimezone(zone):%H:%M %Z}{ending})'}; {when}"
        )
        return WindowDecision(False, reason, opens, closes, cutoff, upcoming, "cutoff")
    reason = (
        f"the window is open until {closes.astimezone(zone):%H:%M %Z}{ending}, "
        f"the cutoff is {cutoff.astimezone(zone):%H:%M %Z}"
    )
    return WindowDecision(True, reason, opens, closes, cutoff, upcoming)


def _calendar(plan: Plan, now: dt.datetime, calendar: Calendar | None) -> Calendar:
    """Return the calendar handed over, or an empty one for a plan that has none."""
    if calendar is not None:
        if not calendar.since <= now < calendar.until:
            raise InvalidPlan(f"plan {plan.name}: its calendar was not read for {now:%Y-%m-%d %H:%M} UTC; read it anew")
        return calendar
    if plan.calendar is not None:
        raise InvalidPlan(f"plan {plan.name}: has a calendar that was not read; nothing may start without it")
    return Calendar(now, now + _HORIZON)


def _left_min(plan: Plan, next_stage: int) -> float:
    """Return the p95 minutes of work from a stage on; from the first one, of every job that shares the window."""
    if next_stage == 0:
        return work_p95_min(plan.training)
    return sum(stage.minutes_p95 for stage in plan.training.stages[next_stage:])


def _denied_at(calendar: Calendar, now: dt.datetime) -> str:
    """Return the denials that hold at an instant, as words."""
    return " and ".join(entry.sentence() for entry in calendar.denials(now, now + dt.timedelta(microseconds=1)))


def _ending(calendar: Calendar, closes: dt.datetime, whole_closes: dt.datetime) -> list[CalendarEntry]:
    """Return the first denial that ends this piece before the window's own end, if one does."""
    if closes == whole_closes:
        return []
    return [entry for entry in calendar.denials(closes, whole_closes) if entry.begins_at == closes][:1]


def _when(upcoming: dt.datetime | None, calendar: Calendar, zone: ZoneInfo) -> str:
    if upcoming is None:
        return f"the calendar denies every window until {calendar.until.astimezone(zone):%a %Y-%m-%d}"
    return f"the next window opens {upcoming.astimezone(zone):%a %Y-%m-%d %H:%M %Z}"
