"""The serving pool by its definition: cases worked out by hand, laws, its FCFS special case, and what it refuses."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config as numba_config

from simulation.data_plane import pool_layout as at
from simulation.data_plane import serve_queue
from simulation.data_plane.histogram import LatencyHistogram
from simulation.data_plane.pool import Overloaded, ServingPool
from simulation.data_plane.pool_report import ConservationError
from simulation.data_plane.pool_settings import (
    Backoff,
    Client,
    Distribution,
    PoolSettings,
    RetryBudget,
    Version,
)
from simulation.errors import InvalidWorkload
from simulation.theory_golden import DEPARTURES_S, WAITS_S, pool_departures, pool_waits, recursion_departures
from tests.simulation.data_plane.fcfs_cases import Case, cases
from tests.simulation.data_plane.test_pool_against_its_twin import assert_same
from tests.simulation.reference_pool import ReferencePool

ONE_SECOND = Distribution("deterministic", 1.0)


def a_pool(servers: int = 1, service: Distribution = ONE_SECOND, seed: int = 1, **rest: Any) -> ServingPool:
    return ServingPool(PoolSettings.simple(servers, service, **rest), seed, records=True)


# Worked out by hand


@pytest.mark.parametrize("servers", [1, 2, 3])
def test_the_waits_worked_out_by_hand_come_out(servers):
    assert pool_waits(servers) == list(WAITS_S[servers])


def test_three_requests_drain_through_a_capacity_that_comes_and_goes():
    assert pool_departures() == recursion_departures() == list(DEPARTURES_S)


@pytest.mark.parametrize(("running_work", "ends_s"), [("drain", 5.0), ("evict_and_requeue", 15.0), ("hand_over", 12.0)])
def test_an_evicted_request_begins_anew_and_a_handed_over_one_goes_on(running_work, ends_s):
    pool = a_pool()
    pool.offer([0.0], [5.0])
    pool.advance(3.0)
    pool.set_capacity(replicas=0, running_work=running_work)
    pool.advance(10.0)
    pool.set_capacity(replicas=1)
    pool.finish()
    assert pool.records().ends_s.tolist() == [ends_s]


def test_evicted_work_whose_length_was_drawn_is_drawn_anew():
    ends_s = []
    for evicts in (False, True):
        pool = a_pool(service=Distribution("exponential", 5.0))
        pool.offer([0.0])
        pool.advance(0.25)
        if evicts:
            pool.set_capacity(replicas=0, running_work="evict_and_requeue")
            pool.set_capacity(replicas=1)
        pool.finish()
        ends_s.append(pool.records().ends_s[0])
    assert ends_s[0] > 0.25
    assert ends_s[1] - 0.25 not in (ends_s[0], ends_s[0] - 0.25)


def test_slowing_stretches_only_what_is_left():
    pool = a_pool()
    pool.offer([0.0], [4.0])
    pool.advance(1.0)
    pool.set_slowdown(2.0)
    pool.finish()
    assert pool.records().ends_s.tolist() == [1.0 + 3.0 * 2.0]


def test_work_that_nobody_waits_for_is_served_all_the_same():
    """One server, services of 3 s, patience of the client 2 s, one retry: 4 attempts of 2 requests take 12 s."""
    pool = a_pool(client=Client(timeout_s=2.0, retries=1))
    pool.offer([0.0, 0.0], [3.0, 3.0])
    pool.finish()
    result = pool.result()
    assert (pool.now_s, result.counters["completed"], result.counters["served"]) == (12.0, 4, 0)
    assert (result.counters["timeouts"], result.counters["timed_out"]) == (4, 2)


def test_a_budget_of_no_tokens_allows_no_retry_and_one_of_a_half_every_second():
    for ratio, burst, retries in ((0.0, 0.0, 0), (0.5, 1.0, 2)):
        pool = a_pool(client=Client(timeout_s=2.0, retries=3, budget=RetryBudget(ratio, burst)))
        pool.offer([0.0, 10.0, 20.0, 30.0], [3.0] * 4)
        pool.finish()
        assert pool.result().counters["retries"] == retries, ratio


# Laws


@settings(deadline=None, max_examples=150)
@given(cases())
def test_without_retries_it_is_the_first_come_first_served_queue_bit_for_bit(case: Case) -> None:
    pool = a_pool(case.servers, queue_limit=case.room)
    pool.offer(case.arrivals, case.services, patience_s=case.patience)
    pool.finish()
    records, queue = pool.records(), serve_queue(
        case.arrivals, case.services, case.servers, patience_s=case.patience, room=case.room
    )  # fmt: skip
    assert [records.OUTCOMES[code] for code in records.outcome] == queue.outcome.tolist()
    np.testing.assert_array_equal(records.starts_s, queue.starts_s)
    served = records.is_outcome("served")
    np.testing.assert_array_equal(records.ends_s[served], queue.departures_s[served])


@pytest.mark.parametrize(("load", "servers"), [(0.8, 1), (1.8, 2), (9.0, 10), (95.0, 100)])
def test_long_random_days_equal_the_recursion_bit_for_bit(load, servers):
    n = 500 if numba_config.DISABLE_JIT else 100_000
    rng = np.random.default_rng(servers)
    arrivals, services = np.cumsum(rng.exponential(1 / load, n)), rng.exponential(1.0, n)
    pool = a_pool(servers)
    pool.offer(arrivals, services)
    pool.finish()
    np.testing.assert_array_equal(pool.records().starts_s, serve_queue(arrivals, services, servers).starts_s)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=25),
    st.integers(1, 3),
    st.integers(1, 4),
    st.sampled_from([None, 2.0, 3.0]),
    st.sampled_from([None, 0, 2]),
)
def test_littles_law_is_an_identity(arrivals, servers, mean_s, timeout_s, limit) -> None:
    """The time that requests spend until they end is the integral of the number in flight, both on whole seconds."""
    client = Client(timeout_s=timeout_s, retries=1, backoff=Backoff(1.0))
    pool = a_pool(servers, Distribution("deterministic", float(mean_s)), client=client, queue_limit=limit)
    pool.offer(np.array(sorted(arrivals), float))
    integral = 0
    for second in range(200):
        pool.advance(second + 0.5)
        integral += pool.result().counters["in_flight"]
        pool.check_conservation()
    assert pool.result().counters["in_flight"] == 0
    assert (pool.records().ends_s - sorted(arrivals)).sum() == integral


def test_room_that_had_to_grow_changes_nothing():
    """Thousands of open attempts and retries: slots and agendas start with room for 1,024."""
    n = 400 if numba_config.DISABLE_JIT else 1200
    client = Client(timeout_s=0.5, retries=2, backoff=Backoff(2.0, jitter="ratio", jitter_ratio=0.5))
    given_settings = PoolSettings.simple(3, Distribution("exponential", 0.25), client=client)
    pool, twin = ServingPool(given_settings, 5, records=True), ReferencePool(given_settings, 5)
    room = pool._machine.s.slot_i.shape[0], pool._machine.s.retry_heap_s.shape[0]
    for each in (pool, twin):
        each.offer(np.arange(n) * 2.0**-10)
        each.advance(5.0)
    if not numba_config.DISABLE_JIT:
        assert pool._machine.s.slot_i.shape[0] > room[0]
        assert pool._machine.s.retry_heap_s.shape[0] > room[1]
    pool.check_conservation()
    assert_same(pool, twin)


@pytest.mark.parametrize("longest_s", [1.0, 86_400.0])
def test_a_latency_quantile_is_right_within_one_percent_up_to_a_whole_day(longest_s):
    rng = np.random.default_rng(3)
    latencies = np.exp(rng.uniform(np.log(1e-4), np.log(longest_s), 2001))
    histogram = LatencyHistogram.of(latencies)
    for level in (0.001, 0.5, 0.95, 0.99, 0.999, 1.0):
        true = np.quantile(latencies, level, method="inverted_cdf")
        assert histogram.quantile(level) == pytest.approx(true, rel=0.01)
    assert math.isnan(LatencyHistogram.empty().quantile(0.5))


@pytest.mark.parametrize(
    ("kind", "scv"),
    [("deterministic", 0.0), ("exponential", 1.0), ("erlang", 0.5), ("erlang", 0.3), ("lognormal", 4.0),
     ("hyperexponential", 4.0)],
)  # fmt: skip
def test_service_draws_have_their_mean_and_spread(kind, scv):
    n = 4000
    pool = a_pool(1, Distribution(kind, 2.0, scv))
    pool.offer(np.arange(n) * 1000.0)  # each alone, so that its time in the pool is its service
    pool.finish()
    draws = pool.records().ends_s - np.arange(n) * 1000.0
    assert abs(draws.mean() - 2.0) <= 4 * 2.0 * math.sqrt(scv / n) + 1e-6
    if 0 < scv <= 1:  # the sample variance of heavy tails says little at this size
        squares = (draws - 2.0) ** 2
        assert abs(squares.mean() - 4.0 * scv) <= 4 * squares.std() / math.sqrt(n)


@pytest.mark.parametrize("place", [at.N_CLIENTS, at.SOJOURN_TICKS], ids=["a request", "time spent inside"])
def test_a_pool_that_loses_or_invents_something_says_so(place):
    pool = a_pool()
    pool.offer(np.zeros(3))
    pool.advance(1.5)
    pool.check_conservation()
    pool._machine.s.i[place] += 1
    with pytest.raises(ConservationError, match="report this"):
        pool.check_conservation()


# Does it refuse well?


def test_a_backlog_past_all_bounds_stops_the_pool_and_says_when():
    pool = a_pool(max_in_system=2048)
    pool.offer(np.arange(4000) * 2.0**-10)
    pool.advance(10.0)
    assert pool.is_overloaded
    assert 2.0 <= pool.overloaded_at_s < 2.01  # 2,048 more than were served, one at a time
    assert pool.result().overloaded_at_s == pool.overloaded_at_s
    with pytest.raises(Overloaded, match="over 2048 requests are inside"):
        pool.offer([20.0])


@pytest.mark.parametrize(
    ("attempt", "sentence"),
    [
        (lambda: PoolSettings.simple(0, ONE_SECOND), "servers_per_replica is 0"),
        (lambda: PoolSettings.simple(1, ONE_SECOND, colour="red"), "takes no 'colour'"),
        (lambda: PoolSettings(ONE_SECOND, (Version(0),)), "blue needs at least one replica"),
        (lambda: Distribution("hyperexponential", 1.0, 0.5), "a hyperexponential has 1 or more"),
        (lambda: Distribution("erlang", 1.0, 2.0), "an Erlang has 0.001 to 1"),
        (lambda: Distribution("exponential", 0.0), "mean_s is 0.0"),
        (lambda: Client(retries=None), "retries without end need a backoff above 0"),
        (lambda: Client(timeout_s=0.0), "timeout_s is 0.0"),
        (lambda: ServingPool(PoolSettings.simple(1, ONE_SECOND), -1), "seed"),
        (lambda: a_pool().offer([1.0, 0.5]), "sort the arrivals"),
        (lambda: a_pool().offer([math.nan]), r"arrivals_s\[0\] is .*nan"),
        (lambda: a_pool().offer([math.inf]), "give seconds up to 1e9"),
        (lambda: a_pool().offer([1.0], [1.0, 2.0]), r"services_s has shape \(2,\)"),
        (lambda: a_pool().offer([1.0], [-1.0]), r"services_s\[0\] is .*-1.0"),
        (lambda: a_pool().offer([1.0], patience_s=[-1.0]), r"patience_s\[0\]"),
        (lambda: a_pool().offer([1.0], priorities=[1]), "a class from 0 to 0"),
        (lambda: a_pool().offer([1.0], versions=[1]), "versions"),
        (lambda: played().advance(4.0), "give seconds from now_s"),
        (lambda: played().offer([4.0]), "the next arrival cannot be before"),
        (lambda: a_pool().set_capacity(replicas=-1), "replicas is -1"),
        (lambda: a_pool().set_capacity(replicas=0), "capacity goes down; choose one of"),
        (lambda: a_pool().set_capacity(replicas=0, running_work="kill"), "running_work is 'kill'"),
        (lambda: a_pool().set_capacity(version=1, replicas=1), "version 1 is not in this pool"),
        (lambda: a_pool().set_replica(3, up=True), "version 0 has no replica 3"),
        (lambda: a_pool().set_slowdown(0.0), "give a factor above 0"),
        (lambda: a_pool().set_slowdown(math.nan), "give a factor above 0"),
        (lambda: a_pool().set_error_ratio(1.5), "give a share from 0 to 1"),
        (lambda: a_pool().set_green_share(0.5), "version 1 is not in this pool"),
        (lambda: a_pool().set_queue_limit(-1), "limit is -1"),
        (lambda: endless().finish(), "use advance"),
        (lambda: ServingPool(PoolSettings.simple(1, ONE_SECOND), 1).records(), "records=True"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(attempt, sentence):
    with pytest.raises(InvalidWorkload, match=sentence):
        attempt()


def played() -> ServingPool:
    pool = a_pool()
    pool.offer([1.0, 3.0])
    pool.advance(5.0)
    return pool


def endless() -> ServingPool:
    return a_pool(client=Client(retries=None, backoff=Backoff(1.0)))
