"""
Quantiles of the load to come. Start at `forecast`.

The centre comes from `seasonal.predict_days`. The quantiles around it are those of the errors that the same
recipe made from every midnight of the last weeks, per day ahead and time of day: nothing is assumed of their
shape, and what the recipe does badly makes them wide.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from simulation.errors import InvalidHistory
from simulation.traffic.history import FloatArray, RequestHistory
from simulation.traffic.outages import BoolArray
from simulation.traffic.seasonal import DAY_S, LocalDays, local_days, local_seconds, predict_days

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
_N_ORIGINS = 56  # midnights whose errors are looked at
_MIN_ORIGINS = 7
_FIRST_ORIGIN = 7  # days that must lie before one
_NEIGHBOURS_S = 3600  # errors of the hour before and after count for a time of day
_MAX_NEIGHBOURS = 5
_ERROR_HALF_LIFE_DAYS = 10.0
_ERRORS_PER_ORIGIN = 1.5
_HOLE_DAYS = 28
_MAX_HORIZON_DAYS = 28


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
    step_s: int = 600,
    levels: tuple[float, ...] = LEVELS,
) -> Forecast:
    """
    Return quantiles of the load of the days after `history.end`.

    Parameters
    ----------
    history : at least 14 local days, of which the last 28 must not be all unknown
    time_zone : IANA name; days and weeks are those of its clocks
    horizon_days : from 1 to 28 days of 24 hours
    step_s : seconds, a multiple of the history's step and a divisor of a day
    levels : increasing, each in (0, 1)

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
    Vovk, Gammerman and Shafer (2005), "Algorithmic Learning in a Random World": quantiles from past errors. Errors
    of following days hang together, so their coverage is measured by `backtest`, not guaranteed.
    """
    if not 1 <= horizon_days <= _MAX_HORIZON_DAYS:
        raise InvalidHistory(f"horizon_days: {horizon_days} is not within 1 and {_MAX_HORIZON_DAYS}; use fewer days")
    if not levels or list(levels) != sorted(set(levels)) or levels[0] <= 0 or levels[-1] >= 1:
        raise InvalidHistory(f"levels: {levels} must grow and lie between 0 and 1, such as (0.05, 0.5, 0.95)")
    days = local_days(history.resampled(step_s), time_zone)
    n_steps = horizon_days * DAY_S // step_s
    start = history.end - dt.timedelta(seconds=history.end.timestamp() % step_s)
    local = local_seconds(start, step_s, n_steps, time_zone)
    row, column = local // DAY_S - days.first_day, local % DAY_S // step_s
    # The day that has begun counts as the first one ahead: its morning is not used, its width more than it need be.
    origin = int(row[0])
    n_rows = int(row.max()) - origin + 1
    n_origins = min(_N_ORIGINS, origin - _FIRST_ORIGIN)
    if n_origins < _MIN_ORIGINS:
        raise InvalidHistory(
            f"{history.name}: has {origin} whole days to learn from, too few to tell weekdays and errors apart; "
            f"give at least {_FIRST_ORIGIN + _MIN_ORIGINS}"
        )
    centre = predict_days(days, origin, n_rows)
    centre[:, times_mostly_unknown(days, origin)] = np.nan
    if np.isnan(centre).all():
        raise InvalidHistory(f"{history.name}: nothing is known of its last {_HOLE_DAYS} days; give a newer history")
    errors = np.full((n_origins, n_rows, days.per_day), np.nan)
    for i, past in enumerate(range(origin - n_origins, origin)):
        seen = days.log_counts[past : min(past + n_rows, origin)]
        errors[i, : len(seen)] = seen - predict_days(days, past, n_rows)[: len(seen)]
    spread = error_quantiles(errors, levels, max(1, _NEIGHBOURS_S // step_s))
    counts = np.exp(centre[..., None] + spread) - days.floor
    return Forecast(start, step_s, levels, np.maximum(counts[row - origin, column], 0.0) / step_s)


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


def day_ahead_quantiles(days: LocalDays, rows: list[int], levels: tuple[float, ...] = LEVELS) -> Iterator[FloatArray]:
    """
    Yield, for each row, the quantiles of its counts as they would have been forecast at its local midnight.

    Each has shape (per_day, n_levels), requests per step, as `forecast` would give them; rows grow and are at least 14.
    """
    errors: dict[int, FloatArray] = {}
    for row in rows:
        origins = range(max(_FIRST_ORIGIN, row - _N_ORIGINS), row)
        for origin in origins:
            if origin not in errors:
                errors[origin] = days.log_counts[origin] - predict_days(days, origin, 1)[0]
        past = np.stack([errors[origin] for origin in origins])[:, None]
        centre = predict_days(days, row, 1)[0]
        centre[times_mostly_unknown(days, row)] = np.nan
        spread = error_quantiles(past, levels, max(1, _NEIGHBOURS_S // days.step_s))[0]
        yield np.maximum(np.exp(centre[:, None] + spread) - days.floor, 0.0)


def mean_of_quantiles(values: FloatArray, levels: tuple[float, ...]) -> FloatArray:
    """Return the mean of each row's distribution, quantiles joined by lines and flat beyond the outermost."""
    edges = np.concatenate(([0.0], levels, [1.0]))
    wide = np.concatenate((values[:, :1], values, values[:, -1:]), axis=1)
    return np.asarray(((wide[:, 1:] + wide[:, :-1]) / 2) @ np.diff(edges))


def error_quantiles(errors: FloatArray, levels: tuple[float, ...], reach: int) -> FloatArray:
    """
    Return quantiles of past log errors per day ahead and time of day, shape (n_rows, per_day, n_levels).

    Parameters
    ----------
    errors : shape (n_origins, n_rows, per_day), oldest origin first, one a day, NaN where unknown
    levels : increasing, each in (0, 1)
    reach : steps before and after whose errors count for a time of day

    Notes
    -----
    Newer errors weigh more, and the levels are moved outwards for the effective number of origins, as conformal
    prediction does: of n errors and the next one, each is as likely to be the largest. Errors of one midnight hang
    together; counting them as 1.5 gave the nearest coverage on three real histories.
    A day ahead that fewer than 7 origins can tell of takes the errors of the last one that has as many.
    """
    n_origins, n_rows, per_day = errors.shape
    age_days = np.arange(n_origins, 0, -1)
    weights = 0.5 ** (age_days / _ERROR_HALF_LIFE_DAYS)
    is_told: BoolArray = np.asarray(np.isfinite(errors).any(axis=2))  # (n_origins, n_rows)
    told = [row for row in range(n_rows) if is_told[:, row].sum() >= _MIN_ORIGINS]
    wide = np.concatenate((errors[..., per_day - reach :], errors, errors[..., :reach]), axis=-1)
    offsets = np.unique(np.linspace(0, 2 * reach, min(2 * reach + 1, _MAX_NEIGHBOURS)).astype(np.int64))
    spread = np.full((n_rows, per_day, len(levels)), np.nan)
    hourly = np.zeros((per_day, 1))
    for row in range(n_rows):
        of = max((r for r in told if r <= row), default=0)
        sample = np.concatenate([wide[:, of, offset : offset + per_day] for offset in offsets]).T
        used = weights * is_told[:, of]
        n_effective = _ERRORS_PER_ORIGIN * used.sum() ** 2 / max(float((used**2).sum()), 1e-12)
        outwards = _conformal(np.array(levels), float(n_effective))
        quantiles = weighted_quantiles(sample, np.tile(weights, offsets.size), np.append(outwards, 0.5))
        bias = quantiles[:, -1:]
        if row == 0:
            hourly = bias - np.nanmean(bias) if np.isfinite(bias).any() else bias
        # Which hour is quietest is told best by the errors one day ahead: windows of later days chosen by their own
        # errors were a third worse on worldcup98. What those say of the day as a whole, and of its width, stays.
        spread[row] = quantiles[:, :-1] - bias + hourly + (np.nanmean(bias) if np.isfinite(bias).any() else 0.0)
    return spread


def _conformal(levels: FloatArray, n: float) -> FloatArray:
    """Return the levels moved away from the middle as n errors and a next one ask for."""
    return np.clip(np.where(levels >= 0.5, levels * (n + 1) / n, 1 - (1 - levels) * (n + 1) / n), 0.0, 1.0)


def weighted_quantiles(values: FloatArray, weights: FloatArray, levels: FloatArray) -> FloatArray:
    """
    Return weighted quantiles of each row, shape (n_rows, n_levels); NaN for a row that knows nothing.

    A value stands at the middle of its share of the weight; between two values the quantile is on a line, beyond
    the outermost it is the outermost.

    Parameters
    ----------
    values : shape (n_rows, n), NaN where unknown
    weights : shape (n,), > 0
    levels : shape (n_levels,), each in [0, 1]
    """
    order = np.argsort(values, axis=1)  # NaN last
    ordered = np.take_along_axis(values, order, axis=1)
    mass = np.where(np.isfinite(ordered), weights[order], 0.0)
    total = mass.cumsum(axis=1)
    place = total - mass / 2
    n_known = np.isfinite(ordered).sum(axis=1)
    last = np.maximum(n_known - 1, 0)
    place[np.arange(values.shape[1]) >= n_known[:, None]] = np.inf
    result = np.empty((values.shape[0], levels.size))
    rows = np.arange(values.shape[0])
    for i, level in enumerate(levels):
        wanted = level * total[:, -1]
        above = (place < wanted[:, None]).sum(axis=1)
        low, high = np.clip(above - 1, 0, last), np.minimum(above, last)
        span = place[rows, high] - place[rows, low]
        ratio = np.where(span > 0, (wanted - place[rows, low]) / np.where(span > 0, span, 1.0), 0.0)
        result[:, i] = ordered[rows, low] + (ordered[rows, high] - ordered[rows, low]) * ratio
    return result
