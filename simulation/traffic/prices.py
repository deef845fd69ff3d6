"""Prices over time from a CSV file; where rows are missing nothing is known. Start at `read_prices`."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simulation.errors import InvalidHistory, InvalidPlan
from simulation.traffic.history import FloatArray
from simulation.traffic.read_times import row_name, times_in_utc

_TIME_NAMES = ("time", "timestamp", "datetime", "time_utc", "hour_utc", "hour", "from")
_PRICE_NAMES = ("price", "price_per_mwh", "eur_per_mwh", "usd_per_mwh", "cost", "value")


@dataclass(frozen=True)
class PriceSeries:
    """
    Prices, each for one step.

    Attributes
    ----------
    begins_s : shape (n,), UTC seconds since the epoch, increasing
    step_s : how long each price holds, the shortest distance between two rows
    prices : shape (n,), in `unit`
    unit : as the plan names it
    """

    begins_s: NDArray[np.int64]
    step_s: int
    prices: FloatArray
    unit: str

    def between(self, begins_at: dt.datetime, ends_at: dt.datetime) -> tuple[float, float]:
        """Return the mean price over the known part of [begins_at, ends_at), NaN if none, and the known share."""
        begin, end = begins_at.timestamp(), ends_at.timestamp()
        seconds = np.clip(np.minimum(self.begins_s + self.step_s, end) - np.maximum(self.begins_s, begin), 0.0, None)
        known_s = float(seconds.sum())
        mean = float(seconds @ self.prices) / known_s if known_s > 0 else float("nan")
        return mean, known_s / (end - begin)

    def above(self, limit: float) -> list[tuple[dt.datetime, dt.datetime, float]]:
        """Return the stretches of known prices over `limit`: begin, end (UTC) and the highest price."""
        found: list[tuple[int, int, float]] = []
        for begin, price in zip(self.begins_s.tolist(), self.prices.tolist(), strict=True):
            if price <= limit:
                continue
            if found and found[-1][1] == begin:
                found[-1] = (found[-1][0], begin + self.step_s, max(found[-1][2], price))
            else:
                found.append((begin, begin + self.step_s, price))
        return [
            (dt.datetime.fromtimestamp(begin, dt.UTC), dt.datetime.fromtimestamp(end, dt.UTC), price)
            for begin, end, price in found
        ]


def read_prices(
    path: Path, *, unit: str, time_zone: str | None, time_column: str | None = None, price_column: str | None = None
) -> PriceSeries:
    """
    Return the prices in a CSV file.

    Parameters
    ----------
    time_zone : IANA name for times that carry no zone; a column whose name ends in `_utc` is UTC
    time_column, price_column : names of the columns; guessed when obvious

    Raises
    ------
    InvalidPlan
        No such file, no rows, no obvious column, a time that cannot be placed or stands twice, a price that is none.
    UnknownZone
        If `time_zone` is not an IANA name.
    """
    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise InvalidPlan(f"{path}: there is no such price file; check calendar.prices.path") from None
    except (OSError, ValueError) as problem:  # pandas' parser errors are ValueErrors
        raise InvalidPlan(f"{path}: cannot be read as CSV ({str(problem).splitlines()[0]}); mend the file") from None
    if len(table) < 2:
        raise InvalidPlan(f"{path}: holds {len(table)} price(s), from which no step can be told; give two rows or more")
    times = _column(table, path, "time", time_column, _TIME_NAMES)
    prices = _column(table, path, "price", price_column, _PRICE_NAMES)
    values = pd.to_numeric(prices, errors="coerce").to_numpy(dtype=np.float64)
    if not np.isfinite(values[prices.notna().to_numpy()]).all():
        row = int(np.flatnonzero(~np.isfinite(values) & prices.notna().to_numpy())[0])
        raise InvalidPlan(f"{path}: {row_name(prices, row)}: {prices.iloc[row]!r} is no price; write a number")
    try:
        placed = times_in_utc(times, str(path), time_zone)
    except InvalidHistory as problem:  # a price file is a part of the plan, and its columns are named there
        text = str(problem).replace("--time-column", "calendar.prices.time_column")
        raise InvalidPlan(text.replace("--timezone", "calendar.prices.time_zone")) from None
    known = placed.is_real & np.isfinite(values)  # an empty cell and a time that clocks skip are gaps
    order = np.argsort(placed.seconds[known], kind="stable")
    seconds, values = placed.seconds[known][order], values[known][order]
    steps = np.diff(seconds)
    if seconds.size < 2 or (steps == 0).any():
        at = dt.datetime.fromtimestamp(int(seconds[np.argmin(steps)]), dt.UTC) if steps.size else None
        trouble = f"has two prices for {at:%Y-%m-%d %H:%M} UTC" if at else "has fewer than two known prices"
        raise InvalidPlan(f"{path}: {trouble}; leave one row for each time")
    return PriceSeries(seconds, int(steps.min()), values, unit)


def _column(
    table: pd.DataFrame, path: Path, what: str, named: str | None, usual: tuple[str, ...]
) -> "pd.Series[float]":
    """Return the column of times or prices: the one named, or the only one with a usual name."""
    if named is not None:
        if named not in table.columns:
            raise InvalidPlan(f"{path}: has no column {named!r}; it has {', '.join(map(str, table.columns))}")
        return table[named]
    found = [name for name in table.columns if str(name).strip().lower() in usual]
    if len(found) != 1:
        raise InvalidPlan(
            f"{path}: {len(found)} columns could be the {what} among {', '.join(map(str, table.columns))}; "
            f"name it in calendar.prices.{what}_column"
        )
    return table[found[0]]
