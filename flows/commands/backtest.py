"""`lull backtest`: windows as they would have been chosen on past days, held against hindsight and simple rules."""

import csv
import datetime as dt
from pathlib import Path
from typing import Any

from flows.commands.printing import print_json, print_table
from flows.commands.windows import describe, print_quality, read_series
from simulation.errors import InvalidHistory
from simulation.traffic.backtest import HORIZON_DAYS, Backtest, Choice, backtest
from simulation.traffic.history import RequestHistory


def run(
    history: str,
    time_zone: str,
    duration_min: float,
    since: str | None,
    last_days: int | None,
    choices: Path | None,
    time_column: str | None,
    count_column: str | None,
    holidays: str,
    by: str | None,
    zone_column: str | None,
    as_json: bool,
) -> int:
    """Print regret and coverage, of each series if there are several; write the choices; return 0."""
    first = _date(since)
    told, rows = [], []
    for known, zone in read_series(history, time_zone, time_column, count_column, by, zone_column):
        result = backtest(
            known, time_zone=zone, duration_min=duration_min, since=first, last_days=last_days, holidays=holidays
        )
        told.append(_plain(known, result))
        rows += [[known.name] * (by is not None) + _choice_row(choice) for choice in result.decided]
        if not as_json:
            _print(known, result, duration_min, zone)
    if choices is not None:
        with choices.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(
                [["series"] * (by is not None) + ["day", "opens_at", "closes_at"], *rows]
            )
    if as_json:
        print_json(told[0] if by is None else {"series": told})
    return 0


def _date(since: str | None) -> dt.date | None:
    try:
        return None if since is None else dt.date.fromisoformat(since)
    except ValueError:
        raise InvalidHistory(f"--since: {since!r} is no date; write such as 2026-03-01") from None


def _choice_row(choice: Choice) -> list[str]:
    return [choice.day.isoformat(), choice.opens_at.isoformat(), choice.closes_at.isoformat()]


def _print(known: RequestHistory, result: Backtest, duration_min: float, zone: str) -> None:
    print_quality(known)
    print(
        f"\n{result.n_days} days, {zone}, one window of {duration_min:g} minutes a day, chosen at 00:00; "
        f"{result.n_skipped} more could not be scored, since a chosen window was not seen"
    )
    ranked = sorted(result.choices, key=result.pooled_excess)
    print_table(["rule", "over hindsight"], [[rule, f"{result.pooled_excess(rule):.2%}"] for rule in ranked])
    print("\nShare of steps inside the interval, by days ahead")
    print_table(
        ["days ahead", "50 %", "80 %", "90 %"],
        [
            [str(day), *(f"{share:.1%}" for share in result.interval_coverage(day).values())]
            for day in range(1, HORIZON_DAYS + 1)
        ],
    )


def _plain(known: RequestHistory, result: Backtest) -> dict[str, Any]:
    return {
        "history": describe(known),
        "n_days": result.n_days,
        "n_skipped": result.n_skipped,
        "pooled_excess": {rule: result.pooled_excess(rule) for rule in result.choices},
        "best_rule": result.best_rule(),
        "coverage": [
            {"days_ahead": day, **{f"{nominal:g}": share for nominal, share in result.interval_coverage(day).items()}}
            for day in range(1, HORIZON_DAYS + 1)
        ],
    }
