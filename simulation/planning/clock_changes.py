"""
What every change of clocks does to a window, and where another schedule would start instead.

Start at `clock_changes` for the table and at `differing_starts` for the comparison.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from simulation.planning.window_rule import WindowRule, load_zone

_AROUND = dt.timedelta(days=2)
_DAY = dt.timedelta(days=1)
Starts = Callable[[dt.datetime, dt.datetime], Iterable[dt.datetime]]


@dataclass(frozen=True)
class ClockChange:
    """
    A change of a zone's offset and the window's opening on that local day.

    Attributes
    ----------
    at : UTC, the first instant with the new offset
    before, after : offsets from UTC
    opens_at : UTC, the opening of the local day on which clocks change, or None if the rule has none
    effect : a sentence on what the change does to it
    """

    at: dt.datetime
    before: dt.timedelta
    after: dt.timedelta
    opens_at: dt.datetime | None
    effect: str


@dataclass(frozen=True)
class StartDifference:
    """An instant at which two schedules of one rule part: a start that only one has. UTC."""

    day: dt.date
    ours: dt.datetime | None
    theirs: tuple[dt.datetime, ...]

    def sentence(self, zone: ZoneInfo) -> str:
        """Say both on the wall clock of the zone."""
        told = ", ".join(f"{at.astimezone(zone):%H:%M %Z}" for at in self.theirs) or "never"
        ours = "never" if self.ours is None else f"{self.ours.astimezone(zone):%H:%M %Z}"
        return f"{self.day}: the window opens {ours}, the other schedule starts {told}"


def offset_changes(zone: ZoneInfo, since: dt.datetime, until: dt.datetime) -> Iterator[dt.datetime]:
    """Yield the UTC instants in [since, until) at which the zone's offset from UTC changes, to the second."""
    low, before = since, _offset(zone, since)
    while low < until:
        high = min(low + _DAY, until)
        after = _offset(zone, high)
        if before != after:
            yield from (at for at in _changes_between(zone, low, high) if at < until)
        low, before = high, after


def clock_changes(rule: WindowRule, since: dt.datetime, until: dt.datetime) -> list[ClockChange]:
    """Return every change of clocks in [since, until) with its effect on the rule's window."""
    zone = load_zone(rule.time_zone)
    found = []
    for at in offset_changes(zone, since, until):
        before, after = _offset(zone, at - dt.timedelta(seconds=1)), _offset(zone, at)
        opens_at = rule.opening_on(at.astimezone(zone).date())
        found.append(ClockChange(at, before, after, opens_at, _effect(rule, zone, at, opens_at)))
    return found


def differing_starts(rule: WindowRule, starts: Starts, since: dt.datetime, until: dt.datetime) -> list[StartDifference]:
    """
    Return where another schedule of the rule parts from it, looking two days around every change of clocks.

    Parameters
    ----------
    starts : gives the other schedule's starts in [begin, end), UTC
    since, until : UTC; changes of clocks between them are looked at, and the first two days if there are none

    Returns
    -------
    list of StartDifference
        One for each local day on which the sets of starts differ.
    """
    zone = load_zone(rule.time_zone)
    found = []
    for begin, end in spans_around_changes(zone, since, until):
        ours = {opens for opens, _ in _openings_in(rule, begin, end)}
        theirs = {at.astimezone(dt.UTC) for at in starts(begin, end) if begin <= at < end}
        days = sorted({at.astimezone(zone).date() for at in ours ^ theirs})
        for day in days:
            own = next((at for at in sorted(ours) if at.astimezone(zone).date() == day), None)
            other = tuple(at for at in sorted(theirs) if at.astimezone(zone).date() == day)
            found.append(StartDifference(day, own, other))
    return found


def spans_around_changes(
    zone: ZoneInfo, since: dt.datetime, until: dt.datetime
) -> list[tuple[dt.datetime, dt.datetime]]:
    """Return two days either side of each change in [since, until), joined where they meet; else the first two."""
    spans: list[tuple[dt.datetime, dt.datetime]] = []
    for at in offset_changes(zone, since, until):
        if spans and at - _AROUND <= spans[-1][1]:
            spans[-1] = (spans[-1][0], at + _AROUND)
        else:
            spans.append((at - _AROUND, at + _AROUND))
    return spans or [(since, since + _AROUND)]


def _openings_in(rule: WindowRule, begin: dt.datetime, end: dt.datetime) -> Iterator[tuple[dt.datetime, dt.datetime]]:
    """Yield the occurrences that open in [begin, end)."""
    for opens, closes in rule.occurrences(begin):
        if opens >= end:
            return
        if opens >= begin:
            yield opens, closes


def _effect(rule: WindowRule, zone: ZoneInfo, at: dt.datetime, opens_at: dt.datetime | None) -> str:
    """Say what the change at `at` does to the window that opens on that day, or that is open while clocks change."""
    held = rule.occurrence_at(at)
    if opens_at is None and held is None:
        return "no window that day"
    if opens_at is not None:
        shown = opens_at.astimezone(zone)
        if f"{shown:%H:%M}" != rule.starts_at_local:
            return f"clocks skip {rule.starts_at_local}: it opens when the gap ends, at {shown:%H:%M %Z}"
        wall = shown.replace(tzinfo=None)
        if wall.replace(tzinfo=zone, fold=1).astimezone(dt.UTC) != opens_at:
            return f"clocks show {rule.starts_at_local} twice: it opens the first time, once"
    if held is not None and held[0] < at:
        closes = held[1].astimezone(zone)
        return f"it is open meanwhile and lasts {rule.duration_min:g} minutes: it closes at {closes:%H:%M %Z}"
    opens = opens_at if opens_at is not None else at  # a window that opens at the very change
    return f"unmoved on local clocks; it opens at {opens:%H:%M} UTC"


def _changes_between(zone: ZoneInfo, low: dt.datetime, high: dt.datetime) -> Iterator[dt.datetime]:
    """Yield the changes in (low, high] by halving, to the second."""
    if _offset(zone, low) == _offset(zone, high):
        return
    if high - low <= dt.timedelta(seconds=1):
        yield high
        return
    middle = low + dt.timedelta(seconds=(high - low) // dt.timedelta(seconds=2))
    yield from _changes_between(zone, low, middle)
    yield from _changes_between(zone, middle, high)


def _offset(zone: ZoneInfo, at: dt.datetime) -> dt.timedelta:
    offset = at.astimezone(zone).utcoffset()
    return dt.timedelta() if offset is None else offset
