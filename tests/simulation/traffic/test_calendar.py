"""Calendars: every entry half-open in UTC with its rule and reason, longer where clocks are unsure, never lost."""

import datetime as dt
import itertools
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.errors import InvalidPlan, UnknownZone
from simulation.plan_calendar import CalendarSection, DenialRule
from simulation.traffic.calendar import Calendar, CalendarEntry, expand_denial, read_calendar

UTC = dt.UTC
SINCE, UNTIL = dt.datetime(2026, 3, 1, tzinfo=UTC), dt.datetime(2026, 4, 1, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def read(folder: Path, regions: Any = None, since: dt.datetime = SINCE, until: dt.datetime = UNTIL, **section: Any) -> Calendar:  # fmt: skip  # noqa: E501
    return read_calendar(
        CalendarSection.model_validate(section), folder=folder, time_zone="Europe/Berlin", since=since, until=until,
        regions=regions,
    )  # fmt: skip


def denial(**changes: Any) -> dict[str, Any]:
    return {"rule": "retention", "reason": "no personal data at night", "time_zone": "Europe/Berlin", **changes}


def ics(folder: Path, *events: str) -> Path:
    """Write a calendar of events, each given as its lines between BEGIN and END."""
    text = "\r\n".join(
        ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:test"]
        + [
            line
            for n, event in enumerate(events)
            for line in ("BEGIN:VEVENT", f"UID:{n}", *event.splitlines(), "END:VEVENT")
        ]
        + ["END:VCALENDAR", ""]
    )
    path = folder / "events.ics"
    path.write_text(text, encoding="utf-8", newline="")
    return path


def events(folder: Path, *lines: str, **file: Any) -> list[CalendarEntry]:
    """Return the entries of a calendar file with these events."""
    ics(folder, *lines)
    return list(read(folder, files=[{"path": "events.ics", "kind": "maintenance", **file}]).entries)


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=UTC)


# Denial rules


def twin_of_a_denial(rule: DenialRule, minute: dt.datetime) -> bool:
    """
    Say whether the rule denies a minute, walking the clock by quarters of an hour: between a first showing and a last.

    It knows nothing of folds or gaps: it looks at what clocks show, one after the other.
    """
    zone = ZoneInfo(rule.time_zone)
    starts, ends = (dt.time.fromisoformat(t) for t in (rule.starts_at_local, rule.ends_at_local))
    for back in range(3):
        day = minute.astimezone(zone).date() - dt.timedelta(days=back)
        if ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[day.weekday()] not in rule.weekdays:
            continue
        begin_wall = dt.datetime.combine(day, starts)
        end_wall = dt.datetime.combine(day + dt.timedelta(days=0 if ends > starts else 1), ends)
        span = [minute + dt.timedelta(minutes=m) for m in range(-4 * 1440, 4 * 1440, 15)]
        shown = [at.astimezone(zone).replace(tzinfo=None) for at in span]
        begin = next(at for at, wall in zip(span, shown, strict=True) if wall >= begin_wall)
        # The last quarter that still shows less than the end is the last one inside.
        last = max(at for at, wall in zip(span, shown, strict=True) if wall < end_wall)
        if begin <= minute <= last:
            return True
    return False


@pytest.mark.parametrize(
    ("zone", "day"),
    [("Europe/Berlin", "2026-03-29"), ("Europe/Berlin", "2026-10-25"), ("Australia/Lord_Howe", "2026-04-05"),
     ("America/New_York", "2026-03-08"), ("Asia/Tokyo", "2026-03-08")],
)  # fmt: skip
@pytest.mark.parametrize(("starts", "ends"), [("01:30", "02:30"), ("22:00", "02:15"), ("02:30", "02:30")])
def test_a_denial_is_that_of_a_walk_along_the_clock(zone: str, day: str, starts: str, ends: str) -> None:
    rule = DenialRule.model_validate(denial(time_zone=zone, starts_at_local=starts, ends_at_local=ends))
    noon = dt.datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    since, until = noon - dt.timedelta(hours=13), noon
    entries = list(expand_denial(rule, since, until))
    for m in range(0, 13 * 60, 15):
        at = since + dt.timedelta(minutes=m)
        assert any(e.begins_at <= at < e.ends_at for e in entries) == twin_of_a_denial(rule, at), at


def test_a_denial_ends_at_the_last_showing_of_a_doubled_time() -> None:
    rule = DenialRule.model_validate(denial(starts_at_local="02:00", ends_at_local="02:30"))
    (entry,) = expand_denial(rule, utc("2026-10-25T00:00"), utc("2026-10-25T12:00"))
    assert (entry.begins_at, entry.ends_at) == (utc("2026-10-25T00:00"), utc("2026-10-25T01:30"))


def test_first_and_last_day_are_the_local_days_on_which_it_begins() -> None:
    rule = DenialRule.model_validate(
        denial(starts_at_local="22:00", ends_at_local="06:00", first_day="2026-03-02", last_day="2026-03-03")
    )
    found = [(e.begins_at, e.ends_at) for e in expand_denial(rule, SINCE, UNTIL)]
    assert found == [
        (utc("2026-03-02T21:00"), utc("2026-03-03T05:00")),
        (utc("2026-03-03T21:00"), utc("2026-03-04T05:00")),
    ]


def test_the_same_start_and_end_is_a_whole_day_of_23_24_or_25_hours() -> None:
    rule = DenialRule.model_validate(denial())
    hours = {
        (e.ends_at - e.begins_at) / dt.timedelta(hours=1)
        for e in expand_denial(rule, SINCE, dt.datetime(2027, 3, 1, tzinfo=UTC))
    }
    assert hours == {23.0, 24.0, 25.0}


@pytest.mark.parametrize(
    ("regions", "binds"), [(None, True), ((), False), (("eu",), True), (("us",), False), (("us", "eu"), True)]
)
def test_a_rule_on_regions_binds_who_reads_their_data_or_does_not_say(
    tmp_path: Path, regions: Any, binds: bool
) -> None:
    calendar = read(tmp_path, regions, denials=[denial(regions=["eu"])])
    assert bool(calendar.denials(SINCE, UNTIL)) is binds


# Holidays


def test_holidays_are_whole_local_days_of_the_country_and_its_part(tmp_path: Path) -> None:
    january = {"since": utc("2026-01-01T00:00"), "until": utc("2026-02-01T00:00")}
    calendar = read(tmp_path, holidays=[{"country": "DE", "subdivision": "BY"}], **january)
    titles = [(e.rule, e.reason, e.begins_at.astimezone(BERLIN).isoformat()) for e in calendar.entries]
    assert titles == [
        ("holiday DE-BY", "New Year's Day", "2026-01-01T00:00:00+01:00"),
        ("holiday DE-BY", "Epiphany", "2026-01-06T00:00:00+01:00"),
    ]
    assert not any(e.denies for e in calendar.entries)
    denying = read(tmp_path, holidays=[{"country": "DE", "effect": "deny"}], **january)
    assert [e.reason for e in denying.entries if e.denies] == ["New Year's Day"]


@pytest.mark.parametrize(("country", "subdivision"), [("QQ", None), ("DE", "XX")])
def test_an_unknown_country_is_refused(tmp_path: Path, country: str, subdivision: str | None) -> None:
    with pytest.raises(InvalidPlan, match=f"nothing is known of {country}"):
        read(tmp_path, holidays=[{"country": country, "subdivision": subdivision}])


# iCalendar files


def test_a_weekly_release_keeps_its_local_hour_skips_its_exception_and_lasts_over_the_change(tmp_path: Path) -> None:
    found = events(
        tmp_path,
        "SUMMARY:Release train\nDTSTART;TZID=Europe/Berlin:20260301T013000\nDTEND;TZID=Europe/Berlin:20260301T033000\n"
        "RRULE:FREQ=WEEKLY\nEXDATE;TZID=Europe/Berlin:20260308T013000",
    )
    assert [e.begins_at for e in found] == [utc(f"2026-03-{day:02d}T00:30") for day in (1, 15, 22, 29)]
    assert found[-1].ends_at == utc("2026-03-29T01:30")  # 03:30 summer time, an hour sooner
    assert found[0].rule == "maintenance: Release train"
    assert all(e.denies for e in found)


def test_a_moved_occurrence_and_a_cancelled_one_are_followed(tmp_path: Path) -> None:
    weekly = "UID:w\nSUMMARY:A\nDTSTART:20260302T010000Z\nDURATION:PT1H\nRRULE:FREQ=WEEKLY;COUNT=3"
    moved = "UID:w\nSUMMARY:A\nRECURRENCE-ID:20260309T010000Z\nDTSTART:20260310T050000Z\nDURATION:PT1H"
    gone = "UID:w\nSUMMARY:A\nRECURRENCE-ID:20260316T010000Z\nDTSTART:20260316T010000Z\nDURATION:PT1H\nSTATUS:CANCELLED"
    ics(tmp_path)
    text = "\r\n".join(
        ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:t"]
        + [line for e in (weekly, moved, gone) for line in ("BEGIN:VEVENT", *e.splitlines(), "END:VEVENT")]
        + ["END:VCALENDAR"]
    )
    (tmp_path / "events.ics").write_text(text, encoding="utf-8")
    calendar = read(tmp_path, files=[{"path": "events.ics", "kind": "release"}])
    assert [e.begins_at for e in calendar.entries] == [utc("2026-03-02T01:00"), utc("2026-03-10T05:00")]


def test_whole_days_and_floating_times_are_on_clocks_of_the_file_s_zone(tmp_path: Path) -> None:
    found = events(
        tmp_path,
        "SUMMARY:Sale\nDTSTART;VALUE=DATE:20260304",
        "SUMMARY:Backup\nDTSTART:20260302T010000\nDURATION:PT2H",
        "SUMMARY:Free\nDTSTART:20260305T010000Z\nDTEND:20260305T020000Z\nTRANSP:TRANSPARENT",
        time_zone="America/New_York",
    )
    assert [(e.begins_at, e.ends_at) for e in found] == [
        (utc("2026-03-02T06:00"), utc("2026-03-02T08:00")),
        (utc("2026-03-04T05:00"), utc("2026-03-05T05:00")),
    ]


def test_a_note_is_shown_and_denies_nothing(tmp_path: Path) -> None:
    (found,) = events(tmp_path, "SUMMARY:Mailing\nDTSTART:20260302T010000Z\nDURATION:PT2H\nDESCRIPTION:to all\\nof us",
                      effect="note")  # fmt: skip
    assert not found.denies
    assert found.sentence() == "maintenance: Mailing (to all)"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no such calendar"),
        ("hello", "is no iCalendar file"),
        ("", "is no iCalendar file|holds no calendar"),
        ("SUMMARY:x\nDTSTART;TZID=Mars/Base:20260302T010000\nDURATION:PT1H", "zone 'Mars/Base', which nobody knows"),
        ("SUMMARY:x\nDTSTART:banana", "event 'x': DTSTART cannot be read"),
        ("SUMMARY:x\nDTSTART:20260302T010000Z\nRRULE:FREQ=BANANA", "event 'x': RRULE cannot be read"),
        ("SUMMARY:x", "event 'x' has no start"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_and_never_read_as_free(
    tmp_path: Path, content: str | None, said: str
) -> None:
    path = tmp_path / "events.ics"
    if content is not None and ":" in content:
        ics(tmp_path, content)
    elif content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidPlan, match=said) as refusal:
        read(tmp_path, files=[{"path": "events.ics", "kind": "campaign"}])
    assert str(refusal.value).startswith(str(path))


# Prices


def prices(folder: Path, text: str, **section: Any) -> Calendar:
    (folder / "prices.csv").write_text(text, encoding="utf-8")
    return read(folder, prices={"path": "prices.csv", **section})


def test_a_price_holds_for_one_step_and_a_missing_row_is_unknown(tmp_path: Path) -> None:
    calendar = prices(
        tmp_path,
        "time,price\n2026-03-02T00:00Z,10\n2026-03-02T01:00Z,20\n2026-03-02T03:00Z,40\n2026-03-02T04:00Z,\n",
    )
    assert calendar.price(utc("2026-03-02T00:30"), utc("2026-03-02T02:00")) == pytest.approx(
        ((0.5 * 10 + 1 * 20) / 1.5, 1.0)
    )
    mean, known = calendar.price(utc("2026-03-02T01:00"), utc("2026-03-02T05:00"))
    assert (mean, known) == pytest.approx((30.0, 0.5))
    mean, known = calendar.price(utc("2026-03-03T01:00"), utc("2026-03-03T05:00"))
    assert (str(mean), known) == ("nan", 0.0)


def test_dear_hours_are_denied_with_the_price(tmp_path: Path) -> None:
    calendar = prices(
        tmp_path, "hour,price\n2026-03-02 00:00,10\n2026-03-02 01:00,250\n2026-03-02 02:00,300\n2026-03-02 03:00,9\n",
        deny_above=200,
    )  # fmt: skip
    (entry,) = calendar.entries
    assert (entry.begins_at, entry.ends_at) == (utc("2026-03-02T00:00"), utc("2026-03-02T02:00"))  # Berlin
    assert entry.sentence() == "price (up to 300 EUR/MWh, over the limit of 200)"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time,price\n2026-03-02T00:00Z,10\n", "holds 1 price"),
        ("time,price\n2026-03-02T00:00Z,10\n2026-03-02T00:00Z,11\n", "two prices for 2026-03-02 00:00 UTC"),
        ("time,price\n2026-03-02T00:00Z,10\n2026-03-02T01:00Z,dear\n", "row 2, column price: 'dear' is no price"),
        ("time,price\n2026-03-02T00:00Z,10\nsoon,11\n", "unlike the rows before it"),
        ("time,watt\n2026-03-02T00:00Z,10\n2026-03-02T01:00Z,1\n", "0 columns could be the price among time, watt"),
    ],
)
def test_prices_that_cannot_be_meant_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidPlan, match=said):
        prices(tmp_path, text)
    with pytest.raises(InvalidPlan, match="there is no such price file"):
        read(tmp_path, prices={"path": "nowhere.csv"})


# The calendar as a whole


def test_without_a_section_nothing_is_denied_and_without_zones_nothing_is_read(tmp_path: Path) -> None:
    empty = read_calendar(None, folder=tmp_path, time_zone="UTC", since=SINCE)
    assert empty.entries == ()
    assert empty.until - empty.since == dt.timedelta(days=400)
    with pytest.raises(InvalidPlan, match="carries no time zone"):
        read_calendar(None, folder=tmp_path, time_zone="UTC", since=dt.datetime(2026, 3, 1))
    with pytest.raises(UnknownZone):
        read(tmp_path, denials=[denial(time_zone="Europe/Atlantis")])


entries = st.lists(
    st.builds(
        lambda begin, length, denies: CalendarEntry(
            SINCE + dt.timedelta(minutes=begin), SINCE + dt.timedelta(minutes=begin + length), "r", "because", denies
        ),
        st.integers(0, 200), st.integers(1, 90), st.booleans(),
    ),
    max_size=6,
)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(entries, st.integers(0, 150), st.integers(1, 100))
def test_what_is_clear_is_exactly_what_no_denial_covers(found: list[CalendarEntry], begin: int, length: int) -> None:
    calendar = Calendar(SINCE, UNTIL, tuple(sorted(found, key=lambda e: (e.begins_at, e.ends_at))))
    since, until = SINCE + dt.timedelta(minutes=begin), SINCE + dt.timedelta(minutes=begin + length)
    pieces = calendar.clear(since, until)
    assert all(a < b for a, b in pieces)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(pieces))  # touching pieces would be one
    for m in range(begin, begin + length):
        at = SINCE + dt.timedelta(minutes=m)
        is_clear = not any(e.denies and e.begins_at <= at < e.ends_at for e in found)
        assert any(a <= at < b for a, b in pieces) is is_clear
