"""
Cutting the start-up of a stationary what-if by MSER-5; a night in a window is a transient and is never cut.

Start at `warm_up_length`.
"""

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from simulation.errors import InvalidSample
from simulation.statistics import FloatArray

_BATCH = 5
_LEAST_LEFT = 5  # batches that stay: the criterion falls to nothing on the last few by chance
_LEAST_BATCHES = 20


def warm_up_length(values: ArrayLike) -> int:
    """
    Return how many first values of a run to leave out, a multiple of 5.

    Parameters
    ----------
    values : shape (n,), n >= 100, in order of time
        Of one long run that is meant to settle.

    Raises
    ------
    InvalidSample
        If the run is short, a value is not finite, or the cut falls in its second half: it has not settled then.

    Notes
    -----
    The cut d minimises Σ (z_j − mean)² / (m − d)² over the batch means of five z_d … z_(m−1): the squared standard
    error, were they independent. The last five batches always stay; of equal minima the earliest counts. O(n).

    References
    ----------
    White (1997), "An effective truncation heuristic for bias reduction in simulation output"; White, Cobb and
    Spratt (2000), "A comparison of five steady-state truncation heuristics for simulation" (batches of five).
    """
    series = np.asarray(values, dtype=np.float64)
    if series.ndim != 1 or series.size < _BATCH * _LEAST_BATCHES:
        raise InvalidSample(
            f"values of shape {series.shape} are too few to find a warm-up; run for {_BATCH * _LEAST_BATCHES} or more"
        )
    if not np.isfinite(series).all():
        raise InvalidSample("values of a run must be finite; leave requests that were not served out first")
    scores = mser_scores(series)
    cut = int(scores.argmin())
    if 2 * cut > series.size // _BATCH:
        raise InvalidSample(
            f"the warm-up would end at value {cut * _BATCH:,} of {series.size:,}, in the second half: the run has not "
            "settled; run longer, or start nearer to the steady state"
        )
    return cut * _BATCH


def without_warm_up(values: ArrayLike) -> FloatArray:
    """Return the settled rest of a run; arguments and errors as for `warm_up_length`."""
    return np.asarray(values, dtype=np.float64)[warm_up_length(values) :]


def mser_scores(values: FloatArray) -> FloatArray:
    """Return the criterion for each cut that leaves five batches, shape (n // 5 − 4,); values as above, unchecked."""
    m = values.size // _BATCH
    scores = np.empty(m - _LEAST_LEFT + 1)
    _score(values, m, scores)
    return scores


@njit(cache=True, nogil=True)
def _score(values: FloatArray, m: int, scores: FloatArray) -> None:
    """Write the criterion of each cut: one pass from the end, sums of squares updated as by Welford."""
    count, mean, squares = 0.0, 0.0, 0.0
    for j in range(m - 1, -1, -1):
        total = 0.0
        for i in range(_BATCH):
            total += values[j * _BATCH + i]
        z = total / _BATCH
        count += 1.0
        off = z - mean
        mean += off / count
        squares += off * (z - mean)
        if j < scores.shape[0]:
            scores[j] = squares / (count * count)
