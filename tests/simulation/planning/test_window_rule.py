"""Window rules against a plain twin that walks the clock minute by minute, over every kind of clock change."""

import datetime as dt
import itertools
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.errors import InvalidPlan, UnknownZone
from simulation.planning.window_rule import WindowRule, load_zone

UTC = dt.UTC
ZONES = ("Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "America/Sao_Paulo",
         "Pacific/Apia", "America/Nuuk", "Asia/Kathmandu", "UTC")  # fmt: skip


def twin_opening(zone_name: str, wall: dt.datetime) -> dt.datetime | None:
    """
    Return the first minute at which clocks show `wall` or later of that date; None if they never show the date.

    It walks forward from before any offset could show the date, and knows nothing of folds or gaps.
    """
    zone = ZoneInfo(zone_name)
    minute = wall.replace(tzinfo=UTC) - dt.timedelta(hours=15)
    date_shown = False
    while True:
        shown = minute.astimezone(zone).replace(tzinfo=None)
        date_shown |= shown.date() == wall.date()
        if shown >= wall:
            return minute if date_shown else None
        minute += dt.timedelta(minutes=1)


def transitions(zone_name: str, first: dt.datetime, last: dt.datetime) -> list[dt.datetime]:
    """Return the instants at which the zone's offset changes, to the minute."""
    zone, found, day = ZoneInfo(zone_name), [], first
    while day < last:
        low, high = day, day + dt.timedelta(days=1)
        if low.astimezone(zone).utcoffset() != high.astimezone(zone).utcoffset():
            while high - low > dt.timedelta(minutes=1):
                middle = low + (high - low) // 2
                if middle.astimezone(zone).utcoffset() == low.astimezone(zone).utcoffset():
                    low = middle
                else:
                    high = middle
            found.append(high.replace(second=0, microsecond=0))
        day += dt.timedelta(days=1)
    return found


DECADE = (dt.datetime(2024, 1, 1, tzinfo=UTC), dt.datetime(2034, 12, 31, tzinfo=UTC))
HISTORIC = {  # zones whose clocks do something rare, and when
    "America/Sao_Paulo": (dt.datetime(2017, 1, 1, tzinfo=UTC), dt.datetime(2019, 6, 1, tzinfo=UTC)),  # at midnight
    "Pacific/Apia": (dt.datetime(2011, 9, 1, tzinfo=UTC), dt.datetime(2012, 5, 1, tzinfo=UTC)),  # a day left out
}


@pytest.mark.parametrize("zone_name", ZONES)
def test_openings_around_every_clock_change_are_those_of_a_walk_along_the_clock(zone_name: str) -> None:
    spans = [
        (DECADE[0], dt.datetime(2026, 12, 31, tzinfo=UTC)),
        *([HISTORIC[zone_name]] if zone_name in HISTORIC else []),
    ]
    changes = [change for span in spans for change in transitions(zone_name, *span)]
    assert changes or zone_name in ("UTC", "Asia/Kathmandu", "America/Sao_Paulo", "Pacific/Apia")
    for change in changes or [DECADE[0]]:
        around = change.astimezone(ZoneInfo(zone_name)).date()
        for day, start in itertools.product(
            (around - dt.timedelta(days=1), around), ("00:00", "00:30", "01:45", "02:00", "02:30", "03:00", "23:30")
        ):
            wall = dt.datetime.combine(day, dt.time.fromisoformat(start))
            assert WindowRule(zone_name, start, 60).opening_on(day) == twin_opening(zone_name, wall), (day, start)


def test_no_zone_opens_outside_its_wall_clock_at_any_clock_change_of_the_decade() -> None:
    """The quick form over all zones: clocks show the start at an opening, or it is the first instant after a gap."""
    by_rules: dict[tuple[dt.timedelta | None, ...], str] = {}
    for zone_name in sorted(available_timezones()):
        zone = ZoneInfo(zone_name)
        months = [DECADE[0] + dt.timedelta(days=12 * i) for i in range(335)]
        by_rules.setdefault(tuple(month.astimezone(zone).utcoffset() for month in months), zone_name)
    assert len(by_rules) > 60  # distinct behaviours, of some 600 names
    checked = 0
    for offsets, zone_name in by_rules.items():
        if len(set(offsets)) == 1:
            continue
        zone = ZoneInfo(zone_name)
        for change in transitions(zone_name, *DECADE):
            before = (change - dt.timedelta(minutes=1)).astimezone(zone)
            after = change.astimezone(zone)
            for wall in {before.replace(tzinfo=None), after.replace(tzinfo=None), _middle(before, after)}:
                rule = WindowRule(zone_name, f"{wall:%H:%M}", 60)
                opens = rule.opening_on(wall.date())
                assert opens is not None
                shown = opens.astimezone(zone).replace(tzinfo=None)
                just_before = (opens - dt.timedelta(minutes=1)).astimezone(zone).replace(tzinfo=None)
                assert shown == wall.replace(second=0) or (opens == change and just_before < wall < shown)
                assert opens.astimezone(zone).fold == 0  # of two showings the first
                checked += 1
    assert checked > 1000


def _middle(before: dt.datetime, after: dt.datetime) -> dt.datetime:
    """Return the wall time in the middle of a gap or a doubled hour."""
    low, high = before.replace(tzinfo=None), after.replace(tzinfo=None)
    return (low + (high - low) / 2).replace(second=0, microsecond=0)


@settings(deadline=None, max_examples=300)
@given(
    zone_name=st.sampled_from(ZONES),
    moment=st.datetimes(dt.datetime(2010, 1, 1), dt.datetime(2034, 12, 31)),
    start=st.times(),
    duration_min=st.integers(1, 1440),
    weekdays=st.sets(st.sampled_from(("mon", "tue", "wed", "thu", "fri", "sat", "sun")), min_size=1),
)
def test_an_occurrence_is_half_open_lasts_its_length_and_is_found_from_inside(
    zone_name: str, moment: dt.datetime, start: dt.time, duration_min: int, weekdays: set[str]
) -> None:
    rule = WindowRule(zone_name, f"{start:%H:%M}", duration_min, tuple(weekdays))
    utc = moment.replace(tzinfo=UTC)
    pairs = list(rule.occurrences(utc, 4))
    assert len(pairs) == 4
    for opens, closes in pairs:
        assert closes - opens == dt.timedelta(minutes=duration_min)
        assert closes > utc
        assert rule.occurrence_at(opens) is not None
        assert rule.occurrence_at(closes) != (opens, closes)
    assert all(a[0] < b[0] for a, b in itertools.pairwise(pairs))
    held = rule.occurrence_at(utc)
    assert (held is not None) == any(opens <= utc < closes for opens, closes in pairs)
    following = rule.next_opening(utc)
    assert following > utc
    assert not any(utc < opens < following for opens, _ in pairs)
    assert rule.explain(utc).startswith("The window is open" if held else "It is ")


def test_a_start_in_the_skipped_hour_opens_when_the_gap_ends() -> None:
    rule = WindowRule("Europe/Paris", "02:30", 120)
    assert rule.opening_on(dt.date(2026, 3, 29)) == dt.datetime(2026, 3, 29, 1, tzinfo=UTC)  # 03:00 summer time


def test_a_start_in_the_doubled_hour_opens_the_first_time_and_once() -> None:
    rule = WindowRule("Europe/Paris", "02:30", 30)
    noon_before = dt.datetime(2026, 10, 24, 12, tzinfo=UTC)
    opens = [opens for opens, _ in rule.occurrences(noon_before, 2)]
    assert opens == [dt.datetime(2026, 10, 25, 0, 30, tzinfo=UTC), dt.datetime(2026, 10, 26, 1, 30, tzinfo=UTC)]


def test_a_window_across_a_clock_change_lasts_its_elapsed_time() -> None:
    opens, closes = next(WindowRule("Europe/Paris", "01:00", 180).occurrences(dt.datetime(2026, 3, 28, 12, tzinfo=UTC)))
    assert closes - opens == dt.timedelta(hours=3)
    assert closes.astimezone(ZoneInfo("Europe/Paris")).hour == 5


def test_a_date_that_the_zone_left_out_has_no_window() -> None:
    rule = WindowRule("Pacific/Apia", "10:00", 60)
    assert rule.opening_on(dt.date(2011, 12, 30)) is None
    after = dt.datetime(2011, 12, 29, 21, 30, tzinfo=UTC)
    assert rule.next_opening(after).astimezone(ZoneInfo("Pacific/Apia")).date() == dt.date(2011, 12, 31)


def test_weekdays_are_those_of_the_local_date() -> None:
    rule = WindowRule("Asia/Tokyo", "02:00", 60, ("mon",))
    opens = rule.next_opening(dt.datetime(2026, 3, 1, tzinfo=UTC))
    assert opens == dt.datetime(2026, 3, 1, 17, tzinfo=UTC)  # Sunday evening in UTC, Monday in Tokyo


def test_the_refusal_says_why_not_now_and_when_next() -> None:
    rule = WindowRule("Europe/Paris", "02:30", 120)
    sentence = rule.explain(dt.datetime(2026, 3, 28, 12, tzinfo=UTC))
    assert "outside the window (02:30 Europe/Paris every day for 120 minutes)" in sentence
    assert "opens next at Sun 2026-03-29 03:00 CEST (03-29 01:00 UTC) (clocks skip 02:30 that day)" in sentence
    assert "The window is open" in rule.explain(dt.datetime(2026, 3, 28, 2, tzinfo=UTC))


@pytest.mark.parametrize(
    ("name", "said"),
    [("Europe/Pariss", "Europe/Paris"), ("america/new_yorkk", "America/New_York"), ("Europe", "no time zone is called"),
     ("", "no time zone is called"), ("../etc/passwd", "no time zone is called")],
)  # fmt: skip
def test_an_unknown_zone_is_refused_with_the_nearest_names(name: str, said: str) -> None:
    with pytest.raises(UnknownZone, match=said):
        WindowRule(name, "02:00", 60)
    with pytest.raises(UnknownZone):
        load_zone(name)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"starts_at_local": "24:00"}, "starts_at_local: '24:00'"),
        ({"starts_at_local": "2:00"}, "write HH:MM"),
        ({"duration_min": 0}, "duration_min: 0"),
        ({"duration_min": 1441}, "at most 1440"),
        ({"weekdays": ("mon", "payday")}, "weekdays: 'payday' given"),
        ({"weekdays": ()}, "weekdays: none given"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_by_field(changed: dict[str, object], said: str) -> None:
    fields: dict[str, object] = {"time_zone": "UTC", "starts_at_local": "02:00", "duration_min": 60}
    with pytest.raises(InvalidPlan, match=said):
        WindowRule(**(fields | changed))  # type: ignore[arg-type]


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(InvalidPlan, match="carries no time zone"):
        WindowRule("UTC", "02:00", 60).occurrence_at(dt.datetime(2026, 3, 1))
