"""
How wide the forecast must be: widths that follow what they should have covered.

Start at `Widths`. Errors are measured in units of their usual size at that time of day; in those units each interval
is widened when a day falls out of it and narrowed when one falls in, per day ahead. Nothing is assumed of the
errors' shape or independence: over a long run the share covered is the share promised.
"""

import numpy as np
from scipy.special import ndtri

from simulation.traffic.carry_over import smoothed
from simulation.traffic.history import FloatArray

_LEVEL_Z = np.array([0.0, 0.6745, 1.2816, 1.6449, 2.3263])  # normal scores of the intervals' upper ends
_SHARES = np.array([0.5, 0.8, 0.9, 0.98])
_PACE = 0.1  # of the usual size of an error, per day
_MIDDLE_PACE = 0.025
_SIZE_HALF_LIFE_DAYS = 20.0
_SHRINK_DAYS = 4.0  # the size at one time of day leans on that of the whole day as by so many days
_NEIGHBOURS_S = 3600
_LEAST_SHARE = 0.25  # of a day that must be known for it to be counted
_MEAN_TO_SD = 1.2533  # of a normal error


class Widths:
    """
    Sizes of errors and widths of intervals, per day ahead; they only ever see days that are over.

    Parameters
    ----------
    horizon : days ahead
    per_day, step_s : steps in a day, seconds of one
    """

    def __init__(self, horizon: int, per_day: int, step_s: int) -> None:
        self._total = np.zeros((horizon, per_day))
        self._n = np.zeros((horizon, per_day))
        self._shift = np.zeros(horizon)
        self._widths = np.tile(_LEVEL_Z[1:], (horizon, 1))
        self._reach = _NEIGHBOURS_S // step_s

    def learn(self, errors: FloatArray, sizes: FloatArray) -> None:
        """
        Take in one day that is over.

        Parameters
        ----------
        errors : shape (k, per_day), log of what came minus the centre as forecast 1 … k days ahead, NaN where unknown
        sizes : shape (k, per_day), `size()` as it was then, NaN where there was none
        """
        k = len(errors)
        known = np.isfinite(errors)
        fade = 0.5 ** (1 / _SIZE_HALF_LIFE_DAYS)
        seen = np.abs(np.where(known, errors, 0.0))
        self._total[:k] = np.where(known, fade * self._total[:k] + seen, self._total[:k])
        self._n[:k] = np.where(known, fade * self._n[:k] + 1.0, self._n[:k])
        counted = np.isfinite(errors / sizes)
        n = counted.sum(axis=1)
        told = n >= _LEAST_SHARE * errors.shape[1]
        below = (counted[0] & (errors[0] <= self._shift[0])).sum() / max(int(n[0]), 1)
        distance = np.where(counted, (errors - self._shift[:k, None]) / sizes, 0.0)
        inside = (np.abs(distance)[:, :, None] <= self._widths[:k, None, :]) & counted[:, :, None]
        share = inside.sum(axis=1) / np.maximum(n, 1)[:, None]
        if told[0]:
            self._shift[0] += _MIDDLE_PACE * (0.5 - below) * float(sizes[0].mean())
        self._widths[:k] += np.where(told[:, None], _PACE * (_SHARES - share), 0.0)

    def size(self) -> FloatArray:
        """Return the usual size of an error, shape (horizon, per_day); NaN while no day is over."""
        told = self._n.max(axis=1) > 0
        if not told.any():
            return np.full_like(self._total, np.nan)
        mean_of_day = self._total.sum(axis=1) / np.maximum(self._n.sum(axis=1), 1e-9)
        total, n = smoothed(self._total, self._reach), smoothed(self._n, self._reach)
        size = _MEAN_TO_SD * (total + _SHRINK_DAYS * mean_of_day[:, None]) / (n + _SHRINK_DAYS)
        last = int(np.flatnonzero(told)[-1])  # further days ahead are not over yet: errors are taken to add up
        ahead = np.arange(last + 1, len(size))
        size[ahead] = size[last] * np.sqrt((ahead + 1) / (last + 1))[:, None]
        return np.asarray(np.maximum(size, 1e-9))

    def scores(self, levels: tuple[float, ...]) -> FloatArray:
        """Return each level's place in units of the usual size, shape (horizon, n_levels), not decreasing."""
        z: FloatArray = np.asarray(ndtri(np.array(levels)))
        result = np.empty((len(self._widths), len(levels)))
        for row, widths in enumerate(self._widths):
            ends = np.maximum.accumulate(np.append(0.0, widths))
            # Beyond the outermost interval the width grows on as that of a normal error.
            beyond = ends[-1] * np.maximum(np.abs(z) / _LEVEL_Z[-1], 1.0)
            inner = np.interp(np.abs(z), _LEVEL_Z, ends)
            result[row] = np.sign(z) * np.where(np.abs(z) > _LEVEL_Z[-1], beyond, inner)
        return result

    def shift(self) -> FloatArray:
        """
        Return the median error per day ahead, log units: tracked for the first day, 0 for the others.

        Medians of further days follow a growth until it breaks: with them, intervals one to fourteen days ahead
        covered 68 % for 80 on worldcup98, where traffic grew for six weeks and then collapsed; without, 77 %.
        """
        return self._shift.copy()
