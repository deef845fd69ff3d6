"""
How much more than its middle comes at a time of day, on average: what surges add, relative to the day as a whole.

Start at `Surges`. The quietest window is the one with the least load expected, not the least median: the hour after
a great evening is often calm and sometimes not. Surprises are clipped, so that one night does not close an hour.
"""

import numpy as np

from simulation.traffic.history import FloatArray

_HALF_LIFE_DAYS = 60.0
_OTHER_KIND = 0.2  # weight of a weekend for working days, and the reverse
_SHRINK_DAYS = 20.0
_TRUST = 0.7  # of the whole correction: in backtests half to all of it did equally well
_CLIP = 3.0  # robust standard deviations


class Surges:
    """Discounted mean of exp(error) per time of day, for working days and for weekends."""

    def __init__(self, per_day: int) -> None:
        self._total = np.zeros((2, per_day))
        self._n = np.zeros((2, per_day))

    def learn(self, error: FloatArray, is_weekend: bool, scale: float) -> None:
        """Take in the log error of a day that is over, shape (per_day,), NaN where unknown; `scale`: its usual size."""
        known = np.isfinite(error)
        if not known.any():
            return
        relative = np.clip(error - error[known].mean(), -_CLIP * scale, _CLIP * scale)
        ratio = np.where(known, np.exp(np.where(known, relative, 0.0)), 0.0)
        weights = np.where(np.arange(2) == int(is_weekend), 1.0, _OTHER_KIND)[:, None]
        fade = 0.5 ** (1 / _HALF_LIFE_DAYS)
        self._total = fade * self._total + weights * ratio
        self._n = fade * self._n + weights * known

    def lift(self, is_weekend: bool) -> FloatArray:
        """Return what to add to the log centre, shape (per_day,), with mean 0."""
        kind = int(is_weekend)
        lift = np.log((self._total[kind] + _SHRINK_DAYS) / (self._n[kind] + _SHRINK_DAYS))
        return np.asarray(_TRUST * (lift - lift.mean()))
