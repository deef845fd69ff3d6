"""
The forecast as it would have been made at every local midnight, one after another: start at `roll`.

At each midnight the day that has just ended is taken in first, then the coming days are told: what is usual
(`seasonal`), plus what yesterday's surprise carries over, plus what holidays and surges add, with `widths` around it.
No midnight sees a later day, so backtest and forecast are one calculation.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from simulation.traffic.carry_over import CarryOver, surprise_of
from simulation.traffic.history import FloatArray
from simulation.traffic.holiday_calendar import is_public
from simulation.traffic.outages import BoolArray
from simulation.traffic.seasonal import LocalDays, usual_days
from simulation.traffic.surges import Surges
from simulation.traffic.widths import Widths

FIRST_ORIGIN = 7  # days that must lie before one
_HOLE_DAYS = 28
_SCALE_DAYS = 60
_PRIOR_OCCURRENCES = 0.3  # how firmly a holiday is held to what holidays do in general
_PRIOR_TRUST = 0.7
_PRIOR_SHRINK = 2.0


@dataclass(frozen=True)
class Ahead:
    """
    What is told at the midnight before row `origin`, of that row and those after it.

    Attributes
    ----------
    origin : row of `LocalDays`
    centre : shape (horizon, per_day), log(count + floor), NaN where nothing is known
    size : shape (horizon, per_day), the usual size of an error, log units
    shift : shape (horizon,), the median error of whole days, log units
    scores : shape (horizon, n_levels), places of the levels around it in units of `size`
    """

    origin: int
    centre: FloatArray
    size: FloatArray
    shift: FloatArray
    scores: FloatArray

    def counts(self, floor: float) -> FloatArray:
        """Return quantiles of requests per step, shape (horizon, per_day, n_levels)."""
        middle = (self.centre + self.shift[:, None])[:, :, None]
        logs = middle + np.nan_to_num(self.size)[:, :, None] * self.scores[:, None, :]
        return np.asarray(np.maximum(np.exp(logs) - floor, 0.0))


@dataclass(frozen=True)
class _Told:
    """What one midnight told, kept until its days are over."""

    usual: FloatArray
    surprise: FloatArray
    before_lift: FloatArray
    ahead: Ahead


def roll(
    days: LocalDays, origins: range, levels: tuple[float, ...], horizon: int = 1, *, from_origin: int = FIRST_ORIGIN
) -> Iterator[Ahead]:
    """
    Yield what would have been told at each of the midnights `origins`.

    Parameters
    ----------
    origins : rows, step 1, from `FIRST_ORIGIN` on to at most one past the table
    levels : increasing, each in (0, 1)
    horizon : days ahead, 1 or more
    from_origin : the first midnight to learn errors from
    """
    carry = CarryOver(horizon, days.per_day, days.step_s)
    surges, widths, holidays = Surges(days.per_day), Widths(horizon, days.per_day, days.step_s), _Holidays(days)
    told: deque[_Told] = deque(maxlen=horizon)  # newest first
    recent: deque[FloatArray] = deque(maxlen=_SCALE_DAYS)
    surprise = np.zeros(2)
    for origin in range(from_origin, origins.stop):
        if told:
            came = days.log_counts[origin - 1]
            residual = came - told[0].usual[0]
            recent.append(residual)
            scale = _robust_scale(recent)
            steps = range(len(told))
            if scale > 0:
                carry.learn(
                    np.stack([t.surprise for t in told]), np.stack([came - told[k].usual[k] for k in steps]), scale
                )
                surges.learn(came - told[0].before_lift, days.is_weekend(origin - 1), scale)
            widths.learn(
                np.stack([came - told[k].ahead.centre[k] for k in steps]),
                np.stack([told[k].ahead.size[k] for k in steps]),
            )
            surprise = surprise_of(residual, days.step_s)
        usual = usual_days(days, origin, horizon)
        centre = usual + carry.correction(surprise)
        centre += np.stack([holidays.effect(origin, origin + k) for k in range(horizon)])
        lift = np.stack([surges.lift(days.is_weekend(origin + k)) for k in range(horizon)])
        ahead = Ahead(origin, centre + lift, widths.size(), widths.shift(), widths.scores(levels))
        told.appendleft(_Told(usual, surprise, centre[0], ahead))
        if origin >= origins.start:
            yield ahead


class _Holidays:
    """What holidays changed when they last came, against what was usual; asked only about rows before an origin."""

    def __init__(self, days: LocalDays) -> None:
        self._days = days
        self._named = [row for row in range(FIRST_ORIGIN, len(days.log_counts)) if days.names[row]]
        self._changes: dict[int, FloatArray] = {}

    def effect(self, origin: int, target: int) -> FloatArray:
        """Return what to add to the log centre of a row, shape (per_day,): 0 on an ordinary day."""
        name = self._days.names[target]
        if not name:
            return np.zeros(self._days.per_day)
        kind = self._days.is_weekend(target)
        past = [row for row in self._named if row < origin and self._days.is_weekend(row) == kind]
        same = [row for row in past if self._days.names[row] == name]
        others = [row for row in past if self._days.names[row] != name and is_public(self._days.names[row])]
        prior = np.zeros(self._days.per_day)
        if is_public(name) and others:
            total, n = self._sum(others)
            prior = _PRIOR_TRUST * total / (n + _PRIOR_SHRINK)
        if not same:
            return prior
        total, n = self._sum(same)
        return np.asarray((_PRIOR_OCCURRENCES * prior + total) / (_PRIOR_OCCURRENCES + n))

    def _sum(self, rows: list[int]) -> tuple[FloatArray, FloatArray]:
        """Return the sum of the changes on these rows and how many know each time of day."""
        for row in rows:
            if row not in self._changes:
                self._changes[row] = self._days.log_counts[row] - usual_days(self._days, row, 1)[0]
        changes = np.stack([self._changes[row] for row in rows])
        known = np.isfinite(changes)
        return np.where(known, changes, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64)


def times_mostly_unknown(days: LocalDays, origin: int) -> BoolArray:
    """
    Return the times of day that the collector hardly sees before `origin`, shape (per_day,).

    Such a time is known on less than a third as many of the last 28 days as the usual time of day, or on none of
    the last 7 while the usual one is known on 5. Hours lost here and there stay: the others tell of them.
    """
    known = np.isfinite(days.log_counts[max(0, origin - _HOLE_DAYS) : origin])
    n_known, n_lately = known.sum(axis=0), known[-7:].sum(axis=0)
    hardly = (3 * n_known < np.median(n_known)) | (n_known == 0)
    lost = (n_lately == 0) & bool(np.median(n_lately) >= 5)
    return np.asarray(hardly | lost)


def _robust_scale(residuals: deque[FloatArray]) -> float:
    """
    Return the usual size of the recent residuals: 1.48 times their median distance from 0, 0 if nothing is known.

    Of two months or of the last week, whichever is larger: a new level must not be clipped away for a month.
    """
    return max(_median_size(list(residuals)), _median_size(list(residuals)[-7:]))


def _median_size(residuals: list[FloatArray]) -> float:
    values = np.abs(np.concatenate(residuals))
    known = values[np.isfinite(values)]
    return 1.4826 * float(np.median(known)) if known.size else 0.0
