"""Promised performance: the sums that it stands for, kept when the scores are right, broken when they are not."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flows.domain.drift import FloatArray, InvalidDriftSample
from flows.domain.evaluation import log_loss, one_minus_auc
from flows.domain.unlabelled import expected_auc, mid_ranks, promised_performance


def draws(rng: np.random.Generator, n: int, times: int = 300) -> Iterator[FloatArray]:
    for _ in range(times):
        yield rng.random(n)


@given(st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]), min_size=1, max_size=12))
@settings(deadline=None)
def test_expected_auc_is_the_sum_over_pairs(scores: list[float]) -> None:
    top = bottom = 0.0
    for i, p in enumerate(scores):
        for j, q in enumerate(scores):
            if i != j:
                top += p * (1 - q) * ((p > q) + 0.5 * (p == q))
                bottom += p * (1 - q)
    found = expected_auc(np.array(scores))
    assert math.isnan(found) if bottom < 1e-12 else found == pytest.approx(top / bottom, abs=1e-9)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20))
@settings(deadline=None)
def test_mid_ranks_are_scipy_s(values: list[int]) -> None:
    assert mid_ranks(np.array(values, dtype=float)).tolist() == stats.rankdata(values).tolist()


def test_promised_log_loss_is_the_entropy_of_the_scores() -> None:
    scores = np.array([0.2, 0.5, 0.9])
    promise = promised_performance(scores, draws(np.random.default_rng(1), 3))
    assert promise.log_loss.value == pytest.approx(stats.bernoulli(scores).entropy().mean(), abs=1e-12)
    assert promise.positive_share.value == pytest.approx(scores.mean())


@pytest.mark.theory
def test_a_calibrated_model_keeps_its_promise_in_nineteen_months_of_twenty() -> None:
    """Counts have a chance over 1e-5 at a true rate of 95 %, on either side."""
    rng = np.random.default_rng(2)
    kept = np.zeros(2, dtype=int)
    n_months = 200
    for _ in range(n_months):
        scores = rng.beta(1, 6, 400)
        labels = (rng.random(400) < scores).astype(np.float64)
        promise = promised_performance(scores, draws(rng, 400))
        truths = (1 - one_minus_auc(labels, scores), log_loss(labels, scores))
        kept += [e.low <= t <= e.high for e, t in zip((promise.auc, promise.log_loss), truths, strict=True)]
    # 300 draws put the interval's ends a little off: 94 % is the least that their quantiles give on average.
    assert (kept >= stats.binom.ppf(1e-5, n_months, 0.94)).all()
    assert (kept <= stats.binom.ppf(1 - 1e-5, n_months, 0.96)).all()


def test_a_model_that_is_wrong_breaks_its_promise() -> None:
    rng = np.random.default_rng(3)
    scores = rng.beta(1, 6, 2000)
    labels = (rng.random(2000) < np.minimum(1, 3 * scores)).astype(np.float64)
    assert log_loss(labels, scores) > promised_performance(scores, draws(rng, 2000)).log_loss.high


def test_a_month_that_may_lack_a_class_gets_no_interval_for_its_auc() -> None:
    promise = promised_performance(np.array([0.01, 0.02]), draws(np.random.default_rng(4), 2))
    assert math.isnan(promise.auc.low)
    assert math.isfinite(promise.log_loss.high)


def test_no_scores_and_scores_that_are_no_chances_are_refused() -> None:
    with pytest.raises(InvalidDriftSample, match="the month has no rows"):
        promised_performance(np.empty(0), [])
    with pytest.raises(InvalidDriftSample, match="must be probabilities"):
        promised_performance(np.array([0.5, 1.5]), [])
