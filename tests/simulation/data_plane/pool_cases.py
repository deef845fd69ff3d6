"""Random pools, days and control changes for the tests of the serving pool; start at `cases`."""

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from simulation.data_plane.pool import ServingPool
from simulation.data_plane.pool_settings import (
    Backoff,
    CircuitBreaker,
    Client,
    Cold,
    Distribution,
    PoolSettings,
    RateLimit,
    RetryBudget,
    Shedding,
    Version,
)

GRID = 2.0**-10
DISTRIBUTIONS = (
    Distribution("deterministic", 0.5),
    Distribution("exponential", 0.75),
    Distribution("erlang", 0.5, 0.5),
    Distribution("erlang", 0.5, 0.3),
    Distribution("lognormal", 0.5, 4.0),
    Distribution("hyperexponential", 0.5, 4.0),
)


def seconds(low: float, high: float) -> st.SearchStrategy[float]:
    """Times on a grid that floating point represents, with ties likely."""
    fine = st.integers(int(low / GRID), int(high / GRID)).map(lambda n: n * GRID)
    coarse = st.integers(math.ceil(low * 4), int(high * 4)).map(lambda n: n / 4)
    return st.one_of(coarse, fine)


@dataclass(frozen=True)
class Case:
    """A pool, a day, and what is done to it when."""

    settings: PoolSettings
    seed: int
    offers: dict[str, Any]
    changes: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)
    end_s: float = 20.0

    def play(self, pool: Any, cuts: list[float] | None = None, chunks: list[int] | None = None) -> Any:
        """Drive a pool, or its twin, through the day, cut at further moments and offered in chunks."""
        n = len(self.offers["arrivals_s"])
        edges = sorted({0, n, *(k for k in chunks or [] if k < n)})
        for low, high in pairwise(edges):
            part = {name: values[low:high] for name, values in self.offers.items()}
            pool.offer(part.pop("arrivals_s"), **part)
        moments = [(at_s, k, name, change) for k, (at_s, name, change) in enumerate(self.changes)]
        moments += [(cut_s, -1, "", {}) for cut_s in cuts or []]
        for at_s, _, name, change in sorted(moments, key=lambda moment: moment[:2]):
            pool.advance(at_s)
            if name:
                change = dict(change)
                first = [change.pop("value")] if "value" in change else []
                getattr(pool, name)(*first, **change)
            if isinstance(pool, ServingPool):
                pool.check_conservation()
        pool.advance(self.end_s)
        return pool


@st.composite
def clients(draw: st.DrawFn) -> Client:
    """Callers of all sorts."""
    jitter = draw(st.sampled_from(["none", "none", "ratio", "full", "exponential"]))
    base_s = draw(seconds(0.0, 2.0))
    retries = draw(st.sampled_from([0, 1, 2, 3, None]))
    if retries is None and base_s < 0.25:
        base_s = 0.25
    return Client(
        timeout_s=draw(st.none() | seconds(0.25, 3.0)),
        cancellation=draw(st.sampled_from(["none", "at_start", "queued", "all"])),
        retries=retries,
        retry_on=tuple(draw(st.sets(st.sampled_from(["timeout", "rejection", "error"]), min_size=1))),
        backoff=Backoff(
            base_s, draw(st.sampled_from([1.0, 2.0, 1.5])), 4.0, jitter, draw(st.sampled_from([0.25, 1.0]))
        ),
        budget=draw(
            st.none() | st.builds(RetryBudget, st.sampled_from([0.0, 0.125, 0.5]), st.sampled_from([0.0, 2.0]))
        ),
        patience=draw(
            st.none() | st.sampled_from([Distribution("deterministic", 0.5), Distribution("exponential", 1.0)])
        ),
    )


@st.composite
def pools(draw: st.DrawFn) -> PoolSettings:
    """Pools of all sorts, small enough to be overrun."""
    priorities = draw(st.integers(1, 3))
    lengths = st.lists(st.none() | st.integers(0, 3), min_size=priorities, max_size=priorities).map(tuple)
    versions = [Version(draw(st.integers(1, 3)), draw(st.integers(1, 3)))]
    if draw(st.booleans()):
        green = Version(draw(st.integers(0, 2)), draw(st.integers(1, 2)), draw(st.sampled_from([1.0, 0.5, 1.75])), 0.25)
        versions.append(green)
    breakers = st.builds(
        CircuitBreaker,
        st.sampled_from([0.25, 0.5, 1.0]),
        st.integers(1, 4),
        st.sampled_from([1.0, 2.5]),
        seconds(0.25, 2.0),
        st.integers(1, 2),
    )
    return PoolSettings(
        service=draw(st.sampled_from(DISTRIBUTIONS)),
        versions=tuple(versions),
        routing=draw(st.sampled_from(["shared", "shared", "round_robin", "least_loaded", "power_of_two"])),
        queue_limit=draw(st.none() | st.integers(0, 4)),
        client=draw(clients()),
        priorities=priorities,
        shedding=draw(st.none() | st.builds(Shedding, lengths, st.sampled_from(["newest", "expired_first"]))),
        rate_limit=draw(
            st.none() | st.builds(RateLimit, st.sampled_from([0.5, 2.0, 4.0]), st.sampled_from([1.0, 3.5]))
        ),
        breaker=draw(st.none() | breakers),
        cold=draw(st.sampled_from([Cold(), Cold(2, 0.0, 2.0), Cold(0, 1.5, 3.0), Cold(1, 0.5, 1.25)])),
        slo_s=draw(st.sampled_from([math.inf, 1.0])),
        green_share=draw(st.sampled_from([0.0, 0.375, 1.0])) if len(versions) == 2 else 0.0,
        bucket_s=4.0,
    )


WORK = st.sampled_from(["drain", "evict_and_requeue", "hand_over", "fail"])


@st.composite
def changes(draw: st.DrawFn, settings: PoolSettings) -> tuple[str, dict[str, Any]]:
    """One control change that a pool of these settings accepts."""
    version = draw(st.integers(0, len(settings.versions) - 1))
    factor = draw(st.sampled_from([1.0, 2.0, 0.5, 1.3, math.inf]))
    known = settings.versions[version].replicas
    name = draw(
        st.sampled_from(
            ["capacity", "capacity", "replica", "replica", "slowdown", "client", "limit", "share", "error", "rate"]
        )
    )
    if name == "capacity":
        change = {"version": version, "running_work": draw(WORK), "cold": draw(st.booleans())}
        which = draw(st.sampled_from(["replicas", "servers_per_replica"]))
        return "set_capacity", {**change, which: draw(st.integers(0 if which == "replicas" else 1, 4))}
    if name == "replica" and known:
        change = {"value": draw(st.integers(0, known - 1)), "version": version, "running_work": draw(WORK)}
        change["cold"] = draw(st.booleans())
        return "set_replica", {**change, **draw(st.sampled_from([{"up": True}, {"up": False}, {"slowdown": factor}]))}
    if name == "client":
        return "set_client", {"value": draw(clients())}
    if name == "limit":
        return "set_queue_limit", {"value": draw(st.none() | st.integers(0, 3))}
    if name == "share" and len(settings.versions) == 2:
        return "set_green_share", {"value": draw(st.sampled_from([0.0, 0.5, 1.0]))}
    if name == "error":
        return "set_error_ratio", {"value": draw(st.sampled_from([0.0, 0.5])), "version": version}
    if name == "rate":
        return "set_rate_limit", {"value": draw(st.none() | st.builds(RateLimit, st.just(1.5), st.just(2.0)))}
    return "set_slowdown", {"value": factor, "version": draw(st.sampled_from([None, version]))}


@st.composite
def cases(draw: st.DrawFn, most_requests: int = 40) -> Case:
    """A whole day of up to 16 s."""
    settings = draw(pools())
    arrivals = sorted(draw(st.lists(seconds(0.0, 14.0), min_size=1, max_size=most_requests)))
    n = len(arrivals)
    offers: dict[str, Any] = {"arrivals_s": arrivals}
    optional = {
        "services_s": seconds(0.0, 3.0),
        "priorities": st.integers(0, settings.priorities - 1),
        "patience_s": st.just(math.nan) | seconds(0.0, 2.0),
        "versions": st.integers(-1, len(settings.versions) - 1),
    }
    for name, values in optional.items():
        if draw(st.booleans()):
            offers[name] = draw(st.lists(values, min_size=n, max_size=n))
    moments = sorted(draw(st.lists(seconds(0.0, 14.0), max_size=4)))
    return Case(settings, draw(st.integers(0, 2**40)), offers, [(at_s, *draw(changes(settings))) for at_s in moments])
