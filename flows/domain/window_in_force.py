"""Whether heavy work may start now: the flow asks itself, as an orchestrator promises a start, not a window."""

import datetime as dt
from dataclasses import dataclass

from simulation.plan import Plan
from simulation.plan_file import window_rule
from simulation.planning.window_rule import load_zone


@dataclass(frozen=True)
class WindowDecision:
    """Yes or no, the reason in a sentence, and the interval or the next opening in UTC."""

    is_open: bool
    reason: str
    opens_at: dt.datetime | None
    closes_at: dt.datetime | None
    cutoff: dt.datetime | None
    next_opening: dt.datetime


def window_in_force(plan: Plan, now: dt.datetime, *, next_stage: int = 0) -> WindowDecision:
    """
    Tell whether stage number `next_stage` may start at `now` (UTC).

    The cutoff is the window's end less the p95 of the work that is left and the rollback reserve; a start at the
    cutoff is allowed, a start at the closing instant is not. An unknown zone raises `UnknownZone`: never a silent yes.
    """
    rule, zone = window_rule(plan), load_zone(plan.window.time_zone)
    following = rule.next_opening(now)
    when = f"the next window opens {following.astimezone(zone):%a %Y-%m-%d %H:%M %Z}"
    occurrence = rule.occurrence_at(now)
    if occurrence is None:
        return WindowDecision(False, f"no window is open; {when}", None, None, None, following)
    opens, closes = occurrence
    left_min = sum(stage.minutes_p95 for stage in plan.training.stages[next_stage:])
    cutoff = closes - dt.timedelta(minutes=left_min + plan.window.rollback_reserve_min)
    if now > cutoff:
        name = plan.training.stages[next_stage].name if next_stage < len(plan.training.stages) else "promotion"
        late = (now - cutoff).total_seconds() / 60
        reason = f"{name} would start {late:,.1f} minutes after its cutoff {cutoff.astimezone(zone):%H:%M %Z}; {when}"
        return WindowDecision(False, reason, opens, closes, cutoff, following)
    reason = (
        f"the window is open until {closes.astimezone(zone):%H:%M %Z}, the cutoff is {cutoff.astimezone(zone):%H:%M %Z}"
    )
    return WindowDecision(True, reason, opens, closes, cutoff, following)
