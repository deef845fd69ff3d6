"""MSER-5: a bit-equal plain twin, the definition itself, queues that start empty, and refusals."""

import contextlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation import serve_queue
from simulation.errors import InvalidSample
from simulation.warm_up import mser_scores, warm_up_length, without_warm_up

RUNS = st.lists(st.integers(-(2**20), 2**20), min_size=100, max_size=300).map(
    lambda numbers: [number / 1024 for number in numbers]
)


def twin(values: list[float]) -> list[float]:
    """The criterion of every cut that leaves five batches, in plain Python, from the end."""
    m = len(values) // 5
    scores = [0.0] * (m - 4)
    count, mean, squares = 0.0, 0.0, 0.0
    for j in reversed(range(m)):
        z = (0.0 + values[5 * j] + values[5 * j + 1] + values[5 * j + 2] + values[5 * j + 3] + values[5 * j + 4]) / 5
        count += 1.0
        off = z - mean
        mean += off / count
        squares += off * (z - mean)
        if j < len(scores):
            scores[j] = squares / (count * count)
    return scores


@given(RUNS)
@settings(deadline=None)
def test_the_scores_are_those_of_a_plain_twin_bit_for_bit(values: list[float]) -> None:
    assert mser_scores(np.array(values)).tolist() == twin(values)


@given(RUNS)
@settings(deadline=None)
def test_the_scores_are_the_definition(values: list[float]) -> None:
    """Σ (z − mean)² / (m − d)², each cut on its own with exact sums."""
    means = [math.fsum(values[5 * j : 5 * j + 5]) / 5 for j in range(len(values) // 5)]
    expected = []
    for cut in range(len(means) - 4):
        rest = means[cut:]
        mean = math.fsum(rest) / len(rest)
        expected.append(math.fsum((z - mean) ** 2 for z in rest) / len(rest) ** 2)
    np.testing.assert_allclose(mser_scores(np.array(values)), expected, rtol=1e-7, atol=1e-12)


def test_a_step_is_cut_where_it_ends() -> None:
    values = np.concatenate((np.full(60, 50.0), np.random.default_rng(1).normal(0, 1, 940)))
    assert warm_up_length(values) == 60
    np.testing.assert_array_equal(without_warm_up(values), values[60:])


def test_a_run_that_is_settled_from_the_start_keeps_everything() -> None:
    assert warm_up_length(np.ones(200)) == 0
    assert warm_up_length(np.tile([1.0, 2.0, 3.0, 4.0, 5.0], 40)) == 0


@pytest.mark.theory
def test_the_cut_takes_out_the_bias_of_a_long_queue_at_the_start() -> None:
    """M/M/1 at load 0.8, 20,000 requests behind 200 that wait at 0; exact mean wait when settled: 4 s."""
    raw, kept = [], []
    for seed in range(200):
        rng = np.random.default_rng([3, seed])
        arrivals_s = np.append(np.zeros(200), np.cumsum(rng.exponential(1 / 0.8, 20_000)))
        waits = serve_queue(arrivals_s, rng.exponential(1.0, 20_200), 1).waits_s[200:]
        raw.append(waits.mean() - 4.0)
        with contextlib.suppress(InvalidSample):
            kept.append(without_warm_up(waits).mean() - 4.0)
    error = np.std(kept, ddof=1) / math.sqrt(len(kept))
    assert len(kept) > 190
    # The criterion likes to stop in a quiet stretch: about -0.08 s is left, of 3.9 s.
    assert abs(np.mean(kept)) < 0.08 + 4 * error
    assert np.mean(raw) > 3.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones(99), "too few to find a warm-up; run for 100 or more"),
        (np.ones((100, 2)), "too few"),
        (np.append(np.ones(100), math.nan), "must be finite"),
        (np.linspace(0, 1, 1000), "in the second half: the run has not settled; run longer"),
        (np.append(np.full(501, 9.0), np.sin(np.arange(499.0))), "value 505 of 1,000"),
    ],
)
def test_a_run_that_cannot_be_cut_is_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidSample, match=message):
        warm_up_length(values)


def test_a_cut_at_the_half_is_still_a_cut() -> None:
    assert warm_up_length(np.append(np.full(500, 9.0), np.sin(np.arange(500.0)))) == 500
