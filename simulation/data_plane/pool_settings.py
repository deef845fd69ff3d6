"""
What a serving pool is and how its callers behave: frozen settings, checked when they are made.

Start at `PoolSettings`. Every error is an `InvalidWorkload` that names the field and the value.
"""

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

from simulation import randomness
from simulation.errors import InvalidWorkload

BLUE, GREEN = 0, 1

Kind = Literal["deterministic", "exponential", "erlang", "lognormal", "hyperexponential"]
Jitter = Literal["none", "ratio", "full", "exponential"]
Cancellation = Literal["none", "at_start", "queued", "all"]
Reason = Literal["timeout", "rejection", "error"]
Routing = Literal["shared", "round_robin", "least_loaded", "power_of_two"]
RunningWork = Literal["drain", "evict_and_requeue", "hand_over", "fail"]


def _require(owner: object, field: str, condition: bool, remedy: str) -> None:
    if not condition:
        raise InvalidWorkload(f"{type(owner).__name__}.{field} is {getattr(owner, field)!r}; {remedy}")


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_in(value: float, low: float, high: float = math.inf) -> bool:
    """Tell whether a number is finite and in [low, high]; NaN is in nothing."""
    return low <= value <= high and math.isfinite(value)


def _require_choice(owner: object, field: str, choices: Any) -> None:
    _require(owner, field, getattr(owner, field) in get_args(choices), f"choose one of {', '.join(get_args(choices))}")


@dataclass(frozen=True)
class Distribution:
    """
    Durations in seconds by kind, mean and squared coefficient of variation (`scv`).

    Exponential has scv 1 and deterministic 0, whatever is given. Erlang takes any scv in [0.001, 1]: where 1 / scv is
    not whole, two neighbouring Erlangs are mixed so that mean and scv are met (Tijms 1994). Hyperexponential
    (scv >= 1) has balanced means.
    """

    kind: Kind
    mean_s: float
    scv: float = 1.0

    def __post_init__(self) -> None:
        _require_choice(self, "kind", Kind)
        _require(self, "mean_s", _is_in(self.mean_s, 0.0) and self.mean_s > 0.0, "give seconds above 0")
        _require(self, "scv", _is_in(self.scv, 0.0), "give a number from 0 on")
        if self.kind == "erlang":
            _require(self, "scv", 0.001 <= self.scv <= 1.0, "an Erlang has 0.001 to 1; above 1 take hyperexponential")
        if self.kind == "hyperexponential":
            _require(self, "scv", self.scv >= 1.0, "a hyperexponential has 1 or more; below 1 take erlang")

    def parameters(self) -> tuple[int, float, float, float]:
        """Return kind, a, b, c as `randomness.duration_of` reads them."""
        if self.kind == "deterministic" or (self.kind == "lognormal" and self.scv == 0.0):
            return randomness.DETERMINISTIC, self.mean_s, 0.0, 0.0
        if self.kind == "exponential":
            return randomness.EXPONENTIAL, self.mean_s, 0.0, 0.0
        if self.kind == "lognormal":
            variance = math.log1p(self.scv)  # of the logarithm
            return randomness.LOGNORMAL, math.log(self.mean_s) - variance / 2.0, math.sqrt(variance), 0.0
        if self.kind == "hyperexponential":
            p = (1.0 + math.sqrt((self.scv - 1.0) / (self.scv + 1.0))) / 2.0
            return randomness.HYPEREXPONENTIAL, p, self.mean_s / (2.0 * p), self.mean_s / (2.0 * (1.0 - p))
        k = math.ceil(round(1.0 / self.scv, 9))
        root = math.sqrt(max(0.0, k * (1.0 + self.scv) - k * k * self.scv))
        fewer = max(0.0, (k * self.scv - root) / (1.0 + self.scv))  # probability of k - 1 phases
        return randomness.ERLANG, float(k), fewer, self.mean_s / (k - fewer)


@dataclass(frozen=True)
class Backoff:
    """
    How long a client waits before its k-th retry (k from 0): ``min(max_s, base_s × factor**k)``, then jitter.

    Jitter multiplies: "ratio" by 1 ± `jitter_ratio` evenly, "full" by 0 to 1 evenly, "exponential" by Exp(1).
    """

    base_s: float = 0.0
    factor: float = 1.0
    max_s: float = math.inf
    jitter: Jitter = "none"
    jitter_ratio: float = 0.0

    def __post_init__(self) -> None:
        _require(self, "base_s", _is_in(self.base_s, 0.0), "give seconds from 0 on")
        _require(self, "factor", _is_in(self.factor, 1.0), "give a number from 1 on")
        _require(self, "max_s", self.max_s >= self.base_s, "give at least base_s")
        _require_choice(self, "jitter", Jitter)
        _require(self, "jitter_ratio", _is_in(self.jitter_ratio, 0.0, 1.0), "give a share from 0 to 1")


@dataclass(frozen=True)
class RetryBudget:
    """Each primary earns `ratio` tokens, of which `burst` are kept at most (and at first); each retry costs one."""

    ratio: float
    burst: float = 10.0

    def __post_init__(self) -> None:
        _require(self, "ratio", _is_in(self.ratio, 0.0), "give retries per primary, from 0 on")
        _require(self, "burst", _is_in(self.burst, 0.0), "give tokens from 0 on")


@dataclass(frozen=True)
class Client:
    """
    How callers behave. `timeout_s` runs per attempt from its arrival; what happens to work nobody waits for says
    `cancellation`: "none" serves it, "at_start" drops it when its turn comes, "queued" takes it out of the queue at
    once, "all" also aborts it while it runs. `retries` None means without end. `patience` is the longest wait before
    service starts; who loses it has abandoned, for good.
    """

    timeout_s: float | None = None
    cancellation: Cancellation = "none"
    retries: int | None = 0
    retry_on: tuple[Reason, ...] = ("timeout", "rejection", "error")
    backoff: Backoff = Backoff()
    budget: RetryBudget | None = None
    patience: Distribution | None = None

    def __post_init__(self) -> None:
        some_s = self.timeout_s is None or (_is_in(self.timeout_s, 0.0) and self.timeout_s > 0.0)
        _require(self, "timeout_s", some_s, "give seconds above 0, or None")
        _require_choice(self, "cancellation", Cancellation)
        _require(self, "retries", self.retries is None or _is_count(self.retries, 0), "give a count from 0 on, or None")
        known = set(self.retry_on) <= set(get_args(Reason))
        _require(self, "retry_on", known, f"choose among {', '.join(get_args(Reason))}")
        endless = self.retries is None and self.backoff.base_s == 0.0
        _require(self, "retries", not endless, "retries without end need a backoff above 0, or time stands still")


@dataclass(frozen=True)
class Shedding:
    """
    Class k is turned away when `queue_lengths[k]` requests wait in its queue (None: never).

    With drop "expired_first" the oldest request of a class whose client is gone leaves in its place, the least urgent
    class first; only heads of queues are looked at, because clients of one timeout expire in the order of the queue.
    """

    queue_lengths: tuple[int | None, ...]
    drop: Literal["newest", "expired_first"] = "newest"

    def __post_init__(self) -> None:
        counts = bool(self.queue_lengths) and all(n is None or _is_count(n, 0) for n in self.queue_lengths)
        _require(self, "queue_lengths", counts, "give one count from 0 on, or None, per class")
        _require(self, "drop", self.drop in ("newest", "expired_first"), "choose newest or expired_first")


@dataclass(frozen=True)
class RateLimit:
    """A token bucket over all attempts: `rate_rps` tokens a second, `burst` kept at most, full at first."""

    rate_rps: float
    burst: float

    def __post_init__(self) -> None:
        _require(self, "rate_rps", _is_in(self.rate_rps, 0.0), "give requests per second from 0 on")
        _require(self, "burst", _is_in(self.burst, 1.0), "give at least 1, or nothing ever passes")


@dataclass(frozen=True)
class CircuitBreaker:
    """
    Opens for `open_s` when, in the current stretch of `window_s`, at least `minimum` attempts ended and a share
    `failure_ratio` of them failed (timeout, error, or turned away by the pool). Then `probes` attempts are let through:
    all must succeed to close it, one failure opens it again. Attempts let through before a change of its state no
    longer count.
    """

    failure_ratio: float
    minimum: int
    window_s: float
    open_s: float
    probes: int = 1

    def __post_init__(self) -> None:
        share = _is_in(self.failure_ratio, 0.0, 1.0) and self.failure_ratio > 0.0
        _require(self, "failure_ratio", share, "give a share above 0, at most 1")
        _require(self, "minimum", _is_count(self.minimum, 1), "give a count from 1 on")
        _require(self, "window_s", _is_in(self.window_s, 0.0) and self.window_s > 0.0, "give seconds above 0")
        _require(self, "open_s", _is_in(self.open_s, 0.0) and self.open_s > 0.0, "give seconds above 0")
        _require(self, "probes", _is_count(self.probes, 1), "give a count from 1 on")


@dataclass(frozen=True)
class Cold:
    """Of a replica made cold the first `requests` starts, and all within `seconds`, take `slowdown` times as long."""

    requests: int = 0
    seconds: float = 0.0
    slowdown: float = 1.0

    def __post_init__(self) -> None:
        _require(self, "requests", _is_count(self.requests, 0), "give a count from 0 on")
        _require(self, "seconds", _is_in(self.seconds, 0.0), "give seconds from 0 on")
        _require(self, "slowdown", _is_in(self.slowdown, 0.0) and self.slowdown > 0.0, "give a factor above 0")


@dataclass(frozen=True)
class Version:
    """The replicas of one model version; `slowdown` multiplies service times, `error_ratio` of answers are errors."""

    replicas: int
    servers_per_replica: int = 1
    slowdown: float = 1.0
    error_ratio: float = 0.0

    def __post_init__(self) -> None:
        _require(self, "replicas", _is_count(self.replicas, 0), "give a count from 0 on")
        _require(self, "servers_per_replica", _is_count(self.servers_per_replica, 1), "give a count from 1 on")
        _require(self, "slowdown", self.slowdown > 0.0, "give a factor above 0")
        _require(self, "error_ratio", _is_in(self.error_ratio, 0.0, 1.0), "give a share from 0 to 1")


@dataclass(frozen=True)
class PoolSettings:
    """
    A serving pool and its callers. `routing` "shared" has one first-come-first-served queue per version, the others one
    per replica. `queue_limit` counts waiting places of each queue. Priority class 0 goes first and interrupts nobody.
    A request is good if served within `slo_s` of its first arrival. More than `max_in_system` inside is overload.
    """

    service: Distribution
    versions: tuple[Version, ...]
    routing: Routing = "shared"
    queue_limit: int | None = None
    client: Client = Client()
    priorities: int = 1
    shedding: Shedding | None = None
    rate_limit: RateLimit | None = None
    breaker: CircuitBreaker | None = None
    cold: Cold = Cold()
    slo_s: float = math.inf
    green_share: float = 0.0
    bucket_s: float = 60.0
    max_in_system: int = 1_000_000

    def __post_init__(self) -> None:
        _require(self, "versions", 1 <= len(self.versions) <= 2, "give one version, or blue and green")
        _require(self, "versions", self.versions[0].replicas > 0, "blue needs at least one replica; close it later")
        _require_choice(self, "routing", Routing)
        limit = self.queue_limit
        _require(self, "queue_limit", limit is None or _is_count(limit, 0), "give a count, or None")
        _require(self, "priorities", _is_count(self.priorities, 1) and self.priorities <= 8, "give 1 to 8 classes")
        shed = self.shedding
        covers = shed is None or len(shed.queue_lengths) == self.priorities
        _require(self, "shedding", covers, "give one length per class of priorities")
        _require(self, "slo_s", self.slo_s > 0.0, "give seconds above 0")
        _require(self, "green_share", _is_in(self.green_share, 0.0, 1.0), "give a share from 0 to 1")
        has_taker = self.green_share == 0.0 or len(self.versions) == 2
        _require(self, "green_share", has_taker, "there is no green version to take it")
        _require(self, "bucket_s", _is_in(self.bucket_s, 0.0) and self.bucket_s > 0.0, "give seconds above 0")
        _require(self, "max_in_system", _is_count(self.max_in_system, 1), "give a count from 1 on")

    @classmethod
    def simple(cls, servers: int, service: Distribution, **rest: Any) -> Self:
        """Return a pool of one version and one replica with that many servers, behind a shared queue."""
        unknown = sorted(set(rest) - {field.name for field in fields(cls)} | {"versions"} & set(rest))
        if unknown:
            raise InvalidWorkload(f"PoolSettings.simple takes no {unknown[0]!r}; it takes the fields of PoolSettings")
        return cls(service, (Version(1, servers),), **rest)
