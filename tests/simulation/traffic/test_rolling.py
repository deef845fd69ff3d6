"""The rolling forecast: no look ahead, holidays and evenings that carry over, widths that follow their coverage."""

import datetime as dt

import numpy as np
import pytest

from simulation.errors import InvalidHistory
from simulation.traffic.forecast import LEVELS
from simulation.traffic.history import FloatArray, RequestHistory
from simulation.traffic.holiday_calendar import country_of_zone, holiday_names, is_public, resolve_country
from simulation.traffic.rolling import roll
from simulation.traffic.seasonal import local_days

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)  # a Monday


def hourly(n_days: int, seed: int = 5) -> FloatArray:
    """Return a table of hourly counts, a row per day: trough at 04:00, quieter weekends, noise."""
    hours = np.arange(n_days * 24)
    mean = np.where(hours // 24 % 7 >= 5, 0.5, 1.0) * (1000 - 800 * np.cos(2 * np.pi * (hours - 4) / 24))
    noise = np.random.default_rng(seed).normal(0, 0.1, hours.size)
    return np.round(mean * np.exp(noise)).reshape(n_days, 24)


def days_of(counts: FloatArray, country: str | None = None):  # type: ignore[no-untyped-def]  # LocalDays
    """Return the table of local days of these counts."""
    return local_days(RequestHistory("rolled", START, 3600, counts.ravel()), "UTC", country)


def test_nothing_told_at_a_midnight_depends_on_a_later_day() -> None:
    counts = hourly(60)
    other = counts.copy()
    other[40:] = other[40:][::-1] * 9 + 3
    for one, two in zip(roll(days_of(counts, "US"), range(7, 41), LEVELS, 5),
                        roll(days_of(other, "US"), range(7, 41), LEVELS, 5), strict=True):  # fmt: skip
        for first, second in ((one.centre, two.centre), (one.size, two.size), (one.scores, two.scores)):
            assert first.tobytes() == second.tobytes()


def test_the_last_midnight_alone_is_told_as_it_is_among_all() -> None:
    days = days_of(hourly(50))
    alone = next(roll(days, range(50, 51), LEVELS, 3))
    among = list(roll(days, range(20, 51), LEVELS, 3))[-1]
    assert alone.origin == among.origin == 50
    assert alone.counts(days.floor).tobytes() == among.counts(days.floor).tobytes()


def test_a_holiday_is_told_as_it_came_the_year_before_and_other_days_are_not_moved() -> None:
    counts = hourly(740)
    christmas = [row for row, name in enumerate(holiday_names(19723, 740, "US")) if name == "Christmas Day"]
    assert len(christmas) == 2
    counts[christmas] *= 0.2
    with_calendar = next(roll(days_of(counts, "US"), range(christmas[1], christmas[1] + 1), LEVELS))
    without = next(roll(days_of(counts), range(christmas[1], christmas[1] + 1), LEVELS))
    truth = np.log(counts[christmas[1]]).mean()
    assert abs(with_calendar.centre.mean() - truth) < 0.5 < 1.0 < without.centre.mean() - truth


def test_a_busy_last_hour_is_carried_over_midnight_where_it_used_to_be() -> None:
    counts = hourly(120)
    busy = np.random.default_rng(8).normal(0, 0.8, 120)
    for day in range(120):
        counts[day, 23] *= np.exp(busy[day])
        if day:
            counts[day, :3] *= np.exp(busy[day - 1])
    changed = counts[:119].copy()
    quiet, loud = changed.copy(), changed.copy()
    quiet[-1, 23], loud[-1, 23] = 300, 3000
    calm, stormy = (next(roll(days_of(c), range(119, 120), LEVELS)).centre[0] for c in (quiet, loud))
    assert (stormy[:2] - calm[:2]).min() > 0.8
    assert abs(stormy[12] - calm[12]) < 0.5


def test_intervals_cover_what_they_promise_one_to_fourteen_days_ahead() -> None:
    counts = hourly(400)
    level = np.exp(np.random.default_rng(4).normal(0, 0.3, 400))  # a draw per day: days are the sample
    days = days_of(np.round(counts * level[:, None]))
    inside = np.zeros((14, 3))
    rows = range(60, 386)
    for ahead in roll(days, rows, LEVELS, 14):
        told = ahead.counts(days.floor)
        came = np.exp(days.log_counts[ahead.origin : ahead.origin + 14]) - days.floor
        for i, (low, high) in enumerate(((2, 4), (1, 5), (0, 6))):
            inside[:, i] += ((came > told[:, :, low]) & (came <= told[:, :, high])).mean(axis=1)
    share = inside / len(rows)
    error = np.sqrt(np.array([0.5, 0.8, 0.9]) * np.array([0.5, 0.2, 0.1]) / len(rows))
    assert (np.abs(share - [0.5, 0.8, 0.9]) < 3 * error).all()


def test_zones_name_their_country_and_days_beside_a_holiday_are_named_after_it() -> None:
    assert (country_of_zone("America/Chicago"), country_of_zone("Europe/Paris"), country_of_zone("UTC")) == (
        "US", "FR", None)  # fmt: skip
    assert holiday_names(20446, 3, "FR") == ["eve of Christmas Day", "Christmas Day", "after Christmas Day"]
    assert [is_public(name) for name in holiday_names(20446, 3, "FR")] == [False, True, False]
    assert holiday_names(20446, 2, None) == ["", ""]
    assert resolve_country("none", "Europe/Paris") is None
    assert resolve_country("US", "Europe/Paris") == "US"
    with pytest.raises(InvalidHistory, match="'Narnia' is no country code"):
        resolve_country("Narnia", "UTC")
