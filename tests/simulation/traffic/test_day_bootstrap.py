"""Unseen days made of seen ones: a plain twin, laws, the shipped history, and refusals."""

import datetime as dt
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.errors import InvalidHistory, InvalidWorkload, UnknownZone
from simulation.experiment import simulate
from simulation.randomness import Purpose, uniforms
from simulation.scenario import Scenario
from simulation.traffic.day_bootstrap import DayLoad, draw_days
from simulation.traffic.history import FloatArray, RequestHistory
from simulation.traffic.read_history import read_history
from tests.simulation.plans import small_plan

UTC = dt.UTC
START = dt.datetime(2026, 1, 5, tzinfo=UTC)  # a Monday
EPOCH = dt.date(1970, 1, 1)
TARGET = dt.date(2026, 4, 6)  # a Monday


def numbered(n_days: int = 70, start: dt.datetime = START) -> RequestHistory:
    """Return an hourly history in which each step has a count of its own, so that its origin can be read off."""
    return RequestHistory("numbered", start, 3600, np.arange(24.0 * n_days))


def with_gaps(history: RequestHistory, *days: int) -> RequestHistory:
    counts: FloatArray = history.counts.copy()
    for day in days:
        counts[24 * day + 5] = np.nan
    return RequestHistory(history.name, history.start, 3600, counts)


def draw(history: RequestHistory, seed: int = 1, **settings_: object):
    defaults: dict[str, object] = {"time_zone": "UTC", "first_day": TARGET, "n_days": 7, "step_s": 3600}
    return draw_days(history, seed=seed, **(defaults | settings_))


# Is it the algorithm?


@given(st.integers(0, 2**63 - 1), st.integers(1, 9), st.integers(1, 3), st.sets(st.integers(0, 69), max_size=12))
@settings(deadline=None, max_examples=60)
def test_the_days_are_those_of_a_plain_twin(seed: int, n_days: int, block_days: int, gaps: set[int]) -> None:
    history = with_gaps(numbered(), *gaps)
    expected: list[dt.date] = []
    for at in range(0, n_days, block_days):
        wanted = [TARGET + dt.timedelta(days=i) for i in range(at, min(at + block_days, n_days))]
        blocks = []
        for first in range(14, 71 - len(wanted)):
            block = [START.date() + dt.timedelta(days=first + i) for i in range(len(wanted))]
            is_alike = all((a.weekday() >= 5) == (b.weekday() >= 5) for a, b in zip(block, wanted, strict=True))
            if is_alike and not gaps & set(range(first, first + len(wanted))):
                blocks.append(block)
        if not blocks:
            with pytest.raises(InvalidHistory, match=f"hold no {len(wanted)} day"):
                draw(history, seed, n_days=n_days, block_days=block_days)
            return
        u = uniforms(seed, [(wanted[0] - EPOCH).days], 1, Purpose.TRAFFIC_LEVEL)[0]
        expected += blocks[int(u * len(blocks))]
    drawn = draw(history, seed, n_days=n_days, block_days=block_days)
    assert list(drawn.days) == expected
    places = [24 * (day - START.date()).days + hour for day in expected for hour in range(24)]
    np.testing.assert_array_equal(drawn.load_rps, history.counts[places] / 3600)


# Does it obey its definition?


@given(st.integers(0, 10**9), st.sets(st.integers(14, 69), max_size=20))
@settings(deadline=None, max_examples=40)
def test_every_day_is_a_whole_seen_day_of_its_kind(seed: int, gaps: set[int]) -> None:
    drawn = draw(with_gaps(numbered(), *gaps), seed, n_days=14, block_days=1)
    assert np.isfinite(drawn.load_rps).all()
    for i, day in enumerate(drawn.days):
        assert ((TARGET + dt.timedelta(days=i)).weekday() >= 5) == (day.weekday() >= 5)
        assert (day - START.date()).days not in gaps
        assert 14 <= (day - START.date()).days < 70


def test_days_of_a_block_follow_one_another() -> None:
    days = draw(numbered(), 5, n_days=4, block_days=2).days
    assert [later - earlier for earlier, later in (days[:2], days[2:])] == [dt.timedelta(days=1)] * 2


def test_each_day_that_fits_is_drawn_as_often_as_another() -> None:
    """2,000 seeds, 40 working days: a chi-square under its 1e-5 quantile of 39 degrees of freedom."""
    days = [draw(numbered(), seed, n_days=1).days[0] for seed in range(2000)]
    counts = np.unique(np.array(days), return_counts=True)[1]
    assert counts.size == 40
    assert ((counts - 50.0) ** 2 / 50.0).sum() < 92.0


def test_a_seed_draws_the_same_days_and_another_others() -> None:
    assert draw(numbered(), 3).days == draw(numbered(), 3).days
    assert len({draw(numbered(), seed).days for seed in range(20)}) == 20
    # The first days do not depend on how many follow.
    assert draw(numbered(), 3, n_days=12).days[:4] == draw(numbered(), 3, n_days=4).days


@pytest.mark.parametrize(("day", "hours"), [(dt.date(2026, 3, 29), 23), (dt.date(2026, 10, 25), 25)])
def test_a_day_on_which_clocks_change_has_its_own_length(day: dt.date, hours: int) -> None:
    drawn = draw(numbered(), time_zone="Europe/Paris", first_day=day, n_days=1)
    assert drawn.load_rps.size == hours
    assert (drawn.end - drawn.start) == dt.timedelta(hours=hours)
    steps = np.diff(np.round(drawn.load_rps * 3600))
    assert sorted(set(steps.tolist())) == ([1, 2] if hours == 23 else [0, 1])


def test_a_day_with_a_skipped_hour_is_never_drawn() -> None:
    history = numbered(70, dt.datetime(2026, 3, 1, tzinfo=UTC))
    drawn = {
        day
        for seed in range(60)
        for day in draw(history, seed, time_zone="Europe/Paris", first_day=dt.date(2026, 5, 9), n_days=2).days
    }
    assert dt.date(2026, 3, 28) not in drawn  # the Saturday before it cannot begin a block either
    assert dt.date(2026, 3, 29) not in drawn
    assert dt.date(2026, 4, 4) in drawn


# Is it true? The shipped history


def test_on_real_traffic_the_drawn_nights_have_the_loads_of_real_ones_and_their_bursts() -> None:
    """From 00:00 to 06:00: the mean load, and the mean step in its logarithm, of 300 draws and of all nights alike."""
    history = read_history("worldcup98", time_zone="UTC").resampled(600)
    last = (history.end - dt.timedelta(seconds=1)).date()
    first_day = last + dt.timedelta(days=1)
    settings_ = {"time_zone": "UTC", "first_day": first_day, "n_days": 1, "recent_days": 28}
    drawn = [draw_days(history, seed=seed, **settings_).load_rps for seed in range(300)]
    real = []
    for day in (last - dt.timedelta(days=back) for back in range(28)):
        at = int((dt.datetime.combine(day, dt.time(), UTC) - history.start).total_seconds() // 600)
        load = history.load_rps()[max(0, at) : at + 144]
        if (day.weekday() >= 5) == (first_day.weekday() >= 5) and load.size == 144 and np.isfinite(load).all():
            real.append(load)
    assert len(real) >= 5
    known = {load.tobytes() for load in real}
    assert {load.tobytes() for load in drawn} == known
    for measure in (np.mean, lambda night: np.abs(np.diff(np.log(night))).mean()):
        of_drawn = np.array([measure(load[:36]) for load in drawn])
        of_real = np.array([measure(load[:36]) for load in real])
        assert abs(of_drawn.mean() - of_real.mean()) < 4 * of_real.std() / np.sqrt(300)


def test_a_drawn_night_can_be_simulated() -> None:
    history = RequestHistory("hourly", START, 3600, np.full(24 * 70, 36_000.0))
    drawn = draw(history, first_day=dt.date(2026, 3, 16), n_days=2)
    load = drawn.as_forecast()
    assert (load.start, load.end) == (drawn.start, drawn.end)
    opens_at = dt.datetime(2026, 3, 16, 2, tzinfo=UTC)
    plan = small_plan(window__duration_min=20, training__stages=[{"name": "train", "minutes_p50": 2, "minutes_p95": 4}])
    calm = Scenario(name="calm", question="?")
    trial = simulate(plan, [calm], load=load, opens_at=opens_at, replications=1).trials[0]
    expected = 10.0 * 60 * len(trial.offered_per_min)
    assert abs(sum(trial.offered_per_min) - expected) < 5 * np.sqrt(expected) + 600  # the last minute may be cut short


# Does it refuse well?


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_days": 0}, "n_days: 0 must be 1 or more"),
        ({"block_days": 0}, "block_days: 0 must be 1 or more"),
        ({"recent_days": 0}, "recent_days: 0 must be 1 or more"),
        ({"first_day": dt.date(1969, 12, 31)}, "lies before 1970"),
        ({"block_days": 6, "n_days": 6, "recent_days": 6}, r"hold no 6 day\(s\) in a row, known throughout"),
        ({"step_s": 5400}, "steps of 3600 s do not add up to 5400 s"),
        ({"step_s": 7 * 3600}, "does not divide a day"),
    ],
)
def test_what_cannot_be_drawn_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidHistory, match=message):
        draw(numbered(), **changes)


def test_days_that_are_unknown_throughout_their_kind_are_refused_by_name() -> None:
    weekends = [day for day in range(70) if day % 7 >= 5]
    with pytest.raises(InvalidHistory, match=r"numbered: its last 56 days hold no 1 day.*of the kind of Saturday"):
        draw(with_gaps(numbered(), *weekends), block_days=1)


def test_a_seed_or_a_zone_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidWorkload, match="seed -1"):
        draw(numbered(), -1)
    with pytest.raises(UnknownZone):
        draw(numbered(), time_zone="Europe/Atlantis")


def test_the_twin_and_the_laws_would_see_a_drawn_gap() -> None:
    """Blocks of whole days only: with every second day unknown no two follow one another."""
    every_second = list(itertools.chain(range(0, 70, 2)))
    with pytest.raises(InvalidHistory, match="hold no 2 day"):
        draw(with_gaps(numbered(), *every_second), block_days=2)
    assert draw(with_gaps(numbered(), *every_second), block_days=1).load_rps.size == 168


def test_a_night_drawn_per_seed_is_a_piece_of_its_days() -> None:
    fine = RequestHistory("numbered", START, 600, np.arange(144.0 * 70))
    load = DayLoad(fine, "UTC")
    begin = dt.datetime(2026, 4, 6, 22, 30, tzinfo=UTC)
    end = begin + dt.timedelta(hours=5)
    for seed in (1, 2, 3):
        edges, rates = load.night_rates(begin, end, seed)
        drawn = draw_days(fine, time_zone="UTC", first_day=TARGET, n_days=2, seed=seed).load_rps
        first = 22 * 6 + 3  # steps of ten minutes
        assert np.array_equal(rates, drawn[first : first + 30])
        assert np.array_equal(edges, np.arange(31) * 600.0)
    late = load.night_rates(begin + dt.timedelta(minutes=4), end, 1)[0]
    assert late[:2].tolist() == [0.0, 360.0]


def test_nights_are_played_on_drawn_days() -> None:
    history = RequestHistory("even", START, 600, np.full(144 * 70, 600.0))
    opens_at = dt.datetime(2026, 4, 6, 2, 0, tzinfo=UTC)
    plan = small_plan(window__duration_min=20, training__stages=[{"name": "train", "minutes_p50": 5, "minutes_p95": 9}])
    scenario = Scenario(name="calm", question="And without trouble?")
    played = simulate(plan, [scenario], load=DayLoad(history, "UTC"), opens_at=opens_at, replications=2)
    offered = [sum(trial.offered_per_min) for trial in played.trials]
    assert all(abs(n - 4800) < 4 * 4800**0.5 for n in offered)  # 80 minutes at one request per second
    assert offered[0] != offered[1]
