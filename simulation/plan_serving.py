"""The serving section of a plan: the pool that must not notice, its callers, and what was promised; see `Serving`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from simulation.section import Count, NonNegative, Positive, Ratio, Section


class Slo(Section):
    """What users were promised: `good_ratio` of requests answered without error within `latency_ms`."""

    latency_ms: Positive
    good_ratio: Annotated[float, Field(gt=0.0, lt=1.0)]
    user_impact: Annotated[str, Field(min_length=10, description="what a user notices when it is broken")]


class ServiceTime(Section):
    """How long one request occupies one server when nothing else runs."""

    mean_ms: Positive
    scv: NonNegative = Field(1.0, description="squared coefficient of variation: variance / mean²")
    distribution: Literal["deterministic", "exponential", "erlang", "lognormal", "hyperexponential"] = "lognormal"
    calibrated: bool = Field(False, description="true once fitted on the real pool; a verdict says when it is not")

    @model_validator(mode="after")
    def _has_such_a_distribution(self) -> Self:
        if self.distribution == "hyperexponential" and self.scv < 1.0:
            raise ValueError(f"scv {self.scv:g} is below 1, which no hyperexponential has; use erlang or lognormal")
        if self.distribution == "erlang" and not 0.001 <= self.scv <= 1.0:
            raise ValueError(f"scv {self.scv:g} is not in 0.001 to 1, which every Erlang has; use lognormal")
        return self


class Client(Section):
    """How callers behave: how long they wait, how often and how fast they try again."""

    timeout_ms: Positive | None = None
    retries: Annotated[int, Field(ge=0, le=20)] = 0
    backoff_ms: NonNegative = 0.0
    backoff_factor: Annotated[float, Field(ge=1.0, le=10.0)] = Field(1.0, description="each retry waits so much longer")
    jitter_ratio: Ratio = 0.0
    retry_on: tuple[Literal["timeout", "rejection", "error"], ...] = Field(
        ("timeout", "error"), description="a rejection tells callers when to come back, so most do not try again"
    )
    retry_budget_ratio: Ratio | None = Field(None, description="retries allowed per first attempt; none: unlimited")
    cancellation: Literal["none", "at_start", "queued", "all"] = Field(
        "none", description="what the pool does with work that nobody waits for any more"
    )


class ColdStart(Section):
    """What a replica that has just opened costs: its first requests, and all in its first seconds, take longer."""

    requests: Annotated[int, Field(ge=0)] = 0
    seconds: NonNegative = 0.0
    slowdown: Annotated[float, Field(ge=1.0)] = 1.0


class InterferencePoint(Section):
    """One point of the interference curve: how much slower serving is beside training on that many CPUs."""

    training_cpus: NonNegative
    slowdown: Annotated[float, Field(ge=1.0)]


class Autoscaler(Section):
    """Replicas follow the load: looks every `look_s`, opens cold after `boot_s`, closes one after `cooldown_s`."""

    min_replicas: Count
    max_replicas: Count
    target_utilisation: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.6
    look_s: Positive = 30.0
    boot_s: NonNegative = 120.0
    cooldown_s: NonNegative = 300.0

    @model_validator(mode="after")
    def _limits_in_order(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas {self.max_replicas} is below min_replicas {self.min_replicas}")
        return self


class RateLimit(Section):
    """A token bucket before the pool: what it turns away is answered at once."""

    rate_rps: Positive
    burst: Annotated[float, Field(ge=1.0)]


class Breaker(Section):
    """A circuit breaker before the pool: opens for `open_s` when a share of the answers of a stretch failed."""

    failure_ratio: Annotated[float, Field(gt=0.0, le=1.0)]
    minimum: Count = 20
    window_s: Positive = 10.0
    open_s: Positive = 5.0
    probes: Count = 1


class Serving(Section):
    """The pool that must not notice."""

    pool: Annotated[str, Field(min_length=1)]
    replicas: Annotated[int, Field(ge=1, le=1000)]
    servers_per_replica: Annotated[int, Field(ge=1, le=1000)] = 1
    zones: Count = Field(1, description="replicas are spread over them in turn; a zone can be lost as a whole")
    routing: Literal["shared", "round_robin", "least_loaded", "power_of_two"] = Field(
        "shared", description="shared: one queue for all; the others: a queue per replica"
    )
    queue_limit: Annotated[int, Field(ge=0)] | None = Field(None, description="waiting places; none: no limit")
    service_time: ServiceTime
    cold_start: ColdStart = ColdStart()
    interference: tuple[InterferencePoint, ...] = Field(
        (), description="slowdown by training CPUs, straight lines between the points; none: as the stages say"
    )
    client: Client = Client()
    rate_limit: RateLimit | None = None
    breaker: Breaker | None = None
    autoscaler: Autoscaler | None = None
    slo: Slo
    storage_path: str = "serving"

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        cpus = [point.training_cpus for point in self.interference]
        if cpus != sorted(set(cpus)):
            raise ValueError(f"interference: training_cpus must grow from point to point, got {cpus}")
        if self.zones > self.replicas:
            raise ValueError(f"zones {self.zones} are more than the {self.replicas} replicas; lower zones")
        scaler = self.autoscaler
        if scaler is not None and not scaler.min_replicas <= self.replicas <= scaler.max_replicas:
            raise ValueError(
                f"replicas {self.replicas} lies outside of the autoscaler's {scaler.min_replicas} to "
                f"{scaler.max_replicas}; widen its limits"
            )
        return self

    def slowdown_beside(self, training_cpus: float) -> float:
        """Return the factor on service times beside training on that many CPUs, by the interference curve."""
        points = self.interference
        if not points or training_cpus <= 0:
            return 1.0
        below = InterferencePoint(training_cpus=0.0, slowdown=1.0)
        for above in points:
            if training_cpus <= above.training_cpus:
                span = above.training_cpus - below.training_cpus
                share = (training_cpus - below.training_cpus) / span if span else 1.0
                return below.slowdown + share * (above.slowdown - below.slowdown)
            below = above
        return points[-1].slowdown  # nobody measured beyond it; `lull plan check` says so

    @property
    def servers(self) -> int:
        """Requests that the pool can work on at once."""
        return self.replicas * self.servers_per_replica

    @property
    def capacity_rps(self) -> float:
        """Requests per second that the pool can finish when all servers are busy and nothing slows them."""
        return self.servers / (self.service_time.mean_ms / 1000.0)
