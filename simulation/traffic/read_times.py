"""
Turning a column of times into UTC: explicit offsets, one zone for all, or a name that ends in `_utc`.

A local time that clocks showed twice is told apart by its order in the file; one that they never showed is left
out by the caller and counted, for it cannot be placed.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simulation.errors import InvalidHistory
from simulation.planning.window_rule import load_zone
from simulation.traffic.outages import BoolArray

_OFFSET = r"(?:[Zz]|UTC|GMT|:\d{2}(?:\.\d+)? ?[+-]\d{2}(?::?\d{2})?)$"


@dataclass(frozen=True)
class TimesUtc:
    """Seconds since the epoch per row, which rows have a real time at all, and what daylight saving did."""

    seconds: NDArray[np.int64]
    is_real: BoolArray
    n_doubled_hour_rows: int = 0

    @property
    def n_skipped_hour_rows(self) -> int:
        """Rows whose local time clocks never showed."""
        return int((~self.is_real).sum())


def row_name(column: "pd.Series[float] | pd.Series[bool]", row: int) -> str:
    """Name a cell as a reader finds it: rows count from 1 below the header."""
    return f"row {row + 1}, column {column.name}"


def times_in_utc(column: "pd.Series[float]", place: str, time_zone: str | None) -> TimesUtc:
    """
    Return the times of a column in UTC.

    Parameters
    ----------
    column : times, or text in ISO 8601
    place : what messages call the file
    time_zone : IANA name for times without an offset; not needed if the column's name ends in `_utc`

    Raises
    ------
    InvalidHistory
        Empty or unreadable times, plain numbers, offsets on some rows only, or no zone at all.
    UnknownZone
        If `time_zone` is not an IANA name.
    """
    if time_zone is not None:
        load_zone(time_zone)
    empty = column.isna().to_numpy()
    if empty.any():
        row = int(np.flatnonzero(empty)[0])
        raise InvalidHistory(f"{place}: {row_name(column, row)}: the time is empty; fill it in or drop the row")
    if pd.api.types.is_numeric_dtype(column):
        raise InvalidHistory(
            f"{place}: column {column.name}: holds plain numbers, not times (first {column.iloc[0]}); "
            "write times such as 2026-03-01T02:00:00Z, or name another with --time-column"
        )
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return _zoned(pd.DatetimeIndex(column))
    naive = pd.DatetimeIndex(column) if pd.api.types.is_datetime64_dtype(column) else _parse(column, place)
    if naive.tz is not None:
        return _zoned(naive)
    if str(column.name).lower().endswith("_utc"):
        return _zoned(naive.tz_localize("UTC"))
    if time_zone is None:
        raise InvalidHistory(
            f"{place}: column {column.name}: times carry no zone ({naive[0]:%Y-%m-%d %H:%M}); say which with --timezone"
        )
    return _localised(naive, time_zone)


def _parse(column: "pd.Series[float]", place: str) -> pd.DatetimeIndex:
    """Return text as times, in UTC if every row carries an offset and naive if none does."""
    text = column.astype("str").str.strip()
    has_offset = text.str.contains(_OFFSET, regex=True).to_numpy(dtype=np.bool_)
    if has_offset.any() and not has_offset.all():
        row = int(np.flatnonzero(has_offset != has_offset[0])[0])
        raise InvalidHistory(
            f"{place}: {row_name(column, row)}: {text.iloc[row]!r} {'has a' if has_offset[row] else 'has no'} zone, "
            f"unlike the rows before it ({text.iloc[0]!r}); write all of them one way"
        )
    utc = bool(has_offset.all())
    try:
        return pd.DatetimeIndex(pd.to_datetime(text, utc=utc, format="ISO8601"))
    except ValueError:
        times = pd.to_datetime(text, utc=utc, format="ISO8601", errors="coerce")
    row = int(np.flatnonzero(times.isna().to_numpy())[0])
    raise InvalidHistory(
        f"{place}: {row_name(column, row)}: {text.iloc[row]!r} is no time in ISO 8601; "
        "write such as 2026-03-01T02:00:00Z"
    )


def _zoned(times: pd.DatetimeIndex) -> TimesUtc:
    seconds = _epoch_seconds(times)
    return TimesUtc(seconds, np.ones(seconds.size, dtype=np.bool_))


def _epoch_seconds(times: pd.DatetimeIndex) -> NDArray[np.int64]:
    utc = times.tz_convert("UTC").tz_localize(None)
    return np.asarray(utc.to_numpy().astype("datetime64[s]").astype(np.int64))


def _localised(naive: pd.DatetimeIndex, time_zone: str) -> TimesUtc:
    """Place local times: where clocks showed one twice, the file's first mention is the first showing."""
    first = naive.tz_localize(time_zone, ambiguous=np.ones(len(naive), dtype=bool), nonexistent="NaT")
    is_real = first.notna()
    seconds = np.zeros(len(naive), dtype=np.int64)
    seconds[is_real] = _epoch_seconds(first[is_real])
    shown_once = naive.tz_localize(time_zone, ambiguous="NaT", nonexistent="shift_forward").notna()
    doubled = ~np.asarray(shown_once, dtype=np.bool_)
    if doubled.any():
        labels = naive[doubled]
        # The second mention is the second showing: right for 01:00 01:30 01:00 01:30 and for 01:00 01:00 01:30 01:30.
        is_second = pd.Series(labels).duplicated().to_numpy()
        later = labels.tz_localize(time_zone, ambiguous=~is_second)
        seconds[np.flatnonzero(doubled)] = _epoch_seconds(later)
    return TimesUtc(seconds, np.asarray(is_real, dtype=np.bool_), int(doubled.sum()))
