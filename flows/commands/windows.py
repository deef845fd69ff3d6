"""`lull windows`: the quietest windows of the coming days, a plan's next openings, and what clocks do to them."""

import datetime as dt
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from flows.commands.plan_windows import plain_window, plan_windows
from flows.commands.printing import print_json, print_table
from simulation.errors import InvalidPlan, UnknownZone
from simulation.plan_file import read_plan, window_rule
from simulation.planning.clock_changes import StartDifference, differing_starts
from simulation.planning.window_rule import WindowRule, load_zone
from simulation.planning.windows import Window, find_windows
from simulation.traffic.forecast import forecast
from simulation.traffic.history import RequestHistory
from simulation.traffic.read_history import read_history


def run(
    history: str | None,
    time_zone: str | None,
    duration_min: float | None,
    threshold_rps: float | None,
    count: int,
    time_column: str | None,
    count_column: str | None,
    as_json: bool,
    plan: Path | None = None,
    since: str | None = None,
) -> int:
    """Print the windows, best first, and of a plan also its openings and clock changes; return 0."""
    moment = None if since is None else _moment(since)
    if plan is not None:
        if (history, time_zone, duration_min, threshold_rps) != (None, None, None, None):
            raise InvalidPlan("--plan: says history, zone, duration and threshold itself; leave them out beside it")
        return plan_windows(plan, moment or dt.datetime.now(dt.UTC), count, as_json)
    if history is None or time_zone is None or duration_min is None:
        raise InvalidPlan(_lacking(history, time_zone, duration_min))
    _check(time_zone, duration_min, threshold_rps)
    known = read_history(history, time_zone=time_zone, time_column=time_column, count_column=count_column)
    load = forecast(known, time_zone=time_zone)
    windows = find_windows(
        load, duration_min=duration_min, time_zone=time_zone, threshold_rps=threshold_rps, count=count
    )
    if as_json:
        print_json({"history": _describe(known), "windows": [plain_window(window) for window in windows]})
        return 0
    _print(known, windows, duration_min, time_zone)
    return 0


def _lacking(history: str | None, time_zone: str | None, duration_min: float | None) -> str:
    """Say which of the three is missing."""
    given = {"HISTORY": history, "--timezone": time_zone, "--duration": duration_min}
    lacking = " and ".join(name for name, value in given.items() if value is None)
    return f"{lacking} must be given, or --plan PLAN, which says them all"


def _print(known: RequestHistory, windows: list[Window], duration_min: float, time_zone: str) -> None:
    """Print the history's state and the windows, best first."""
    print(f"{known.name}: {known.start:%Y-%m-%d %H:%M} to {known.end:%Y-%m-%d %H:%M} UTC, steps of {known.step_s} s")
    for sentence in known.quality.sentences():
        print(f"  {sentence}")
    print(
        f"\nWindows of {duration_min:g} minutes, {time_zone}; quiet is below {windows[0].threshold_rps:,.1f} requests/s"
    )
    print_table(
        ["opens (local)", "opens (UTC)", "median/s", "p95/s", "expected", "P(quiet)"],
        [_row(window) for window in windows],
        left=2,
    )
    print(f"\nBest: {windows[0].reason}")


def against_prefect(
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


def _moment(text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidPlan(f"--from: {text!r} is no time; write it such as 2026-03-28T01:30:00Z") from None
    if moment.tzinfo is None:
        raise InvalidPlan(f"--from: {text!r} carries no zone; write it such as 2026-03-28T01:30:00Z")
    return moment.astimezone(dt.UTC)


def _check(time_zone: str, duration_min: float, threshold_rps: float | None) -> None:
    """Refuse flags that cannot be meant before the file is read: a typo here is the quicker answer."""
    try:
        load_zone(time_zone)
    except UnknownZone as problem:
        raise UnknownZone(f"--timezone: {problem}") from None
    if not 0 < duration_min <= 1440:
        raise InvalidPlan(f"--duration: {duration_min:g} minutes is not within a day; use more than 0, at most 1440")
    if threshold_rps is not None and not 0 < threshold_rps < float("inf"):
        raise InvalidPlan(f"--threshold: {threshold_rps:g} requests/s cannot be reached; use a number over 0")


def _row(window: Window) -> list[str]:
    return [
        f"{window.opens_local:%a %Y-%m-%d %H:%M %Z}",
        f"{window.opens_at:%m-%d %H:%M}",
        f"{window.mean_load_rps:,.1f}",
        f"{window.p95_load_rps:,.1f}",
        f"{window.expected_requests:,.0f}",
        f"{window.probability_below:.0%}",
    ]


def _describe(history: RequestHistory) -> dict[str, Any]:
    return {
        "name": history.name,
        "start": history.start.isoformat(),
        "end": history.end.isoformat(),
        "step_s": history.step_s,
        "digest": history.digest(),
        "quality": history.quality.sentences(),
    }
