"""
Whether scores mean what they say: calibration error without its bias, slope and intercept; start at `fit_line`.

Functions named `weighted_...` take bootstrap weights, shape (draws, n), and return one value per draw.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

FloatArray = NDArray[np.float64]
BINS = 10
_EPS = 1e-12
_STEPS = 50
_FLAT = 1e-10  # a determinant below this share of its terms: scores that do not vary, or rows of one class


@dataclass(frozen=True)
class Line:
    """
    Logit of the outcome = intercept + slope × logit of the score; 0 and 1 for scores that mean what they say.

    A slope below 1: scores too far apart (overfitted); above 1: too close together. NaN where it cannot be fitted.
    """

    intercept: float
    slope: float


def calibration_error(labels: FloatArray, scores: FloatArray) -> float:
    """
    Return the expected calibration error over ten bins of equal size, less what chance alone adds; never below 0.

    Notes
    -----
    The mean gap of score and outcome is too large by chance: with 100 rows a bin, a perfect model shows about 0.03.
    Each gap d with standard error s gives 2 |d| − E|d + s Z|, Z normal: a gap that is chance alone keeps 59 % of
    itself, one of many standard errors all of it.

    References
    ----------
    Kumar, Liang, Ma (2019), "Verified uncertainty calibration": the debiased estimator, here in closed form.
    """
    return float(weighted_error(np.ones((1, labels.size)), labels, scores, n_layers=1)[0])


def weighted_error(weights: FloatArray, labels: FloatArray, scores: FloatArray, *, n_layers: int = 2) -> FloatArray:
    """
    Return the debiased calibration error of each draw; `n_layers` 2: a draw holds the chance of the sample and its own.

    Bins are those of the sample: ten of equal size.
    """
    bins = np.zeros((labels.size, BINS))
    for k, part in enumerate(np.array_split(np.argsort(scores, kind="stable"), BINS)):
        bins[part, k] = 1.0
    columns = np.hstack([bins, bins * scores[:, None], bins * labels[:, None]])
    n, said, came = np.split(weights @ columns, 3, axis=1)
    size = np.maximum(n, 1.0)
    share = came / size
    gap = np.abs(said / size - share)
    error = np.sqrt(n_layers * share * (1 - share) / np.maximum(n - 1, 1.0))
    z = np.divide(gap, error, out=np.full_like(gap, np.inf), where=error > 0)
    folded = error * np.sqrt(2 / np.pi) * np.exp(-(z**2) / 2) + gap * (1 - 2 * special.ndtr(-z))
    return np.asarray(np.maximum(0.0, (n * (2 * gap - folded)).sum(axis=1) / n.sum(axis=1)))


def fit_line(labels: FloatArray, scores: FloatArray) -> Line:
    """
    Return calibration slope and intercept by logistic regression of the outcome on the logit of the score.

    References
    ----------
    Cox (1958), "Two further applications of a model for binary regression".
    """
    logits, theta = special.logit(np.clip(scores, _EPS, 1 - _EPS)), np.array([0.0, 1.0])
    for _ in range(_STEPS):
        step = _newton(np.ones((1, labels.size)), labels, logits, theta)[0]
        theta = theta + step
        if not np.isfinite(theta).all():
            break
        if np.abs(step).max() < 1e-10:
            return Line(float(theta[0]), float(theta[1]))
    return Line(float("nan"), float("nan"))


def weighted_line(weights: FloatArray, labels: FloatArray, scores: FloatArray, line: Line) -> FloatArray:
    """Return intercept and slope of each draw, shape (draws, 2): one Newton step from the sample's own line."""
    theta = np.array([line.intercept, line.slope])
    return np.asarray(theta + _newton(weights, labels, special.logit(np.clip(scores, _EPS, 1 - _EPS)), theta))


def _newton(weights: FloatArray, labels: FloatArray, logits: FloatArray, theta: FloatArray) -> FloatArray:
    """Return Newton's step of the logistic regression for each draw, shape (draws, 2); NaN if there is none."""
    fitted = special.expit(theta[0] + theta[1] * logits)
    rest, spread = labels - fitted, fitted * (1 - fitted)
    # One product instead of five: the weights are far larger than the caches.
    columns = [rest, rest * logits, spread, spread * logits, spread * logits**2]
    u0, u1, h0, h1, h2 = (weights @ np.stack(columns, axis=1)).T
    determinant = h0 * h2 - h1**2
    usable = determinant > _FLAT * h0 * h2
    safe = np.where(usable, determinant, np.nan)
    return np.stack([(h2 * u0 - h1 * u1) / safe, (h0 * u1 - h1 * u0) / safe], axis=1)
