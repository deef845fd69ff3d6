"""Quantiles of dependent values: a plain twin, laws, when there are no bounds, refusals. Coverage: test_coverage."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from simulation.errors import InvalidSample
from simulation.quantile_interval import quantile_interval, stationary_quantile_interval


def nights(n: int = 12, size: int = 2000, seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.exponential(1.0, size) + rng.normal(0, 0.1) for _ in range(n)]


# Is it the algorithm?


def plain_quantile(ordered: list[float], level: float) -> float:
    place = level * (len(ordered) - 1)
    below = min(int(place), len(ordered) - 2)
    return ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])


def twin(groups: list[list[float]], level: float, t: float) -> tuple[float, float, float]:
    """Ten sections of neighbours; the share at or below the quantile, its spread, and back."""
    sections: list[list[float]] = [[] for _ in range(10)]
    for i, group in enumerate(groups):
        sections[next(s for s in range(9, -1, -1) if s * len(groups) // 10 <= i)].extend(group)
    pooled = sorted(value for section in sections for value in section)
    centre = plain_quantile(pooled, level)
    share = sum(value <= centre for value in pooled) / len(pooled)
    off = [sum(value <= centre for value in section) - share * len(section) for section in sections]
    half = t * math.sqrt(10 / 9 * sum(gap**2 for gap in off)) / len(pooled)
    return centre, plain_quantile(pooled, level - half), plain_quantile(pooled, level + half)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("n", [10, 13, 27])
def test_the_interval_is_that_of_a_plain_twin(level: float, n: int) -> None:
    groups = [group[: 900 + 37 * i] for i, group in enumerate(nights(n))]
    found = quantile_interval(groups, level, 0.95)
    t = float(stats.t.ppf(0.975, 9))
    assert (found.value, found.low, found.high) == pytest.approx(twin([g.tolist() for g in groups], level, t), rel=1e-9)


# Does it obey its definition?


@given(st.integers(0, 10**6), st.integers(-3, 3), st.integers(-1000, 1000))
@settings(deadline=None, max_examples=30)
def test_another_unit_changes_the_unit_only(seed: int, power: int, shift: int) -> None:
    groups = [np.round(group * 1024) for group in nights(6, 300, seed)]
    plain = quantile_interval(groups, 0.9, 0.9)
    moved = quantile_interval([2.0**power * (group + shift) for group in groups], 0.9, 0.9)
    expected = [2.0**power * (x + shift) for x in (plain.value, plain.low, plain.high)]
    np.testing.assert_allclose([moved.value, moved.low, moved.high], expected, rtol=1e-9, atol=1e-9)


def test_the_bounds_enclose_the_pooled_quantile_and_open_with_the_confidence() -> None:
    groups = nights()
    narrow, wide = quantile_interval(groups, 0.95, 0.8), quantile_interval(groups, 0.95, 0.99)
    assert narrow.value == wide.value == pytest.approx(np.quantile(np.concatenate(groups), 0.95))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_values_that_hang_together_inside_a_night_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    alone = [rng.exponential(1.0, 2000) for _ in range(20)]
    together = [np.repeat(group[:40], 50) for group in alone]
    one, other = (quantile_interval(groups, 0.9, 0.95) for groups in (alone, together))
    assert other.half_width > 4 * one.half_width  # √50 is expected


def test_a_long_night_counts_by_its_requests() -> None:
    groups = [np.zeros(100)] * 9 + [np.ones(9000)]
    assert quantile_interval(groups, 0.5, 0.95).value == 1.0


# Too little data?


@pytest.mark.parametrize(
    ("groups", "level"),
    [
        (nights(4), 0.5),  # four nights tell too little of their spread
        (nights(10, 40), 0.99),  # 4 values beyond
        (nights(10, 4000)[:1] + [np.zeros(4000)] * 9, 0.99),  # all that is slow came in one night
        ([np.empty(0)] * 10, 0.5),
    ],
)
def test_too_little_data_have_a_value_without_bounds(groups: list[np.ndarray], level: float) -> None:
    found = quantile_interval(groups, level, 0.95)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    if any(group.size for group in groups):
        assert found.value == np.quantile(np.concatenate(groups), level)


def test_a_stationary_run_is_bounded_over_batches_unless_they_hang_together() -> None:
    values = np.concatenate(nights(10, 2000))
    assert stationary_quantile_interval(values, 0.95, 0.95) == quantile_interval(
        list(values.reshape(10, -1)), 0.95, 0.95
    )
    rising = values + np.linspace(0, 5, values.size)
    assert math.isnan(stationary_quantile_interval(rising, 0.95, 0.95).low)


# Does it refuse well?


@pytest.mark.parametrize(
    ("groups", "level", "confidence", "message"),
    [
        ([], 0.5, 0.95, "0 groups at level 0.5"),
        (nights(5, 100), 1.0, 0.95, "a level in"),
        ([np.array([1.0, math.nan])] * 5, 0.5, 0.95, "not finite"),
        (nights(5, 100), 0.5, 1.0, "confidence: 1 must lie"),
    ],
)
def test_what_has_no_quantile_is_refused(
    groups: list[np.ndarray], level: float, confidence: float, message: str
) -> None:
    with pytest.raises(InvalidSample, match=message):
        quantile_interval(groups, level, confidence)
