"""Intervals cover the truth as often as they say, and say when they cannot."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from simulation.errors import InvalidSample
from simulation.statistics import (
    Estimate,
    batches,
    difference_interval,
    hang_together,
    mean_interval,
    probability_interval,
    share_interval,
    stationary_mean_interval,
)


@pytest.mark.parametrize("n", [5, 20, 60])
@pytest.mark.parametrize("p", [0.02, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_each_bound_of_a_share_misses_no_more_often_than_it_says(n: int, p: float, confidence: float) -> None:
    """Exact: the chance of each possible count is added up, nothing is drawn."""
    misses_below = misses_above = 0.0
    for hits in range(n + 1):
        chance = math.comb(n, hits) * p**hits * (1 - p) ** (n - hits)
        estimate = probability_interval(hits, n, confidence)
        misses_below += chance * (estimate.high < p)
        misses_above += chance * (estimate.low > p)
    assert misses_below <= 1 - confidence + 1e-12
    assert misses_above <= 1 - confidence + 1e-12


def test_no_hit_in_fourteen_nights_bounds_a_fifth_at_95_percent() -> None:
    # 0.8 ** 13 > 0.05 > 0.8 ** 14: thirteen quiet nights are too few, fourteen are enough.
    assert probability_interval(0, 13, 0.95).high > 0.2
    assert probability_interval(0, 14, 0.95).high < 0.2
    assert probability_interval(0, 14, 0.95).low == 0.0
    assert probability_interval(14, 14, 0.95).high == 1.0


def test_no_night_at_all_bounds_nothing() -> None:
    estimate = probability_interval(0, 0, 0.95)
    assert math.isnan(estimate.value)
    assert (estimate.low, estimate.high) == (0.0, 1.0)


@pytest.mark.parametrize(("n_hits", "n", "confidence"), [(-1, 5, 0.9), (6, 5, 0.9), (1, 5, 0.0), (1, 5, 1.0)])
def test_a_share_that_is_none_is_refused(n_hits: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="is not a share"):
        probability_interval(n_hits, n, confidence)


def test_the_interval_of_a_mean_covers_it_95_times_in_a_hundred() -> None:
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(1500):
        estimate = mean_interval(rng.normal(3.0, 2.0, 8), 0.95)
        hits += estimate.low <= 3.0 <= estimate.high
    # Four standard errors of a share of 0.95 over 1,500 tries are 0.0225; a normal interval would cover 0.91.
    assert hits / 1500 == pytest.approx(0.95, abs=0.0225)


def test_one_replication_has_a_mean_without_bounds() -> None:
    estimate = mean_interval(np.array([4.0]), 0.95)
    assert estimate.value == 4.0
    assert estimate.to_dict() == {"value": 4.0, "low": None, "high": None}


def test_nights_without_a_value_do_not_count_as_zero() -> None:
    assert mean_interval(np.array([1.0, math.nan, 3.0]), 0.9) == mean_interval(np.array([1.0, 3.0]), 0.9)
    assert mean_interval(np.array([math.nan]), 0.9).to_dict() == {"value": None, "low": None, "high": None}


def test_infinite_bounds_become_null() -> None:
    assert Estimate(1.0, -math.inf, math.inf).to_dict() == {"value": 1.0, "low": None, "high": None}


def test_a_share_is_bounded_exactly_on_both_sides() -> None:
    two_sided = share_interval([0, 1, 0, 0], 0.95)
    assert two_sided == probability_interval(1, 4, 0.975)
    assert two_sided.half_width == pytest.approx((two_sided.high - two_sided.low) / 2)
    with pytest.raises(InvalidSample, match="must be 0 or 1"):
        share_interval([0.0, 0.5], 0.95)


def test_pairs_are_compared_by_their_differences_and_incomplete_ones_left_out() -> None:
    rng = np.random.default_rng(2)
    day = rng.normal(0, 100, 40)
    first, second = day + rng.normal(1, 0.1, 40), day
    found = difference_interval(first, second, 0.95)
    assert 0.9 < found.low < 1.0 < found.high < 1.1  # the days' own spread of 100 has gone
    first[3], second[5] = math.nan, math.nan
    kept = np.delete(np.arange(40), [3, 5])
    assert difference_interval(first, second, 0.95) == mean_interval((first - second)[kept], 0.95)


def test_pairs_that_do_not_match_are_refused() -> None:
    with pytest.raises(InvalidSample, match=r"two rows of one length, got shapes \(3,\) and \(2,\)"):
        difference_interval([1, 2, 3], [1, 2], 0.95)


@pytest.mark.parametrize("confidence", [0.0, 1.0, math.nan])
def test_a_confidence_that_is_none_is_refused(confidence: float) -> None:
    for interval in (mean_interval, share_interval, stationary_mean_interval):
        with pytest.raises(InvalidSample, match="must lie between 0 and 1"):
            interval(np.arange(40.0) % 2, confidence)


@given(st.lists(st.integers(-1000, 1000), min_size=5, max_size=200), st.integers(5, 20))
@settings(deadline=None)
def test_batches_are_the_last_values_in_order_and_of_one_length(values: list[int], n_batches: int) -> None:
    if len(values) < n_batches:
        with pytest.raises(InvalidSample, match=f"do not fill {n_batches} batches"):
            batches(values, n_batches)
        return
    parts = batches(values, n_batches)
    assert len({part.size for part in parts}) == 1
    assert len(parts) == n_batches
    joined = np.concatenate(parts).tolist()
    assert joined == values[len(values) - len(joined) :]
    assert len(values) - len(joined) < n_batches


def test_too_few_batches_and_values_that_are_unknown_are_refused() -> None:
    with pytest.raises(InvalidSample, match="n_batches: 4 tell little"):
        batches(np.ones(40), 4)
    with pytest.raises(InvalidSample, match="must be finite"):
        batches(np.append(np.ones(40), math.nan), 5)


def test_a_run_too_short_for_its_memory_has_no_bounds() -> None:
    rng = np.random.default_rng(5)
    short_memory = rng.normal(10, 1, 4000)
    bounded = stationary_mean_interval(short_memory, 0.95)
    assert bounded.low <= 10 <= bounded.high
    wandering = np.cumsum(rng.normal(0, 1, 4000))
    unknown = stationary_mean_interval(wandering, 0.95)
    assert unknown.value == pytest.approx(wandering.mean())
    assert math.isnan(unknown.low)
    assert math.isnan(unknown.high)
    assert math.isnan(stationary_mean_interval(short_memory[:39], 0.95).low)


def test_independent_batches_are_taken_for_dependent_once_in_a_hundred() -> None:
    rng = np.random.default_rng(6)
    n_false = sum(hang_together(rng.normal(size=20)) for _ in range(5000))
    # Exact binomial limits at 1e-5 on both sides.
    assert stats.binom.ppf(1e-5, 5000, 0.01) <= n_false <= stats.binom.ppf(1 - 1e-5, 5000, 0.01)
    assert hang_together(np.arange(20.0))
    assert not hang_together(np.ones(20))
