"""Windows: the best start of each day by brute force, numbers that agree with the forecast, and refusals."""

import datetime as dt
import itertools
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from simulation.errors import InvalidPlan, UnknownZone
from simulation.planning.windows import denied_windows, expect, find_windows, probability_below
from simulation.traffic.calendar import Calendar, CalendarEntry
from simulation.traffic.forecast import Forecast, forecast
from simulation.traffic.history import FloatArray, RequestHistory
from simulation.traffic.prices import PriceSeries
from simulation.traffic.read_history import read_history

UTC = dt.UTC
START = dt.datetime(2026, 3, 2, tzinfo=UTC)
LEVELS = (0.05, 0.5, 0.95)


def made_up(median: FloatArray, start: dt.datetime = START) -> Forecast:
    """Return an hourly forecast whose outer quantiles are half and twice the median."""
    return Forecast(start, 3600, LEVELS, median[:, None] * np.array([0.5, 1.0, 2.0]))


def random_forecast(seed: int = 0, n_days: int = 7) -> Forecast:
    return made_up(np.random.default_rng(seed).uniform(10, 100, 24 * n_days))


@pytest.mark.parametrize("zone_name", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_the_first_window_is_the_quietest_of_all_starts(zone_name: str) -> None:
    quantiles = random_forecast()
    median = quantiles.at(0.5)
    best = min(range(median.size - 2), key=lambda i: median[i : i + 3].mean())
    window = find_windows(quantiles, duration_min=180, time_zone=zone_name)[0]
    assert window.opens_at == START + dt.timedelta(hours=best)
    assert window.mean_load_rps == pytest.approx(median[best : best + 3].mean())
    assert window.peak_load_rps == median[best : best + 3].max()
    assert window.p95_load_rps == 2 * window.peak_load_rps
    assert window.closes_at - window.opens_at == dt.timedelta(hours=3)


@pytest.mark.parametrize("seed", range(5))
def test_windows_are_ranked_do_not_overlap_and_end_on_different_local_days(seed: int) -> None:
    windows = find_windows(random_forecast(seed), duration_min=240, time_zone="Europe/Paris")
    loads = [window.mean_load_rps for window in windows]
    assert loads == sorted(loads)
    in_time = sorted(windows, key=lambda w: w.opens_at)
    assert all(a.closes_at <= b.opens_at for a, b in itertools.pairwise(in_time))
    last_moments = [(w.closes_at - dt.timedelta(microseconds=1)).astimezone(ZoneInfo("Europe/Paris")) for w in windows]
    assert len({moment.date() for moment in last_moments}) == len(windows) == 7
    assert windows[0].opens_local.utcoffset() == dt.timedelta(hours=1)


def test_no_window_touches_a_step_that_is_not_known() -> None:
    median = np.full(72, 50.0)
    median[[3, 27, 51]] = np.nan
    median[[2, 4, 26, 28, 50, 52]] = 1.0  # tempting neighbours of the hole
    windows = find_windows(made_up(median), duration_min=180, time_zone="UTC")
    assert len(windows) == 3
    for window in windows:
        first = int((window.opens_at - START).total_seconds() // 3600)
        assert np.isfinite(median[first : first + 3]).all()
    assert "starts were left out, since the history hardly knows these times of day" in windows[0].reason


def test_a_nightly_hole_of_the_collector_never_becomes_a_window() -> None:
    hours = np.arange(40 * 24)
    counts = np.random.default_rng(2).poisson(1000 - 800 * np.cos(2 * np.pi * (hours - 4) / 24)).astype(float)
    sighted = RequestHistory("seen", START, 3600, counts.copy())
    counts[hours % 24 == 4] = np.nan
    blind = RequestHistory("holed", START, 3600, counts)
    for history, expected in ((sighted, True), (blind, False)):
        result = forecast(history, time_zone="UTC", step_s=3600)
        windows = find_windows(result, duration_min=60, time_zone="UTC")
        assert any(window.opens_at.hour == 4 for window in windows) == expected


def test_the_reason_compares_with_two_o_clock_of_the_same_day_on_local_clocks() -> None:
    median = np.full(24, 100.0)
    median[[5, 6]] = 40.0
    (window,) = find_windows(made_up(median), duration_min=120, time_zone="UTC", threshold_rps=90)
    assert "60% fewer requests than 02:00 (40 against 100 requests/s)" in window.reason
    assert window.reason.startswith("Mon 2026-03-02 05:00 to 07:00 UTC: quietest of 23 starts that day")
    assert "stays below 90 requests/s with probability 95%" in window.reason
    median[[1, 2]] = 10.0  # 02:00 in Paris is 01:00 UTC in winter
    windows = find_windows(made_up(median), duration_min=120, time_zone="Europe/Paris", count=1)
    assert "no busier than 02:00" in windows[0].reason


def test_probability_headroom_and_expected_requests_follow_from_the_quantiles() -> None:
    (window,) = find_windows(made_up(np.full(24, 100.0)), duration_min=60, time_zone="UTC", threshold_rps=150)
    assert window.probability_below == pytest.approx(0.5 + 0.45 / 2)
    assert window.headroom_ratio == pytest.approx(1 - 200 / 150)
    mean = 0.05 * 50 + 0.45 * 75 + 0.45 * 150 + 0.05 * 200
    assert window.expected_requests == pytest.approx(mean * 3600)


def test_the_probability_of_a_window_is_that_of_its_worst_step() -> None:
    (window,) = find_windows(
        made_up(np.array([10.0, 100.0])), duration_min=120, time_zone="UTC", threshold_rps=100, count=1
    )
    assert window.probability_below == pytest.approx(0.5)


def test_beyond_the_outermost_quantiles_nothing_more_is_claimed() -> None:
    quantiles = np.array([1.0, 2.0, 4.0])
    for threshold, chance in [
        (0.5, 0.0),
        (1.0, 0.05),
        (1.5, 0.275),
        (2.0, 0.5),
        (3.0, 0.725),
        (4.0, 0.95),
        (99.0, 0.95),
    ]:
        assert probability_below(quantiles, LEVELS, threshold) == pytest.approx(chance)


def test_earliest_and_latest_bound_the_windows() -> None:
    quantiles = random_forecast()
    earliest, latest = START + dt.timedelta(hours=30), START + dt.timedelta(hours=60)
    windows = find_windows(quantiles, duration_min=120, time_zone="UTC", earliest=earliest, latest=latest)
    assert windows
    assert all(earliest <= window.opens_at and window.closes_at <= latest for window in windows)
    exact = find_windows(
        quantiles, duration_min=120, time_zone="UTC", earliest=earliest, latest=earliest + dt.timedelta(hours=2)
    )
    assert [window.opens_at for window in exact] == [earliest]


def test_worldcup98_has_its_windows_after_the_night_of_paris_and_later_at_the_weekend() -> None:
    known = read_history("worldcup98").until(dt.datetime(1998, 6, 24, 22, tzinfo=UTC))
    result = forecast(known, time_zone="Europe/Paris")
    windows = find_windows(result, duration_min=120, time_zone="Europe/Paris")
    assert len(windows) == 7
    for window in windows:
        # In hindsight the quietest hours were 09:00-11:00 on Sat 27 and Sun 28 June, 05:00-07:00 on working days.
        hours = {7, 8, 9, 10} if window.opens_local.weekday() >= 5 else {4, 5, 6, 7}
        assert window.opens_local.hour in hours
        assert "fewer requests than 02:00" in window.reason


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"duration_min": 0}, "duration_min: 0"),
        ({"duration_min": 1441}, "duration_min: 1441"),
        ({"threshold_rps": 0.0}, "threshold_rps: 0"),
        ({"threshold_rps": float("nan")}, "threshold_rps: nan"),
        ({"count": 0}, "count: 0"),
        ({"earliest": dt.datetime(2026, 3, 2)}, "earliest: .* no time zone"),
        ({"latest": START}, "no start from"),
        ({"earliest": START + dt.timedelta(days=8)}, "no start from"),
    ],
)
def test_a_search_that_cannot_be_is_refused_by_parameter(options: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidPlan, match=said):
        find_windows(random_forecast(), **({"duration_min": 60, "time_zone": "UTC"} | options))  # type: ignore[arg-type]


def test_an_unknown_zone_is_refused_and_a_forecast_of_nothing_too() -> None:
    with pytest.raises(UnknownZone):
        find_windows(random_forecast(), duration_min=60, time_zone="Europe/Pariss")
    with pytest.raises(InvalidPlan, match="no start from"):
        find_windows(made_up(np.full(24, np.nan)), duration_min=60, time_zone="UTC")


# Calendar, price, capacity


def calendar_of(*entries: CalendarEntry, prices: PriceSeries | None = None) -> Calendar:
    return Calendar(START - dt.timedelta(days=1), START + dt.timedelta(days=9), entries, prices)


def entry(begin: float, end: float, rule: str = "freeze", *, denies: bool = True) -> CalendarEntry:
    """Return an entry between two hours after the start."""
    return CalendarEntry(START + dt.timedelta(hours=begin), START + dt.timedelta(hours=end), rule, "agreed.", denies)


@pytest.mark.parametrize("seed", range(3))
def test_no_window_shares_an_instant_with_a_denial_and_the_best_of_the_rest_is_chosen(seed: int) -> None:
    quantiles = random_forecast(seed)
    best = find_windows(quantiles, duration_min=180, time_zone="UTC")[0]
    hour = int((best.opens_at - START).total_seconds() // 3600)
    found = calendar_of(entry(hour + 2.5, hour + 2.75))
    windows = find_windows(quantiles, duration_min=180, time_zone="UTC", calendar=found)
    assert all(not found.denials(w.opens_at, w.closes_at) and w.denied_by == () for w in windows)
    median = quantiles.at(0.5)
    free = [i for i in range(median.size - 2) if not i <= hour + 2.5 < i + 3]
    assert windows[0].opens_at == START + dt.timedelta(hours=min(free, key=lambda i: median[i : i + 3].mean()))
    (denied,) = denied_windows(quantiles, duration_min=180, time_zone="UTC", calendar=found)
    assert (denied.opens_at, denied.denied_by) == (best.opens_at, ("freeze (agreed)",))


def test_a_window_that_only_touches_a_denial_stays() -> None:
    median = np.full(24, 100.0)
    median[[5, 6]] = 40.0
    found = calendar_of(entry(4, 5), entry(7, 8))
    (window,) = find_windows(made_up(median), duration_min=120, time_zone="UTC", calendar=found)
    assert window.opens_at == START + dt.timedelta(hours=5)
    assert denied_windows(made_up(median), duration_min=120, time_zone="UTC", calendar=found) == []


def test_denials_on_every_start_are_refused_by_their_names() -> None:
    found = calendar_of(entry(-1, 100, "audit"), entry(100, 24 * 8, "freeze"))
    with pytest.raises(InvalidPlan, match=r"every start of the forecast is denied, by audit \(agreed\) and freeze"):
        find_windows(random_forecast(), duration_min=60, time_zone="UTC", calendar=found)


def test_a_calendar_that_does_not_cover_the_forecast_is_refused() -> None:
    short = Calendar(START, START + dt.timedelta(days=2))
    with pytest.raises(InvalidPlan, match="does not cover the forecast"):
        find_windows(random_forecast(), duration_min=60, time_zone="UTC", calendar=short)


def test_notes_prices_and_headroom_are_told_and_a_price_gap_is_a_gap() -> None:
    median = np.full(24, 100.0)
    median[[5, 6]] = 40.0
    hours = np.array([5], dtype=np.int64) * 3600 + int(START.timestamp())
    prices = PriceSeries(hours, 3600, np.array([30.0]), "EUR/MWh")
    found = calendar_of(entry(0, 24, "holiday DE", denies=False), prices=prices)
    (window,) = find_windows(
        made_up(median), duration_min=120, time_zone="UTC", calendar=found, capacity_rps=400.0, count=1
    )
    assert (window.price, window.price_known_ratio) == (30.0, 0.5)
    assert window.conflicts == ("holiday DE (agreed)", "price unknown for 50% of it")
    assert window.capacity_headroom_ratio == pytest.approx(1 - 80 / 400)


def test_a_change_of_clocks_inside_is_a_conflict() -> None:
    start = dt.datetime(2026, 3, 29, tzinfo=UTC)
    (window,) = find_windows(made_up(np.full(3, 10.0), start), duration_min=180, time_zone="Europe/Paris", count=1)
    assert window.conflicts == ("clocks change in it",)


def test_what_is_expected_of_an_interval_counts_parts_of_steps_and_stops_where_nothing_is_known() -> None:
    median = np.array([10.0, 20.0, np.nan, 40.0])
    flat = Forecast(START, 3600, LEVELS, np.repeat(median[:, None], 3, axis=1))
    half = dt.timedelta(minutes=30)
    told = expect(flat, START + half, START + 3 * half, 15.0)
    assert told is not None
    assert told.expected_requests == pytest.approx(1800 * 10 + 1800 * 20)
    assert (told.probability_below, told.p95_load_rps) == (0.0, 20.0)
    assert expect(flat, START, START + 5 * half, 15.0) is None
    assert expect(flat, START - half, START, 15.0) is None
    assert expect(flat, START + 6 * half, START + 9 * half, 15.0) is None
    assert expect(flat, START + 6 * half, START + 8 * half, 50.0) is not None
