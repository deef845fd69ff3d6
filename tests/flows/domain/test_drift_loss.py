"""What a moved column costs: the move takes the current distribution and changes no more rows than it must."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from flows.domain.drift import FloatArray, InvalidDriftSample
from flows.domain.drift_loss import estimate_loss, move_categories, move_numbers

codes = st.lists(st.sampled_from([0.0, 1.0, 2.0, float("nan")]), min_size=1, max_size=30)


def model(rows: FloatArray) -> FloatArray:
    """Return scores that use column 0 alone."""
    return np.asarray(special.expit(np.nan_to_num(rows[:, 0])))


@given(codes, codes, st.integers(0, 1000))
@settings(deadline=None)
def test_moved_categories_have_the_current_shares_and_as_few_changes_as_can_be(
    here: list[float], there: list[float], seed: int
) -> None:
    reference, current = np.array(here), np.array(there)
    moved = move_categories(reference, current, np.random.default_rng(seed).random(reference.size))
    known = [0.0, 1.0, 2.0, np.nan]
    is_same = (moved == reference) | (np.isnan(moved) & np.isnan(reference))
    shares = [[np.isclose(side, v, equal_nan=True).sum() for v in known] for side in (reference, current, moved)]
    before, wanted, after = (np.array(s) / sum(s) * reference.size for s in shares)
    assert np.abs(after - wanted).max() < 1
    assert (~is_same).sum() == np.maximum(after - before, 0).sum()


@given(codes, st.integers(0, 1000))
@settings(deadline=None)
def test_a_column_that_stays_is_left_as_it_is(here: list[float], seed: int) -> None:
    reference = np.array(here)
    uniforms = np.random.default_rng(seed).random(reference.size)
    for move in (move_numbers, move_categories):
        np.testing.assert_array_equal(move(reference, reference, uniforms), reference)


def test_moved_numbers_keep_their_order_and_take_the_current_values() -> None:
    rng = np.random.default_rng(1)
    reference, current = rng.normal(size=500), rng.exponential(size=250)
    moved = move_numbers(reference, current, rng.random(500))
    np.testing.assert_array_equal(np.sort(moved)[::2], np.sort(current))
    assert stats.spearmanr(reference, moved).statistic > 0.999


def test_the_loss_is_the_mean_divergence_of_the_scores() -> None:
    rng = np.random.default_rng(2)
    reference = rng.normal(size=(400, 2))
    current = reference + np.array([1.0, 5.0])
    found = estimate_loss(model, reference, current, 0, "number", rng.random(400))
    p, q = model(reference), model(reference + np.array([1.0, 0.0]))
    divergence = [stats.entropy([a, 1 - a], [b, 1 - b]) for a, b in zip(p, q, strict=True)]
    assert found.log_loss == pytest.approx(np.mean(divergence), abs=1e-12)
    assert found.score_change == pytest.approx((q - p).mean(), abs=1e-12)


def test_a_column_that_the_model_ignores_costs_nothing() -> None:
    rng = np.random.default_rng(3)
    reference = rng.normal(size=(100, 2))
    found = estimate_loss(model, reference, reference + 9.0, 1, "number", rng.random(100))
    assert (found.log_loss, found.score_change, found.mean_absolute_change) == (0.0, 0.0, 0.0)


def test_a_loss_without_rows_is_refused() -> None:
    with pytest.raises(InvalidDriftSample, match="one of them holds none"):
        estimate_loss(model, np.empty((0, 1)), np.ones((3, 1)), 0, "number", np.empty(0))
