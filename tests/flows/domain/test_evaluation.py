"""Champion against challenger: metrics equal to scikit-learn's, laws of the paired intervals, small groups hidden."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sk

from flows.domain.evaluation import (
    Comparison,
    _weighted_auc,
    brier,
    calibration_curve,
    compare,
    log_loss,
    metric_of,
    one_minus_auc,
    score_shift,
)
from simulation.plan import Evaluation, Gate
from simulation.plan_file import read_plan

Floats = NDArray[np.float64]
N = 800


@pytest.fixture(scope="module")
def plan() -> Evaluation:
    found = read_plan(Path(__file__).parents[3] / "examples" / "plan.yaml").evaluation
    return found.model_copy(update={"bootstrap_draws": 400, "minimum_group": 100, "confidence": 0.95})


@pytest.fixture(scope="module")
def rows() -> tuple[Floats, Floats]:
    """Return labels and the true probabilities that drew them."""
    rng = np.random.default_rng(11)
    truth = rng.beta(1.5, 4.0, N)
    return (rng.random(N) < truth).astype(np.float64), truth


def held(labels: Floats, champion: Floats, challenger: Floats, plan: Evaluation) -> Comparison:
    """Compare without groups."""
    return compare(labels, champion, challenger, np.full(labels.size, "all"), plan)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.9])), min_size=2, max_size=60))
def test_auc_equals_scikit_learn_s_with_many_ties(pairs: list[tuple[bool, float]]) -> None:
    labels, scores = (np.array(part, dtype=np.float64) for part in zip(*pairs, strict=True))
    found = one_minus_auc(labels, scores)
    if labels.min() == labels.max():
        assert np.isnan(found)
    else:
        assert found == pytest.approx(1 - sk.roc_auc_score(labels, scores), abs=1e-12)


def test_log_loss_and_brier_equal_scikit_learn_s(rows: tuple[Floats, Floats]) -> None:
    labels, truth = rows
    assert log_loss(labels, truth) == pytest.approx(sk.log_loss(labels, truth), rel=1e-12)
    assert brier(labels, truth) == pytest.approx(sk.brier_score_loss(labels, truth), rel=1e-12)


def test_a_certain_and_wrong_score_costs_much_but_not_infinity() -> None:
    assert 20 < log_loss(np.array([1.0, 0.0]), np.array([0.0, 1.0])) < 30


def test_the_bins_of_a_calibration_curve_hold_every_row_once() -> None:
    labels = np.tile([0.0, 1.0], 50)
    assert sum(n for _, _, n in calibration_curve(labels, np.full(100, 0.8))) == 100


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.9])), min_size=2, max_size=40),
    st.integers(0, 99),
)
def test_a_weighted_draw_has_the_auc_of_the_rows_drawn(pairs: list[tuple[bool, float]], seed: int) -> None:
    labels, scores = (np.array(part, dtype=np.float64) for part in zip(*pairs, strict=True))
    drawn = np.random.default_rng(seed).integers(0, labels.size, labels.size)
    weights = np.bincount(drawn, minlength=labels.size).astype(np.float64)
    found = _weighted_auc(weights[None, :], labels, scores)[0]
    assert found == pytest.approx(one_minus_auc(labels[drawn], scores[drawn]), abs=1e-12, nan_ok=True)


def test_intervals_are_those_of_drawing_rows_again(rows: tuple[Floats, Floats], plan: Evaluation) -> None:
    labels, truth = rows
    other = np.clip(truth * 0.8, 0.001, 0.999)
    draws = np.random.default_rng(20260101).integers(0, N, (plan.bootstrap_draws, N))
    for name, metric in (("log_loss", log_loss), ("brier", brier), ("auc", one_minus_auc)):
        by_hand = [metric(labels[d], other[d]) - metric(labels[d], truth[d]) for d in draws]
        found = held(labels, truth, other, plan).metrics[name]
        assert (found.low, found.high) == pytest.approx(tuple(np.quantile(by_hand, [0.05, 0.95])), abs=1e-12)


def test_the_score_shift_of_equal_scores_is_nought_and_grows_with_the_move(rows: tuple[Floats, Floats]) -> None:
    _, truth = rows
    assert score_shift(truth, truth) == 0.0
    assert score_shift(np.full(9, 0.3), np.full(9, 0.3)) == 0.0
    assert 0 < score_shift(truth, np.clip(truth + 0.05, 0, 1)) < score_shift(truth, np.clip(truth + 0.3, 0, 1))


def test_identical_models_differ_by_exactly_nothing(rows: tuple[Floats, Floats], plan: Evaluation) -> None:
    labels, truth = rows
    for difference in held(labels, truth, truth, plan).metrics.values():
        assert (difference.low, difference.value, difference.high) == (0.0, 0.0, 0.0)


def test_models_that_differ_by_noise_of_one_kind_are_not_told_apart(
    rows: tuple[Floats, Floats], plan: Evaluation
) -> None:
    labels, truth = rows
    rng = np.random.default_rng(3)
    noisy = [np.clip(truth + rng.normal(0, 0.02, N), 0.001, 0.999) for _ in range(2)]
    for name in ("auc", "log_loss", "brier"):
        difference = held(labels, noisy[0], noisy[1], plan).metrics[name]
        assert difference.low < 0 < difference.high, name


def test_a_worse_challenger_is_worse_for_sure_on_every_metric(rows: tuple[Floats, Floats], plan: Evaluation) -> None:
    labels, truth = rows
    worse = 1 - truth
    found = held(labels, truth, worse, plan).metrics
    assert all(found[name].low > 0 for name in ("auc", "log_loss", "brier", "calibration_error"))


def test_champion_and_challenger_swapped_change_the_sign_and_nothing_else(
    rows: tuple[Floats, Floats], plan: Evaluation
) -> None:
    labels, truth = rows
    other = np.clip(truth * 0.7, 0.001, 0.999)
    one, two = held(labels, truth, other, plan).metrics["brier"], held(labels, other, truth, plan).metrics["brier"]
    assert (one.low, one.value, one.high) == pytest.approx((-two.high, -two.value, -two.low), abs=1e-12)


def test_the_same_rows_give_the_same_evidence_twice(rows: tuple[Floats, Floats], plan: Evaluation) -> None:
    labels, truth = rows
    assert held(labels, truth, truth**1.2, plan) == held(labels, truth, truth**1.2, plan)


def test_one_class_alone_says_nothing_about_ranking(rows: tuple[Floats, Floats], plan: Evaluation) -> None:
    _, truth = rows
    found = held(np.zeros(N), truth, truth**1.2, plan).metrics
    assert np.isnan(found["auc"].low)
    assert np.isfinite(found["log_loss"].low)


def test_a_group_one_row_short_is_counted_and_not_shown(rows: tuple[Floats, Floats], plan: Evaluation) -> None:
    labels, truth = rows
    groups = np.array(["big"] * (N - 199) + ["at the limit"] * 100 + ["one short"] * 99)
    found = compare(labels, truth, truth, groups, plan)
    assert {group.group: group.rows for group in found.groups} == {"big": N - 199, "at the limit": 100}
    assert found.hidden_groups == 1


def test_the_group_gate_looks_at_the_worst_group(rows: tuple[Floats, Floats], plan: Evaluation) -> None:
    labels, truth = rows
    groups = np.where(np.arange(N) < N // 2, "kept", "hurt")
    hurt = np.where(groups == "hurt", np.clip(1 - truth, 0.01, 0.99), truth)
    gate = Gate(metric="group_log_loss", role="guardrail", margin=0.03)
    found = compare(labels, truth, hurt, groups, plan)
    worst = metric_of(gate, found)
    assert worst == next(group.log_loss for group in found.groups if group.group == "hurt")
    none = compare(labels, truth, hurt, groups, plan.model_copy(update={"minimum_group": N}))
    assert metric_of(gate, none) is None
