"""Sends rows to a gateway at an open-loop rate and keeps the books of every one; start at `Replay`."""

import asyncio
import math
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import orjson

from flows.domain.features import FeatureSchema

if TYPE_CHECKING:
    import pandas as pd

_LONGEST_WAIT_S = 10.0


@dataclass(frozen=True)
class Row:
    """One request to send."""

    request_id: str
    entity: str
    features: Mapping[str, Any]


@dataclass
class ReplayCounts:
    """
    What became of the requests; `n_sent` = `n_answered` + `n_failed` once a replay has ended.

    Attributes
    ----------
    latencies_ms
        From the moment a request was due (not from when it got its turn) to its answer.
    failures
        The sentence or error of each failed request, with how often it came.
    """

    n_sent: int = 0
    n_answered: int = 0
    n_failed: int = 0
    by_slot: Counter[str] = field(default_factory=Counter)
    by_version: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)

    def latency_ms(self, quantile: float) -> float:
        """Return a latency quantile of the answered requests; NaN when there is none."""
        return float(np.quantile(self.latencies_ms, quantile)) if self.latencies_ms else math.nan


def rows_of(
    frame: "pd.DataFrame", schema: FeatureSchema, *, prefix: str, entity_column: str | None = None
) -> list[Row]:
    """
    Return one request per row of a frame, in its order, each with a request id of its own.

    Parameters
    ----------
    prefix : str
        Makes the ids distinct from those of other replays: ``<prefix>-<index label>``.
    entity_column : str, optional
        Names who is asking; without it each row is an entity of its own.
    """
    cells = frame[list(schema.names)].astype(object)
    records = cells.where(cells.notna(), None).to_dict("records")
    entities = frame.index if entity_column is None else frame[entity_column]
    return [
        Row(f"{prefix}-{label}", str(entity), {str(name): cell for name, cell in record.items()})
        for label, entity, record in zip(frame.index, entities, records, strict=True)
    ]


class Replay:
    """
    An open-loop sender in a thread of its own: it keeps its rate whether or not the gateway keeps up.

    Parameters
    ----------
    url
        The gateway's address.
    rows
        Sent once each, in order; the replay ends when they run out or it is stopped.
    rate_rps
        Requests per second.
    seed
        None sends at even distances; a number draws exponential gaps from it (a Poisson stream).
    connections
        Most requests under way at once; when all are busy the next ones wait, and their latency counts that wait.

    Examples
    --------
    >>> replay = Replay("http://127.0.0.1:8400", rows, rate_rps=200).start()    # doctest: +SKIP
    >>> counts = replay.stop()                                                   # doctest: +SKIP
    """

    def __init__(
        self, url: str, rows: Sequence[Row], *, rate_rps: float, seed: int | None = None, connections: int = 32
    ) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname or "127.0.0.1", address.port or 80
        self._rows = rows
        n = len(rows)
        gaps_s = np.full(n, 1.0 / rate_rps)
        if seed is not None:
            gaps_s = np.random.default_rng(seed).exponential(1.0 / rate_rps, n)
        self._due_s = (np.cumsum(gaps_s) - gaps_s[:1]).tolist() if n else []
        self._n_connections = connections
        self._counts = ReplayCounts()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="lull-replay", daemon=True)

    def start(self) -> "Replay":
        """Begin to send."""
        self._thread.start()
        return self

    @property
    def is_running(self) -> bool:
        """Whether there is still something to send or to wait for."""
        return self._thread.is_alive()

    @property
    def counts(self) -> ReplayCounts:
        """What became of the requests so far."""
        return self._counts

    def stop(self) -> ReplayCounts:
        """Send no more, wait for the answers under way, and return the counts."""
        self._stop.set()
        return self.wait()

    def wait(self, timeout_s: float | None = None) -> ReplayCounts:
        """Wait until all rows were sent and answered, and return the counts."""
        self._thread.join(timeout_s)
        return self._counts

    async def _run(self) -> None:
        due: asyncio.Queue[tuple[float, Row] | None] = asyncio.Queue()
        senders = [asyncio.create_task(self._send_from(due)) for _ in range(self._n_connections)]
        began_s = time.perf_counter()
        for due_s, row in zip(self._due_s, self._rows, strict=True):
            # Short sleeps, so that a stop is heard; none at all when behind schedule, as an open loop must.
            while (wait_s := began_s + due_s - time.perf_counter()) > 0 and not self._stop.is_set():
                await asyncio.sleep(min(wait_s, 0.05))
            if self._stop.is_set():
                break
            self._counts.n_sent += 1
            due.put_nowait((began_s + due_s, row))
        for _ in senders:
            due.put_nowait(None)
        await asyncio.gather(*senders)

    async def _send_from(self, due: "asyncio.Queue[tuple[float, Row] | None]") -> None:
        connection = _Connection(self._host, self._port)
        try:
            while (item := await due.get()) is not None:
                due_s, row = item
                try:
                    status, answer = await asyncio.wait_for(connection.post(row), _LONGEST_WAIT_S)
                except (OSError, EOFError, ValueError, TimeoutError) as error:
                    connection.close()
                    self._fail(f"{type(error).__name__}: {error}")
                    continue
                self._note(status, answer, row, due_s)
        finally:
            connection.close()

    def _note(self, status: int, answer: dict[str, Any], row: Row, due_s: float) -> None:
        if status != 200:
            self._fail(f"{status}: {answer.get('error')}")
        elif answer.get("request_id") != row.request_id or not answer.get("slot") or not answer.get("version"):
            self._fail("an answer that does not name its request, slot and version")
        else:
            counts = self._counts
            counts.latencies_ms.append((time.perf_counter() - due_s) * 1000.0)
            counts.n_answered += 1
            counts.by_slot[answer["slot"]] += 1
            counts.by_version[answer["version"]] += 1

    def _fail(self, why: str) -> None:
        self._counts.n_failed += 1
        self._counts.failures[why] += 1


class _Connection:
    """One kept-alive HTTP/1.1 connection: far cheaper per request than httpx, which leaves the CPU to the server."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, row: Row) -> tuple[int, dict[str, Any]]:
        """Send one row and return status and answer."""
        if self._reader is None or self._writer is None or self._reader.at_eof():
            self.close()
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        body = orjson.dumps({"request_id": row.request_id, "entity": row.entity, "features": row.features})
        head = f"POST /score HTTP/1.1\r\nhost: {self._host}:{self._port}\r\ncontent-length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        head_lines = (await self._reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        length = next(int(line.split(b":")[1]) for line in head_lines if line.startswith(b"content-length:"))
        answer = orjson.loads(await self._reader.readexactly(length))
        if b"connection: close" in head_lines:
            self.close()
        return int(head_lines[0].split()[1]), answer

    def close(self) -> None:
        """Drop the connection; the next post opens another."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None
