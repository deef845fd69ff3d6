"""Events of an iCalendar file as intervals in UTC, recurrences expanded. Start at `read_events`."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulation.errors import InvalidPlan
from simulation.planning.window_rule import first_instant, last_instant, load_zone


@dataclass(frozen=True)
class CalendarEvent:
    """One occurrence of an event: [begins_at, ends_at) in UTC, its title, and its description's first line."""

    begins_at: dt.datetime
    ends_at: dt.datetime
    title: str
    note: str


def read_events(path: Path, *, time_zone: str, since: dt.datetime, until: dt.datetime) -> list[CalendarEvent]:
    """
    Return the occurrences that touch [since, until), by time.

    Parameters
    ----------
    path : an .ics file; recurrences, exceptions and moved occurrences are followed
    time_zone : IANA name, for whole days and for times that carry no zone
    since, until : UTC

    Returns
    -------
    list of CalendarEvent
        Cancelled and transparent ("free") events are left out, and so are events without a length.

    Raises
    ------
    InvalidPlan
        If the file is missing or broken, or an event has no start, a rule that cannot be read, or an unknown zone.
    UnknownZone
        If `time_zone` is not an IANA name.

    References
    ----------
    RFC 5545, "Internet Calendaring and Scheduling Core Object Specification".
    """
    import icalendar
    import recurring_ical_events

    zone = load_zone(time_zone)
    try:
        content = path.read_bytes()
        calendars = icalendar.Calendar.from_ical(content, multiple=True)
    except FileNotFoundError:
        raise InvalidPlan(f"{path}: there is no such calendar; check calendar.files in the plan") from None
    except (OSError, ValueError) as problem:
        raise InvalidPlan(
            f"{path}: is no iCalendar file ({str(problem).splitlines()[0]}); export it again as .ics"
        ) from None
    if not calendars:
        raise InvalidPlan(f"{path}: holds no calendar; export it again as .ics")
    events = []
    for calendar in calendars:
        for event in calendar.walk("VEVENT"):
            _refuse_broken(event, path)
        # A day more on both sides: the library compares times without a zone by their face.
        span = (since - dt.timedelta(days=1), until + dt.timedelta(days=1))
        for event in recurring_ical_events.of(calendar).between(*span):
            if str(event.get("STATUS", "")) == "CANCELLED" or str(event.get("TRANSP", "")) == "TRANSPARENT":
                continue
            begins_at = _instant(event.start, zone, is_end=False)
            ends_at = _instant(event.end, zone, is_end=True)
            if begins_at < ends_at and begins_at < until and since < ends_at:
                title = " ".join(str(event.get("SUMMARY", "untitled")).split())
                note = next(iter(str(event.get("DESCRIPTION", "")).strip().splitlines()), "") or path.name
                events.append(CalendarEvent(begins_at, ends_at, title, note.strip()))
    return sorted(events, key=lambda e: (e.begins_at, e.ends_at, e.title))


def _refuse_broken(event: Any, path: Path) -> None:
    """Refuse an event that the library could only read in part: a denial that is not understood must not vanish."""
    title = str(event.get("SUMMARY", "untitled"))
    if "DTSTART" not in event:
        raise InvalidPlan(f"{path}: event {title!r} has no start; give it a DTSTART or remove it")
    if event.errors:
        name, trouble = event.errors[0]
        raise InvalidPlan(f"{path}: event {title!r}: {name} cannot be read ({trouble}); mend it in the calendar")
    for name in ("DTSTART", "DTEND"):
        value = event.get(name)
        named = value.params.get("TZID") if value is not None else None
        if named is not None and isinstance(value.dt, dt.datetime) and value.dt.tzinfo is None:
            raise InvalidPlan(f"{path}: event {title!r}: {name} is in zone {named!r}, which nobody knows; use IANA's")


def _instant(moment: dt.date | dt.datetime, zone: Any, *, is_end: bool) -> dt.datetime:
    """Place a moment in UTC: whole days and floating times on clocks of `zone`, ends at their last showing."""
    if isinstance(moment, dt.datetime) and moment.tzinfo is not None:
        return moment.astimezone(dt.UTC)
    wall = moment if isinstance(moment, dt.datetime) else dt.datetime.combine(moment, dt.time())
    return last_instant(wall, zone) if is_end else first_instant(wall, zone)
