"""
Backtest: what the forecast would have chosen on past days, held against hindsight and against simple rules.

Start at `backtest`. For each local day one window is chosen at 00:00 local, from what was known then, inside that
day. Pooled excess = Σ load in the chosen windows / Σ load in the quietest windows in hindsight − 1.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulation.errors import InvalidHistory
from simulation.traffic.forecast import LEVELS, usual_step_s
from simulation.traffic.history import FloatArray, RequestHistory
from simulation.traffic.holiday_calendar import OF_ZONE, resolve_country
from simulation.traffic.rolling import roll, times_mostly_unknown
from simulation.traffic.seasonal import DAY_S, LocalDays, local_days, local_seconds

Rule = Callable[[FloatArray, int], FloatArray]
FORECAST = "forecast"
FIXED = "fixed 02:00"
_FIRST_DAY = 14  # days that must lie before the first one scored
HORIZON_DAYS = 14
INTERVALS = {0.5: (0.25, 0.75), 0.8: (0.1, 0.9), 0.9: (0.05, 0.95)}
_WEEKS = 8


@dataclass(frozen=True)
class Choice:
    """One day's window, half-open in UTC, its load and that of the day's quietest in requests; NaN if unknown."""

    day: dt.date
    opens_at: dt.datetime
    closes_at: dt.datetime
    requests: float
    quietest_requests: float


@dataclass(frozen=True)
class Backtest:
    """
    How well windows were chosen and quantiles met.

    Attributes
    ----------
    choices : per rule, one per scored day; all rules are scored on the same days
    decided : the forecast's choice on every day, also on days that cannot be scored
    coverage_ahead : shape (14, 8): per day ahead and level of `LEVELS`, the share of known steps whose load was at or
        below the quantile forecast that many days ahead; NaN where nothing was known
    n_days : scored days; n_skipped: days on which some choice fell on unknown steps, so that nobody can tell
    """

    choices: dict[str, list[Choice]]
    decided: list[Choice]
    coverage_ahead: FloatArray
    n_days: int
    n_skipped: int

    @property
    def coverage(self) -> dict[float, float]:
        """Share of steps at or below each level's quantile, one day ahead."""
        return dict(zip(LEVELS, self.coverage_ahead[0].tolist(), strict=True))

    def interval_coverage(self, day_ahead: int) -> dict[float, float]:
        """Return the share of steps inside each interval of `INTERVALS`, 1 … 14 days ahead."""
        shares = dict(zip(LEVELS, self.coverage_ahead[day_ahead - 1].tolist(), strict=True))
        return {nominal: shares[high] - shares[low] for nominal, (low, high) in INTERVALS.items()}

    def pooled_excess(self, rule: str = FORECAST) -> float:
        """Return Σ requests in the chosen windows / Σ requests in the quietest ones − 1; NaN without a request."""
        quietest = sum(choice.quietest_requests for choice in self.choices[rule])
        return sum(choice.requests for choice in self.choices[rule]) / quietest - 1 if quietest > 0 else float("nan")

    def best_rule(self) -> str:
        """Return the simple rule with the least pooled excess."""
        return min((rule for rule in self.choices if rule != FORECAST), key=self.pooled_excess)


def backtest(
    history: RequestHistory,
    *,
    time_zone: str,
    duration_min: float = 120,
    step_s: int | None = None,
    since: dt.date | None = None,
    until: dt.date | None = None,
    last_days: int | None = None,
    holidays: str = OF_ZONE,
) -> Backtest:
    """
    Choose a window for every past day as it would have been chosen then, and score it.

    Parameters
    ----------
    time_zone : IANA name; days are those of its clocks
    duration_min : window length, over 0 and at most 1440, a multiple of the step
    step_s : seconds, a multiple of the history's step and a divisor of a day; without one, as `forecast` chooses
    since, until : first local date scored and the one after the last; a date needs 14 days before it
    last_days : score only the last so many of these days, 1 or more
    holidays : as in `forecast`

    Raises
    ------
    InvalidHistory
        If no day can be scored, or a parameter is outside of what is said above.
    UnknownZone
        If `time_zone` is not an IANA name.
    """
    step_s = usual_step_s(history) if step_s is None else step_s
    length, rest = divmod(duration_min * 60, step_s)
    if not 0 < duration_min <= 1440 or rest:
        raise InvalidHistory(f"duration_min: {duration_min:g} must be a multiple of {step_s / 60:g}, at most 1440")
    if last_days is not None and last_days < 1:
        raise InvalidHistory(f"last_days: {last_days} leaves no day to score; use 1 or more")
    coarse = history.resampled(step_s)
    days = local_days(coarse, time_zone, resolve_country(holidays, time_zone))
    place = local_seconds(coarse.start, step_s, coarse.counts.size + 1, time_zone) - days.first_day * DAY_S
    n_whole = int(place[-1] // DAY_S)  # a day that the history does not cover to its end is not scored
    rows = _rows_to_score(days, n_whole, since, until)[-(last_days or 0) :]
    if not rows:
        raise InvalidHistory(f"{history.name}: no day can be scored; a day needs {_FIRST_DAY} days before it")
    counts = np.exp(days.log_counts) - days.floor
    choices: dict[str, list[Choice]] = {name: [] for name in (FORECAST, *RULES, FIXED)}
    decided: list[Choice] = []
    below, n_known = np.zeros((HORIZON_DAYS, len(LEVELS))), np.zeros(HORIZON_DAYS)
    for ahead in roll(days, range(rows[0], rows[-1] + 1), LEVELS, HORIZON_DAYS):
        row = ahead.origin
        quantiles = ahead.counts(days.floor)
        quantiles[:, times_mostly_unknown(days, row)] = np.nan
        _count_below(counts[row : rows[-1] + 1], quantiles, below, n_known)
        told = {FORECAST: quantiles[0, :, LEVELS.index(0.5)]}
        told |= {name: rule(counts, row) for name, rule in RULES.items()}
        begin, end = np.searchsorted(place, [row * DAY_S, (row + 1) * DAY_S]).tolist()
        starts = _starts(told, place[begin:end] % DAY_S // step_s, int(length), step_s)
        found = _choices(coarse, begin, end, int(length), starts, _date(days, row))
        if FORECAST in found:
            decided.append(found[FORECAST])
        if len(found) == len(choices) and all(np.isfinite(choice.requests) for choice in found.values()):
            for name, choice in found.items():
                choices[name].append(choice)
    n_days = len(choices[FORECAST])
    if not n_days:
        raise InvalidHistory(f"{history.name}: no day can be scored; nothing is known of the windows on any of them")
    coverage = np.where(n_known[:, None] > 0, below / np.maximum(n_known, 1)[:, None], np.nan)
    return Backtest(choices, decided, coverage, n_days, len(rows) - n_days)


def _count_below(counts: FloatArray, quantiles: FloatArray, below: FloatArray, n_known: FloatArray) -> None:
    """Add, per day ahead, how many known steps lay at or below each quantile."""
    for k, (came, told) in enumerate(zip(counts, quantiles, strict=False)):
        known = np.isfinite(came) & np.isfinite(told[:, 0])
        below[k] += (came[known, None] <= told[known]).sum(axis=0)
        n_known[k] += int(known.sum())


def hour_of_week_mean(counts: FloatArray, row: int) -> FloatArray:
    """Return the mean of the same weekday in the eight weeks before, per step of the day."""
    same = counts[max(row % 7, row - 7 * _WEEKS) : row : 7]
    known = np.isfinite(same)
    return np.where(
        known.any(axis=0), np.where(known, same, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1), np.nan
    )


def yesterday(counts: FloatArray, row: int) -> FloatArray:
    """Return the day before."""
    return np.asarray(counts[row - 1])


def last_week(counts: FloatArray, row: int) -> FloatArray:
    """Return the same weekday of the week before."""
    return np.asarray(counts[row - 7])


def hour_of_day_median(counts: FloatArray, row: int) -> FloatArray:
    """Return the median of the 28 days before, per step of the day."""
    seen = np.sort(counts[max(0, row - 28) : row], axis=0)  # NaN last
    n_known = np.isfinite(seen).sum(axis=0)
    last, columns = np.maximum(n_known - 1, 0), np.arange(seen.shape[1])
    median = (seen[last // 2, columns] + seen[(last + 1) // 2, columns]) / 2
    return np.where(n_known > 0, median, np.nan)


RULES: dict[str, Rule] = {
    "hour-of-week mean": hour_of_week_mean,
    "yesterday": yesterday,
    "last week": last_week,
    "28-day hour-of-day median": hour_of_day_median,
}


def _rows_to_score(days: LocalDays, n_whole: int, since: dt.date | None, until: dt.date | None) -> list[int]:
    """Return the rows of the table that have enough days before them and lie between the two dates."""
    return [
        row
        for row in range(_FIRST_DAY, n_whole)
        if (since is None or _date(days, row) >= since) and (until is None or _date(days, row) < until)
    ]


def _starts(told: dict[str, FloatArray], columns: NDArray[np.int64], length: int, step_s: int) -> dict[str, int]:
    """
    Return each rule's choice: the start, counted from the day's first step, that it thinks quietest.

    A rule that knows nothing of a day (no yesterday on record) falls back on the hour-of-week mean, as a person would.
    """
    starts = {}
    for name, loads in told.items():
        thought = _sums(loads[columns], length)
        if not np.isfinite(thought).any():
            thought = _sums(told["hour-of-week mean"][columns], length)
        starts[name] = int(np.nanargmin(thought)) if np.isfinite(thought).any() else -1
    two = int(np.searchsorted(columns, 2 * 3600 // step_s))
    return starts | {FIXED: min(two, columns.size - length)}


def _choices(
    history: RequestHistory, begin: int, end: int, length: int, starts: dict[str, int], day: dt.date
) -> dict[str, Choice]:
    """Return the choices with what came; a rule that knows nothing makes none."""
    came = _sums(history.counts[begin:end], length)
    quietest = float(np.nanmin(came)) if np.isfinite(came).any() else float("nan")
    choices = {}
    for name, start in starts.items():
        if start >= 0:
            opens = history.start + dt.timedelta(seconds=(begin + start) * history.step_s)
            closes = opens + dt.timedelta(seconds=length * history.step_s)
            choices[name] = Choice(day, opens, closes, float(came[start]), quietest)
    return choices


def _sums(values: FloatArray, length: int) -> FloatArray:
    """Return the sum over every `length` neighbours, NaN where one of them is; empty if there are too few."""
    if values.size < length:
        return np.full(1, np.nan)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(values, length).sum(axis=1))


def _date(days: LocalDays, row: int) -> dt.date:
    return dt.date(1970, 1, 1) + dt.timedelta(days=days.first_day + row)
