"""What the gateway says about itself, as frozen data: the answers of its HTTP calls and of its in-memory twin."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from flows.adapters.flags import Slot


class View(BaseModel):
    """Frozen, and closed against keys that nobody expects."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SlotView(View):
    """One slot: what is in it, whether it may take traffic, and what it served since the package was loaded."""

    slot: Slot
    name: str | None = None
    version: str | None = None
    digest: str | None = None
    path: str | None = None
    size_bytes: int = 0
    is_loaded: bool = False
    is_warm: bool = False
    is_live: bool = False
    loaded_at: datetime | None = None
    n_served: int = 0
    n_failed: int = 0
    in_flight: int = 0
    predict_p50_us: float | None = None
    predict_p99_us: float | None = None
    failure: str = ""


class GatewayState(View):
    """All of a gateway at one moment, as `GET /slots` tells it; with several workers the counts are of one (`pid`)."""

    live: Slot | None
    previous: Slot | None
    split: dict[Slot, float]
    is_custom_split: bool
    reason: str
    since: datetime | None
    slots: dict[Slot, SlotView]
    shadow: Slot | None
    schema_digest: str | None
    n_served: int
    n_failed: int
    n_refused: int
    n_shed: int
    n_fallback: int
    n_log_rows: int
    n_log_rows_dropped: int
    n_outcomes: int
    problems: list[str]
    pid: int
    started_at: datetime

    def slot_of(self, version: str) -> Slot | None:
        """Return the slot that holds this version, or None."""
        return next((slot for slot, view in self.slots.items() if view.version == version), None)


class ScoreSummary(View):
    """A sample of scores in a few numbers; NaN never: all None when there are no scores."""

    n: int
    mean: float | None = None
    std: float | None = None
    minimum: float | None = None
    q05: float | None = None
    q25: float | None = None
    q50: float | None = None
    q75: float | None = None
    q95: float | None = None
    maximum: float | None = None


class ShadowResults(View):
    """The same requests scored by both slots, each request id once."""

    slot: Slot | None
    version: str | None
    live_version: str | None
    is_on: bool
    n: int
    n_duplicates: int
    n_dropped: int
    n_errors: int
    mean_abs_diff: float | None
    max_abs_diff: float | None
    live: ScoreSummary
    shadow: ScoreSummary
    live_latency_us: ScoreSummary
    shadow_latency_us: ScoreSummary
    request_ids: list[str] = []
    live_scores: list[float] = []
    shadow_scores: list[float] = []
    live_latencies_us: list[float] = []
    shadow_latencies_us: list[float] = []


class Scored(View):
    """The answer to one scored row."""

    request_id: str
    score: float
    slot: Slot
    version: str
    trace_id: str


class RolledBack(View):
    """What a rollback did, and how long it took from the call to the last request on the bad slot."""

    state: GatewayState
    bad_slot: Slot
    bad_version: str | None
    action: str
    took_ms: float
    is_saved: bool


class Gateway(Protocol):
    """The calls that promotion needs; kept by `GatewayClient` and by `InMemoryGateway`."""

    def state(self) -> GatewayState:
        """Return the gateway at this moment."""

    def is_ready(self) -> bool:
        """Return whether a warm slot is live."""

    def load(self, slot: Slot, version: str, path: str, *, digest: str | None = None) -> GatewayState:
        """Load a package into a slot that takes no traffic."""

    def warm(self, slot: Slot) -> GatewayState:
        """Run the canary batch through a loaded slot; from then on it may take traffic."""

    def shadow(self, slot: Slot, on: bool, *, max_requests: int = 10_000) -> GatewayState:
        """Start or stop scoring the requests of the other slot with this one too."""

    def shadow_results(self, *, include_scores: bool = False) -> ShadowResults:
        """Return what the shadow has seen so far."""

    def split(self, slot: Slot, ratio: float, *, reason: str = "") -> GatewayState:
        """Give the slot that is not live a share of the entities."""

    def switch(self, live: Slot, *, reason: str = "") -> GatewayState:
        """Give a warm slot all traffic; the old one stays as the way back."""

    def rollback(self, *, reason: str = "") -> RolledBack:
        """End the canary if one runs; else return to the slot that was live before."""

    def unload(self, slot: Slot) -> GatewayState:
        """Empty a slot that takes no traffic."""

    def flush(self) -> int:
        """Write the buffered log rows to disk; return how many."""

    def score(self, request_id: str, entity: str, features: Mapping[str, Any]) -> Scored:
        """Score one row."""

    def outcome(self, request_id: str, label: float, *, observed_at: datetime | None = None) -> None:
        """Report what really happened to a request."""
