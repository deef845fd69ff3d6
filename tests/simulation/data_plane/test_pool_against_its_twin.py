"""Is it the algorithm? The compiled pool against plain Python, to the bit, over random pools, days and changes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.data_plane.pool import ServingPool
from simulation.data_plane.pool_layout import COUNTERS
from simulation.data_plane.pool_settings import Client, Distribution, PoolSettings
from tests.simulation.data_plane.pool_cases import Case, cases, seconds
from tests.simulation.reference_pool import ReferencePool

TICK = 2**20


def assert_same(pool: ServingPool, twin: ReferencePool) -> None:
    """Compare all that both know."""
    result, records = pool.result(), pool.records()
    arrived = [request for request in twin.requests if request.at_s < twin.now_s]
    for name in COUNTERS[: COUNTERS.index("latency_ticks")]:
        assert result.counters[name] == twin.counters[name], name
    assert [records.OUTCOMES[code] for code in records.outcome] == [request.outcome for request in arrived]
    np.testing.assert_array_equal(records.ends_s, [request.end_s for request in arrived])
    np.testing.assert_array_equal(records.starts_s, [request.start_s for request in arrived])
    np.testing.assert_array_equal(records.attempts, [request.attempts for request in arrived])
    for bucket in range(len(result.minutes)):
        for name in ("attempts", "good", "completed", "retries"):
            expected = sum(twin.per_bucket[bucket, version, name] for version in range(len(result.by_version)))
            assert result.minutes[name][bucket] == expected, (name, bucket)
    inside = twin.inside_ticks + sum(int(twin.now_s * TICK) - int(a.arrived_s * TICK) for a in twin.inside)
    assert round((result.mean_queue + result.mean_busy) * twin.now_s * TICK) == inside
    running = [server for server in twin.servers if server.attempt]
    assert result.counters["running"] == len(running)
    assert result.counters["waiting"] == sum(len(queue) for queue in twin.queues)
    finish_s = [s for s in pool._machine.s.finish_s[pool._machine.s.finish_s.shape[0] // 2 :].tolist() if s < math.inf]
    assert sorted(finish_s) == sorted(server.finish_s for server in running if server.finish_s < math.inf)


@settings(max_examples=400, deadline=None)
@given(cases())
def test_the_compiled_pool_equals_its_plain_twin_bit_for_bit(case: Case) -> None:
    pool = case.play(ServingPool(case.settings, case.seed, records=True))
    pool.check_conservation()
    assert_same(pool, case.play(ReferencePool(case.settings, case.seed)))


@settings(max_examples=150, deadline=None)
@given(cases(), st.lists(seconds(0.0, 18.0), max_size=5), st.lists(st.integers(0, 40), max_size=3))
def test_a_run_cut_anywhere_equals_one_run_bit_for_bit(case: Case, cuts: list[float], chunks: list[int]) -> None:
    whole = case.play(ServingPool(case.settings, case.seed, records=True))
    parts = case.play(ServingPool(case.settings, case.seed, records=True), cuts, chunks)
    assert whole.fingerprint() == parts.fingerprint()


@pytest.mark.parametrize("change", ["slower", "evicted", "standing"])
def test_a_deadline_that_the_work_would_have_met_comes_back_when_a_change_delays_the_work(change: str) -> None:
    pools = []
    for make in (lambda pool: ServingPool(pool, 1, records=True), lambda pool: ReferencePool(pool, 1)):
        client = Client(timeout_s=3.0, cancellation="queued", retries=1)
        pool = make(PoolSettings.simple(1, Distribution("exponential", 1.0), client=client))
        pool.offer([0.0, 0.5], [1.0, 1.0])
        pool.advance(1.5)  # the second began at 1, after a wait, and would be done at 2, before 3.5
        if change == "evicted":
            pool.set_capacity(replicas=0, running_work="hand_over")
        else:
            pool.set_slowdown(10.0 if change == "slower" else math.inf)
        pool.advance(8.0)
        pools.append(pool)
    pools[0].check_conservation()
    assert pools[0].result().counters["timeouts"] > 0
    assert_same(*pools)
