"""
What the last day tells of the days to come: its surprise, times a slope learned per time of day and days ahead.

Start at `CarryOver`. A busy late evening is still felt after midnight, a new level stays for days. Slopes are those
of a discounted ridge regression of what came on two surprises: that of the last hour and that of the last day.
"""

import numpy as np

from simulation.traffic.history import FloatArray

_HALF_LIFE_DAYS = 60.0
_RIDGE_DAYS = 20.0  # the slopes begin at 0, held there as by so many days
_SMOOTH_S = 7200
_CLIP = 3.0  # robust standard deviations: one strange night must not teach a slope


class CarryOver:
    """
    Discounted sums of a regression per day ahead and time of day; they only ever see days that are over.

    Parameters
    ----------
    horizon : days ahead
    per_day, step_s : steps in a day, seconds of one
    """

    def __init__(self, horizon: int, per_day: int, step_s: int) -> None:
        self._squares = np.zeros((horizon, 3, per_day))
        self._products = np.zeros((horizon, 2, per_day))
        self._power = np.zeros(horizon)
        self._n = np.zeros(horizon)
        self._reach = _SMOOTH_S // step_s

    def learn(self, surprises: FloatArray, residuals: FloatArray, scale: float) -> None:
        """
        Take in one day that is over, as it was seen from the midnights before it.

        Parameters
        ----------
        surprises : shape (k, 2), what was carried over at the midnight 1 … k days before the day's end
        residuals : shape (k, per_day), what came minus the usual as seen from there, NaN where unknown
        scale : the usual size of a residual, log units
        """
        k = len(surprises)
        fade = 0.5 ** (1 / _HALF_LIFE_DAYS)
        z = np.clip(surprises, -1.5 * _CLIP * scale, 1.5 * _CLIP * scale)
        # Days further ahead stray further: their residuals may be larger before they count as strange.
        bound = _CLIP * scale * (1 + 0.2 * np.arange(k))[:, None]
        known = np.isfinite(residuals)
        came = np.where(known, np.clip(residuals, -bound, bound), 0.0)
        pairs = np.stack([z[:, 0] ** 2, z[:, 0] * z[:, 1], z[:, 1] ** 2], axis=1)
        self._squares[:k] = fade * self._squares[:k] + pairs[:, :, None] * known[:, None, :]
        self._products[:k] = fade * self._products[:k] + z[:, :, None] * came[:, None, :]
        self._power[:k] = fade * self._power[:k] + (z**2).mean(axis=1)
        self._n[:k] = fade * self._n[:k] + 1.0

    def correction(self, surprise: FloatArray) -> FloatArray:
        """Return what to add to the usual log counts of the coming days, shape (horizon, per_day)."""
        ridge = (_RIDGE_DAYS * self._power / np.maximum(self._n, 1e-9) + 1e-9)[:, None]
        squares, products = smoothed(self._squares, self._reach), smoothed(self._products, self._reach)
        first, cross, second = squares[:, 0] + ridge, squares[:, 1], squares[:, 2] + ridge
        determinant = first * second - cross**2
        # A slope over 1 would carry growth on for ever, one under 0 would turn a surprise round.
        hour = np.clip((second * products[:, 0] - cross * products[:, 1]) / determinant, 0.0, 1.0)
        day = np.clip((first * products[:, 1] - cross * products[:, 0]) / determinant, 0.0, 1.0)
        return np.asarray(hour * surprise[0] + day * surprise[1])


def surprise_of(residual: FloatArray, step_s: int) -> FloatArray:
    """
    Return the surprise of a day that is over, shape (2,): mean residual of its last hour, and of all of it.

    Where the last hour is unknown the last three stand in for it, then the day; an unknown day is no surprise.
    """
    hour = max(1, 3600 // step_s)
    means = [float(part[np.isfinite(part)].mean()) if np.isfinite(part).any() else np.nan
             for part in (residual[-hour:], residual[-3 * hour :], residual)]  # fmt: skip
    if np.isnan(means[2]):
        return np.zeros(2)
    return np.array([next(mean for mean in means if np.isfinite(mean)), means[2]])


def smoothed(values: FloatArray, reach: int) -> FloatArray:
    """Return the mean over `reach` neighbours on both sides along the last axis, the edges repeated."""
    if reach < 1:
        return values
    wide = np.concatenate([np.repeat(values[..., :1], reach, -1), values, np.repeat(values[..., -1:], reach, -1)], -1)
    total = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(wide, axis=-1)], axis=-1)
    return np.asarray((total[..., 2 * reach + 1 :] - total[..., : values.shape[-1]]) / (2 * reach + 1))
