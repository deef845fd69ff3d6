"""`lull windows`: the quietest windows of the coming days, and what was found in the history; of a plan also more."""

import datetime as dt
from pathlib import Path
from typing import Any

from flows.commands.plan_windows import plain_window, plan_windows
from flows.commands.printing import print_json, print_table
from simulation.errors import InvalidPlan, UnknownZone
from simulation.planning.window_rule import load_zone
from simulation.planning.windows import Window, find_windows
from simulation.traffic.forecast import forecast
from simulation.traffic.history import RequestHistory
from simulation.traffic.read_history import read_histories, read_history


def run(
    history: str | None,
    time_zone: str | None,
    duration_min: float | None,
    threshold_rps: float | None,
    count: int,
    time_column: str | None,
    count_column: str | None,
    holidays: str,
    by: str | None,
    zone_column: str | None,
    as_json: bool,
    plan: Path | None = None,
    since: str | None = None,
) -> int:
    """Print the windows, best first, of each series if there are several, of a plan also what comes; return 0."""
    moment = None if since is None else _moment(since)
    if plan is not None:
        if (history, time_zone, duration_min, threshold_rps) != (None, None, None, None):
            raise InvalidPlan("--plan: says history, zone, duration and threshold itself; leave them out beside it")
        return plan_windows(plan, moment or dt.datetime.now(dt.UTC), count, as_json)
    if history is None or time_zone is None or duration_min is None:
        raise InvalidPlan(_lacking(history, time_zone, duration_min))
    _check(time_zone, duration_min, threshold_rps)
    told = []
    for known, zone in read_series(history, time_zone, time_column, count_column, by, zone_column):
        load = forecast(known, time_zone=zone, holidays=holidays)
        windows = find_windows(
            load, duration_min=duration_min, time_zone=zone, threshold_rps=threshold_rps, count=count
        )
        told.append({"history": describe(known), "windows": [plain_window(window) for window in windows]})
        if not as_json:
            _print(known, windows, duration_min, zone)
    if as_json:
        print_json(told[0] if by is None else {"series": told})
    return 0


def _lacking(history: str | None, time_zone: str | None, duration_min: float | None) -> str:
    """Say which of the three is missing."""
    given = {"HISTORY": history, "--timezone": time_zone, "--duration": duration_min}
    lacking = " and ".join(name for name, value in given.items() if value is None)
    return f"{lacking} must be given, or --plan PLAN, which says them all"


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


def _moment(text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidPlan(f"--from: {text!r} is no time; write it such as 2026-03-28T01:30:00Z") from None
    if moment.tzinfo is None:
        raise InvalidPlan(f"--from: {text!r} carries no zone; write it such as 2026-03-28T01:30:00Z")
    return moment.astimezone(dt.UTC)


def read_series(
    history: str, time_zone: str, time_column: str | None, count_column: str | None, by: str | None,
    zone_column: str | None,
) -> list[tuple[RequestHistory, str]]:  # fmt: skip
    """Return the history, or each one that `by` tells apart, with the zone of its days."""
    if by is not None:
        return read_histories(
            history, by=by, time_zone=time_zone, zone_column=zone_column, time_column=time_column,
            count_column=count_column,
        )  # fmt: skip
    if zone_column is not None:
        raise InvalidPlan("--zone-column: tells the zone of each series; say with --by which column names the series")
    known = read_history(history, time_zone=time_zone, time_column=time_column, count_column=count_column)
    return [(known, time_zone)]


def print_quality(known: RequestHistory) -> None:
    """Print what the history covers and what was found in it."""
    print(f"{known.name}: {known.start:%Y-%m-%d %H:%M} to {known.end:%Y-%m-%d %H:%M} UTC, steps of {known.step_s} s")
    for sentence in known.quality.sentences():
        print(f"  {sentence}")


def _print(known: RequestHistory, windows: list[Window], duration_min: float, zone: str) -> None:
    print_quality(known)
    print(f"\nWindows of {duration_min:g} minutes, {zone}; quiet is below {windows[0].threshold_rps:,.1f} requests/s")
    print_table(
        ["opens (local)", "opens (UTC)", "median/s", "p95/s", "expected", "P(quiet)"],
        [_row(window) for window in windows],
        left=2,
    )
    print(f"\nBest: {windows[0].reason}")


def _row(window: Window) -> list[str]:
    return [
        f"{window.opens_local:%a %Y-%m-%d %H:%M %Z}",
        f"{window.opens_at:%m-%d %H:%M}",
        f"{window.mean_load_rps:,.1f}",
        f"{window.p95_load_rps:,.1f}",
        f"{window.expected_requests:,.0f}",
        f"{window.probability_below:.0%}",
    ]


def describe(history: RequestHistory) -> dict[str, Any]:
    """Return what the history covers and what was found in it, as plain data."""
    return {
        "name": history.name,
        "start": history.start.isoformat(),
        "end": history.end.isoformat(),
        "step_s": history.step_s,
        "digest": history.digest(),
        "quality": history.quality.sentences(),
    }
