"""
Reading request histories: CSV, Parquet, a Prometheus range query, a log with a row per request, or a shipped name.

Start at `read_history`; `read_histories` reads several series from one file. Untidy input is mended or marked, and
counted in `RequestHistory.quality`; input that could mean two things is refused with one sentence that names the
file, the place and the remedy.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from simulation.datasets import shipped_histories, shipped_path
from simulation.errors import InvalidHistory
from simulation.planning.window_rule import load_zone
from simulation.traffic.history import FloatArray, RequestHistory
from simulation.traffic.outages import BoolArray
from simulation.traffic.read_prometheus import read_prometheus
from simulation.traffic.read_requests import is_request_log, read_requests
from simulation.traffic.read_times import row_name, times_in_utc
from simulation.traffic.regular_grid import on_a_grid

_TIME_NAMES = ("time", "timestamp", "datetime", "date_time", "time_utc", "minute_utc", "hour_utc", "ts", "minute",
               "hour", "date")  # fmt: skip
_COUNT_NAMES = ("requests", "request_count", "n_requests", "count", "counts", "hits", "value")
_FLAG_NAMES = ("missing", "is_missing")
_TRUTHS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False, "": False, "nan": False}


def read_history(
    path_or_shipped_name: str | Path,
    *,
    time_zone: str | None = None,
    time_column: str | None = None,
    count_column: str | None = None,
) -> RequestHistory:
    """
    Return the request history in a file, or the shipped one of that name.

    Parameters
    ----------
    path_or_shipped_name : a .csv (or .csv.gz) or .parquet file, a .json file with the answer of a Prometheus range
        query (its series are added up), a log with one time per request (see `read_requests`), or a shipped name
    time_zone : IANA name, for times that carry no zone; a column whose name ends in `_utc` is UTC
    time_column, count_column : names of the columns; guessed when obvious

    Returns
    -------
    RequestHistory
        On the regular grid of its most frequent step. Unknown is NaN: absent rows, empty cells, rows flagged in a
        column `missing`, outages and frozen counters. Exact repeats of a row are dropped; rows that repeat a time
        with another count are added up, since whether they are parts or corrections, the sum is never too quiet.

    Raises
    ------
    InvalidHistory
        No such file, no rows, no (or no single obvious) time or count column; text, negative or infinite counts;
        times with no zone, or only some with one, or unreadable; no regular step; one time repeated throughout.
    UnknownZone
        If `time_zone` is not an IANA name.

    Examples
    --------
    >>> history = read_history("worldcup98")
    >>> history.step_s, history.counts.size, history.quality.n_flagged_steps
    (60, 125310, 10)
    """
    _, path, name, place = _find(path_or_shipped_name)
    if is_request_log(path):
        return read_requests(path, name, place, time_zone=time_zone, time_column=time_column)
    table = _read_table(path, place)
    if path.suffix == ".json":
        table = _added_up(table)
    return _history_of(table, name, place, time_zone, time_column, count_column)


def read_histories(
    path: str | Path,
    *,
    by: str,
    time_zone: str,
    zone_column: str | None = None,
    time_column: str | None = None,
    count_column: str | None = None,
) -> list[tuple[RequestHistory, str]]:
    """
    Return the history of each series in a file and the zone whose days it has, by name of the series.

    Parameters
    ----------
    by : the column (of Prometheus: the label) that tells the series apart, such as a region or a service
    time_zone : IANA name, for series that name none
    zone_column : a column with the IANA zone of each series, the same on all of its rows

    Raises
    ------
    InvalidHistory
        As `read_history`, with the series named; no such column; an empty name; two zones for one series.
    UnknownZone
        If a zone is not an IANA name.
    """
    _, path, _, place = _find(path)
    table = _read_table(path, place)
    _named(table, place, by, "--by")
    if zone_column is not None:
        _named(table, place, zone_column, "--zone-column")
    if table[by].isna().any():
        row = int(np.flatnonzero(table[by].isna().to_numpy())[0])
        raise InvalidHistory(f"{place}: row {row + 1}, column {by}: names no series; fill it in or drop the row")
    found = []
    for series, rows in table.groupby(by, sort=True):
        where = f"{place}, {by} {series}"
        zone = time_zone if zone_column is None else _one_zone(rows[zone_column], where)
        load_zone(zone)
        rows = rows.drop(columns=[column for column in (by, zone_column) if column is not None]).reset_index(drop=True)
        if path.suffix == ".json":
            rows = _added_up(rows)
        found.append((_history_of(rows, str(series), where, zone, time_column, count_column), zone))
    return found


def _added_up(table: pd.DataFrame) -> pd.DataFrame:
    """Return the sum over series per step; a series that is absent, such as a replica that has gone, adds nothing."""
    return pd.DataFrame(table.groupby("time_utc")["requests"].sum()).reset_index()


def _one_zone(column: "pd.Series[str]", where: str) -> str:
    zones = sorted({str(zone) for zone in column})
    if len(zones) > 1:
        raise InvalidHistory(f"{where}: has more than one zone, {', '.join(zones[:3])}; give each series one")
    return zones[0]


def _find(path_or_shipped_name: str | Path) -> tuple[Path | None, Path, str, str]:
    """Return the shipped file if it is one, the file, the history's name, and what messages call the file."""
    shipped = shipped_path(str(path_or_shipped_name))
    path = shipped or Path(path_or_shipped_name)
    name = str(path_or_shipped_name) if shipped else path.name.split(".")[0]
    place = name if shipped else str(path)
    if not path.exists():
        raise InvalidHistory(
            f"{place}: no such file, and no history of that name is shipped; shipped: {', '.join(shipped_histories())}"
        )
    if not path.is_file():
        raise InvalidHistory(f"{place}: is a folder; name a CSV, Parquet or Prometheus JSON file in it")
    return shipped, path, name, place


def _history_of(
    table: pd.DataFrame, name: str, place: str, time_zone: str | None, time_column: str | None, count_column: str | None
) -> RequestHistory:
    """Return the history in a table that holds one series."""
    time_name = _time_column(table, place, time_column)
    others = [c for c in table.columns if c not in (time_name, count_column)]
    flag_name = next((c for c in others if c.lower() in _FLAG_NAMES), None)
    count_name = _count_column(table, place, count_column, {time_name, flag_name or time_name})
    counts = _counts(table[count_name], place)
    if flag_name is not None:
        counts = np.where(_flags(table[flag_name], place), np.nan, counts)
    times = times_in_utc(table[time_name], place, time_zone)
    return on_a_grid(name, place, times, counts)


def _read_table(path: Path, place: str) -> pd.DataFrame:
    """Return the file as a table with text column names, or say why not."""
    if path.suffix == ".json":
        return read_prometheus(path, place)
    try:
        table = pd.read_parquet(path) if path.suffix in (".parquet", ".pq") else pd.read_csv(path)
    except pd.errors.EmptyDataError:
        raise InvalidHistory(f"{place}: the file is empty; give a table with a time and a count column") from None
    except (ValueError, OSError) as problem:  # pandas' and pyarrow's errors about content are ValueErrors or OSErrors
        first = str(problem).strip().splitlines()[0].rstrip(".")
        raise InvalidHistory(f"{place}: cannot be read as a table ({first}); give CSV or Parquet") from None
    if isinstance(table.index, pd.DatetimeIndex):
        table = table.reset_index()
    table.columns = pd.Index([str(column).strip() for column in table.columns])
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()][0]
        raise InvalidHistory(f"{place}: two columns are called {twice!r}; rename one")
    if table.empty:
        raise InvalidHistory(f"{place}: has a header and no rows; give at least two")
    return table


def _time_column(table: pd.DataFrame, place: str, named: str | None) -> str:
    """Return the time column: as named, of a usual name, or the only one that holds times."""
    if named is not None:
        return _named(table, place, named, "--time-column")
    typed = [str(c) for c in table.columns if pd.api.types.is_datetime64_any_dtype(table[c])]
    by_suffix = [c for c in table.columns if c.lower().endswith("_utc")]
    return _obvious(table, place, _TIME_NAMES, typed or by_suffix, "time")


def _count_column(table: pd.DataFrame, place: str, named: str | None, taken: set[str]) -> str:
    """Return the count column: as named, of a usual name, or the only other one that holds numbers."""
    if named is not None:
        return _named(table, place, named, "--count-column")
    rest = table[[c for c in table.columns if c not in taken]]
    numeric = [
        str(c) for c in rest if pd.api.types.is_numeric_dtype(rest[c]) and not pd.api.types.is_bool_dtype(rest[c])
    ]
    only = [str(c) for c in rest] if rest.shape[1] == 1 else []  # text in the one column left: the cell is named later
    return _obvious(rest, place, _COUNT_NAMES, numeric or only, "count")


def _named(table: pd.DataFrame, place: str, named: str, option: str) -> str:
    if named not in table.columns:
        raise InvalidHistory(f"{place}: has no column {named!r}; {option} can be one of {', '.join(table.columns)}")
    return named


def _obvious(table: pd.DataFrame, place: str, usual: tuple[str, ...], by_type: list[str], what: str) -> str:
    """Return the column of a usual name, else the only one of the type, else refuse and list what was found."""
    by_name = {c.lower(): c for c in reversed(table.columns)}
    found = next((by_name[name] for name in usual if name in by_name), None)
    if found is not None:
        return found
    if len(by_type) == 1:
        return by_type[0]
    listed = ", ".join(by_type or table.columns) or "nothing else"
    said = f"more than one column could be the {what}" if by_type else f"no column looks like the {what}"
    raise InvalidHistory(f"{place}: {said}, found {listed}; name it with --{what}-column")


def _counts(column: "pd.Series[float]", place: str) -> FloatArray:
    """Return the counts, an empty cell being unknown; refuse text, negative and infinite values."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    is_text = np.isnan(numbers) & column.notna().to_numpy()
    for wrong, problem in (
        (is_text, "is not a number; mend the cell, or empty it if the count is unknown"),
        (numbers < 0, "is negative; a count is 0 or more, an unknown one an empty cell"),
        (np.isinf(numbers), "is infinite; a count is finite, an unknown one an empty cell"),
    ):
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise InvalidHistory(f"{place}: {row_name(column, row)}: {str(column.iloc[row])!r} {problem}")
    if np.isnan(numbers).all():
        raise InvalidHistory(f"{place}: column {column.name}: holds no count at all; name another with --count-column")
    return numbers


def _flags(column: "pd.Series[bool]", place: str) -> BoolArray:
    """Return which rows the file itself calls missing; the flag may be true/false or 1/0."""
    if pd.api.types.is_bool_dtype(column) and not column.hasnans:
        return column.to_numpy(dtype=np.bool_)
    words = column.astype(str).str.strip().str.lower()
    unknown = ~words.isin(list(_TRUTHS)).to_numpy()
    if unknown.any():
        row = int(np.flatnonzero(unknown)[0])
        raise InvalidHistory(f"{place}: {row_name(column, row)}: {column.iloc[row]!r} is no flag; write true or false")
    return words.map(_TRUTHS).to_numpy(dtype=np.bool_)
