"""
A window rule: local start, IANA zone, length and weekdays, expanded exactly to half-open intervals in UTC.

One definition covers every clock change: a window opens at the first instant at which clocks of the zone show
its start or later. So a start inside a skipped hour opens when the gap ends, a start that clocks show twice opens
the first time, once, and a local date that a zone left out altogether (Apia, 2011-12-30) has no window.
The length is elapsed time: a window across a clock change is neither longer nor shorter.
"""

import datetime as dt
import difflib
import importlib.metadata
import itertools
import re
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

from simulation.errors import InvalidPlan, UnknownZone

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


def load_zone(name: str) -> ZoneInfo:
    """Return the zone of that IANA name, or raise `UnknownZone` with the nearest names."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # OSError: a name that is a folder of the database, such as "Europe"
        near = difflib.get_close_matches(str(name), sorted(available_timezones()), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "use a name such as Europe/Paris or UTC"
        raise UnknownZone(f"no time zone is called {name!r}; {hint}") from None


def zone_database(name: str) -> str:
    """Return which database the zone comes from, as Python chooses: the system's if it has it, else `tzdata`'s."""
    for folder in map(Path, zoneinfo.TZPATH):
        if (folder / name).is_file():
            try:
                version = (folder / "tzdata.zi").read_text(encoding="utf-8").partition("\n")[0].split()[-1]
            except (OSError, UnicodeDecodeError, IndexError):
                version = "of unknown version"
            return f"the system's database {version}"
    return f"tzdata {importlib.metadata.version('tzdata')}"


@dataclass(frozen=True)
class WindowRule:
    """
    When a window recurs.

    Parameters
    ----------
    time_zone : IANA name
    starts_at_local : "HH:MM" on the wall clock of that zone
    duration_min : elapsed minutes, over 0 and at most 1440
    weekdays : local days on which it opens, of "mon" … "sun"

    Raises
    ------
    UnknownZone, InvalidPlan
        On an unknown zone; on a start, a length or a day that cannot be.

    Examples
    --------
    >>> rule = WindowRule("Europe/Paris", "02:30", 120)
    >>> rule.next_opening(dt.datetime(2026, 3, 28, 12, tzinfo=dt.UTC)).isoformat()  # 02:30 is skipped that night
    '2026-03-29T01:00:00+00:00'
    """

    time_zone: str
    starts_at_local: str
    duration_min: float
    weekdays: tuple[str, ...] = _DAYS

    def __post_init__(self) -> None:
        load_zone(self.time_zone)
        if not _CLOCK.fullmatch(self.starts_at_local):
            raise InvalidPlan(f"starts_at_local: {self.starts_at_local!r} is no wall-clock time; write HH:MM")
        if not 0 < self.duration_min <= 1440:
            raise InvalidPlan(f"duration_min: {self.duration_min:g} is not within a day; use more than 0, at most 1440")
        unknown = [day for day in self.weekdays if day not in _DAYS]
        if unknown or not self.weekdays:
            given = ", ".join(repr(day) for day in unknown) or "none"
            raise InvalidPlan(f"weekdays: {given} given; use one or more of {', '.join(_DAYS)}")

    def opening_on(self, day: dt.date) -> dt.datetime | None:
        """Return the UTC instant at which that local day's window opens, or None if it has none."""
        zone = load_zone(self.time_zone)
        if _DAYS[day.weekday()] not in self.weekdays:
            return None
        wall = dt.datetime.combine(day, dt.time.fromisoformat(self.starts_at_local))
        opens = first_instant(wall, zone)
        if opens.astimezone(zone).replace(tzinfo=None) == wall:
            return opens
        date_was_shown = (opens - dt.timedelta(seconds=1)).astimezone(zone).date() == day
        return opens if date_was_shown or opens.astimezone(zone).date() == day else None

    def occurrences(
        self, after_utc: dt.datetime, count: int | None = None
    ) -> Iterator[tuple[dt.datetime, dt.datetime]]:
        """Yield (opens_at, closes_at) in UTC of the windows that close after `after_utc`, in order; all, or `count`."""
        _require_aware(after_utc)
        return itertools.islice(self._all_after(after_utc), count)

    def occurrence_at(self, utc: dt.datetime) -> tuple[dt.datetime, dt.datetime] | None:
        """Return the (opens_at, closes_at) that holds `utc`, opening included and closing not, or None."""
        opens, closes = next(self.occurrences(utc))
        return (opens, closes) if opens <= utc else None

    def next_opening(self, utc: dt.datetime) -> dt.datetime:
        """Return the first opening strictly after `utc`."""
        return next(opens for opens, _ in self.occurrences(utc) if opens > utc)

    def explain(self, utc: dt.datetime) -> str:
        """Say in a sentence whether the window is open at `utc`, and if not, why and when it opens next."""
        zone = load_zone(self.time_zone)
        held = self.occurrence_at(utc)
        if held:
            return f"The window is open: from {_both(held[0], zone)} to {_both(held[1], zone)}."
        opens = self.next_opening(utc)
        days = "every day" if set(self.weekdays) == set(_DAYS) else f"on {', '.join(self.weekdays)}"
        rule = f"{self.starts_at_local} {self.time_zone} {days} for {self.duration_min:g} minutes"
        moved = ""
        if opens.astimezone(zone).strftime("%H:%M") != self.starts_at_local:
            moved = f" (clocks skip {self.starts_at_local} that day)"
        return f"It is {_both(utc, zone)}, outside the window ({rule}); it opens next at {_both(opens, zone)}{moved}."

    def _all_after(self, after_utc: dt.datetime) -> Iterator[tuple[dt.datetime, dt.datetime]]:
        # Three days back: a window lasts up to a day, a gap moves it by up to a day, and local dates run ahead of UTC.
        day = after_utc.astimezone(load_zone(self.time_zone)).date() - dt.timedelta(days=3)
        while True:
            opens = self.opening_on(day)
            if opens is not None:
                closes = opens + dt.timedelta(minutes=self.duration_min)
                if closes > after_utc:
                    yield opens, closes
            day += dt.timedelta(days=1)


def first_instant(wall: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    """Return the first UTC instant at which clocks of the zone show `wall`, or the end of the gap that skips it."""
    instant = wall.replace(tzinfo=zone, fold=0).astimezone(dt.UTC)
    return instant if instant.astimezone(zone).replace(tzinfo=None) == wall else _gap_end(wall, zone)


def last_instant(wall: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    """Return the last UTC instant at which clocks of the zone show `wall`, or the end of the gap that skips it."""
    instant = wall.replace(tzinfo=zone, fold=1).astimezone(dt.UTC)
    return instant if instant.astimezone(zone).replace(tzinfo=None) == wall else _gap_end(wall, zone)


def _gap_end(wall: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    """Return the first UTC instant after the gap of local time that holds `wall`, by bisection to the second."""
    # PEP 495: inside a gap fold=0 counts with the offset before it and fold=1 with the one after.
    late = wall.replace(tzinfo=zone, fold=0).astimezone(dt.UTC)
    early = wall.replace(tzinfo=zone, fold=1).astimezone(dt.UTC)
    low, high = int(early.timestamp()) - 1, int(late.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if dt.datetime.fromtimestamp(middle, zone).replace(tzinfo=None) >= wall:
            high = middle
        else:
            low = middle
    return dt.datetime.fromtimestamp(high, dt.UTC)


def _require_aware(moment: dt.datetime) -> None:
    if moment.tzinfo is None:
        raise InvalidPlan(f"{moment.isoformat()} carries no time zone; give the moment in UTC")


def _both(moment: dt.datetime, zone: ZoneInfo) -> str:
    """Write a moment on the wall clock of the zone and in UTC."""
    return f"{moment.astimezone(zone):%a %Y-%m-%d %H:%M %Z} ({moment.astimezone(dt.UTC):%m-%d %H:%M} UTC)"
