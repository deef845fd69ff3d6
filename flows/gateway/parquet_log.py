"""
Rows that requests leave behind, written as Parquet by a thread of its own; a request never waits for it.

`append` puts a tuple into a bounded buffer; whole files appear by a rename, so readers never meet half of one.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pyarrow as pa

ColumnKind = Literal["text", "number", "time"]
REQUEST_COLUMNS: tuple[tuple[str, ColumnKind], ...] = (
    ("request_id", "text"),
    ("entity", "text"),
    ("at_utc", "time"),
    ("slot", "text"),
    ("version", "text"),
    ("score", "number"),
    ("latency_ms", "number"),
    ("trace_id", "text"),
)
OUTCOME_COLUMNS: tuple[tuple[str, ColumnKind], ...] = (
    ("request_id", "text"),
    ("label", "number"),
    ("observed_at_utc", "time"),
    ("received_at_utc", "time"),
)
SHADOW_COLUMNS: tuple[tuple[str, ColumnKind], ...] = (
    ("request_id", "text"),
    ("at_utc", "time"),
    ("slot", "text"),
    ("version", "text"),
    ("score", "number"),
)
_LOOK_EVERY_S = 0.1
_BATCH_ROWS = 500


@dataclass(frozen=True)
class LogLimits:
    """When a file is written, and how much is kept in memory and on disk."""

    rows_per_file: int
    max_age_s: float
    max_buffered_rows: int
    max_bytes: int


class ParquetLog:
    """
    A directory of Parquet files with the same columns, oldest removed beyond `max_bytes`.

    Parameters
    ----------
    columns : pairs of name and kind
        A row is a tuple in this order, None where a value is missing; a time is whole microseconds since 1970.

    Notes
    -----
    What is still in the buffer when the process is killed is lost: at most `max_age_s` of rows. Counted, never
    silent: `n_dropped` rows that found the buffer full, or whose file could not be written.
    """

    def __init__(
        self, directory: Path, name: str, columns: Sequence[tuple[str, ColumnKind]], limits: LogLimits
    ) -> None:
        self._directory = directory
        self._name = name
        self._columns = tuple(columns)
        self._limits = limits
        self._rows: deque[tuple[Any, ...]] = deque()
        self._oldest_s = 0.0
        self._writing = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._n_files = 0
        self.n_rows = 0
        self.n_dropped = 0
        self.problem = ""

    def start(self) -> None:
        """Start the writer; the directory is made here, so that one which cannot be written is noticed at once."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._run, name=f"lull-{self._name}-log", daemon=True)
        self._thread.start()

    def append(self, row: tuple[Any, ...]) -> None:
        """Keep a row for the writer; dropped and counted when the buffer is full."""
        rows = self._rows
        if not rows:
            self._oldest_s = time.monotonic()
        if len(rows) >= self._limits.max_buffered_rows:
            self.n_dropped += 1
        else:
            rows.append(row)
            self.n_rows += 1

    def flush(self) -> int:
        """Write what is buffered now; return the number of rows written."""
        with self._writing:
            # One by one, since requests go on appending at the other end.
            rows = [self._rows.popleft() for _ in range(len(self._rows))]
            if not rows:
                return 0
            try:
                self._write(rows)
                self.problem = ""
                return len(rows)
            # Whatever goes wrong with the disk, requests go on: the loss is counted and shown.
            except Exception as error:  # noqa: BLE001
                self.n_dropped += len(rows)
                self.problem = f"{self._directory}: {len(rows)} log rows lost ({error})"
                return 0

    def close(self) -> None:
        """Stop the writer and write what is left."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        self.flush()

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_EVERY_S):
            is_old = time.monotonic() - self._oldest_s > self._limits.max_age_s
            if self._rows and (is_old or len(self._rows) >= self._limits.rows_per_file):
                self.flush()

    def _write(self, rows: list[tuple[Any, ...]]) -> None:
        # Imported by the first write: the gateway starts without Arrow.
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {"text": pa.string(), "number": pa.float64(), "time": pa.timestamp("us", tz="UTC")}
        schema = pa.schema([(name, types[kind]) for name, kind in self._columns])
        # In small batches: Arrow keeps the interpreter while it converts a column, and requests wait for it.
        batches = []
        for i in range(0, len(rows), _BATCH_ROWS):
            columns = zip(*rows[i : i + _BATCH_ROWS], strict=True)
            arrays = [_array(cells, field.type) for cells, field in zip(columns, schema, strict=True)]
            batches.append(pa.record_batch(arrays, schema=schema))
        self._n_files += 1
        at = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        path = self._directory / f"{self._name}-{at}-{os.getpid()}-{self._n_files:06d}.parquet"
        unfinished = path.with_suffix(".unfinished")
        pq.write_table(pa.Table.from_batches(batches), unfinished, compression="zstd")
        os.replace(unfinished, path)
        self._remove_oldest()

    def _remove_oldest(self) -> None:
        files = sorted(self._directory.glob(f"{self._name}-*.parquet"))
        sizes = {file: file.stat().st_size for file in files if file.exists()}
        excess = sum(sizes.values()) - self._limits.max_bytes
        for file in files[:-1]:
            if excess <= 0:
                return
            excess -= sizes.get(file, 0)
            file.unlink(missing_ok=True)


def read_log(directory: Path) -> "pa.Table":
    """
    Return all rows of a log directory, oldest file first, as an Arrow table.

    Columns that only some files have (another schema was served then) are null in the others' rows. Raises
    FileNotFoundError when nothing was written yet: an empty answer would look like no traffic.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted(directory.glob("*.parquet"))
    if not files:
        raise FileNotFoundError(f"{directory} holds no log files yet; flush the gateway, or wait for its next file")
    return pa.concat_tables([pq.read_table(file) for file in files], promote_options="default")


def _array(cells: tuple[Any, ...], kind: "pa.DataType") -> "pa.Array":
    import pyarrow as pa

    try:
        return pa.array(cells, type=kind)
    except pa.ArrowInvalid:
        # Arrow refuses integers that a float64 would round; the model has seen the rounded ones too.
        return pa.array([None if cell is None else float(cell) for cell in cells], type=kind)
