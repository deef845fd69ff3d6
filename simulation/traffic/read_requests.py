"""
Reading logs with one time per request, in a stream: start at `read_requests`.

A file of any length is counted per minute batch by batch; what stays in memory is one number per minute.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from simulation.errors import InvalidHistory
from simulation.traffic.history import RequestHistory
from simulation.traffic.read_times import TimesUtc, times_in_utc
from simulation.traffic.regular_grid import on_a_grid

LOG_STEP_S = 60
_BLOCK_BYTES = 1 << 23
_MAX_MINUTES = 20_000_000
_TIMES = ("time", "timestamp", "datetime", "ts", "time_utc", "timestamp_utc")
_LOG_SUFFIXES = (".log", ".txt")


def is_request_log(path: Path) -> bool:
    """Return whether a file holds a time per request: .log or .txt, or a table whose only column is one of times."""
    if path.suffix in _LOG_SUFFIXES:
        return True
    if path.suffix in (".parquet", ".pq"):
        try:
            return len(pa.parquet.read_schema(path).names) == 1
        except (pa.ArrowInvalid, OSError):
            return False  # the reader of tables says what is wrong
    if path.suffix != ".csv":
        return False
    with path.open("rb") as file:
        lines = [file.readline(), file.readline()]
    return all(line.strip() and b"," not in line for line in lines)


def read_requests(
    path: Path, name: str, place: str, *, time_zone: str | None = None, time_column: str | None = None
) -> RequestHistory:
    """
    Return the requests per minute of a log; its first and its last minute, seen only in part, are left out.

    Parameters
    ----------
    path : text with a time per line, CSV or Parquet; times in ISO 8601 or in seconds since the epoch
    time_column : the column of the times; without one a usual name, or the first

    Returns
    -------
    RequestHistory
        A minute without a line had no request, unless so many should have come that it is marked as an outage.

    Raises
    ------
    InvalidHistory
        If a line is no time, times carry no zone and none is given, or the log spans less than three minutes.
    """
    first, counts, is_zoned, n_rows = _count_minutes(_batches(path, place, time_column), place)
    if counts.size < 3:
        raise InvalidHistory(f"{place}: spans less than three minutes; give a longer log")
    counts, first = counts[1:-1], first + 1
    minutes = (first + np.arange(counts.size)) * LOG_STEP_S
    if is_zoned:
        times = TimesUtc(minutes, np.ones(minutes.size, dtype=np.bool_))
    else:
        local = pd.Series(minutes.astype("datetime64[s]"), name="time")
        times = times_in_utc(local, place, time_zone)
    history = on_a_grid(name, place, times, counts.astype(np.float64))
    return replace(history, quality=replace(history.quality, n_rows=n_rows))


def _batches(path: Path, place: str, time_column: str | None) -> Iterator[pa.Array]:
    """Yield the times of the log, block by block."""
    try:
        if path.suffix in (".parquet", ".pq"):
            parquet = pa.parquet.ParquetFile(path)
            column = _column(parquet.schema_arrow.names, time_column, place)
            for batch in parquet.iter_batches(columns=[column]):
                yield batch.column(0)
            return
        with path.open("rb") as file:
            names = file.readline().decode("utf-8", "replace").strip().split(",")
        has_header = not names[0].strip()[:1].isdigit()
        column = _column(names, time_column, place) if has_header else "f0"
        reader = pa.csv.open_csv(
            path,
            read_options=pa.csv.ReadOptions(block_size=_BLOCK_BYTES, autogenerate_column_names=not has_header),
            convert_options=pa.csv.ConvertOptions(include_columns=[column]),
        )
        for batch in reader:
            yield batch.column(0)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as problem:
        first = str(problem).strip().splitlines()[0].rstrip(".")
        raise InvalidHistory(f"{place}: a line is not like those before it ({first}); give one time per line") from None


def _column(names: list[str], named: str | None, place: str) -> str:
    if named is not None and named not in names:
        raise InvalidHistory(f"{place}: has no column {named!r}; --time-column can be one of {', '.join(names)}")
    return named or next((name for name in names if name.strip().lower() in _TIMES), names[0])


def _count_minutes(batches: Iterator[pa.Array], place: str) -> tuple[int, NDArray[np.int64], bool, int]:
    """Return the first minute since the epoch, requests per minute, whether times had a zone, and the rows."""
    first, counts, is_zoned, n_rows = 0, np.zeros(0, dtype=np.int64), True, 0
    for times in batches:
        minutes, is_zoned = _minutes(times, place)
        if not minutes.size:
            continue
        low, high = int(minutes.min()), int(minutes.max())
        first = low if not counts.size else first
        if max(high, first + counts.size) - min(low, first) > _MAX_MINUTES:
            raise InvalidHistory(f"{place}: its times span over {_MAX_MINUTES:,} minutes; mend the first or the last")
        if low < first:
            counts, first = np.concatenate([np.zeros(first - low, dtype=np.int64), counts]), low
        if high >= first + counts.size:
            # Doubled, not grown by what is needed: a log in order would otherwise be copied at every block.
            room = max(high + 1 - first - counts.size, counts.size)
            counts = np.concatenate([counts, np.zeros(room, dtype=np.int64)])
        counts[low - first : high + 1 - first] += np.bincount(minutes - low)
        n_rows += minutes.size
    used = np.flatnonzero(counts)
    return first, counts[: used[-1] + 1] if used.size else counts[:0], is_zoned, n_rows


def _minutes(times: pa.Array, place: str) -> tuple[NDArray[np.int64], bool]:
    """Return the minute of each time since the epoch, and whether the times have a zone."""
    times = pc.drop_null(times)
    if pa.types.is_timestamp(times.type):
        seconds = pc.floor(pc.divide(times.cast(pa.timestamp("us", times.type.tz)).cast(pa.int64()), 60_000_000))
        return seconds.to_numpy(zero_copy_only=False).astype(np.int64), times.type.tz is not None
    if pa.types.is_integer(times.type) or pa.types.is_floating(times.type):
        seconds = times.to_numpy(zero_copy_only=False).astype(np.float64)
        if seconds.size and not 0 <= seconds.min() <= seconds.max() < 1e11:
            raise InvalidHistory(f"{place}: its numbers are no seconds since the epoch; write times in ISO 8601")
        return (seconds // LOG_STEP_S).astype(np.int64), True
    found = times[0].as_py() if len(times) else ""
    raise InvalidHistory(f"{place}: {str(found)!r} is no time; write such as 2026-03-01T02:00:00Z, one per line")
