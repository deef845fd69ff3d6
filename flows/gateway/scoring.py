"""The path of a score request, from bytes to answer; start at `ScoreEndpoint`, which is plain ASGI for speed."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import orjson

from flows.domain.features import InvalidFeatures, encode_values
from flows.gateway.admission import DEADLINE_HEADER, Admission, Problem, read_deadline
from flows.gateway.metrics import Metrics
from flows.gateway.parquet_log import ParquetLog
from flows.gateway.settings import GatewaySettings
from flows.gateway.shadow import Shadow
from flows.gateway.slots import Loaded, NothingLive, Switchboard

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

ROW_KEYS = frozenset(("request_id", "entity", "features"))
LONGEST_TEXT = 128
# Up to here a batch takes less than a handing over to the thread and back costs.
_INLINE_ROWS = 16


class ScoreEndpoint:
    """
    Answers `POST /score`.

    Attributes
    ----------
    log, shadow
        Set once there is a schema, and while a shadow runs.
    n_served, n_refused, n_failed
        Rows answered with a score, requests refused with 4xx, requests lost by an error of ours.
    n_unheard
        Answers whose client had gone away.
    """

    def __init__(self, settings: GatewaySettings, board: Switchboard, admission: Admission, metrics: Metrics) -> None:
        self._settings = settings
        self._board = board
        self._admission = admission
        self._metrics = metrics
        self._batches = ThreadPoolExecutor(1, thread_name_prefix="lull-batch")
        self.log: ParquetLog | None = None
        self.shadow: Shadow | None = None
        self.n_served = 0
        self.n_refused = 0
        self.n_failed = 0
        self.n_unheard = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; an error of ours is counted, told in one sentence, and raised on for the log."""
        began_s = time.perf_counter()
        try:
            status, body, extra = 200, await self._answer(scope, receive, began_s), []
        except Problem as problem:
            status, body, extra = problem.status, problem_body(problem), extra_headers(problem)
            self._count_problem(problem)
        except Exception:
            self.n_failed += 1
            self._metrics.count("", "", 500)
            await send_json(send, 500, b'{"error":"the gateway made an error; it is in its log"}', [])
            raise
        try:
            await send_json(send, status, body, extra)
        except (OSError, RuntimeError):
            # uvloop raises RuntimeError when the client is gone and nobody has told us yet.
            self.n_unheard += 1

    def close(self) -> None:
        """Stop the thread of the batches."""
        self._batches.shutdown(wait=False, cancel_futures=True)

    def _count_problem(self, problem: Problem) -> None:
        self._metrics.count("", "", problem.status)
        if problem.status < 500 and problem.status != 429:
            self.n_refused += 1

    async def _answer(self, scope: Scope, receive: Receive, began_s: float) -> bytes:
        admission = self._admission
        client = scope.get("client")
        admission.start_reading(client[0] if client else "")
        try:
            deadline_ms, trace_id = _headers(scope)
            content = await read_body(receive, self._settings)
        finally:
            admission.n_reading -= 1
        admission.start_waiting()
        try:
            # Lets every request that arrived at the same moment be counted before the first is scored.
            await asyncio.sleep(0)
            admission.check_deadline(deadline_ms, began_s)
            whole = parse(content)
            if "rows" in whole:
                return await self._score_batch(whole, trace_id, began_s)
            return self._score_row(whole, trace_id, began_s)
        finally:
            admission.n_waiting -= 1

    def _score_row(self, row: dict[str, Any], trace_id: str, began_s: float) -> bytes:
        request_id, entity, features = check_row(row)
        loaded = self._choose(entity)
        model = loaded.model
        try:
            values = encode_values(features, model.schema)
        except InvalidFeatures as error:
            raise Problem(422, f"features: {error}") from None
        try:
            score = model.predictor.predict_one(values)
        except Exception:
            loaded.n_failed += 1
            raise
        answer = orjson.dumps(
            {
                "request_id": request_id,
                "score": score,
                "slot": loaded.slot,
                "version": model.version,
                "trace_id": trace_id,
            }
        )
        self._record(loaded, request_id, entity, features, score, trace_id, began_s)
        if self.shadow is not None:
            self.shadow.offer(request_id, values, model, score)
        return answer

    async def _score_batch(self, whole: dict[str, Any], trace_id: str, began_s: float) -> bytes:
        rows = whole["rows"]
        if len(whole) != 1 or not isinstance(rows, list) or not rows:
            raise Problem(422, "send either one row, or {'rows': [...]} with at least one row and nothing beside it")
        if len(rows) > self._settings.max_batch_rows:
            raise Problem(413, f"{len(rows)} rows in one call; send at most {self._settings.max_batch_rows}")
        # Each slot encodes with the schema of the model it holds; rows of one call may belong to both slots.
        chosen: list[tuple[Loaded, str, str, dict[str, Any], list[float]]] = []
        for i, row in enumerate(rows):
            try:
                request_id, entity, features = check_row(row)
                loaded = self._choose(entity)
                chosen.append((loaded, request_id, entity, features, encode_values(features, loaded.model.schema)))
            except (InvalidFeatures, Problem) as error:
                status = error.status if isinstance(error, Problem) else 422
                raise Problem(status, f"rows[{i}]: {error}") from None
        scores = await self._scores(chosen)
        answers = []
        for (loaded, request_id, entity, features, values), score in zip(chosen, scores, strict=True):
            self._record(loaded, request_id, entity, features, score, trace_id, began_s)
            if self.shadow is not None:
                self.shadow.offer(request_id, values, loaded.model, score)
            version = loaded.model.version
            answers.append({"request_id": request_id, "score": score, "slot": loaded.slot, "version": version})
        return orjson.dumps({"rows": answers, "trace_id": trace_id})

    async def _scores(self, chosen: list[tuple[Loaded, str, str, dict[str, Any], list[float]]]) -> list[float]:
        scores = [0.0] * len(chosen)
        for loaded in {id(row[0]): row[0] for row in chosen}.values():
            indices = [i for i, row in enumerate(chosen) if row[0] is loaded]
            features = np.array([chosen[i][4] for i in indices], dtype=np.float64)
            loaded.in_flight += len(indices)
            try:
                if len(indices) <= _INLINE_ROWS:
                    found = loaded.model.predictor.predict_many(features)
                else:
                    loop = asyncio.get_running_loop()
                    found = await loop.run_in_executor(self._batches, loaded.model.predictor.predict_many, features)
            except Exception:
                loaded.n_failed += len(indices)
                raise
            finally:
                loaded.in_flight -= len(indices)
            for i, score in zip(indices, found.tolist(), strict=True):
                scores[i] = score
        return scores

    def _choose(self, entity: str) -> Loaded:
        try:
            return self._board.choose(entity)
        except NothingLive as error:
            raise Problem(503, str(error), retry_after_s=1) from None

    def _record(
        self, loaded: Loaded, request_id: str, entity: str, features: dict[str, Any], score: float, trace_id: str,
        began_s: float,
    ) -> None:  # fmt: skip
        latency_s = time.perf_counter() - began_s
        version = loaded.model.version
        loaded.n_served += 1
        self.n_served += 1
        self._metrics.count(loaded.slot, version, 200)
        self._metrics.observe_latency_s(latency_s)
        if self.log is not None:
            at_us = time.time_ns() // 1000
            cells = [features[name] for name in loaded.model.schema.names]
            self.log.append(
                (request_id, entity, at_us, loaded.slot, version, score, latency_s * 1000.0, trace_id, *cells)
            )


def check_row(row: Any) -> tuple[str, str, dict[str, Any]]:
    """Return request id, entity and features of one row; raise `Problem` 422 if it is not made of just these."""
    if not isinstance(row, dict):
        raise Problem(422, f"a row is an object with {', '.join(sorted(ROW_KEYS))}, not {type(row).__name__}")
    if row.keys() != ROW_KEYS:
        for key in sorted(ROW_KEYS - row.keys()):
            raise Problem(422, f"{key!r} is missing; a row has {', '.join(sorted(ROW_KEYS))}")
        raise Problem(422, f"{min(row.keys() - ROW_KEYS)!r} is unknown; a row has {', '.join(sorted(ROW_KEYS))}")
    request_id, entity, features = row["request_id"], row["entity"], row["features"]
    for key, value in (("request_id", request_id), ("entity", entity)):
        if type(value) is not str or not 0 < len(value) <= LONGEST_TEXT:
            raise Problem(422, f"{key!r} must be a text of 1 to {LONGEST_TEXT} characters")
    if type(features) is not dict:
        raise Problem(422, f"'features' must be an object of column and value, not {type(features).__name__}")
    return request_id, entity, features


def parse(content: bytes) -> dict[str, Any]:
    """Return the JSON object of a body; raise `Problem` 400 if it is none (NaN and infinity are no JSON)."""
    try:
        whole = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise Problem(400, f"the body is not JSON: {error}") from None
    if not isinstance(whole, dict):
        raise Problem(422, f"the body must be a JSON object, not {type(whole).__name__}")
    return whole


async def read_body(receive: Receive, settings: GatewaySettings) -> bytes:
    """Return the whole body; raise `Problem` 413 when it is too large and 408 when it takes too long."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Problem(400, "the client went away before its body was complete")
                part = message.get("body", b"")
                size += len(part)
                if size > settings.max_body_bytes:
                    raise Problem(413, f"the body is larger than {settings.max_body_bytes} bytes; send fewer rows")
                parts.append(part)
                if not message.get("more_body", False):
                    return parts[0] if len(parts) == 1 else b"".join(parts)
    except TimeoutError:
        raise Problem(408, f"the body did not arrive within {settings.body_timeout_s:g} s") from None


def problem_body(problem: Problem) -> bytes:
    """Return the JSON that tells a client what was wrong: one sentence."""
    return orjson.dumps({"error": str(problem)})


def extra_headers(problem: Problem) -> list[tuple[bytes, bytes]]:
    """Return Retry-After for a problem that passes by itself, and an end for a connection with an unread body."""
    if problem.status in (408, 413):
        return [(b"connection", b"close")]
    return [] if problem.retry_after_s is None else [(b"retry-after", b"%d" % problem.retry_after_s)]


async def send_json(send: Send, status: int, body: bytes, extra: list[tuple[bytes, bytes]]) -> None:
    """Send a JSON answer."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _headers(scope: Scope) -> tuple[float | None, str]:
    deadline_ms, trace_id = None, ""
    for name, value in scope["headers"]:
        if name == b"traceparent":
            trace_id = _trace_id(value)
        elif name == DEADLINE_HEADER:
            deadline_ms = read_deadline(value)
    return deadline_ms, trace_id or f"{random.getrandbits(128):032x}"


def _trace_id(traceparent: bytes) -> str:
    """Return the trace id of a W3C traceparent header, or nothing when it is malformed, as the standard asks."""
    parts = traceparent.split(b"-")
    if len(parts) < 4 or len(parts[1]) != 32 or parts[1] == b"0" * 32 or parts[1].strip(b"0123456789abcdef"):
        return ""
    return parts[1].decode()
