"""What `lull windows --plan` prints: the ranked and the denied windows, the next openings, and the clock changes."""

import datetime as dt
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from flows.commands.printing import print_json, print_table
from flows.domain.window_in_force import window_in_force
from flows.openings_ahead import plan_calendar
from flows.planning_run import plan_forecast, plan_traffic
from simulation.errors import InvalidPlan
from simulation.plan import Plan
from simulation.plan_file import read_plan, window_rule
from simulation.planning.clock_changes import ClockChange, clock_changes
from simulation.planning.openings import N_OPENINGS, Opening, openings
from simulation.planning.window_rule import load_zone, zone_database
from simulation.planning.windows import Expectation, Window, denied_windows, expect, find_windows
from simulation.traffic.calendar import Calendar


@dataclass(frozen=True)
class _Told:
    """Everything that is shown of a plan's windows."""

    plan: Plan
    zone: ZoneInfo
    since: dt.datetime
    best: list[Window]
    no_best: str
    denied: list[Window]
    openings: list[tuple[Opening, Expectation | None]]
    calendar: Calendar
    changes: list[ClockChange]


def plan_windows(path: Path, since: dt.datetime, count: int, as_json: bool) -> int:
    """Print the windows of a plan and its openings after `since` (UTC); return 0, or 1 if nothing opens."""
    told = _gather(read_plan(path), path.parent, since, count)
    if as_json:
        print_json(_as_data(told))
    else:
        _print(told)
    return 0 if any(not opening.is_denied for opening, _ in told.openings) else 1


def _gather(plan: Plan, folder: Path, since: dt.datetime, count: int) -> _Told:
    load = plan_forecast(plan, plan_traffic(plan))
    window = plan.window
    of_forecast = plan_calendar(plan, folder, load.start, load.end + dt.timedelta(days=1))
    asked: dict[str, Any] = {
        "duration_min": window.duration_min, "time_zone": window.time_zone, "threshold_rps": window.threshold_rps,
        "count": count, "calendar": of_forecast, "capacity_rps": plan.serving.capacity_rps,
    }  # fmt: skip
    try:
        best, no_best = find_windows(load, **asked), ""
    except InvalidPlan as problem:
        best, no_best = [], str(problem)
    calendar = plan_calendar(plan, folder, since)
    coming = [
        (opening, expect(load, opening.opens_at, opening.closes_at, window.threshold_rps))
        for opening in _until_enough(openings(plan, calendar, since))
    ]
    changes = clock_changes(window_rule(plan), since, calendar.until)
    denied = denied_windows(load, **asked)
    return _Told(plan, load_zone(window.time_zone), since, best, no_best, denied, coming, calendar, changes)


def _until_enough(found: Iterator[Opening]) -> Iterator[Opening]:
    """Yield openings up to the twelfth that is not denied, and no more than four times as many in all."""
    n_free = 0
    for n, opening in enumerate(found, start=1):
        yield opening
        n_free += not opening.is_denied
        if n_free == N_OPENINGS or n == 4 * N_OPENINGS:
            return


def _print(told: _Told) -> None:
    plan, window = told.plan, told.plan.window
    unit = told.calendar.prices.unit if told.calendar.prices is not None else ""
    print(f"Plan {plan.name}: windows of {window.duration_min:g} minutes in the forecast, {window.time_zone}; quiet is "
          f"below {window.threshold_rps:,.4g} requests/s")  # fmt: skip
    rows = [_ranked(n, w, unit) for n, w in enumerate(told.best, start=1)]
    rows += [_ranked(0, w, unit) for w in sorted(told.denied, key=lambda w: w.opens_at)]
    print_table(["rank", "opens (local)", "opens (UTC)", "P(quiet)", "requests", "headroom", "price", "remarks"],
                rows, left=3, text_last=True)  # fmt: skip
    print(f"Best: {told.best[0].reason}" if told.best else told.no_best)
    now = window_in_force(plan, told.since, calendar=told.calendar).reason
    print(f"\nNext openings after {told.since:%Y-%m-%d %H:%M} UTC: {now}.")
    print_table(
        ["opens (local)", "opens (UTC)", "closes (UTC)", "last start (UTC)", "P(quiet)", "requests", "price", "state"],
        [_coming(opening, expected, told) for opening, expected in told.openings],
        left=4,
        text_last=True,
    )
    print(f"\nClocks of {window.time_zone} until {told.calendar.until:%Y-%m-%d}, by {zone_database(window.time_zone)}:")
    if not told.changes:
        print("no change.")
        return
    print_table(
        ["from (UTC)", "offset", "opening that day (UTC)", "what it does"],
        [[f"{c.at:%Y-%m-%d %H:%M}", f"{_offset(c.before)} to {_offset(c.after)}",
          "none" if c.opens_at is None else f"{c.opens_at:%m-%d %H:%M}", c.effect] for c in told.changes],
        left=4,
    )  # fmt: skip


def _ranked(rank: int, window: Window, unit: str) -> list[str]:
    remarks = [f"DENIED by {', '.join(window.denied_by)}"] if window.denied_by else []
    return [
        str(rank) if rank else "-",
        f"{window.opens_local:%a %Y-%m-%d %H:%M %Z}",
        f"{window.opens_at:%m-%d %H:%M}",
        f"{window.probability_below:.0%}",
        f"{window.expected_requests:,.0f}",
        f"{window.capacity_headroom_ratio:.0%}",
        _price(window.price, unit),
        "; ".join([*remarks, *window.conflicts]) or "-",
    ]


def _coming(opening: Opening, expected: Expectation | None, told: _Told) -> list[str]:
    state = f"DENIED by {', '.join(opening.denied_by)}" if opening.is_denied else "opens"
    if opening.shortened_by:
        state += f", shortened by {', '.join(opening.shortened_by)}"
    notes = [entry.sentence() for entry in told.calendar.notes(opening.opens_at, opening.closes_at)]
    price, _ = told.calendar.price(opening.opens_at, opening.closes_at)
    unit = told.calendar.prices.unit if told.calendar.prices is not None else ""
    return [
        f"{opening.opens_at.astimezone(told.zone):%a %Y-%m-%d %H:%M %Z}",
        f"{opening.opens_at:%m-%d %H:%M}",
        f"{opening.closes_at:%H:%M}",
        "-" if opening.cutoff is None else f"{opening.cutoff:%H:%M}",
        "-" if expected is None else f"{expected.probability_below:.0%}",
        "-" if expected is None else f"{expected.expected_requests:,.0f}",
        _price(price, unit),
        "; ".join([state, *notes]),
    ]


def _price(price: float, unit: str) -> str:
    return "-" if math.isnan(price) else f"{price:,.4g} {unit}"


def _offset(offset: dt.timedelta) -> str:
    minutes = round(offset.total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def plain_window(window: Window) -> dict[str, Any]:
    """Return a window as plain data, moments as ISO text."""
    names = (
        "time_zone", "mean_load_rps", "peak_load_rps", "p95_load_rps", "expected_requests", "threshold_rps",
        "headroom_ratio", "capacity_headroom_ratio", "price", "price_known_ratio", "conflicts", "denied_by",
        "probability_below", "reason",
    )  # fmt: skip
    return {
        "opens_at": window.opens_at.isoformat(),
        "closes_at": window.closes_at.isoformat(),
        "opens_local": window.opens_local.isoformat(),
        **{name: getattr(window, name) for name in names},
    }


def _as_data(told: _Told) -> dict[str, Any]:
    """Return the same as plain data: a baseline to keep under version control."""
    zone = told.zone
    return {
        "format": 1,
        "plan": told.plan.name,
        "plan_digest": told.plan.digest(),
        "zone_database": zone_database(told.plan.window.time_zone),
        "from": told.since.isoformat(),
        "until": told.calendar.until.isoformat(),
        "windows": [plain_window(window) for window in told.best],
        "no_window": told.no_best,
        "denied_windows": [plain_window(window) for window in told.denied],
        "openings": [
            {
                "opens_at": opening.opens_at.isoformat(),
                "opens_local": opening.opens_at.astimezone(zone).isoformat(),
                "closes_at": opening.closes_at.isoformat(),
                "closes_local": opening.closes_at.astimezone(zone).isoformat(),
                "cutoff": None if opening.cutoff is None else opening.cutoff.isoformat(),
                "is_denied": opening.is_denied,
                "denied_by": opening.denied_by,
                "shortened_by": opening.shortened_by,
                "notes": [entry.sentence() for entry in told.calendar.notes(opening.opens_at, opening.closes_at)],
                "price": told.calendar.price(opening.opens_at, opening.closes_at)[0],
                "probability_below": None if expected is None else expected.probability_below,
                "expected_requests": None if expected is None else expected.expected_requests,
            }
            for opening, expected in told.openings
        ],
        "clock_changes": [
            {
                "at": change.at.isoformat(),
                "before": _offset(change.before),
                "after": _offset(change.after),
                "opens_at": None if change.opens_at is None else change.opens_at.isoformat(),
                "effect": change.effect,
            }
            for change in told.changes
        ],
    }
