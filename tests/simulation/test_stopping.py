"""Sequential stopping: when it stops, what it says then, and that looking repeatedly costs little coverage."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from simulation.errors import InvalidSample
from simulation.statistics import mean_interval, share_interval
from simulation.stopping import LEAST_N, run_until


def draws(seed: int, mean: float = 10.0, sd: float = 3.0) -> Callable[[int], np.ndarray]:
    rng = np.random.default_rng(seed)
    return lambda n: rng.normal(mean, sd, n)


@given(st.integers(0, 10**6), st.floats(0.05, 2.0), st.integers(2, 3000))
@settings(deadline=None, max_examples=60)
def test_it_ends_with_the_width_or_at_the_cap_and_says_which(seed: int, half_width: float, cap: int) -> None:
    stopped = run_until(draws(seed), half_width=half_width, cap=cap)
    assert stopped.estimate == mean_interval(stopped.values, 0.95)
    assert stopped.n <= cap
    if stopped.has_reached:
        assert 0 < stopped.estimate.half_width <= half_width
        assert stopped.n >= min(LEAST_N, cap)
    else:
        assert stopped.n == cap


def test_the_values_are_those_that_were_run_in_their_order() -> None:
    asked: list[int] = []
    numbers = draws(1)

    def run(n: int) -> np.ndarray:
        asked.append(n)
        return numbers(n)

    stopped = run_until(run, half_width=0.3, cap=5000)
    np.testing.assert_array_equal(stopped.values, np.random.default_rng(1).normal(10, 3, stopped.n))
    assert sum(asked) == stopped.n
    assert len(asked) == stopped.n_looks
    assert asked[0] == LEAST_N


def test_a_relative_width_is_a_share_of_the_estimate() -> None:
    stopped = run_until(draws(2), half_width=0.02, is_relative=True, cap=100_000)
    assert stopped.has_reached
    assert stopped.estimate.half_width <= 0.02 * stopped.estimate.value
    assert 800 < stopped.n < 1300  # (1.96 × 3 / 0.2)² = 865 and the look's own step of an eighth
    assert not run_until(draws(2, mean=0.0), half_width=0.02, is_relative=True, cap=300).has_reached


def test_values_that_are_all_alike_never_stop_it_before_the_cap() -> None:
    stopped = run_until(np.zeros, half_width=0.1, cap=400)
    assert (stopped.has_reached, stopped.n) == (False, 400)


def test_no_hit_among_zeros_and_ones_is_bounded_exactly() -> None:
    stopped = run_until(np.zeros, half_width=0.02, cap=1000, interval=share_interval)
    assert stopped.has_reached
    assert stopped.estimate.low == 0.0
    assert 0.02 < stopped.estimate.high <= 0.04


def test_an_interval_without_bounds_goes_on_to_the_cap() -> None:
    stopped = run_until(lambda n: np.full(n, math.nan), half_width=1.0, cap=200)
    assert (stopped.has_reached, stopped.n) == (False, 200)


def skewed(seed: int) -> Callable[[int], np.ndarray]:
    rng = np.random.default_rng(seed)
    return lambda n: 7.0 + rng.exponential(3.0, n)


def looked_at_each_value(run: Callable[[int], np.ndarray], half_width: float) -> tuple[float, float]:
    """The naive loop: from three values on, look after each."""
    values = run(3)
    while (estimate := mean_interval(values, 0.95)).half_width > half_width:
        values = np.append(values, run(1))
    return estimate.low, estimate.high


@pytest.mark.theory
def test_looking_repeatedly_costs_little_coverage_and_much_in_the_naive_loop() -> None:
    """1,000 runs of skewed values, fixed seeds; limits are exact binomial ones at 1e-5 around 92 to 97 %."""
    covered = naive = 0
    for seed in range(1000):
        estimate = run_until(skewed(seed), half_width=0.6, cap=5000).estimate
        covered += estimate.low <= 10 <= estimate.high
        low, high = looked_at_each_value(skewed(seed), 0.6)
        naive += low <= 10 <= high
    least, most = stats.binom.ppf(1e-5, 1000, 0.92), stats.binom.ppf(1 - 1e-5, 1000, 0.97)
    assert least <= covered <= most
    assert naive < least


@pytest.mark.parametrize("changes", [{"half_width": 0.0}, {"half_width": math.nan}, {"cap": 1}, {"least_n": 1}])
def test_settings_that_cannot_be_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(InvalidSample, match="must be > 0, >= 2 and >= 2"):
        run_until(draws(1), **({"half_width": 1.0, "cap": 100} | changes))


def test_a_run_that_returns_another_number_of_values_is_refused() -> None:
    with pytest.raises(InvalidSample, match=r"run\(50\) returned shape \(49,\); it must return 50 values"):
        run_until(lambda n: np.zeros(n - 1), half_width=1.0, cap=100)
