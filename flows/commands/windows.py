"""`lull windows`: the quietest windows of the coming days, and what was found in the history."""

from typing import Any

from flows.commands.printing import print_json, print_table
from simulation.errors import InvalidPlan, UnknownZone
from simulation.planning.window_rule import load_zone
from simulation.planning.windows import Window, find_windows
from simulation.traffic.forecast import forecast
from simulation.traffic.history import RequestHistory
from simulation.traffic.read_history import read_histories, read_history


def run(
    history: str,
    time_zone: str,
    duration_min: float,
    threshold_rps: float | None,
    count: int,
    time_column: str | None,
    count_column: str | None,
    holidays: str,
    by: str | None,
    zone_column: str | None,
    as_json: bool,
) -> int:
    """Print the windows, best first, of each series if there are several; return 0."""
    try:
        load_zone(time_zone)  # before the file is read: a typo here is the quicker answer
    except UnknownZone as problem:
        raise UnknownZone(f"--timezone: {problem}") from None
    if not 0 < duration_min <= 1440:
        raise InvalidPlan(f"--duration: {duration_min:g} minutes is not within a day; use more than 0, at most 1440")
    if threshold_rps is not None and not 0 < threshold_rps < float("inf"):
        raise InvalidPlan(f"--threshold: {threshold_rps:g} requests/s cannot be reached; use a number over 0")
    told = []
    for known, zone in read_series(history, time_zone, time_column, count_column, by, zone_column):
        load = forecast(known, time_zone=zone, holidays=holidays)
        windows = find_windows(
            load, duration_min=duration_min, time_zone=zone, threshold_rps=threshold_rps, count=count
        )
        told.append({"history": describe(known), "windows": [_plain(window) for window in windows]})
        if not as_json:
            _print(known, windows, duration_min, zone)
    if as_json:
        print_json(told[0] if by is None else {"series": told})
    return 0


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


def _plain(window: Window) -> dict[str, Any]:
    return {
        "opens_at": window.opens_at.isoformat(),
        "closes_at": window.closes_at.isoformat(),
        "opens_local": window.opens_local.isoformat(),
        "time_zone": window.time_zone,
        "mean_load_rps": window.mean_load_rps,
        "peak_load_rps": window.peak_load_rps,
        "p95_load_rps": window.p95_load_rps,
        "expected_requests": window.expected_requests,
        "threshold_rps": window.threshold_rps,
        "headroom_ratio": window.headroom_ratio,
        "probability_below": window.probability_below,
        "reason": window.reason,
    }


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
