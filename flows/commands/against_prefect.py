"""`lull windows --against-prefect`: where Prefect's own schedules would start outside the window."""

import datetime as dt
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from flows.commands.printing import print_json, print_table
from simulation.errors import InvalidPlan
from simulation.plan_file import read_plan, window_rule
from simulation.planning.clock_changes import StartDifference, differing_starts
from simulation.planning.window_rule import WindowRule, load_zone


def run(
    plan: Path | None, time_zone: str | None, starts_at: str | None, weekdays: str | None, years: int, as_json: bool
) -> int:
    """Say where Prefect's cron and RRULE schedules part from the window; return 1 if one does, 0 if none."""
    # Here, for only this asks Prefect, which takes a second to import.
    from flows.adapters.orchestrator import prefect_starts

    rule = _rule(plan, time_zone, starts_at, weekdays)
    since = dt.datetime.now(dt.UTC).replace(month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
    until = since.replace(year=since.year + years)
    asked: dict[str, Callable[[dt.datetime, dt.datetime], list[dt.datetime]]] = {
        "cron": partial(prefect_starts, "cron", rule),
        "rrule": partial(prefect_starts, "rrule", rule),
    }
    found = {kind: differing_starts(rule, starts, since, until) for kind, starts in asked.items()}
    differ = any(found.values())
    if as_json:
        print_json(
            {
                "time_zone": rule.time_zone,
                "starts_at_local": rule.starts_at_local,
                "from": since.isoformat(),
                "until": until.isoformat(),
                "differences": [_plain_difference(kind, d) for kind, days in found.items() for d in days],
            }
        )
        return 1 if differ else 0
    zone = load_zone(rule.time_zone)
    days = "" if len(rule.weekdays) == 7 else f" on {', '.join(rule.weekdays)}"
    print(f"{rule.starts_at_local} {rule.time_zone}{days}, every change of clocks from {since:%Y} to {until:%Y}:")
    rows = [
        [kind, f"{d.day}", _clock(d.ours, zone), ", ".join(_clock(at, zone) for at in d.theirs) or "never"]
        for kind, differences in found.items()
        for d in differences
    ]
    if rows:
        print_table(["schedule", "local day", "the window opens", "Prefect starts"], rows, left=4)
        print("Runs created in UTC, as `lull deploy` makes them, open with the window; such schedules do not.")
    else:
        print("Prefect's schedules start with the window on every one of them.")
    return 1 if differ else 0


def _rule(plan: Path | None, time_zone: str | None, starts_at: str | None, weekdays: str | None) -> WindowRule:
    """Return the rule of the plan, or the one that the flags describe."""
    if plan is not None:
        return window_rule(read_plan(plan))
    if time_zone is None or starts_at is None:
        raise InvalidPlan("--against-prefect: give --plan PLAN, or --timezone and --starts-at")
    days = {} if weekdays is None else {"weekdays": tuple(day.strip() for day in weekdays.split(","))}
    return WindowRule(time_zone, starts_at, 60, **days)


def _clock(at: dt.datetime | None, zone: dt.tzinfo) -> str:
    return "never" if at is None else f"{at.astimezone(zone):%H:%M %Z} ({at:%H:%M} UTC)"


def _plain_difference(kind: str, difference: StartDifference) -> dict[str, Any]:
    return {
        "schedule": kind,
        "local_day": difference.day.isoformat(),
        "window_opens_at": None if difference.ours is None else difference.ours.isoformat(),
        "prefect_starts_at": [at.isoformat() for at in difference.theirs],
    }
