"""
How well a model probably does before any label has come: AUC and log loss as its own scores promise them.

Start at `promised_performance`. The promise holds while the scores are calibrated and outcomes follow the features as
they did (no concept drift); whatever breaks that, breaks the estimate, which later labels show.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from flows.domain.drift import FloatArray, InvalidDriftSample
from flows.domain.evaluation import row_log_loss
from simulation.statistics import Estimate

ASSUMPTION = "the scores are calibrated, and outcomes follow the features as they did when the model was trained"


@dataclass(frozen=True)
class Promise:
    """What the scores promise for their own rows: each value with an interval for what the labels will show."""

    auc: Estimate
    log_loss: Estimate
    positive_share: Estimate
    n_rows: int


def promised_performance(scores: FloatArray, label_draws: Iterable[FloatArray], confidence: float = 0.95) -> Promise:
    """
    Return expected AUC, log loss and share of positives if every score is the chance of its label.

    Parameters
    ----------
    scores : shape (n,), in [0, 1], n >= 1
    label_draws : arrays of shape (n,), uniform in [0, 1)
        A row is positive in a draw when its number lies below its score; some hundreds of draws.

    Raises
    ------
    InvalidDriftSample
        If there are no scores, or one is not a probability.

    Notes
    -----
    The intervals are for what the labels of these very rows will show (chance of the labels alone); they do not
    cover a model that is wrong. AUC has NaN bounds as soon as one draw lacks a class.

    References
    ----------
    Guillory et al. (2021), "Predicting with confidence on unseen distributions"; Białek et al. (2024), "Estimating
    model performance under covariate shift without labels".
    """
    if not scores.size:
        raise InvalidDriftSample("there are no scores to judge by; the month has no rows")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise InvalidDriftSample("scores must be probabilities from 0 to 1; calibrate the model first")
    ranks = mid_ranks(scores)
    seen = np.array([_performance(scores, ranks, (draw < scores).astype(np.float64)) for draw in label_draws])
    expected = (
        expected_auc(scores),
        float(scores @ row_log_loss(np.ones(scores.size), scores) / scores.size
              + (1 - scores) @ row_log_loss(np.zeros(scores.size), scores) / scores.size),
        float(scores.mean()),
    )  # fmt: skip
    tail = (1 - confidence) / 2
    low, high = np.quantile(seen, [tail, 1 - tail], axis=0)
    auc, loss, share = (Estimate(v, float(a), float(b)) for v, a, b in zip(expected, low, high, strict=True))
    return Promise(auc, loss, share, scores.size)


def expected_auc(scores: FloatArray) -> float:
    """
    Return expected concordant pairs over expected pairs of a positive and a negative, ties counting half.

    NaN when no pair can be expected. A row is never paired with itself.
    """
    chances = np.sort(scores)
    below = np.concatenate([[0.0], np.cumsum(1 - chances)])
    first, last = np.searchsorted(chances, scores, "left"), np.searchsorted(chances, scores, "right")
    own = 1 - scores
    concordant = scores @ (below[first] + (below[last] - below[first] - own) / 2)
    pairs = scores.sum() * own.sum() - scores @ own
    return float(concordant / pairs) if pairs > 0 else float("nan")


def mid_ranks(scores: FloatArray) -> FloatArray:
    """Return ranks from 1, ties at the mean of their places, shape (n,)."""
    ordered = np.sort(scores)
    return np.asarray((np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right") + 1) / 2)


def _performance(scores: FloatArray, ranks: FloatArray, labels: FloatArray) -> tuple[float, float, float]:
    positives = labels.sum()
    pairs = positives * (labels.size - positives)
    auc = (ranks @ labels - positives * (positives + 1) / 2) / pairs if pairs else np.nan
    return float(auc), float(row_log_loss(labels, scores).mean()), float(labels.mean())
