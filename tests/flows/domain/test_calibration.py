"""Calibration: slope and intercept as scikit-learn fits them, an error without its bias, draws as if fitted anew."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special
from sklearn.linear_model import LogisticRegression

from flows.domain.calibration import calibration_error, fit_line, weighted_error, weighted_line

Floats = NDArray[np.float64]


def rows(seed: int, n: int = 2000, slope: float = 1.0, intercept: float = 0.0) -> tuple[Floats, Floats]:
    """Return labels and scores whose true calibration line is known."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1.0, 1.0, n)
    labels = (rng.random(n) < special.expit(intercept + slope * logits)).astype(np.float64)
    return labels, special.expit(logits)


def plug_in_error(labels: Floats, scores: Floats) -> float:
    """The error as it is usually taken: the mean gap of ten bins."""
    parts = np.array_split(np.argsort(scores, kind="stable"), 10)
    return float(sum(abs(scores[p].mean() - labels[p].mean()) * p.size for p in parts) / scores.size)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000), st.floats(0.5, 2.0), st.floats(-1.0, 1.0))
def test_slope_and_intercept_equal_scikit_learn_s(seed: int, slope: float, intercept: float) -> None:
    labels, scores = rows(seed, 500, slope, intercept)
    line = fit_line(labels, scores)
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(special.logit(scores)[:, None], labels)
    assert (line.intercept, line.slope) == pytest.approx((model.intercept_[0], model.coef_[0, 0]), abs=1e-4)


@pytest.mark.theory
@pytest.mark.parametrize("slope", [0.8, 1.0, 1.25])
def test_the_slope_is_the_true_one_over_many_samples(slope: float) -> None:
    found = np.array([fit_line(*rows(seed, 4000, slope, 0.2)).slope for seed in range(60)])
    assert abs(found.mean() - slope) < 3.5 * found.std(ddof=1) / math.sqrt(60)


@pytest.mark.parametrize(
    ("labels", "scores"),
    [(np.zeros(50), np.linspace(0.1, 0.9, 50)), (np.tile([0.0, 1.0], 25), np.full(50, 0.3)),
     ((np.arange(50) > 24).astype(float), np.linspace(0.1, 0.9, 50))],
    ids=["one class", "one score", "separated"],
)  # fmt: skip
def test_a_line_that_the_rows_cannot_tell_is_unknown(labels: Floats, scores: Floats) -> None:
    assert math.isnan(fit_line(labels, scores).slope)


def test_a_draw_of_each_row_once_is_the_sample_itself() -> None:
    labels, scores = rows(1, slope=0.7)
    ones, line = np.ones((1, labels.size)), fit_line(labels, scores)
    assert weighted_line(ones, labels, scores, line)[0] == pytest.approx((line.intercept, line.slope), abs=1e-8)
    assert weighted_error(ones, labels, scores, n_layers=1)[0] == calibration_error(labels, scores)


def test_one_step_gives_the_spread_that_fitting_each_draw_anew_gives() -> None:
    labels, scores = rows(2, 1500, 0.8)
    rng = np.random.default_rng(3)
    places = rng.integers(0, labels.size, (200, labels.size))
    weights = np.array([np.bincount(p, minlength=labels.size) for p in places], dtype=np.float64)
    quick = weighted_line(weights, labels, scores, fit_line(labels, scores))[:, 1]
    anew = np.array([fit_line(labels[p], scores[p]).slope for p in places])
    assert np.corrcoef(quick, anew)[0, 1] > 0.99
    assert quick.std() == pytest.approx(anew.std(), rel=0.05)


def test_the_error_by_hand_and_nought_for_scores_that_match_their_bins() -> None:
    labels = np.tile([0.0, 1.0], 50)
    assert calibration_error(labels, np.full(100, 0.5)) == 0.0
    # Ten bins of ten rows: a gap of 0.3 with standard error sqrt(0.25 / 9), folded.
    z = 0.3 / (0.5 / 3)
    folded = 0.5 / 3 * math.sqrt(2 / math.pi) * math.exp(-(z**2) / 2) + 0.3 * (1 - 2 * special.ndtr(-z))
    assert calibration_error(labels, np.full(100, 0.8)) == pytest.approx(0.6 - folded)
    assert calibration_error(np.zeros(40), np.full(40, 0.25)) == pytest.approx(0.25)


@pytest.mark.theory
def test_chance_alone_shows_little_error_and_a_true_one_shows_whole() -> None:
    # A gap that is chance alone keeps 2 - sqrt(2) = 0.59 of itself; one that is not, all of it.
    samples = [rows(seed, 1000) for seed in range(200)]
    usual, without_bias = (np.array([error(*s) for s in samples]) for error in (plug_in_error, calibration_error))
    rest = without_bias - (2 - math.sqrt(2)) * usual
    assert abs(rest.mean()) < 3.5 * rest.std(ddof=1) / math.sqrt(200)
    rng = np.random.default_rng(8)
    shifted = []
    for _ in range(100):
        truth = rng.uniform(0.2, 0.7, 1000)
        shifted.append(calibration_error((rng.random(1000) < truth).astype(float), truth + 0.1))
    assert abs(np.mean(shifted) - 0.1) < 3.5 * np.std(shifted, ddof=1) / 10
