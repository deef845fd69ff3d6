"""`lull windows`: the quietest windows of the coming days, and what was found in the history."""

from typing import Any

from flows.commands.printing import print_json, print_table
from simulation.errors import InvalidPlan, UnknownZone
from simulation.planning.window_rule import load_zone
from simulation.planning.windows import Window, find_windows
from simulation.traffic.forecast import forecast
from simulation.traffic.history import RequestHistory
from simulation.traffic.read_history import read_history


def run(
    history: str,
    time_zone: str,
    duration_min: float,
    threshold_rps: float | None,
    count: int,
    time_column: str | None,
    count_column: str | None,
    as_json: bool,
) -> int:
    """Print the windows, best first; return 0."""
    try:
        load_zone(time_zone)  # before the file is read: a typo here is the quicker answer
    except UnknownZone as problem:
        raise UnknownZone(f"--timezone: {problem}") from None
    if not 0 < duration_min <= 1440:
        raise InvalidPlan(f"--duration: {duration_min:g} minutes is not within a day; use more than 0, at most 1440")
    if threshold_rps is not None and not 0 < threshold_rps < float("inf"):
        raise InvalidPlan(f"--threshold: {threshold_rps:g} requests/s cannot be reached; use a number over 0")
    known = read_history(history, time_zone=time_zone, time_column=time_column, count_column=count_column)
    load = forecast(known, time_zone=time_zone)
    windows = find_windows(
        load, duration_min=duration_min, time_zone=time_zone, threshold_rps=threshold_rps, count=count
    )
    if as_json:
        print_json({"history": _describe(known), "windows": [_plain(window) for window in windows]})
        return 0
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
    return 0


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


def _describe(history: RequestHistory) -> dict[str, Any]:
    return {
        "name": history.name,
        "start": history.start.isoformat(),
        "end": history.end.isoformat(),
        "step_s": history.step_s,
        "digest": history.digest(),
        "quality": history.quality.sentences(),
    }
