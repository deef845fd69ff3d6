"""
Intervals for means, shares and paired differences; every number that a decision rests on comes with one.

Quantiles are in `quantile_interval.py`, runs that go on until an interval is narrow enough in `stopping.py`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from simulation.errors import InvalidSample

FloatArray = NDArray[np.float64]
_LEAST_BATCHES = 5
_DEPENDENCE_ALPHA = 0.01


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; NaN bounds mean that the data cannot bound it."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the distance between the bounds, NaN where there are none."""
        return (self.high - self.low) / 2

    def to_dict(self) -> dict[str, float | None]:
        """Return plain data for JSON, where NaN is null."""
        parts = {"value": self.value, "low": self.low, "high": self.high}
        return {k: (v if np.isfinite(v) else None) for k, v in parts.items()}


def unbounded(value: float) -> Estimate:
    """Return a value of which the data say nothing more."""
    return Estimate(value, float("nan"), float("nan"))


def probability_interval(n_hits: int, n: int, confidence: float) -> Estimate:
    """
    Return the share n_hits / n with exact one-sided bounds on both sides, each at `confidence`.

    Assumes independent trials of one chance; both bounds together hold with 2 × `confidence` − 1 at least.

    References
    ----------
    Clopper and Pearson (1934), "The use of confidence or fiducial limits illustrated in the case of the binomial".
    """
    if not 0 <= n_hits <= n or not 0 < confidence < 1:
        raise InvalidSample(f"n_hits {n_hits} of n {n} at confidence {confidence:g} is not a share")
    if n == 0:
        return Estimate(float("nan"), 0.0, 1.0)
    alpha = 1 - confidence
    low = 0.0 if n_hits == 0 else float(stats.beta.ppf(alpha, n_hits, n - n_hits + 1))
    high = 1.0 if n_hits == n else float(stats.beta.ppf(1 - alpha, n_hits + 1, n - n_hits))
    return Estimate(n_hits / n, low, high)


def share_interval(values: ArrayLike, confidence: float) -> Estimate:
    """
    Return the share of ones among zeros and ones, shape (n,), inside an exact two-sided interval.

    Assumes independent trials of one chance; covers with at least `confidence` (Clopper and Pearson 1934).

    Raises
    ------
    InvalidSample
        If a value is neither 0 nor 1, or the confidence is not between 0 and 1.
    """
    marks = np.asarray(values, dtype=np.float64)
    if not np.isin(marks, (0.0, 1.0)).all():
        raise InvalidSample("values of a share must be 0 or 1; use mean_interval for other numbers")
    return probability_interval(int(marks.sum()), marks.size, 0.5 + checked_confidence(confidence) / 2)


def mean_interval(values: ArrayLike, confidence: float) -> Estimate:
    """
    Return the mean of independent replications, shape (n,), with Student's interval; NaN bounds for n < 2.

    Assumes that the values are independent, and a normal mean: exact for normal values, close for others once n is
    some tens. Values of one run that follow one another are not independent: see `stationary_mean_interval`.
    Replications without a value (NaN) are left out.

    References
    ----------
    Student (1908), "The probable error of a mean".
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if known.size < 2:
        return unbounded(float(known.mean()) if known.size else float("nan"))
    half = stats.t.ppf(0.5 + checked_confidence(confidence) / 2, known.size - 1) * known.std(ddof=1)
    half /= np.sqrt(known.size)
    return Estimate(float(known.mean()), float(known.mean() - half), float(known.mean() + half))


def difference_interval(first: ArrayLike, second: ArrayLike, confidence: float) -> Estimate:
    """
    Return the mean of first − second over pairs, shape (n,) each, with Student's interval over the pairs' differences.

    Parameters
    ----------
    first, second : shape (n,)
        Entry i of both comes from the same seed (common random numbers); pairs may depend inside, not on one another.
        A pair with an unknown (NaN) value is left out. Differences of busy nights are skewed: the coverage of 60
        was 91.8 % for 95 % at a load of 0.8, that of 200 was 94.0 %.

    Raises
    ------
    InvalidSample
        If the shapes differ, so that nobody can tell the pairs.

    References
    ----------
    Law (2015), "Simulation Modeling and Analysis", section 10.2.1: paired-t intervals.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape or one.ndim != 1:
        raise InvalidSample(f"pairs need two rows of one length, got shapes {one.shape} and {other.shape}")
    return mean_interval(one - other, confidence)


def stationary_mean_interval(values: ArrayLike, confidence: float, n_batches: int = 20) -> Estimate:
    """
    Return the mean of one long stationary run, shape (n,), in order of time, with an interval from batch means.

    Assumes that the start-up is gone (see `warm_up.py`) and that the batches are long against the memory of the
    run. The latter is tested: when following batch means hang together (von Neumann's ratio, one-sided at 1 %) the
    bounds are NaN, because they would be too narrow. So they are for less than 2 values per batch.

    References
    ----------
    Schmeiser (1982), "Batch size effects in the analysis of simulation output"; von Neumann (1941), "Distribution
    of the ratio of the mean square successive difference to the variance".
    """
    series = np.asarray(values, dtype=np.float64)
    if series.size < 2 * n_batches:
        return unbounded(float(series.mean()) if series.size else float("nan"))
    parts = batches(series, n_batches)
    means = np.array([part.mean() for part in parts])
    around = mean_interval(means, confidence)
    if hang_together(means):
        return unbounded(around.value)
    return around


def batches(values: ArrayLike, n_batches: int) -> list[FloatArray]:
    """
    Return a run, shape (n,), cut into `n_batches` neighbours of one length; up to n_batches − 1 first values go.

    Raises
    ------
    InvalidSample
        If `n_batches` is under 5, there are fewer values than batches, or a value is NaN or infinite.
    """
    series = np.asarray(values, dtype=np.float64)
    if n_batches < _LEAST_BATCHES:
        raise InvalidSample(f"n_batches: {n_batches} tell little of their spread; use {_LEAST_BATCHES} or more")
    if series.ndim != 1 or series.size < n_batches:
        raise InvalidSample(f"values of shape {series.shape} do not fill {n_batches} batches; run longer")
    if not np.isfinite(series).all():
        raise InvalidSample("values of a run must be finite; leave requests that were not served out first")
    return list(series[series.size % n_batches :].reshape(n_batches, -1))


def hang_together(means: FloatArray) -> bool:
    """Return whether following values, shape (n,) with n >= 5, are alike beyond chance: von Neumann at 1 %."""
    n = means.size
    spread = float(((means - means.mean()) ** 2).sum())
    if spread == 0.0:
        return False
    ratio = float((np.diff(means) ** 2).sum()) / spread
    # Under independence: mean 2, this variance, and close to normal from n = 10 on.
    score = (ratio - 2.0) / np.sqrt(4.0 * (n - 2) / (n * n - 1.0))
    return bool(score < stats.norm.ppf(_DEPENDENCE_ALPHA))


def checked_confidence(confidence: float) -> float:
    """Return the confidence, or raise `InvalidSample` if it is not between 0 and 1."""
    if not 0 < confidence < 1:
        raise InvalidSample(f"confidence: {confidence:g} must lie between 0 and 1, such as 0.95")
    return confidence
