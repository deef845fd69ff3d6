"""The gateway over HTTP, and its twin in memory: both keep the `Gateway` protocol."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import httpx

from flows.adapters.flags import SLOTS, Slot, Traffic, choose_slot
from flows.gateway import rules
from flows.gateway.contract import Gateway, GatewayState, RolledBack, Scored, ShadowResults, SlotView
from flows.gateway.rules import Refused
from flows.gateway.settings import GatewaySettings, read_token
from flows.gateway.shadow import NO_SHADOW
from simulation.errors import LullError


class GatewayUnreachable(LullError):
    """Nobody answers at the gateway's address, or not in time; the message names it and the remedy."""


class GatewayRefused(LullError):
    """The gateway answered that it will not; the message is its sentence."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


def connect(settings: GatewaySettings, *, timeout_s: float = 70.0) -> "GatewayClient":
    """Return a client for the gateway of these settings, with its token; see `read_token` for what may go wrong."""
    return GatewayClient(f"http://{settings.host}:{settings.port}", read_token(settings), timeout_s=timeout_s)


class GatewayClient:
    """
    Control and score calls of one gateway, over HTTP.

    Parameters
    ----------
    url
        For example ``http://127.0.0.1:8400``.
    token
        For control calls; score calls need none.
    timeout_s
        For a whole call. Loading a package may take up to 60 s, everything else milliseconds.

    Raises
    ------
    GatewayUnreachable
        By every call, when nobody answers.
    GatewayRefused
        By every call, when the gateway says no; `status` is 409 for a rule, 422 for a package or value.
    """

    def __init__(
        self, url: str, token: str = "", *, timeout_s: float = 70.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url.rstrip("/")
        # No proxy from the environment: the gateway is a neighbour.
        self._http = httpx.Client(
            base_url=self.url, headers=headers, timeout=timeout_s, transport=transport, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def state(self) -> GatewayState:
        """Return the gateway at this moment."""
        return GatewayState.model_validate_json(self._call("GET", "/slots").content)

    def metrics(self) -> str:
        """Return the page that Prometheus scrapes."""
        return self._call("GET", "/metrics").text

    def is_ready(self) -> bool:
        """Return whether a warm slot is live; False too when nobody answers."""
        try:
            return self._http.get("/readyz", timeout=5.0).status_code == 200
        except httpx.HTTPError:
            return False

    def load(self, slot: Slot, version: str, path: str, *, digest: str | None = None) -> GatewayState:
        """Load a package into a slot that takes no traffic; `path` lies below the gateway's model root."""
        body = {"version": version, "path": path, "digest": digest}
        return self._state(f"/slots/{slot}/load", body)

    def warm(self, slot: Slot) -> GatewayState:
        """Run the canary batch through a loaded slot; from then on it may take traffic."""
        return self._state(f"/slots/{slot}/warm", {})

    def shadow(self, slot: Slot, on: bool, *, max_requests: int = 10_000) -> GatewayState:
        """Start or stop scoring the requests of the other slot with this one too."""
        return self._state("/shadow", {"slot": slot, "on": on, "max_requests": max_requests})

    def shadow_results(self, *, include_scores: bool = False) -> ShadowResults:
        """Return what the shadow has seen so far."""
        answer = self._call("GET", "/shadow/results", params={"include_scores": include_scores})
        return ShadowResults.model_validate_json(answer.content)

    def split(self, slot: Slot, ratio: float, *, reason: str = "") -> GatewayState:
        """Give the slot that is not live a share of the entities."""
        return self._state("/split", {slot: ratio, "reason": reason})

    def switch(self, live: Slot, *, reason: str = "") -> GatewayState:
        """Give a warm slot all traffic; the old one stays as the way back."""
        return self._state("/switch", {"live": live, "reason": reason})

    def rollback(self, *, reason: str = "") -> RolledBack:
        """End the canary if one runs; else return to the slot that was live before."""
        answer = self._call("POST", "/rollback", json={"reason": reason})
        return RolledBack.model_validate_json(answer.content)

    def unload(self, slot: Slot) -> GatewayState:
        """Empty a slot that takes no traffic."""
        return self._state(f"/slots/{slot}/unload", {})

    def flush(self) -> int:
        """Write the buffered log rows to disk; return how many."""
        n_written: int = self._call("POST", "/flush").json()["n_written"]
        return n_written

    def score(self, request_id: str, entity: str, features: Mapping[str, Any]) -> Scored:
        """Score one row."""
        row = {"request_id": request_id, "entity": entity, "features": dict(features)}
        return Scored.model_validate_json(self._call("POST", "/score", json=row).content)

    def outcome(self, request_id: str, label: float, *, observed_at: datetime | None = None) -> None:
        """Report what really happened to a request."""
        at = observed_at.isoformat() if observed_at else None
        self._call("POST", "/outcome", json={"request_id": request_id, "label": label, "observed_at": at})

    def _state(self, path: str, body: Mapping[str, Any]) -> GatewayState:
        return GatewayState.model_validate_json(self._call("POST", path, json=body).content)

    def _call(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **more)
        except httpx.TimeoutException as error:
            raise GatewayUnreachable(
                f"the gateway at {self.url} did not answer {path} in time; look at its log and at the host's load"
            ) from error
        except (httpx.HTTPError, ValueError) as error:
            raise GatewayUnreachable(
                f"no gateway answers at {self.url} ({error}); start one with `lull serve`, or check host and port"
            ) from error
        if answer.is_success:
            return answer
        try:
            sentence = str(answer.json()["error"])
        except (ValueError, KeyError, TypeError):
            sentence = f"{self.url}{path} answered {answer.status_code} without a reason; is it a Lull gateway?"
        raise GatewayRefused(sentence, answer.status_code)


@dataclass
class InMemoryGateway:
    """
    The twin for tests: the same rules, no process, no model; scores and shadow results are what the test says.

    Attributes
    ----------
    corrupt
        Paths that `load` refuses, with the reason.
    scores
        Score of every row by version; 0.5 for a version that is not named.
    shadowed
        What `shadow_results` returns while or after a shadow ran.
    is_down
        True: every call fails as if nobody listened.
    """

    corrupt: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    shadowed: ShadowResults = NO_SHADOW
    is_down: bool = False
    traffic: Traffic | None = None
    outcomes: dict[str, float] = field(default_factory=dict)
    _slots: dict[Slot, SlotView] = field(default_factory=dict)
    _shadow: Slot | None = None
    _n_unflushed: int = 0
    _n_served: int = 0
    _started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def state(self) -> GatewayState:
        """Return the gateway at this moment."""
        self._must_be_up()
        traffic = self.traffic
        views = {slot: self._slots.get(slot, SlotView(slot=slot)) for slot in SLOTS}
        live = traffic.live if traffic else None
        return GatewayState(
            live=live,
            previous=traffic.previous if traffic else None,
            split={slot: traffic.share(slot) for slot in SLOTS} if traffic else {},
            is_custom_split=False,
            reason=traffic.reason if traffic else "",
            since=traffic.since if traffic else None,
            slots={slot: view.model_copy(update={"is_live": slot == live}) for slot, view in views.items()},
            shadow=self._shadow,
            schema_digest=None,
            n_served=self._n_served,
            n_failed=0,
            n_refused=0,
            n_shed=0,
            n_fallback=0,
            n_log_rows=self._n_served,
            n_log_rows_dropped=0,
            n_outcomes=len(self.outcomes),
            problems=[],
            pid=os.getpid(),
            started_at=self._started_at,
        )

    def is_ready(self) -> bool:
        """Return whether a warm slot is live."""
        return not self.is_down and self.traffic is not None

    def load(self, slot: Slot, version: str, path: str, *, digest: str | None = None) -> GatewayState:
        """Load a package that exists only by name."""
        self._must_be_up()
        self._obeying(rules.may_load, slot, self.traffic)
        if path in self.corrupt:
            raise GatewayRefused(self.corrupt[path], 422)
        self.traffic = rules.without_way_back(self.traffic, slot)
        self._slots[slot] = SlotView(
            slot=slot, version=version, path=path, digest=digest, is_loaded=True, loaded_at=datetime.now(UTC)
        )
        self._shadow = None
        return self.state()

    def warm(self, slot: Slot) -> GatewayState:
        """Mark a loaded slot as warm."""
        self._must_be_up()
        if slot not in self._slots:
            raise GatewayRefused(f"slot {slot} is empty; load a version into it first", 409)
        self._slots[slot] = self._slots[slot].model_copy(update={"is_warm": True})
        return self.state()

    def shadow(self, slot: Slot, on: bool, *, max_requests: int = 10_000) -> GatewayState:
        """Start or stop the shadow."""
        self._must_be_up()
        if on:
            self._obeying(rules.may_shadow, slot, self.traffic, self._warm)
        self._shadow = slot if on else None
        return self.state()

    def shadow_results(self, *, include_scores: bool = False) -> ShadowResults:
        """Return what the test put into `shadowed`."""
        self._must_be_up()
        if include_scores:
            return self.shadowed
        pairs = ("request_ids", "live_scores", "shadow_scores", "live_latencies_us", "shadow_latencies_us")
        return self.shadowed.model_copy(update={name: [] for name in pairs})

    def split(self, slot: Slot, ratio: float, *, reason: str = "") -> GatewayState:
        """Give the slot that is not live a share of the entities."""
        self._must_be_up()
        view = self._slots.get(slot)
        salt = f"{view.version}:" if view else ""
        self.traffic = self._obeying(
            rules.shared, self.traffic, slot, ratio, self._warm, salt, reason, datetime.now(UTC)
        )
        return self.state()

    def switch(self, live: Slot, *, reason: str = "") -> GatewayState:
        """Give a warm slot all traffic."""
        self._must_be_up()
        self.traffic = self._obeying(rules.switched, self.traffic, live, self._warm, reason, datetime.now(UTC))
        return self.state()

    def rollback(self, *, reason: str = "") -> RolledBack:
        """End the canary if one runs; else return to the slot that was live before."""
        self._must_be_up()
        after, bad_slot, action = self._obeying(rules.rolled_back, self.traffic, self._warm, reason, datetime.now(UTC))
        self.traffic = after
        bad = self._slots.get(bad_slot)
        return RolledBack(
            state=self.state(),
            bad_slot=bad_slot,
            bad_version=bad.version if bad else None,
            action=action,
            took_ms=0.0,
            is_saved=True,
        )

    def unload(self, slot: Slot) -> GatewayState:
        """Empty a slot that takes no traffic."""
        self._must_be_up()
        if slot not in self._slots:
            raise GatewayRefused(f"slot {slot} is empty already", 409)
        self._obeying(rules.may_load, slot, self.traffic)
        self.traffic = rules.without_way_back(self.traffic, slot)
        del self._slots[slot]
        self._shadow = None
        return self.state()

    def flush(self) -> int:
        """Forget the rows counted since the last flush; return how many."""
        self._must_be_up()
        n_written, self._n_unflushed = self._n_unflushed, 0
        return n_written

    def score(self, request_id: str, entity: str, features: Mapping[str, Any]) -> Scored:
        """Answer with the score that the test named for the version."""
        self._must_be_up()
        if self.traffic is None:
            raise GatewayRefused("no slot is live yet; load, warm and switch to one first", 503)
        slot = choose_slot(self.traffic, entity)
        view = self._slots[slot]
        self._slots[slot] = view.model_copy(update={"n_served": view.n_served + 1})
        self._n_served += 1
        self._n_unflushed += 1
        version = view.version or ""
        score = self.scores.get(version, 0.5)
        return Scored(request_id=request_id, score=score, slot=slot, version=version, trace_id="0" * 32)

    def outcome(self, request_id: str, label: float, *, observed_at: datetime | None = None) -> None:
        """Keep the label."""
        self._must_be_up()
        self.outcomes[request_id] = label
        self._n_unflushed += 1

    @property
    def _warm(self) -> frozenset[Slot]:
        return frozenset(slot for slot, view in self._slots.items() if view.is_warm)

    def _must_be_up(self) -> None:
        if self.is_down:
            raise GatewayUnreachable(
                "no gateway answers in memory; start one with `lull serve`, or check host and port"
            )

    @staticmethod
    def _obeying(rule: Any, *arguments: Any) -> Any:
        try:
            return rule(*arguments)
        except Refused as refusal:
            raise GatewayRefused(str(refusal), 409) from refusal


# Checked by mypy: whoever changes the protocol hears at once which of the two no longer keeps it.
_KEEPERS: tuple[type[Gateway], ...] = (GatewayClient, InMemoryGateway)
