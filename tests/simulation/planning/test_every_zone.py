"""
Every zone of the IANA database, every change of its clocks from 2024 to 2034, several rules: no start outside.

The quick form of the proof: zones that show the same clocks over the decade are one, and only the days around a
change are walked. What a zone shows is told by `datetime` alone, five minutes after five; folds and gaps are not
asked for. All offsets, changes and starts of the decade lie on that grid, which is checked.
"""

import datetime as dt
import itertools
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from zoneinfo import TZPATH, ZoneInfo, available_timezones

import pytest

from simulation.planning.clock_changes import offset_changes
from simulation.planning.window_rule import WindowRule

UTC = dt.UTC
FIRST, LAST = dt.datetime(2024, 1, 1, tzinfo=UTC), dt.datetime(2035, 1, 1, tzinfo=UTC)
GRID, DAY = dt.timedelta(minutes=5), dt.timedelta(days=1)


@dataclass(frozen=True)
class Change:
    """A change of a zone's clocks, and what they show from three days before it to three days after, on the grid."""

    zone: str
    at: dt.datetime
    begin: dt.datetime
    shown: tuple[dt.datetime, ...]

    def first_showing(self, wall: dt.datetime) -> dt.datetime | None:
        """Return the first point of the grid that shows `wall` or later, by looking; None if it is not in the span."""
        return next((self.begin + i * GRID for i, clock in enumerate(self.shown) if clock >= wall), None)


@cache
def behaviours() -> dict[str, tuple[dt.datetime, ...]]:
    """Return one zone for each set of clocks shown in the decade, with all of its changes."""
    found: dict[tuple[object, ...], tuple[str, tuple[dt.datetime, ...]]] = {}
    by_file: dict[bytes, str] = {}
    for name in sorted(available_timezones()):
        by_file.setdefault(_file(name), name)  # half of the names are links to another one's file
    for name in by_file.values():
        zone = ZoneInfo(name)
        changes = tuple(offset_changes(zone, FIRST, LAST))
        key = (FIRST.astimezone(zone).utcoffset(), *((at, at.astimezone(zone).utcoffset()) for at in changes))
        found.setdefault(key, (name, changes))
    return dict(found.values())


@cache
def look(name: str, at: dt.datetime) -> Change:
    """Return what the clocks of a zone show around a change; offsets are constant on either side of it."""
    zone = ZoneInfo(name)
    begin = at - 3 * DAY
    assert at.timestamp() % GRID.total_seconds() == 0
    assert at.astimezone(zone).timestamp() % GRID.total_seconds() == 0
    shown = tuple((begin + i * GRID).astimezone(zone).replace(tzinfo=None) for i in range(6 * DAY // GRID))
    return Change(name, at, begin, shown)


def test_all_zones_are_here_and_equal_ones_are_looked_at_once() -> None:
    assert len(available_timezones()) > 500
    assert {"UTC", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"} <= available_timezones()
    assert 60 < len(behaviours()) < len(available_timezones())
    assert sum(len(changes) for changes in behaviours().values()) > 600


def _file(name: str) -> bytes:
    """Return the file that `ZoneInfo` reads: the system's, else that of the package `tzdata`."""
    places = [Path(folder, name) for folder in TZPATH]
    places.append(Path(str(resources.files("tzdata").joinpath("zoneinfo", *name.split("/")))))
    return next(place for place in places if place.is_file()).read_bytes()


def _second_showing(wall: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    return wall.replace(tzinfo=zone, fold=1).astimezone(UTC)


def starts_at(change: Change) -> set[str]:
    """Return the starts to try: two usual ones, and those exactly at, inside and after this change's gap or fold."""
    zone = ZoneInfo(change.zone)
    before = (change.at - dt.timedelta(seconds=1)).astimezone(zone).replace(tzinfo=None) + dt.timedelta(seconds=1)
    after = change.at.astimezone(zone).replace(tzinfo=None)
    low, high = min(before, after), max(before, after)
    inside = low + (high - low) / 2
    return {"02:30", "23:30", *(f"{wall:%H:%M}" for wall in (low, inside, high - GRID, high))}


@pytest.mark.parametrize("duration_min", [30, 90])
def test_no_start_lies_outside_its_rule_s_meaning_at_any_change_of_any_zone(duration_min: int) -> None:
    n_starts = n_moved = n_doubled = 0
    for name, changes in behaviours().items():
        for change in (look(name, at) for at in changes):
            zone, day = ZoneInfo(name), change.at.astimezone(ZoneInfo(name)).date()
            for start in starts_at(change):
                rule = WindowRule(name, start, duration_min)
                found = [(o, c) for o, c in rule.occurrences(change.at - 2 * DAY, 5) if abs(o - change.at) < 1.5 * DAY]
                assert all(closes - opens == dt.timedelta(minutes=duration_min) for opens, closes in found)
                assert all(a[1] <= b[0] for a, b in itertools.pairwise(found)), (name, start, change.at)
                by_day: dict[dt.date, dt.datetime] = {}
                for opens, _ in found:
                    shown = opens.astimezone(zone)
                    wall = dt.datetime.combine(shown.date(), dt.time.fromisoformat(start))
                    if f"{shown:%H:%M}" != start:  # the gap took it: it opens at the change itself, past its start
                        assert opens == change.at, (name, start, opens)
                        before = (opens - dt.timedelta(seconds=1)).astimezone(zone).replace(tzinfo=None)
                        wall = dt.datetime.combine(before.date(), dt.time.fromisoformat(start))
                        wall += DAY if wall <= before else dt.timedelta()
                        assert before < wall < shown.replace(tzinfo=None)
                        n_moved += 1
                    assert change.first_showing(wall) == opens, (name, start, opens)
                    assert wall.date() not in by_day, "two starts on one local day"
                    by_day[wall.date()] = opens
                    n_doubled += shown.replace(tzinfo=None) == wall and opens != _second_showing(wall, zone)
                    n_starts += 1
                # Every local day around the change has its one window: none is lost in a gap.
                for other in (day - DAY, day, day + DAY):
                    expected = change.first_showing(dt.datetime.combine(other, dt.time.fromisoformat(start)))
                    if expected is not None and abs(expected - change.at) < 1.5 * DAY:
                        assert by_day.get(other) == expected, (name, start, other)
    assert n_starts > 10_000
    assert n_moved > 300
    assert n_doubled > 300
