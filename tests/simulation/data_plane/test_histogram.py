"""The histogram of latencies, and what a controller sees of it: exact sums, quantiles within 0.8 %, sound refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.data_plane.histogram import N_BINS, RELATIVE_ERROR, TICKS_PER_S, LatencyHistogram
from simulation.data_plane.pool import ServingPool
from simulation.data_plane.pool_settings import Client, Distribution, PoolSettings, Version
from simulation.errors import InvalidWorkload

quick = settings(deadline=None, max_examples=150)
latencies = st.lists(st.floats(2.0**-20, 2.0**19), min_size=1, max_size=60)


@quick
@given(latencies, st.floats(0.001, 1.0))
def test_a_quantile_is_within_a_128th_of_the_sorted_values(values, p):
    histogram = LatencyHistogram.of(np.array(values))
    exact_s = np.sort(values)[max(1, int(np.ceil(round(p * len(values), 6)))) - 1]
    assert abs(histogram.quantile(p) - exact_s) <= RELATIVE_ERROR * exact_s


@quick
@given(latencies, latencies)
def test_what_came_in_between_and_what_was_there_add_up(first, second):
    before, fresh = LatencyHistogram.of(np.array(first)), LatencyHistogram.of(np.array(second))
    difference = (before + fresh) - before
    np.testing.assert_array_equal(difference.counts, fresh.counts)
    assert difference.sum_ticks == fresh.sum_ticks
    assert fresh.max_s <= difference.max_s <= max(*first, *second)
    assert difference.max_s <= fresh.max_s * (1.0 + 2.0**-6)


def test_nothing_in_between_has_no_maximum():
    some = LatencyHistogram.of(np.array([1.0, 2.0]))
    assert some - some == LatencyHistogram.empty()


def test_a_histogram_with_less_in_a_bin_cannot_be_the_later_one():
    with pytest.raises(InvalidWorkload, match="holds latencies that this one lacks; swap the two"):
        LatencyHistogram.of(np.array([1.0])) - LatencyHistogram.of(np.array([1.0, 1.0]))


@pytest.mark.parametrize("versions", [(Version(1, 2),), (Version(1, 1), Version(1, 2))])
def test_observations_add_up_to_the_result_and_see_only_answers(versions):
    client = Client(timeout_s=2.0, retries=1)
    pool = ServingPool(
        PoolSettings(
            Distribution("exponential", 1.0),
            versions,
            client=client,
            green_share=0.5 * (len(versions) - 1),
            bucket_s=3.0,
        ),
        seed=3,
        records=True,
    )
    pool.offer(np.linspace(0.0, 90.0, 130))
    looks = []
    for until_s in (0.0, 2.5, 2.5, 40.0, 41.0, 400.0):
        pool.advance(until_s)
        looks.append(pool.observe())
    result = pool.result()
    counts, ticks = np.zeros(N_BINS, np.int64), 0
    for look in looks:
        assert look.latency.count == look.finished
        assert sum(one.finished for one in look.by_version) == look.finished
        counts += look.latency.counts
        ticks += look.latency.sum_ticks
    assert [look.from_s for look in looks[1:]] == [look.to_s for look in looks[:-1]]
    assert looks[2].finished == 0
    assert sum(look.finished for look in looks) == result.counters["completed"] == counts.sum()
    assert sum(look.attempts for look in looks) == result.counters["attempts"]
    assert sum(look.timeouts for look in looks) == result.counters["timeouts"] > 0
    # Nobody cancels, so every attempt is answered: the answers take as long as all attempts are inside.
    inside = (result.mean_queue + result.mean_busy) * result.ended_at_s * TICKS_PER_S
    assert result.counters["running"] + result.counters["waiting"] == 0
    assert abs(ticks - inside) <= result.counters["attempts"]
