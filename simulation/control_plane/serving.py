"""From the serving section of a plan to the settings of a simulated pool; start at `pool_settings`."""

import math

from simulation.data_plane.pool_settings import (
    Backoff,
    CircuitBreaker,
    Client,
    Cold,
    Distribution,
    PoolSettings,
    RateLimit,
    RetryBudget,
    Version,
)
from simulation.plan import Plan
from simulation.scenario import ClientsRetry, Scenario

# A pool with more inside than it could finish in this time, were it left alone, is called overloaded.
_HOPELESS_S = 1800.0


def pool_settings(plan: Plan, scenario: Scenario) -> PoolSettings:
    """
    Return the pool of a plan, with its callers as the scenario says they behave; green is there, and closed.

    Raises
    ------
    InvalidWorkload
        If the plan's numbers are none that the pool can be played with; it names the field and the value.
    """
    serving = plan.serving
    service = serving.service_time
    limit, breaker, cold = serving.rate_limit, serving.breaker, serving.cold_start
    return PoolSettings(
        service=Distribution(service.distribution, service.mean_ms / 1000, service.scv),
        versions=(Version(serving.replicas, serving.servers_per_replica), Version(0, serving.servers_per_replica)),
        routing=serving.routing,
        queue_limit=serving.queue_limit,
        client=_client(plan, scenario),
        rate_limit=None if limit is None else RateLimit(limit.rate_rps, limit.burst),
        breaker=None
        if breaker is None
        else CircuitBreaker(breaker.failure_ratio, breaker.minimum, breaker.window_s, breaker.open_s, breaker.probes),
        cold=Cold(cold.requests, cold.seconds, cold.slowdown),
        slo_s=serving.slo.latency_ms / 1000,
        max_in_system=max(20_000, math.ceil(_HOPELESS_S * serving.capacity_rps)),
    )


def _client(plan: Plan, scenario: Scenario) -> Client:
    given = plan.serving.client
    timeout_ms, retries, backoff_ms = given.timeout_ms, given.retries, given.backoff_ms
    for event in scenario.events:
        if isinstance(event, ClientsRetry):
            timeout_ms, retries, backoff_ms = event.timeout_ms, event.retries, event.backoff_ms
    return Client(
        timeout_s=None if timeout_ms is None else timeout_ms / 1000,
        cancellation=given.cancellation,
        retries=retries,
        retry_on=given.retry_on,
        backoff=Backoff(
            base_s=backoff_ms / 1000,
            factor=given.backoff_factor,
            jitter="ratio" if given.jitter_ratio else "none",
            jitter_ratio=given.jitter_ratio,
        ),
        budget=None if given.retry_budget_ratio is None else RetryBudget(given.retry_budget_ratio),
    )
