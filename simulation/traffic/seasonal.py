"""
What usually comes at each time of the local day: several memories of the weeks before, averaged in logs.

Start at `usual_days`. Everything here works on `LocalDays`, a table of log counts with a row per local day. Long
and short memories, of this weekday, of working days and of all days, are averaged: on six real histories that beat
each alone and every weighting by past errors that was tried. What yesterday adds to it: `carry_over`.
"""

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simulation.errors import InvalidHistory
from simulation.planning.window_rule import load_zone
from simulation.traffic.history import FloatArray, RequestHistory
from simulation.traffic.holiday_calendar import holiday_names, is_public

DAY_S = 86_400
# Half-life in days; weight of the same weekday, of other days of its kind (working day or weekend), of the rest.
_MEMORIES = (
    (7.0, 1.0, 1.0, 0.0),
    (14.0, 1.0, 1.0, 0.0),
    (28.0, 1.0, 0.2, 0.04),
    (56.0, 1.0, 0.1, 0.01),
    (112.0, 1.0, 0.1, 0.01),
)
_LONGEST_MEMORY_DAYS = 364
_HOLIDAY_WEIGHT = 0.1  # of a past holiday in the memory of other days
_NAMED_BEYOND_DAYS = 35  # more than the longest horizon
_FLOOR_DAYS = 28  # the first ones: the floor must not depend on what is still to come


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
    names : one per row and a few weeks beyond, the holiday's name or empty
    """

    first_day: int
    step_s: int
    floor: float
    log_counts: FloatArray
    names: tuple[str, ...]

    @property
    def per_day(self) -> int:
        """Steps in a day of 24 hours."""
        return int(self.log_counts.shape[1])

    def weekday(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the weekday of rows, 0 for Monday; rows may lie beyond the table."""
        return np.asarray((rows + self.first_day + 3) % 7)  # 1970-01-01 was a Thursday

    def is_weekend(self, row: int) -> bool:
        """Return whether a row is a Saturday or a Sunday."""
        return bool((row + self.first_day + 3) % 7 >= 5)


def local_seconds(start: dt.datetime, step_s: int, n_steps: int, time_zone: str) -> NDArray[np.int64]:
    """Return what local clocks show at the beginning of each step, as seconds since 1970-01-01 00:00 local."""
    load_zone(time_zone)
    utc_s = int(start.timestamp()) + step_s * np.arange(n_steps, dtype=np.int64)
    local = pd.DatetimeIndex(utc_s.astype("datetime64[s]")).tz_localize("UTC").tz_convert(time_zone).tz_localize(None)
    return np.asarray(local.to_numpy().astype("datetime64[s]").astype(np.int64))


def local_days(history: RequestHistory, time_zone: str, country: str | None = None) -> LocalDays:
    """
    Return the history as a table of local days.

    A step shown twice by local clocks (autumn) is averaged, one never shown (spring) is unknown. Nothing in a row
    depends on later rows, so that a forecast of the past from this table uses only what was known then.
    `country` names whose holidays are marked, by its ISO 3166 code.

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
    names = holiday_names(first_day, counts.shape[0] + _NAMED_BEYOND_DAYS, country)
    return LocalDays(first_day, history.step_s, floor, np.log(counts + floor), tuple(names))


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


def usual_days(days: LocalDays, origin: int, n_days: int) -> FloatArray:
    """
    Return the usual log counts of rows origin … origin + n_days − 1 from what is known of the rows before them.

    Parameters
    ----------
    days : the table; rows from `origin` on are not looked at
    origin : the first row to predict, at least 1
    n_days : how many rows, at least 1

    Returns
    -------
    usual : shape (n_days, per_day), log(count + floor), NaN at times of day that no memory knows
    """
    first = max(0, origin - _LONGEST_MEMORY_DAYS)
    past, targets = np.arange(first, origin), origin + np.arange(n_days)
    seen = days.log_counts[first:origin]
    known = np.isfinite(seen)
    weights = _memory_weights(days, past, targets)  # (n_memories, n_days, n_past)
    totals = weights @ np.where(known, seen, 0.0)
    masses = weights @ known.astype(np.float64)
    memories = np.where(masses > 0, totals / np.where(masses > 0, masses, 1.0), 0.0)
    n_memories = (masses > 0).sum(axis=0)
    return np.where(n_memories > 0, memories.sum(axis=0) / np.maximum(n_memories, 1), np.nan)


def _memory_weights(days: LocalDays, past: NDArray[np.int64], targets: NDArray[np.int64]) -> FloatArray:
    """Return how much each past day counts for each target day, per memory."""
    age_days = targets[:, None] - past
    past_weekday, target_weekday = days.weekday(past), days.weekday(targets)[:, None]
    same_weekday = past_weekday == target_weekday
    same_kind = (past_weekday >= 5) == (target_weekday >= 5)
    ordinary = np.array([_HOLIDAY_WEIGHT if is_public(days.names[row]) else 1.0 for row in past])
    return np.stack(
        [
            ordinary * 0.5 ** (age_days / half_life) * np.where(same_weekday, same, np.where(same_kind, kind, rest))
            for half_life, same, kind, rest in _MEMORIES
        ]
    )


def _floor(mean_count: float) -> float:
    """Return half a percent of the mean count, but a request at least, or a fifth of the mean if that is less."""
    return max(0.005 * mean_count, min(1.0, 0.2 * mean_count))
