"""Who was sent where, from the gateway's request log: `first_slots`."""

import datetime as dt
from pathlib import Path

from flows.adapters.flags import Slot


def first_slots(directory: Path, since: dt.datetime) -> dict[str, tuple[dt.datetime, Slot]]:
    """
    Return when and by which slot each entity was answered first since a moment (UTC); empty if nothing was written.

    An entity counts once, however often it asks: a split is drawn once for each.
    """
    import pyarrow.parquet as pq

    found: dict[str, tuple[dt.datetime, Slot]] = {}
    # A file written before that moment holds no later row.
    files = [file for file in directory.glob("*.parquet") if file.stat().st_mtime >= since.timestamp()]
    for file in files:
        for row in pq.read_table(file, columns=["entity", "at_utc", "slot"]).to_pylist():
            first = found.get(row["entity"])
            if row["at_utc"] >= since and (first is None or row["at_utc"] < first[0]):
                found[row["entity"]] = (row["at_utc"], row["slot"])
    return found
