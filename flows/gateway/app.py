"""The gateway's HTTP calls: `create_app` makes the ASGI application; what they do is in `runtime` and `slots`."""

import hmac
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from flows.adapters.flags import Flags, InvalidFlags, Slot, other_slot
from flows.gateway.admission import Problem
from flows.gateway.contract import GatewayState, RolledBack, ShadowResults
from flows.gateway.model_package import InvalidPackage
from flows.gateway.openapi import describe_score
from flows.gateway.provider_split import UnusableProvider
from flows.gateway.rules import Refused
from flows.gateway.runtime import Runtime
from flows.gateway.scoring import Message, Receive, Scope, Send, extra_headers, problem_body, read_body, send_json
from flows.gateway.settings import GatewaySettings, read_token
from flows.gateway.slots import NotSaved
from simulation.errors import LullError

Text = Annotated[str, Field(min_length=1, max_length=128)]
Reason = Annotated[str, Field(max_length=500)]
_STATUS: tuple[tuple[type[LullError], int], ...] = (
    (Refused, 409),
    (InvalidPackage, 422),
    (InvalidFlags, 409),
    (UnusableProvider, 409),
    (NotSaved, 503),
)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class LoadBody(_Body):
    """Which package to load; `path` lies below the model root, `digest` is what was approved."""

    version: Text
    path: Annotated[str, Field(min_length=1, max_length=1000)]
    digest: str | None = None


class ShadowBody(_Body):
    """Which slot shadows, and for how many distinct requests."""

    slot: Slot
    on: bool
    max_requests: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000


class SplitBody(_Body):
    """The share of the slot that is not live, under its name."""

    blue: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    green: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    reason: Reason = ""


class SwitchBody(_Body):
    """Which slot takes all traffic."""

    live: Slot
    reason: Reason = ""


class RollbackBody(_Body):
    """Why."""

    reason: Reason = ""


class Outcome(_Body):
    """What really happened to one request; `observed_at` needs a zone."""

    request_id: Text
    label: float
    observed_at: AwareDatetime | None = None


class OutcomesBody(_Body):
    """Several outcomes in one call."""

    outcomes: Annotated[list[Outcome], Field(min_length=1, max_length=10_000)]


def create_app(settings: GatewaySettings, flags: Flags | None = None) -> FastAPI:
    """
    Make the ASGI application of one gateway.

    Parameters
    ----------
    settings : GatewaySettings
        A token is made in `settings.home` if none was given.
    flags : Flags, optional
        Where the traffic flag is kept; by default a flag file below `settings.home`.

    Raises
    ------
    InvalidGatewaySettings
        If the token can neither be read nor made.

    Notes
    -----
    Nothing is loaded before the application starts (ASGI lifespan); `app.state.runtime` is the running gateway.
    """
    runtime = Runtime(settings, flags)
    token = read_token(settings, create=True)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await runtime.start()
        yield
        await runtime.stop()

    app = _GatewayApp(title="Lull gateway", version="1", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.runtime = runtime
    app.state.token = token
    app.add_middleware(_BodyLimit, runtime=runtime)
    app.include_router(_open)
    app.include_router(_control)
    for error, status in _STATUS:
        app.add_exception_handler(error, _answer_with(status))
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_unexpected)
    describe_score(app, runtime)
    return app


class _GatewayApp(FastAPI):
    """FastAPI, with a short way for score requests: its layers would take a third of their time."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/score" and scope["method"] == "POST":
            await self.state.runtime.score(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class _BodyLimit:
    """Reads the bodies of all other calls with the same limits of size and time."""

    def __init__(self, app: Any, runtime: Runtime) -> None:
        self._app = app
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        else:
            try:
                body = await read_body(receive, self._runtime.settings)
            except Problem as problem:
                await send_json(send, problem.status, problem_body(problem), extra_headers(problem))
                return
            messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

            async def replay() -> Message:
                return messages.pop() if messages else await receive()

            await self._app(scope, replay, send)


def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


def _holds_token(request: Request) -> None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    given, wanted = token.strip().encode(errors="replace"), request.app.state.token.encode()
    if scheme.lower() != "bearer" or not hmac.compare_digest(given, wanted):
        raise HTTPException(
            401,
            "control calls need the gateway's token: send 'Authorization: Bearer …'",
            {"WWW-Authenticate": "Bearer"},
        )


Running = Annotated[Runtime, Depends(_runtime)]
_open = APIRouter()
_control = APIRouter(dependencies=[Depends(_holds_token)], responses={401: {"description": "token missing or wrong"}})


@_open.get("/healthz")
async def healthz() -> dict[str, str]:
    """Say that the process runs."""
    return {"status": "alive"}


@_open.get("/readyz")
async def readyz(runtime: Running, response: Response) -> dict[str, Any]:
    """Say whether a warm slot is live."""
    is_ready = runtime.is_ready()
    response.status_code = 200 if is_ready else 503
    return {"is_ready": is_ready, "problems": runtime.problems()}


@_open.get("/metrics")
async def metrics(runtime: Running) -> Response:
    """Return counters and figures for Prometheus."""
    admission = runtime.admission
    text = runtime.metrics.text(runtime.state(), admission.n_reading, admission.n_waiting)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@_open.get("/slots")
async def slots(runtime: Running) -> GatewayState:
    """Return both slots, the split and what was served."""
    return runtime.state()


@_open.get("/score", include_in_schema=False)
async def get_score() -> Response:
    """Say how to score."""
    raise HTTPException(405, "send rows to /score by POST", {"Allow": "POST"})


@_open.post("/outcome")
async def outcome(body: Outcome | OutcomesBody, runtime: Running) -> dict[str, int]:
    """Take late labels by request id."""
    found = body.outcomes if isinstance(body, OutcomesBody) else [body]
    now_us = time.time_ns() // 1000
    for each in found:
        observed_us = int(each.observed_at.timestamp() * 1_000_000) if each.observed_at else None
        runtime.outcomes.append((each.request_id, each.label, observed_us, now_us))
    return {"n_accepted": len(found)}


@_control.post("/slots/{slot}/load")
async def load(slot: Slot, body: LoadBody, runtime: Running) -> GatewayState:
    """Check a package and load it into a slot that takes no traffic."""
    return await runtime.load(slot, body.version, body.path, body.digest)


@_control.post("/slots/{slot}/warm")
async def warm(slot: Slot, runtime: Running) -> GatewayState:
    """Reproduce the canary batch; from then on the slot may take traffic."""
    await runtime.board.warm(slot)
    return runtime.state()


@_control.post("/slots/{slot}/unload")
async def unload(slot: Slot, runtime: Running) -> GatewayState:
    """Empty a slot that takes no traffic."""
    await runtime.board.unload(slot)
    return runtime.state()


@_control.post("/shadow")
async def shadow(body: ShadowBody, runtime: Running) -> GatewayState:
    """Start or stop scoring the other slot's requests with this one too."""
    if body.on:
        runtime.start_shadow(body.slot, body.max_requests)
    else:
        runtime.stop_shadow()
    return runtime.state()


@_control.get("/shadow/results")
async def shadow_results(runtime: Running, include_scores: bool = False) -> ShadowResults:
    """Return the pairs of scores, each request id once."""
    return runtime.shadow_results(include_scores=include_scores)


@_control.post("/split")
async def split(body: SplitBody, runtime: Running) -> GatewayState:
    """Give the slot that is not live a share of the entities."""
    traffic = runtime.board.traffic
    if (body.blue is None) == (body.green is None):
        raise Refused("name the share of one slot, the one that is not live, for example {'green': 0.1}")
    slot: Slot = "blue" if body.blue is not None else "green"
    ratio = body.blue if body.blue is not None else body.green
    if traffic is not None and traffic.live == slot:
        raise Refused(f"slot {slot} is live and takes what is left; name the share of {other_slot(slot)}")
    assert ratio is not None
    await runtime.board.split(slot, ratio, body.reason)
    return runtime.state()


@_control.post("/switch")
async def switch(body: SwitchBody, runtime: Running) -> GatewayState:
    """Give a warm slot all traffic; the old one stays warm as the way back."""
    await runtime.board.switch(body.live, body.reason)
    return runtime.state()


@_control.post("/rollback")
async def rollback(runtime: Running, body: RollbackBody | None = None) -> RolledBack:
    """End the canary if one runs; else return to the slot that was live before."""
    return await runtime.rollback(body.reason if body else "")


@_control.post("/flush")
async def flush(runtime: Running) -> dict[str, int]:
    """Write the buffered log rows to disk."""
    return {"n_written": await runtime.flush()}


def _sentence(status: int, sentence: str, headers: Any = None) -> JSONResponse:
    return JSONResponse({"error": sentence}, status, headers)


def _answer_with(status: int) -> Any:
    async def answer(_: Request, error: Exception) -> JSONResponse:
        return _sentence(status, str(error))

    return answer


async def _answer_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
    return _sentence(422, f"{where}: {first['msg']}")


async def _answer_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    path = f" ({request.method} {request.url.path})" if error.status_code in (404, 405) else ""
    return _sentence(error.status_code, f"{error.detail}{path}", error.headers)


async def _answer_unexpected(_: Request, __: Exception) -> JSONResponse:
    return _sentence(500, "the gateway made an error; it is in its log")
