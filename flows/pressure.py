"""
Pressure: what the gateway says of its users every ten seconds, judged by the very rules that the simulator plays.

Start at `Pressure.look`. The simulated controller sees each look ten seconds late; this one judges it at once, so it
is never later than the night that was validated.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from flows.adapters.gateway_client import GatewayRefused, GatewayUnreachable
from flows.domain.triggers import make_rules
from simulation.plan import Plan
from simulation.rules import Decision, Observation, Rules

LOOK_S = 10.0  # as the simulated controller looks; a test holds both together
_TOO_MANY = 429


@dataclass(frozen=True)
class Reading:
    """A gateway's counters at one moment: requests answered and failed, latencies in buckets, and who waits."""

    n_answered: float
    n_failed: float
    n_within: Mapping[float, float]  # upper bound in seconds -> answers at or below it, cumulative
    n_waiting: float


def read_page(page: str) -> Reading:
    """Return the counters of a page that Prometheus scrapes; what is not on it counts as zero."""
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    rows = [s for s in samples if s.name == "lull_gateway_rows_total"]
    statuses = [(int(s.labels["status"]), s.value) for s in rows]
    buckets = [s for s in samples if s.name == "lull_gateway_latency_seconds_bucket"]
    return Reading(
        n_answered=sum(n for status, n in statuses if status == 200),
        n_failed=sum(n for status, n in statuses if status >= 500 or status == _TOO_MANY),
        n_within={float(s.labels["le"]): s.value for s in buckets},
        n_waiting=sum(s.value for s in samples if s.name in ("lull_gateway_reading", "lull_gateway_waiting")),
    )


def observe(before: Reading, after: Reading, *, span_s: float, latency_ms: float) -> Observation:
    """
    Return what happened between two readings, as the rules know it.

    Parameters
    ----------
    span_s : seconds between the two
    latency_ms : an answer that took longer is bad, by the plan's objective

    Notes
    -----
    Quantiles are interpolated within the gateway's buckets; NaN when nothing was answered. A gateway that restarted
    counts from zero: its readings say what happened since. Job and clock are filled in by `Pressure`.
    """
    if after.n_answered < before.n_answered:
        before = Reading(0.0, 0.0, {}, 0.0)
    n_within = {bound: n - before.n_within.get(bound, 0.0) for bound, n in sorted(after.n_within.items())}
    answered, failed = after.n_answered - before.n_answered, max(0.0, after.n_failed - before.n_failed)
    n = answered + failed
    n_late = answered * (1.0 - _ratio_within(n_within, latency_ms / 1000.0))
    return Observation(
        at_s=0.0,
        span_s=span_s,
        n_finished=int(n),
        load_rps=n / span_s,
        p50_ms=1000.0 * _quantile_s(n_within, 0.5),
        p99_ms=1000.0 * _quantile_s(n_within, 0.99),
        bad_ratio=(n_late + failed) / n if n else 0.0,
        error_ratio=failed / n if n else 0.0,
        queue_length=after.n_waiting,
        is_training=True,
        is_paused=False,
        seconds_to_cutoff=math.nan,
    )


class Pressure:
    """
    Looks at the gateway and lets the plan's triggers judge; keeps what the rules remember.

    Parameters
    ----------
    page : returns the gateway's metrics page, or raises `GatewayUnreachable` or `GatewayRefused`
    timeout_s : how long `page` waits; a gateway that is slower than that answers nobody in time
    """

    def __init__(self, plan: Plan, page: Callable[[], str], *, timeout_s: float, rules: Rules | None = None) -> None:
        self._plan, self._page, self._timeout_s = plan, page, timeout_s
        self._rules = rules or make_rules(plan.triggers)
        self._memory: Any = None
        self._before: tuple[float, Reading] | None = None
        self.blind = ""  # why the last look saw nothing, or empty

    def look(self, at_s: float, *, is_paused: bool, seconds_to_cutoff: float) -> Decision | None:
        """Judge what happened since the look before; None on the first look, and when nothing could be seen."""
        seen = self._see(at_s)
        if seen is None:
            return None
        told = replace(seen, at_s=at_s, is_paused=is_paused, seconds_to_cutoff=seconds_to_cutoff)
        decision, self._memory = self._rules(told, self._memory)
        return decision

    def _see(self, at_s: float) -> Observation | None:
        self.blind = ""
        try:
            reading = read_page(self._page())
        except (GatewayUnreachable, GatewayRefused) as problem:
            self.blind, self._before = str(problem), None
            # Too slow is seen: the page took longer than this, and so do the users' answers. Gone is not seen.
            return self._drowning() if isinstance(problem.__cause__, httpx.TimeoutException) else None
        before, self._before = self._before, (at_s, reading)
        if before is None or at_s <= before[0]:
            return None
        return observe(before[1], reading, span_s=at_s - before[0], latency_ms=self._plan.serving.slo.latency_ms)

    def _drowning(self) -> Observation:
        ms = 1000.0 * self._timeout_s
        return Observation(
            at_s=0.0, span_s=self._timeout_s, n_finished=0, load_rps=math.nan, p50_ms=ms, p99_ms=ms,
            bad_ratio=math.nan, error_ratio=math.nan, queue_length=math.nan, is_training=True, is_paused=False,
            seconds_to_cutoff=math.nan,
        )  # fmt: skip


def _ratio_within(n_within: Mapping[float, float], bound_s: float) -> float:
    """Return the share of answers at or below a bound, straight between the buckets; 1 without answers."""
    total = max(n_within.values(), default=0.0)
    if not total:
        return 1.0
    for (low, n_low), (high, n_high) in pairwise([(0.0, 0.0), *n_within.items()]):
        if bound_s <= high:
            share = 0.0 if math.isinf(high) else (bound_s - low) / (high - low)
            return (n_low + share * (n_high - n_low)) / total
    return 1.0


def _quantile_s(n_within: Mapping[float, float], q: float) -> float:
    """Return a quantile in seconds, straight within its bucket; in the last, open one its lower bound."""
    total = max(n_within.values(), default=0.0)
    if not total:
        return math.nan
    for (low, n_low), (high, n_high) in pairwise([(0.0, 0.0), *n_within.items()]):
        if n_high >= q * total:
            return low if math.isinf(high) else low + (high - low) * (q * total - n_low) / (n_high - n_low)
    return math.nan
