"""The cheap look at a pool sees what the thorough observation sees, however often either is taken."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.data_plane.pool import ServingPool
from simulation.data_plane.pool_settings import GREEN, Backoff, Client, Distribution, PoolSettings, Version


def busy_pool(seed: int) -> ServingPool:
    """Return a pool of two versions with timeouts, retries, rejections and errors, and a minute of arrivals."""
    settings_ = PoolSettings(
        service=Distribution("lognormal", 0.1, 4.0),
        versions=(Version(1, 2, error_ratio=0.05), Version(1, 1, error_ratio=0.2)),
        queue_limit=6,
        client=Client(timeout_s=0.4, retries=2, backoff=Backoff(0.05)),
        slo_s=0.3,
        green_share=0.3,
        bucket_s=7.0,
    )
    pool = ServingPool(settings_, seed)
    pool.offer(np.cumsum(np.full(1500, 0.04)))
    return pool


@given(seed=st.integers(0, 50), cuts=st.lists(st.floats(0.0, 59.0), max_size=6))
@settings(deadline=None, max_examples=30)
def test_a_look_sees_what_an_observation_sees(seed: int, cuts: list[float]) -> None:
    pool = busy_pool(seed)
    look, watch = pool.look(), pool.watch()
    for moment in [*sorted(cuts), 60.0]:
        pool.advance(moment)
        sight, seen = look.take(), watch.observe()
        assert sight[:5] == (seen.attempts, seen.finished, seen.errors, seen.rejected, seen.timeouts)
        assert sight.queue_length == seen.queue_length
        if seen.finished == 0:
            assert math.isnan(sight.p50_s)
            assert math.isnan(sight.p99_s)
            continue
        # The thorough histogram knows its maximum and cuts the middle of the last bin there.
        assert min(sight.p50_s, seen.latency.max_s) == seen.latency.quantile(0.5)
        assert min(sight.p99_s, seen.latency.max_s) == seen.latency.quantile(0.99)
        assert sight.late == round(seen.latency.share_over(0.3) * seen.finished)


def test_looks_and_watches_remember_each_for_itself() -> None:
    pool = busy_pool(1)
    early = pool.look()
    pool.advance(30.0)
    late, watch = pool.look(), pool.watch()
    pool.advance(60.0)
    assert early.take().attempts > 1.5 * late.take().attempts
    assert watch.observe().by_version[GREEN].finished > 0
    assert late.take().attempts == watch.observe().attempts == 0


def test_looking_changes_nothing() -> None:
    watched, alone = busy_pool(2), busy_pool(2)
    look = watched.look()
    for moment in range(1, 61):
        watched.advance(float(moment))
        look.take()
    alone.advance(60.0)
    assert watched.fingerprint() == alone.fingerprint()


def test_work_adds_up_to_the_time_of_busy_servers() -> None:
    pool = ServingPool(PoolSettings.simple(2, Distribution("deterministic", 1.0)), seed=1)
    pool.offer([0.0, 1.0, 2.25, 2.5], [4.0, 1.5, 0.5, 3.0])
    for moment, work in ((0.5, 0.5), (2.0, 3.0), (2.5, 4.0), (3.0, 5.0), (10.0, 9.0)):
        pool.advance(moment)
        assert pool.worked_s == pytest.approx(work, abs=1e-5)
