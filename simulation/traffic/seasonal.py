"""
The centre of the forecast: the shape of a day as local clocks see it, times the level of that day.

Start at `predict_days`. Everything here works on `LocalDays`, a table of log counts with a row per local day.
Several memories of the daily shape (long and short, of this weekday, of working days, of all days) are averaged
in logs: on six real histories that beat each alone and every weighting by past errors that was tried.
"""

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simulation.errors import InvalidHistory
from simulation.planning.window_rule import load_zone
from simulation.traffic.history import FloatArray, RequestHistory

DAY_S = 86_400
# Half-life in days; weight of the same weekday, of other days of its kind (working day or weekend), of the rest.
_SHAPE_MEMORIES = ((7.0, 1.0, 1.0, 0.0), (14.0, 1.0, 1.0, 0.0), (28.0, 1.0, 0.2, 0.04), (56.0, 1.0, 0.1, 0.01))
_LEVEL_HALF_LIVES_DAYS = (0.7, 2.0, 6.0, 20.0)
_LONGEST_MEMORY_DAYS = 364
_LEVEL_MEMORY_DAYS = 56
_FLOOR_DAYS = 28  # the first ones: the floor must not depend on what is still to come
_LEAST_SHARE = 0.25  # of a day that must be known for its level to mean something


@dataclass(frozen=True)
class LocalDays:
    """
    A history as a table: one row per local day, one column per step of the day.

    Attributes
    ----------
    first_day : days from 1970-01-01 to the local date of row 0
    step_s : seconds
    floor : requests per step added before taking logs, so that quiet steps do not dominate
    log_counts : shape (n_days, per_day), log(count + floor), NaN where unknown
    level : shape (n_days,), mean log count of the day with the daily shape taken out, NaN where unknown
    shape : shape (n_days, per_day), log_counts − level
    """

    first_day: int
    step_s: int
    floor: float
    log_counts: FloatArray
    level: FloatArray
    shape: FloatArray

    @property
    def per_day(self) -> int:
        """Steps in a day of 24 hours."""
        return int(self.log_counts.shape[1])

    def weekday(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the weekday of rows, 0 for Monday; rows may lie beyond the table."""
        return np.asarray((rows + self.first_day + 3) % 7)  # 1970-01-01 was a Thursday


def local_seconds(start: dt.datetime, step_s: int, n_steps: int, time_zone: str) -> NDArray[np.int64]:
    """Return what local clocks show at the beginning of each step, as seconds since 1970-01-01 00:00 local."""
    load_zone(time_zone)
    utc_s = int(start.timestamp()) + step_s * np.arange(n_steps, dtype=np.int64)
    local = pd.DatetimeIndex(utc_s.astype("datetime64[s]")).tz_localize("UTC").tz_convert(time_zone).tz_localize(None)
    return np.asarray(local.to_numpy().astype("datetime64[s]").astype(np.int64))


def local_days(history: RequestHistory, time_zone: str) -> LocalDays:
    """
    Return the history as a table of local days.

    A step shown twice by local clocks (autumn) is averaged, one never shown (spring) is unknown. Nothing in a row
    depends on later rows, so that a forecast of the past from this table uses only what was known then.

    Raises
    ------
    InvalidHistory
        If the step does not divide a day, or nothing is known at all.
    UnknownZone
        If `time_zone` is not an IANA name.
    """
    first_day, counts = daily_counts(history, time_zone)
    early = counts[: np.flatnonzero(np.isfinite(counts).any(axis=1))[0] + _FLOOR_DAYS]
    floor = _floor(float(np.nanmean(early)) or float(np.nanmean(counts)))
    log_counts = np.log(counts + floor)
    level = _day_levels(log_counts)
    return LocalDays(first_day, history.step_s, floor, log_counts, level, log_counts - level[:, None])


def daily_counts(history: RequestHistory, time_zone: str) -> tuple[int, FloatArray]:
    """
    Return the day of row 0 (days from 1970-01-01) and the counts, one row per local day, NaN where unknown.

    Errors and what happens when clocks change: as for `local_days`.
    """
    if DAY_S % history.step_s:
        raise InvalidHistory(f"{history.name}: a step of {history.step_s} s does not divide a day; resample it first")
    if not np.nansum(history.counts) > 0:
        raise InvalidHistory(f"{history.name}: holds no request at all, or nothing known; give a busier history")
    local = local_seconds(history.start, history.step_s, history.counts.size, time_zone)
    per_day = DAY_S // history.step_s
    first_day = int(local[0] // DAY_S)
    n_days = int(local.max() // DAY_S) - first_day + 1
    place = (local // DAY_S - first_day) * per_day + local % DAY_S // history.step_s
    known = np.isfinite(history.counts)
    n_known = np.bincount(place[known], minlength=n_days * per_day)
    sums = np.bincount(place[known], weights=history.counts[known], minlength=n_days * per_day)
    counts = np.where(n_known > 0, sums / np.maximum(n_known, 1), np.nan).reshape(n_days, per_day)
    return first_day, counts


def predict_days(days: LocalDays, origin: int, n_days: int) -> FloatArray:
    """
    Return the log centre of rows origin … origin + n_days − 1 from what is known of the rows before them.

    Parameters
    ----------
    days : the table; rows from `origin` on are not looked at
    origin : the first row to predict, at least 1
    n_days : how many rows, at least 1

    Returns
    -------
    centre : shape (n_days, per_day), log(count + floor), NaN at times of day that no memory knows
    """
    first = max(0, origin - _LONGEST_MEMORY_DAYS)
    past = np.arange(first, origin)
    targets = origin + np.arange(n_days)
    shape = days.shape[first:origin]
    known = np.isfinite(shape)
    weights = _shape_weights(days, past, targets)  # (n_memories, n_days, n_past)
    totals = weights @ np.where(known, shape, 0.0)
    masses = weights @ known.astype(np.float64)
    memories = np.where(masses > 0, totals / np.where(masses > 0, masses, 1.0), 0.0)
    n_memories = (masses > 0).sum(axis=0)
    mean_shape = np.where(n_memories > 0, memories.sum(axis=0) / np.maximum(n_memories, 1), np.nan)
    return np.asarray(mean_shape + _predict_levels(days, origin, targets)[:, None])


def _shape_weights(days: LocalDays, past: NDArray[np.int64], targets: NDArray[np.int64]) -> FloatArray:
    """Return how much each past day counts for each target day, per memory."""
    age_days = targets[:, None] - past
    past_weekday, target_weekday = days.weekday(past), days.weekday(targets)[:, None]
    same_weekday = past_weekday == target_weekday
    same_kind = (past_weekday >= 5) == (target_weekday >= 5)
    return np.stack(
        [
            0.5 ** (age_days / half_life) * np.where(same_weekday, same, np.where(same_kind, kind, rest))
            for half_life, same, kind, rest in _SHAPE_MEMORIES
        ]
    )


def _predict_levels(days: LocalDays, origin: int, targets: NDArray[np.int64]) -> FloatArray:
    """
    Return the level of the target days: the recent level plus what the weekday adds to it.

    How recent is settled by the errors that each half-life made one day ahead in the same weeks.
    """
    past = np.arange(max(0, origin - _LEVEL_MEMORY_DAYS), origin)
    level = days.level[past]
    known = np.isfinite(level)
    if not known.any():
        return np.full(targets.size, np.nan)
    weekday = days.weekday(past)
    season = _weekday_season(level, weekday)
    flat = np.where(known, level - season[weekday], 0.0)
    # Row i holds what was known of the level before day i; the last row is the forecast itself.
    age_days = np.arange(past.size + 1)[:, None] - np.arange(past.size)
    estimates, errors = [], []
    for half_life in _LEVEL_HALF_LIVES_DAYS:
        weights = np.where(age_days > 0, 0.5 ** (np.maximum(age_days, 1) / half_life), 0.0) * known
        mass = weights.sum(axis=1)
        smooth = np.where(mass > 0, weights @ flat / np.where(mass > 0, mass, 1.0), np.nan)
        missed = (flat - smooth[:-1])[known & np.isfinite(smooth[:-1])]
        estimates.append(smooth[-1])
        errors.append(float(np.mean(missed**2)) if missed.size else 1.0)
    trust = 1.0 / (np.array(errors) + 1e-9) ** 2
    recent = float(np.array(estimates) @ trust / trust.sum())
    return np.asarray(recent + season[days.weekday(targets)])


def _weekday_season(level: FloatArray, weekday: NDArray[np.int64]) -> FloatArray:
    """Return what each weekday adds to the mean of the week around it, shape (7,), shrunk where seen seldom."""
    padded = np.concatenate((np.full(3, np.nan), level, np.full(3, np.nan)))
    around = np.lib.stride_tricks.sliding_window_view(padded, 7)
    n_known = np.isfinite(around).sum(axis=1)
    means = np.where(np.isfinite(around), around, 0.0).sum(axis=1) / np.maximum(n_known, 1)
    usable = np.isfinite(level) & (n_known == 7)
    n_seen = np.bincount(weekday[usable], minlength=7)
    total = np.bincount(weekday[usable], weights=(level - means)[usable], minlength=7)
    return np.asarray(total / (n_seen + 1.0))


def _day_levels(log_counts: FloatArray) -> FloatArray:
    """
    Return the mean log count per day, holes bridged by the daily shape of the four weeks before; NaN where unknown.

    A day needs a quarter of its steps; a day without earlier ones to go by, half of them.
    """
    n_days, _ = log_counts.shape
    known = np.isfinite(log_counts)
    share = known.mean(axis=1)
    filled = np.where(known, log_counts, 0.0)
    level = np.full(n_days, np.nan)
    for day in range(n_days):
        past = np.arange(max(0, day - 28), day)
        past = past[np.isfinite(level[past])]
        n_seen = known[past].sum(axis=0)
        relative = np.where(known[past], filled[past] - level[past, None], 0.0)
        usual = relative.sum(axis=0) / np.maximum(n_seen, 1)
        if n_seen.any():
            usual -= usual[n_seen > 0].mean()
        here = known[day] & (n_seen > 0) if n_seen.any() else known[day]
        if share[day] >= (_LEAST_SHARE if n_seen.any() else 2 * _LEAST_SHARE) and here.any():
            level[day] = float((filled[day] - usual)[here].mean())
    return level


def _floor(mean_count: float) -> float:
    """Return half a percent of the mean count, but a request at least, or a fifth of the mean if that is less."""
    return max(0.005 * mean_count, min(1.0, 0.2 * mean_count))
