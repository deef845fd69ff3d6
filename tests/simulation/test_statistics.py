"""Intervals cover the truth as often as they say, and say when they cannot."""

import math

import numpy as np
import pytest

from simulation.statistics import Estimate, mean_interval, probability_interval


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
