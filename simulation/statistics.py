"""Intervals for what replications show; every number that a decision rests on comes with one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; NaN bounds mean that the data cannot bound it."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """Return plain data for JSON, where NaN is null."""
        parts = {"value": self.value, "low": self.low, "high": self.high}
        return {k: (v if np.isfinite(v) else None) for k, v in parts.items()}


def probability_interval(n_hits: int, n: int, confidence: float) -> Estimate:
    """
    Return the share n_hits / n with exact one-sided bounds on both sides, each at `confidence`.

    References
    ----------
    Clopper and Pearson (1934), "The use of confidence or fiducial limits illustrated in the case of the binomial".
    """
    if not 0 <= n_hits <= n or not 0 < confidence < 1:
        raise ValueError(f"n_hits {n_hits} of n {n} at confidence {confidence:g} is not a share")
    if n == 0:
        return Estimate(float("nan"), 0.0, 1.0)
    alpha = 1 - confidence
    low = 0.0 if n_hits == 0 else float(stats.beta.ppf(alpha, n_hits, n - n_hits + 1))
    high = 1.0 if n_hits == n else float(stats.beta.ppf(1 - alpha, n_hits + 1, n - n_hits))
    return Estimate(n_hits / n, low, high)


def mean_interval(values: NDArray[np.float64], confidence: float) -> Estimate:
    """Return the mean of independent replications, shape (n,), with Student's interval; NaN bounds for n < 2."""
    known = values[np.isfinite(values)]
    if known.size < 2:
        return Estimate(float(known.mean()) if known.size else float("nan"), float("nan"), float("nan"))
    half = stats.t.ppf(0.5 + confidence / 2, known.size - 1) * known.std(ddof=1) / np.sqrt(known.size)
    return Estimate(float(known.mean()), float(known.mean() - half), float(known.mean() + half))
