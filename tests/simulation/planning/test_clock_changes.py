"""Changes of clocks: found to the second, said in words, and another schedule held against the window."""

import datetime as dt
import itertools
from zoneinfo import ZoneInfo

import pytest

from simulation.planning.clock_changes import clock_changes, differing_starts, offset_changes, spans_around_changes
from simulation.planning.window_rule import WindowRule

UTC = dt.UTC
YEAR = (dt.datetime(2026, 1, 1, tzinfo=UTC), dt.datetime(2027, 1, 1, tzinfo=UTC))


def test_changes_are_found_to_the_second() -> None:
    assert list(offset_changes(ZoneInfo("Europe/Paris"), *YEAR)) == [
        dt.datetime(2026, 3, 29, 1, tzinfo=UTC), dt.datetime(2026, 10, 25, 1, tzinfo=UTC)
    ]  # fmt: skip
    # Liberia left its offset of -00:44:30 at midnight, in the middle of a minute of UTC.
    found = list(offset_changes(ZoneInfo("Africa/Monrovia"), *(at.replace(year=at.year - 54) for at in YEAR)))
    assert found == [dt.datetime(1972, 1, 7, 0, 44, 30, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("start", "effects"),
    [
        ("02:30", ["clocks skip 02:30: it opens when the gap ends, at 03:00 CEST",
                   "clocks show 02:30 twice: it opens the first time, once"]),
        ("01:30", ["it is open meanwhile and lasts 60 minutes: it closes at 03:30 CEST",
                   "unmoved on local clocks; it opens at 23:30 UTC"]),
        ("12:00", ["unmoved on local clocks; it opens at 10:00 UTC", "unmoved on local clocks; it opens at 11:00 UTC"]),
    ],
)  # fmt: skip
def test_what_a_change_does_is_said_in_words(start: str, effects: list[str]) -> None:
    found = clock_changes(WindowRule("Europe/Paris", start, 60), *YEAR)
    assert [change.effect for change in found] == effects
    assert [(change.before, change.after) for change in found] == [
        (dt.timedelta(hours=1), dt.timedelta(hours=2)), (dt.timedelta(hours=2), dt.timedelta(hours=1))
    ]  # fmt: skip


def test_a_day_without_a_window_says_so_and_a_zone_without_changes_has_no_row() -> None:
    changes = clock_changes(WindowRule("Europe/Paris", "02:30", 60, ("wed",)), *YEAR)
    assert [change.effect for change in changes] == ["no window that day"] * 2
    assert clock_changes(WindowRule("Asia/Tokyo", "02:30", 60), *YEAR) == []


def test_changes_close_together_are_looked_at_as_one_span() -> None:
    # Morocco moves its clocks for Ramadan and back.
    spans = spans_around_changes(ZoneInfo("Africa/Casablanca"), *YEAR)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(spans))
    assert spans_around_changes(ZoneInfo("UTC"), *YEAR) == [(YEAR[0], YEAR[0] + dt.timedelta(days=2))]


def test_the_rule_does_not_differ_from_itself_and_every_planted_difference_is_found() -> None:
    rule = WindowRule("America/New_York", "02:30", 60)

    def own(begin: dt.datetime, end: dt.datetime) -> list[dt.datetime]:
        return [opens for opens, _ in rule.occurrences(begin, 6) if begin <= opens < end]

    assert differing_starts(rule, own, *YEAR) == []
    (missing, late, more) = (
        lambda begin, end: own(begin, end)[:-1],
        lambda begin, end: [at + dt.timedelta(minutes=60 * (i == 1)) for i, at in enumerate(own(begin, end))],
        lambda begin, end: [*own(begin, end), own(begin, end)[0] + dt.timedelta(minutes=5)],
    )
    for planted, theirs in ((missing, 0), (late, 1), (more, 2)):
        found = differing_starts(rule, planted, *YEAR)
        assert len(found) == 2  # one at each change of clocks
        assert all(len(difference.theirs) == theirs for difference in found)
    assert "the other schedule starts never" in differing_starts(rule, missing, *YEAR)[0].sentence(ZoneInfo("UTC"))


def test_a_fixed_utc_start_differs_after_every_change() -> None:
    rule = WindowRule("Europe/Paris", "02:00", 60)

    def at_one_utc(begin: dt.datetime, end: dt.datetime) -> list[dt.datetime]:
        days = [begin.replace(hour=1, minute=0) + dt.timedelta(days=n) for n in range(6)]
        return [at for at in days if begin <= at < end]

    found = differing_starts(rule, at_one_utc, *YEAR)
    # Winter nights agree; of each span the summer nights do not.
    assert {difference.day.month for difference in found} == {3, 10}
    assert all(difference.ours != difference.theirs[:1] for difference in found)
