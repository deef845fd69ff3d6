"""
Quantiles of the load to come. Start at `forecast`.

The calculation is `rolling.roll`, at the last midnight of the history; the backtest walks over all of them.
"""

import datetime as dt
from dataclasses import dataclass

import numpy as np

from simulation.errors import InvalidHistory
from simulation.traffic.history import FloatArray, RequestHistory
from simulation.traffic.holiday_calendar import OF_ZONE, resolve_country
from simulation.traffic.rolling import FIRST_ORIGIN, roll, times_mostly_unknown
from simulation.traffic.seasonal import DAY_S, local_days, local_seconds

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
_N_ORIGINS = 200  # midnights whose errors are looked at
_MIN_ORIGINS = 7
_HOLE_DAYS = 28
_MAX_HORIZON_DAYS = 28
_USUAL_STEP_S = 600


@dataclass(frozen=True)
class Forecast:
    """
    Quantiles of load for each future step.

    Attributes
    ----------
    start : UTC, the beginning of the first step
    step_s : seconds
    levels : increasing, each in (0, 1)
    load_rps : shape (n_steps, n_levels), requests per second, >= 0, not decreasing along the levels;
        NaN at a time of day that the history mostly does not know
    """

    start: dt.datetime
    step_s: int
    levels: tuple[float, ...]
    load_rps: FloatArray

    @property
    def end(self) -> dt.datetime:
        """The end of the last step."""
        return self.start + dt.timedelta(seconds=self.step_s * len(self.load_rps))

    def at(self, level: float) -> FloatArray:
        """Return the load of one of the levels, shape (n_steps,), requests per second."""
        if level not in self.levels:
            raise InvalidHistory(f"level {level:g} was not forecast; use one of {', '.join(map(str, self.levels))}")
        return self.load_rps[:, self.levels.index(level)]

    def mean_rps(self) -> FloatArray:
        """
        Return the expected load, shape (n_steps,), requests per second.

        Between two levels the quantiles are taken to lie on a line, beyond the outermost to stay at its value:
        rare surges past the highest level are not in it.
        """
        return mean_of_quantiles(self.load_rps, self.levels)

    def between(self, since: dt.datetime, until: dt.datetime) -> "Forecast":
        """Return the steps that begin in [since, until)."""
        first = max(0, -int((self.start - since).total_seconds() // self.step_s))
        last = min(len(self.load_rps), -int((self.start - until).total_seconds() // self.step_s))
        start = self.start + dt.timedelta(seconds=first * self.step_s)
        return Forecast(start, self.step_s, self.levels, self.load_rps[first : max(first, last)])


def forecast(
    history: RequestHistory,
    *,
    time_zone: str,
    horizon_days: int = 7,
    step_s: int | None = None,
    levels: tuple[float, ...] = LEVELS,
    holidays: str = OF_ZONE,
) -> Forecast:
    """
    Return quantiles of the load of the days after `history.end`.

    Parameters
    ----------
    history : at least 14 local days, of which the last 28 must not be all unknown
    time_zone : IANA name; days and weeks are those of its clocks
    horizon_days : from 1 to 28 days of 24 hours
    step_s : seconds, a multiple of the history's step and a divisor of a day; without one, `usual_step_s`
    levels : increasing, each in (0, 1)
    holidays : a country code such as "US", "none", or "zone" for the country that the time zone lies in

    Returns
    -------
    Forecast
        Same history, same bytes: nothing is drawn at random.

    Raises
    ------
    InvalidHistory
        If the history is too short or all unknown, or a parameter is outside of what is said above.
    UnknownZone
        If `time_zone` is not an IANA name.

    References
    ----------
    Gibbs and Candès (2021), "Adaptive conformal inference under distribution shift": intervals that follow what they
    should have covered. Days hang together, so coverage is measured by `backtest`, not guaranteed for the next one.
    """
    if not 1 <= horizon_days <= _MAX_HORIZON_DAYS:
        raise InvalidHistory(f"horizon_days: {horizon_days} is not within 1 and {_MAX_HORIZON_DAYS}; use fewer days")
    if not levels or list(levels) != sorted(set(levels)) or levels[0] <= 0 or levels[-1] >= 1:
        raise InvalidHistory(f"levels: {levels} must grow and lie between 0 and 1, such as (0.05, 0.5, 0.95)")
    step_s = usual_step_s(history) if step_s is None else step_s
    days = local_days(history.resampled(step_s), time_zone, resolve_country(holidays, time_zone))
    n_steps = horizon_days * DAY_S // step_s
    start = history.end - dt.timedelta(seconds=history.end.timestamp() % step_s)
    local = local_seconds(start, step_s, n_steps, time_zone)
    row, column = local // DAY_S - days.first_day, local % DAY_S // step_s
    # The day that has begun counts as the first one ahead: its morning is not used, its width more than it need be.
    origin = int(row[0])
    if origin < FIRST_ORIGIN + _MIN_ORIGINS:
        raise InvalidHistory(
            f"{history.name}: has {origin} whole days to learn from, too few to tell weekdays and errors apart; "
            f"give at least {FIRST_ORIGIN + _MIN_ORIGINS}"
        )
    if not np.isfinite(days.log_counts[max(0, origin - _HOLE_DAYS) : origin]).any():
        raise InvalidHistory(f"{history.name}: nothing is known of its last {_HOLE_DAYS} days; give a newer history")
    horizon = int(row.max()) - origin + 1
    from_origin = max(FIRST_ORIGIN, origin - _N_ORIGINS)
    ahead = next(roll(days, range(origin, origin + 1), levels, horizon, from_origin=from_origin))
    counts = ahead.counts(days.floor)
    counts[:, times_mostly_unknown(days, origin)] = np.nan
    return Forecast(start, step_s, levels, counts[row - origin, column] / step_s)


def usual_step_s(history: RequestHistory) -> int:
    """Return the step of a forecast when none is asked for: ten minutes, or the history's own where that cannot be."""
    return max(_USUAL_STEP_S, history.step_s) if _USUAL_STEP_S % history.step_s == 0 else history.step_s


def mean_of_quantiles(values: FloatArray, levels: tuple[float, ...]) -> FloatArray:
    """Return the mean of each row's distribution, quantiles joined by lines and flat beyond the outermost."""
    edges = np.concatenate(([0.0], levels, [1.0]))
    wide = np.concatenate((values[:, :1], values, values[:, -1:]), axis=1)
    return np.asarray(((wide[:, 1:] + wide[:, :-1]) / 2) @ np.diff(edges))
