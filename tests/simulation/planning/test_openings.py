"""Openings: occurrences less denials, half-open, each with its cutoff; who denied or shortened one is named."""

import datetime as dt
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.planning.openings import Opening, next_opening, openings, openings_of
from simulation.planning.window_rule import WindowRule
from simulation.traffic.calendar import Calendar, CalendarEntry
from tests.simulation.plans import small_plan

UTC = dt.UTC
MONDAY = dt.datetime(2026, 3, 2, tzinfo=UTC)
RULE = WindowRule("UTC", "02:00", 120)


def at(hours: float) -> dt.datetime:
    return MONDAY + dt.timedelta(hours=hours)


def calendar(*denials: tuple[float, float], days: int = 30) -> Calendar:
    """Return a calendar that denies these hours after Monday midnight."""
    entries = [CalendarEntry(at(a), at(b), f"rule-{i}", f"reason {i}.", True) for i, (a, b) in enumerate(denials)]
    return Calendar(at(-48), at(24 * days), tuple(sorted(entries, key=lambda e: e.begins_at)))


def first(found: Calendar, *, after: float = 0.0, work_min: float = 40) -> Opening:
    return next(openings_of(RULE, found, at(after), work_min=work_min, reserve_min=10))


def test_without_denials_an_opening_is_the_occurrence_and_its_cutoff_leaves_work_and_reserve() -> None:
    opening = first(calendar())
    assert (opening.opens_at, opening.closes_at, opening.cutoff) == (at(2), at(4), at(4) - dt.timedelta(minutes=50))
    assert not opening.is_denied


def test_a_denial_that_ends_inside_moves_the_opening_and_one_that_begins_inside_moves_the_cutoff() -> None:
    opening = first(calendar((1, 2.5)))
    assert (opening.opens_at, opening.closes_at) == (at(2.5), at(4))
    assert opening.shortened_by == ("rule-0 (reason 0)",)
    opening = first(calendar((3.5, 5)))
    assert (opening.opens_at, opening.cutoff) == (at(2), at(3.5) - dt.timedelta(minutes=50))


def test_denials_that_only_touch_the_window_take_nothing() -> None:
    opening = first(calendar((1, 2), (4, 5)))
    assert (opening.opens_at, opening.closes_at, opening.shortened_by) == (at(2), at(4), ())


def test_pieces_too_short_for_the_work_deny_the_whole_and_name_every_rule_once() -> None:
    opening = first(calendar((1, 2.5), (3, 3.5)))
    assert opening.is_denied
    assert (opening.opens_at, opening.closes_at, opening.cutoff) == (at(2), at(4), None)
    assert opening.denied_by == ("rule-0 (reason 0)", "rule-1 (reason 1)")
    assert not first(calendar((1, 2.5), (3, 3.5)), work_min=20).is_denied


def test_a_piece_exactly_as_long_as_work_and_reserve_opens() -> None:
    assert not first(calendar((2, 3 + 10 / 60))).is_denied
    assert first(calendar((2, 3 + 11 / 60))).is_denied


def test_from_inside_a_window_the_next_opening_is_its_later_piece_or_another_day() -> None:
    assert first(calendar((2.5, 3)), after=2.2).opens_at == at(3)
    assert first(calendar(), after=2.2).opens_at == at(26)


def test_beyond_the_calendar_nothing_is_promised() -> None:
    found = list(openings_of(RULE, calendar(days=3), at(0), work_min=40, reserve_min=10))
    assert [opening.opens_at for opening in found] == [at(2), at(26), at(50)]


def test_of_a_plan_every_job_s_work_counts_and_a_calendar_that_denies_all_has_no_next() -> None:
    plan = small_plan(window__duration_min=120)
    assert [o.opens_at for o in openings(plan, calendar(), at(0), 2)] == [at(2), at(26)]
    assert next_opening(plan, calendar((0, 24 * 31)), at(0)) is None


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(1, 40)), max_size=5),
    st.integers(0, 96), st.integers(1, 100),
)  # fmt: skip
def test_no_opening_touches_a_denial_and_each_holds_its_work(
    spans: list[tuple[int, int]], after: int, work_min: int
) -> None:
    found = calendar(*((a, a + b / 4) for a, b in spans), days=10)
    told = list(openings_of(RULE, found, at(after), work_min=work_min, reserve_min=10))
    assert all(a.opens_at < b.opens_at for a, b in itertools.pairwise(told))
    for opening in told:
        assert opening.opens_at > at(after)
        if opening.is_denied:
            pieces = found.clear(opening.opens_at, opening.closes_at)
            assert all(b - a < dt.timedelta(minutes=work_min + 10) for a, b in pieces)
        else:
            assert found.denials(opening.opens_at, opening.closes_at) == []
            assert opening.cutoff == opening.closes_at - dt.timedelta(minutes=work_min + 10)
            if opening.shortened_by:
                assert opening.cutoff >= opening.opens_at
