"""The forecast: a plain twin, laws, real data, and refusals."""

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from simulation.errors import InvalidHistory, UnknownZone
from simulation.traffic.forecast import (
    LEVELS,
    Forecast,
    forecast,
    mean_of_quantiles,
)
from simulation.traffic.history import FloatArray, RequestHistory
from simulation.traffic.read_history import read_history
from simulation.traffic.rolling import times_mostly_unknown
from simulation.traffic.seasonal import local_days, local_seconds, usual_days

UTC = dt.UTC
START = dt.datetime(2026, 3, 2, tzinfo=UTC)  # a Monday


def weekly_pattern(n_days: int) -> FloatArray:
    """Return hourly counts with a daily trough at 04:00 and quieter weekends."""
    hours = np.arange(n_days * 24)
    weekend = np.where(hours // 24 % 7 >= 5, 0.5, 1.0)
    return np.asarray(weekend * (1000 - 800 * np.cos(2 * np.pi * (hours - 4) / 24)))


def history(counts: FloatArray, start: dt.datetime = START) -> RequestHistory:
    """Return an hourly history."""
    return RequestHistory("pattern", start, 3600, counts)


def noisy(n_days: int = 56, seed: int = 3) -> FloatArray:
    """Return the weekly pattern with a level that wanders from day to day and noise in every hour."""
    rng = np.random.default_rng(seed)
    level = np.repeat(rng.normal(0, 0.2, n_days), 24)
    return rng.poisson(weekly_pattern(n_days) * np.exp(level + rng.normal(0, 0.05, n_days * 24))).astype(float)


# Is it the algorithm?


def twin_usual(log_rows: list[list[float]], weekdays: list[int], target_weekday: int) -> list[float]:
    """Return the usual log counts of the row after the last one, in plain Python, for rows known throughout."""
    memories = ((7.0, 1.0, 1.0, 0.0), (14.0, 1.0, 1.0, 0.0), (28.0, 1.0, 0.2, 0.04), (56.0, 1.0, 0.1, 0.01),
                (112.0, 1.0, 0.1, 0.01))  # fmt: skip
    per_day = len(log_rows[0])
    result = [0.0] * per_day
    for half_life, same, kind, rest in memories:
        total, mass = [0.0] * per_day, 0.0
        for row, weekday in enumerate(weekdays):
            other = kind if (weekday >= 5) == (target_weekday >= 5) else rest
            share = same if weekday == target_weekday else other
            weight = share * 0.5 ** ((len(log_rows) - row) / half_life)
            total = [t + weight * value for t, value in zip(total, log_rows[row], strict=True)]
            mass += weight
        result = [r + t / mass / len(memories) for r, t in zip(result, total, strict=True)]
    return result


def test_the_usual_day_is_that_of_a_plain_twin() -> None:
    days = local_days(history(noisy(40)), "UTC")
    weekdays = [(START + dt.timedelta(days=row)).weekday() for row in range(40)]
    for origin in (14, 33, 39):
        rows = days.log_counts[:origin].tolist()
        expected = np.array(twin_usual(rows, weekdays[:origin], weekdays[origin]))
        np.testing.assert_allclose(usual_days(days, origin, 1)[0], expected, atol=1e-9)


def test_local_seconds_are_what_clocks_show_on_both_sides_of_a_change() -> None:
    start = dt.datetime(2026, 3, 28, 22, tzinfo=UTC)
    shown = local_seconds(start, 1800, 12, "Europe/Paris")
    for i, seconds in enumerate(shown):
        local = (start + dt.timedelta(seconds=1800 * i)).astimezone(ZoneInfo("Europe/Paris")).replace(tzinfo=None)
        assert dt.datetime(1970, 1, 1) + dt.timedelta(seconds=int(seconds)) == local


# Does it obey its definition?


def test_a_pattern_that_repeats_every_day_is_forecast_exactly() -> None:
    daily = np.tile(weekly_pattern(1), 77)
    result = forecast(history(daily[: 70 * 24]), time_zone="UTC", step_s=3600, horizon_days=7)
    np.testing.assert_allclose(result.at(0.5) * 3600, daily[-7 * 24 :], rtol=1e-6)
    np.testing.assert_allclose(result.at(0.95), result.at(0.05), rtol=1e-6)


def test_a_pattern_that_repeats_every_week_keeps_its_shape_and_nearly_its_level() -> None:
    result = forecast(history(weekly_pattern(70)), time_zone="UTC", step_s=3600, horizon_days=7)
    ratio = (result.at(0.5) * 3600 / weekly_pattern(77)[-7 * 24 :]).reshape(7, 24)
    # What a weekday adds to the level is shrunk by an eighth after eight weeks: log 2 / 8 is 9 %.
    assert np.abs(ratio - 1).max() < 0.09
    assert np.ptp(ratio, axis=1).max() < 0.02


def test_the_season_follows_local_clocks_across_a_clock_change() -> None:
    # The trough is at 04:00 Paris time; summer time begins in the first night of the horizon.
    zone = ZoneInfo("Europe/Paris")
    start = dt.datetime(2026, 1, 11, 23, tzinfo=UTC)
    moments = [start + dt.timedelta(hours=i) for i in range(83 * 24)]
    hour = np.array([m.astimezone(zone).hour for m in moments])
    counts = 1000 - 800 * np.cos(2 * np.pi * (hour - 4) / 24)
    known = 75 * 24
    result = forecast(history(counts[:known], start), time_zone="Europe/Paris", step_s=3600, horizon_days=7)
    assert moments[known].astimezone(zone).date() == dt.date(2026, 3, 28)
    np.testing.assert_allclose(result.at(0.5) * 3600, counts[known : known + 7 * 24], rtol=1e-6)


def test_quantiles_do_not_cross_and_loads_are_not_negative() -> None:
    result = forecast(history(noisy()), time_zone="UTC", step_s=3600)
    assert (np.diff(result.load_rps, axis=1) >= 0).all()
    assert (result.load_rps >= 0).all()
    assert result.load_rps.shape == (168, len(LEVELS))


def test_the_same_history_gives_the_same_bytes() -> None:
    first, second = (forecast(history(noisy()), time_zone="UTC", step_s=3600) for _ in range(2))
    assert first.load_rps.tobytes() == second.load_rps.tobytes()


def test_what_was_forecast_of_a_day_does_not_depend_on_what_came_later() -> None:
    counts = noisy()
    counts[31 * 24 + 5 : 31 * 24 + 9] = np.nan
    changed = counts.copy()
    changed[40 * 24 :] *= 17
    for origin in (14, 39, 40):
        past, other = (usual_days(local_days(history(c), "UTC"), origin, 3) for c in (counts, changed))
        assert past.tobytes() == other.tobytes()
    short = forecast(history(counts).until(START + dt.timedelta(days=40)), time_zone="UTC", step_s=3600)
    again = forecast(history(changed).until(START + dt.timedelta(days=40)), time_zone="UTC", step_s=3600)
    assert short.load_rps.tobytes() == again.load_rps.tobytes()


def test_a_new_level_is_taken_up_within_days() -> None:
    counts = weekly_pattern(70)
    counts[63 * 24 :] *= 3
    result = forecast(history(counts), time_zone="UTC", step_s=3600, horizon_days=1)
    assert 2.5 < result.at(0.5)[12] * 3600 / weekly_pattern(71)[70 * 24 + 12] < 3.1


def test_gaps_here_and_there_hardly_change_the_forecast() -> None:
    counts = noisy()
    whole = forecast(history(counts), time_zone="UTC", step_s=3600).at(0.5)
    holed = counts.copy()
    holed[np.random.default_rng(5).uniform(size=counts.size) < 0.1] = np.nan
    holed[20 * 24 : 23 * 24] = np.nan
    gapped = forecast(history(holed), time_zone="UTC", step_s=3600).at(0.5)
    assert np.abs(np.log(gapped / whole)).mean() < 0.05


def test_a_time_of_day_that_the_collector_never_sees_stays_unknown() -> None:
    counts = noisy()
    counts.reshape(-1, 24)[:, 3] = np.nan
    result = forecast(history(counts), time_zone="UTC", step_s=3600)
    unknown = np.isnan(result.load_rps).all(axis=1)
    assert np.flatnonzero(unknown).tolist() == list(range(3, 168, 24))
    assert np.isfinite(result.load_rps[~unknown]).all()


def test_a_hole_that_began_a_week_ago_counts_and_hours_lost_by_turns_do_not() -> None:
    counts = noisy()
    counts.reshape(-1, 24)[-7:, 3] = np.nan
    assert np.flatnonzero(times_mostly_unknown(local_days(history(counts), "UTC"), 56)).tolist() == [3]
    counts = noisy()
    counts[::2] = np.where(np.arange(counts.size // 2) // 12 % 2 == 0, np.nan, counts[::2])
    assert not times_mostly_unknown(local_days(history(counts), "UTC"), 56).any()


def test_a_forecast_is_cut_at_step_boundaries_and_knows_its_mean() -> None:
    result = forecast(history(noisy()), time_zone="UTC", step_s=3600)
    assert (result.start, result.end) == (START + dt.timedelta(days=56), START + dt.timedelta(days=63))
    part = result.between(result.start + dt.timedelta(minutes=30), result.start + dt.timedelta(hours=3))
    assert part.start == result.start + dt.timedelta(hours=1)
    assert np.array_equal(part.load_rps, result.load_rps[1:3])
    assert mean_of_quantiles(np.array([[1.0, 2.0, 6.0]]), (0.25, 0.5, 0.75))[0] == 0.25 * (1 + 1.5 + 4 + 6)
    with pytest.raises(InvalidHistory, match=r"level 0\.42 was not forecast"):
        result.at(0.42)


# Is it true?


def test_day_ahead_intervals_cover_what_they_promise_when_days_are_exchangeable() -> None:
    inside, total = 0, 0
    for seed in range(12):
        counts = noisy(64, seed)
        known = history(counts[: 63 * 24])
        result = forecast(known, time_zone="UTC", step_s=3600, horizon_days=1)
        load = counts[63 * 24 :] / 3600
        inside += int(((load > result.at(0.05)) & (load <= result.at(0.95))).sum())
        total += load.size
    # 90 % nominal; the level is one draw per day, so 12 days are worth hardly more than 12 draws.
    assert 0.75 <= inside / total <= 1.0


def test_the_night_of_worldcup98_is_quiet_and_the_evening_is_not() -> None:
    known = read_history("worldcup98").until(dt.datetime(1998, 6, 24, 22, tzinfo=UTC))
    result = forecast(known, time_zone="Europe/Paris", horizon_days=1)
    median = result.at(0.5)
    night, evening = median[4 * 6 : 6 * 6].mean(), median[17 * 6 : 19 * 6].mean()
    assert night < evening / 3
    came = read_history("worldcup98").between(result.start, result.end).resampled(600).load_rps()
    assert 0.5 < median.sum() / came.sum() < 2


# Does it refuse well?


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"horizon_days": 0}, "horizon_days: 0"),
        ({"horizon_days": 29}, "horizon_days: 29"),
        ({"levels": ()}, "levels"),
        ({"levels": (0.5, 0.1)}, "levels"),
        ({"levels": (0.5, 1.0)}, "levels"),
        ({"step_s": 5400}, "multiple of 3600"),
        ({"step_s": 5 * 3600}, "does not divide a day"),
    ],
)
def test_a_forecast_that_cannot_be_is_refused_by_parameter(options: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidHistory, match=said):
        forecast(history(noisy()), **({"time_zone": "UTC", "step_s": 3600} | options))  # type: ignore[arg-type]


def test_a_history_too_short_too_old_or_without_requests_is_refused() -> None:
    with pytest.raises(InvalidHistory, match=r"10 whole days to learn from.*at least 14"):
        forecast(history(noisy(10)), time_zone="UTC", step_s=3600)
    old = noisy(60)
    old[30 * 24 :] = np.nan
    with pytest.raises(InvalidHistory, match="nothing is known of its last 28 days"):
        forecast(history(old), time_zone="UTC", step_s=3600)
    with pytest.raises(InvalidHistory, match="no request at all"):
        forecast(history(np.zeros(20 * 24)), time_zone="UTC", step_s=3600)
    with pytest.raises(UnknownZone):
        forecast(history(noisy()), time_zone="Mars/Olympus", step_s=3600)


def test_a_history_that_ends_at_noon_is_continued_from_noon() -> None:
    daily = np.tile(weekly_pattern(1), 40)
    result = forecast(history(daily[: 30 * 24 + 12]), time_zone="UTC", step_s=3600, horizon_days=2)
    assert result.start == START + dt.timedelta(days=30, hours=12)
    np.testing.assert_allclose(result.at(0.5) * 3600, daily[30 * 24 + 12 : 32 * 24 + 12], rtol=1e-6)


def test_fourteen_days_are_enough() -> None:
    result = forecast(history(noisy(14)), time_zone="UTC", step_s=3600)
    assert isinstance(result, Forecast)
    assert np.isfinite(result.load_rps).all()
