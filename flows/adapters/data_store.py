"""Labelled rows by event time: what training may see, and what judges it."""

import datetime as dt
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from flows.datasets import shipped_data_path
from simulation.errors import LullError

if TYPE_CHECKING:
    import pandas as pd


class InvalidData(LullError):
    """Model data that cannot be used; the message names the file and the column."""


@dataclass(frozen=True)
class Snapshot:
    """The rows of a half-open span of event time, and a digest over them."""

    name: str
    since: dt.datetime
    until: dt.datetime
    frame: "pd.DataFrame"
    digest: str


class DataStore(Protocol):
    """Where labelled rows come from."""

    def months(self) -> list[dt.datetime]:
        """Return the first instants of the months that hold rows, in order, UTC."""
        ...

    def snapshot(self, since: dt.datetime, until: dt.datetime) -> Snapshot:
        """Return the rows with since <= event time < until."""
        ...


class FrameStore:
    """Rows of one frame with `event_time` (UTC) and `label` columns; also the in-memory twin of a file."""

    def __init__(self, frame: "pd.DataFrame", name: str) -> None:
        missing = [column for column in ("event_time", "label") if column not in frame.columns]
        if missing:
            raise InvalidData(f"{name}: has no column {', '.join(missing)}; model data need event_time and label")
        self._name = name
        times = frame["event_time"]
        if times.dtype.kind != "M":
            raise InvalidData(f"{name}: column event_time holds {times.dtype}, not times; convert it to timestamps")
        utc = times.dt.tz_localize("UTC") if times.dt.tz is None else times.dt.tz_convert("UTC")
        self._frame = frame.assign(event_time=utc).sort_values("event_time", kind="stable").reset_index(drop=True)

    @property
    def frame(self) -> "pd.DataFrame":
        """All rows, in order of event time."""
        return self._frame

    def months(self) -> list[dt.datetime]:
        """Return the first instants of the months that hold rows, in order, UTC."""
        times = self._frame["event_time"]
        return [
            dt.datetime(y, m, 1, tzinfo=dt.UTC) for y, m in sorted(set(zip(times.dt.year, times.dt.month, strict=True)))
        ]

    def snapshot(self, since: dt.datetime, until: dt.datetime) -> Snapshot:
        """Return the rows with since <= event time < until; refuse an empty span."""
        import pandas as pd

        inside = (self._frame["event_time"] >= since) & (self._frame["event_time"] < until)
        frame = self._frame[inside].reset_index(drop=True)
        if frame.empty:
            raise InvalidData(
                f"{self._name}: has no rows from {since:%Y-%m-%d} to {until:%Y-%m-%d}; choose another span"
            )
        digest = hashlib.sha256(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes()).hexdigest()
        return Snapshot(self._name, since, until, frame, digest)


def open_store(name_or_path: str) -> FrameStore:
    """Return the store of a shipped name or a Parquet file; raise `InvalidData` in one sentence."""
    import pandas as pd

    path = shipped_data_path(name_or_path) or Path(name_or_path)
    if not path.is_file():
        raise InvalidData(f"{name_or_path}: is no shipped data set and no file; give the path of a Parquet file")
    try:
        frame = pd.read_parquet(path)
    except (ValueError, OSError) as problem:
        raise InvalidData(f"{path}: is no Parquet file that can be read ({str(problem).splitlines()[0]})") from None
    return FrameStore(frame, name_or_path)


def months_before(months: list[dt.datetime], now: dt.datetime) -> list[dt.datetime]:
    """Return the months that had ended by `now`."""
    return [month for month in months if next_month(month) <= now]


def next_month(month: dt.datetime) -> dt.datetime:
    """Return the first instant of the month after."""
    return (month.replace(day=28) + dt.timedelta(days=5)).replace(day=1)
