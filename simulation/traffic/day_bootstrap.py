"""
Days that have not been seen, made of days that have: whole local days of the history, drawn in blocks.

Start at `draw_days`, or hand a `DayLoad` to `simulate`. The forecast says how far the load of a step may be off; this
says how the load of a whole night may run, with the bursts and lulls that real nights had.
"""

import datetime as dt
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulation.errors import InvalidHistory
from simulation.planning.window_rule import load_zone
from simulation.randomness import Purpose, check_seed, uniforms
from simulation.traffic.forecast import LEVELS, Forecast
from simulation.traffic.history import FloatArray, RequestHistory
from simulation.traffic.outages import BoolArray
from simulation.traffic.seasonal import DAY_S, daily_counts, local_seconds

RECENT_DAYS = 56  # as far back as the forecast looks for its errors: older levels are another time
_STREAM = 1  # the attempt under which days are drawn; 0 is the forecast's path of load
_EPOCH = dt.date(1970, 1, 1)
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class DrawnDays:
    """
    The load of days made of seen ones.

    Attributes
    ----------
    start : UTC, local midnight of the first day
    step_s : seconds
    load_rps : shape (n_steps,), requests per second, >= 0, never NaN
    days : the local dates that were drawn, one per day in order
    """

    start: dt.datetime
    step_s: int
    load_rps: FloatArray
    days: tuple[dt.date, ...]

    @property
    def end(self) -> dt.datetime:
        """The end of the last step: local midnight after the last day."""
        return self.start + dt.timedelta(seconds=self.step_s * self.load_rps.size)

    def as_forecast(self) -> Forecast:
        """Return a forecast that is sure of this load, as `simulate` takes it."""
        return Forecast(self.start, self.step_s, LEVELS, np.repeat(self.load_rps[:, None], len(LEVELS), axis=1))


@dataclass(frozen=True)
class DayLoad:
    """
    The load of nights that were not seen, as `simulate` takes it instead of a forecast: each seed draws its own days.

    Parameters
    ----------
    history, time_zone : as for `draw_days`
    """

    history: RequestHistory
    time_zone: str

    def night_rates(self, begin: dt.datetime, end: dt.datetime, seed: int) -> tuple[FloatArray, FloatArray]:
        """Return edges in seconds since `begin`, shape (n + 1,), and requests per second between them, shape (n,)."""
        zone = load_zone(self.time_zone)
        first, last = (moment.astimezone(zone).date() for moment in (begin, end))
        days = draw_days(
            self.history, time_zone=self.time_zone, first_day=first, n_days=(last - first).days + 1, seed=seed
        )
        edges = (days.start - begin).total_seconds() + np.arange(days.load_rps.size + 1, dtype=np.float64) * days.step_s
        held = (edges[1:] > 0.0) & (edges[:-1] < (end - begin).total_seconds())
        kept = np.flatnonzero(held)
        return np.clip(edges[kept[0] : kept[-1] + 2], 0.0, None), days.load_rps[held]


def draw_days(
    history: RequestHistory,
    *,
    time_zone: str,
    first_day: dt.date,
    n_days: int,
    seed: int,
    step_s: int = 600,
    block_days: int = 2,
    recent_days: int = RECENT_DAYS,
) -> DrawnDays:
    """
    Draw the load of local days from the last days of a history.

    Parameters
    ----------
    history : its last `recent_days` local days are drawn from
    time_zone : IANA name; days are those of its clocks
    first_day : local date, seen or not
    n_days : >= 1
    seed : 0 <= seed < 2**63; the same seed draws the same days, whatever else is drawn
    step_s : seconds, a multiple of the history's step and a divisor of a day
    block_days : >= 1
        That many days that follow one another are drawn together, so that a night that crosses midnight is one
        that was seen; the last block may be shorter.

    Returns
    -------
    DrawnDays
        As many steps as the days have on local clocks: 23 hours repeat none, 25 repeat one as it was.

    Raises
    ------
    InvalidHistory
        If no block of whole days of the same kind is among the recent ones, or a number is outside of what is said.
    UnknownZone
        If `time_zone` is not an IANA name.

    Notes
    -----
    A day stands for one of its kind: working days for working days, Saturdays and Sundays for these, as in
    `seasonal.py`; a block is drawn where all of its days match. A day with an unknown step is never drawn, so no gap
    is. Every block is equally likely: kept are the dependence inside a block and the level of its days, lost is the
    dependence from block to block. What no recent day had cannot come up: surges are scenarios.

    References
    ----------
    Künsch (1989), "The jackknife and the bootstrap for general stationary observations": the moving block bootstrap.
    """
    _check(first_day, n_days, block_days, recent_days)
    check_seed(seed)
    first_row, counts = daily_counts(history.resampled(step_s), time_zone)
    n_older = max(0, counts.shape[0] - recent_days)
    pool = _Pool(history.name, first_row + n_older, counts[n_older:])
    first = (first_day - _EPOCH).days
    rows: list[int] = []
    for at in range(0, n_days, block_days):
        wanted = np.arange(first + at, first + min(at + block_days, n_days))
        begin = pool.draw(seed, wanted)
        rows.extend(range(begin, begin + wanted.size))
    start, row, column = _steps(first_day, n_days, step_s, time_zone)
    drawn = tuple(_EPOCH + dt.timedelta(days=pool.first_day + r) for r in rows)
    return DrawnDays(start, step_s, pool.counts[np.array(rows)[row], column] / step_s, drawn)


@dataclass(frozen=True)
class _Pool:
    """The recent local days: counts of shape (n_days, per_day), row 0 is `first_day` since 1970-01-01."""

    name: str
    first_day: int
    counts: FloatArray

    def draw(self, seed: int, wanted: IntArray) -> int:
        """Return the row at which a block begins that can stand for these following days."""
        n, length = self.counts.shape[0], wanted.size
        is_whole: BoolArray = np.asarray(np.isfinite(self.counts).all(axis=1))
        is_weekend = _is_weekend(np.arange(n) + self.first_day)
        fits = np.ones(max(0, n - length + 1), dtype=np.bool_)
        for place, kind in enumerate(_is_weekend(wanted).tolist()):
            inside = slice(place, place + fits.size)
            fits &= is_whole[inside] & (is_weekend[inside] == kind)
        begins = np.flatnonzero(fits)
        if begins.size == 0:
            day = _EPOCH + dt.timedelta(days=int(wanted[0]))
            raise InvalidHistory(
                f"{self.name}: its last {n} days hold no {length} day(s) in a row, known throughout, of the kind of "
                f"{day:%A} {day} and what follows; use fewer block_days, more recent_days, or a fuller history"
            )
        return int(begins[int(uniforms(seed, wanted[:1], _STREAM, Purpose.TRAFFIC_LEVEL)[0] * begins.size)])


def _steps(first_day: dt.date, n_days: int, step_s: int, time_zone: str) -> tuple[dt.datetime, IntArray, IntArray]:
    """Return local midnight in UTC, and for each step until the last midnight its day and its place in the day."""
    zone = load_zone(time_zone)
    start, end = (
        dt.datetime.combine(first_day + dt.timedelta(days=days), dt.time(), zone).astimezone(dt.UTC)
        for days in (0, n_days)
    )
    n_steps = -int((start - end).total_seconds() // step_s)
    local = local_seconds(start, step_s, n_steps, time_zone)
    row = np.clip(local // DAY_S - (first_day - _EPOCH).days, 0, n_days - 1)
    return start, row, local % DAY_S // step_s


def _is_weekend(epoch_days: IntArray) -> BoolArray:
    return np.asarray((epoch_days + 3) % 7 >= 5)  # 1970-01-01 was a Thursday


def _check(first_day: dt.date, n_days: int, block_days: int, recent_days: int) -> None:
    for name, value in (("n_days", n_days), ("block_days", block_days), ("recent_days", recent_days)):
        if value < 1:
            raise InvalidHistory(f"{name}: {value} must be 1 or more")
    if first_day < _EPOCH:
        raise InvalidHistory(f"first_day: {first_day} lies before 1970; give a later day")
