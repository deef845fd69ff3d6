"""
What windows must keep clear of, as half-open intervals in UTC. Start at `read_calendar`.

Every entry carries its rule's name and a reason, so that a refusal can say who says no. An entry that is unsure
in time (a doubled hour, an event without a zone) is taken longer or refused, never shorter.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from simulation.errors import InvalidPlan
from simulation.plan_calendar import CalendarSection, DenialRule, Holidays, Prices
from simulation.planning.window_rule import first_instant, last_instant, load_zone
from simulation.section import WEEKDAYS
from simulation.traffic.icalendar_file import read_events
from simulation.traffic.prices import PriceSeries, read_prices

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class CalendarEntry:
    """
    A half-open interval in UTC with something in it.

    Attributes
    ----------
    begins_at, ends_at : UTC, [begins_at, ends_at)
    rule : the name by which refusals cite it
    reason : why, in a sentence or a title
    denies : whether nothing heavy may run in it; otherwise it is only shown
    """

    begins_at: dt.datetime
    ends_at: dt.datetime
    rule: str
    reason: str
    denies: bool

    def overlaps(self, begins_at: dt.datetime, ends_at: dt.datetime) -> bool:
        """Say whether it shares an instant with [begins_at, ends_at)."""
        return self.begins_at < ends_at and begins_at < self.ends_at

    def sentence(self) -> str:
        """Name the rule and the reason."""
        return f"{self.rule} ({self.reason.rstrip('.')})"


@dataclass(frozen=True)
class Calendar:
    """All entries that touch [since, until), by time, and the prices; beyond that span it knows nothing."""

    since: dt.datetime
    until: dt.datetime
    entries: tuple[CalendarEntry, ...] = ()
    prices: PriceSeries | None = None

    def denials(self, begins_at: dt.datetime, ends_at: dt.datetime) -> list[CalendarEntry]:
        """Return the denials that share an instant with [begins_at, ends_at), by time."""
        return [entry for entry in self.entries if entry.denies and entry.overlaps(begins_at, ends_at)]

    def notes(self, begins_at: dt.datetime, ends_at: dt.datetime) -> list[CalendarEntry]:
        """Return the entries that deny nothing but are worth a word, by time."""
        return [entry for entry in self.entries if not entry.denies and entry.overlaps(begins_at, ends_at)]

    def price(self, begins_at: dt.datetime, ends_at: dt.datetime) -> tuple[float, float]:
        """Return the mean known price in [begins_at, ends_at), NaN if none, and which share of it is known."""
        return (float("nan"), 0.0) if self.prices is None else self.prices.between(begins_at, ends_at)

    def clear(self, begins_at: dt.datetime, ends_at: dt.datetime) -> list[tuple[dt.datetime, dt.datetime]]:
        """Return what denials leave of [begins_at, ends_at): half-open pieces, by time."""
        pieces, since = [], begins_at
        for entry in self.denials(begins_at, ends_at):
            if entry.begins_at > since:
                pieces.append((since, entry.begins_at))
            since = max(since, entry.ends_at)
        return [*pieces, (since, ends_at)] if since < ends_at else pieces


def read_calendar(
    section: CalendarSection | None,
    *,
    folder: Path,
    time_zone: str,
    since: dt.datetime,
    until: dt.datetime | None = None,
    regions: Sequence[str] | None = None,
) -> Calendar:
    """
    Return the calendar of a plan between two instants.

    Parameters
    ----------
    section : the plan's; none gives an empty calendar
    folder : where relative paths are looked up, the plan's own
    time_zone : IANA name for parts that name none
    since, until : UTC; without `until`, the section's `horizon_days` after `since`
    regions : whose personal data training reads; None: not said, so that rules on any region bind

    Raises
    ------
    InvalidPlan
        If a file is missing or cannot be meant, a country is unknown: never a silently empty calendar.
    UnknownZone
        If a zone is not an IANA name.
    """
    if since.tzinfo is None or (until is not None and until.tzinfo is None):
        raise InvalidPlan(f"calendar: {since.isoformat()} or its end carries no time zone; give both in UTC")
    days = 400 if section is None else section.horizon_days
    end = since + dt.timedelta(days=days) if until is None else until
    if section is None:
        return Calendar(since, end)
    found: list[CalendarEntry] = []
    for holidays in section.holidays:
        found += _holidays(holidays, time_zone, since, end)
    for file in section.files:
        events = read_events(folder / file.path, time_zone=file.time_zone or time_zone, since=since, until=end)
        denies = file.effect == "deny"
        found += [CalendarEntry(e.begins_at, e.ends_at, f"{file.kind}: {e.title}", e.note, denies) for e in events]
    for denial in section.denials:
        if _binds(denial, regions):
            found += expand_denial(denial, since, end)
    prices = None
    if section.prices is not None:
        prices = _prices(section.prices, folder, time_zone)
        found += _price_entries(section.prices, prices)
    kept = {entry for entry in found if entry.overlaps(since, end)}
    return Calendar(since, end, tuple(sorted(kept, key=lambda e: (e.begins_at, e.ends_at, e.rule))), prices)


def expand_denial(denial: DenialRule, since: dt.datetime, until: dt.datetime) -> Iterator[CalendarEntry]:
    """
    Yield the rule's intervals that touch [since, until).

    Each begins at the first showing of its start and ends at the last showing of its end, so that in a doubled hour
    it is the longer one; inside a skipped hour both mean the end of the gap.
    """
    zone = load_zone(denial.time_zone)
    starts, ends = (dt.time.fromisoformat(t) for t in (denial.starts_at_local, denial.ends_at_local))
    day = max(since.astimezone(zone).date() - 2 * _DAY, denial.first_day or dt.date.min)
    last = min(until.astimezone(zone).date() + _DAY, denial.last_day or dt.date.max)
    while day <= last:
        if WEEKDAYS[day.weekday()] in denial.weekdays:
            begins_at = first_instant(dt.datetime.combine(day, starts), zone)
            ends_at = last_instant(dt.datetime.combine(day if ends > starts else day + _DAY, ends), zone)
            entry = CalendarEntry(begins_at, ends_at, denial.rule, denial.reason, True)
            if begins_at < ends_at and entry.overlaps(since, until):
                yield entry
        day += _DAY


def _binds(denial: DenialRule, regions: Sequence[str] | None) -> bool:
    """Say whether a denial binds training on these regions' data; what is not said counts as read."""
    return not denial.regions or regions is None or not set(denial.regions).isdisjoint(regions)


def _holidays(section: Holidays, time_zone: str, since: dt.datetime, until: dt.datetime) -> list[CalendarEntry]:
    """Return the public holidays as whole local days."""
    import holidays  # here, for it is needed by plans with holidays only

    zone = load_zone(section.time_zone or time_zone)
    first, last = since.astimezone(zone).date() - _DAY, until.astimezone(zone).date() + _DAY
    where = "-".join(filter(None, (section.country, section.subdivision)))
    try:
        days = holidays.country_holidays(
            section.country, subdiv=section.subdivision, years=range(first.year, last.year + 1)
        )
    except NotImplementedError:
        raise InvalidPlan(
            f"calendar.holidays: nothing is known of {where}; use an ISO code such as DE, and a subdivision such as BY"
        ) from None
    entries = []
    for day, title in sorted(days.items()):
        begins_at = first_instant(dt.datetime.combine(day, dt.time()), zone)
        ends_at = last_instant(dt.datetime.combine(day + _DAY, dt.time()), zone)
        entries.append(CalendarEntry(begins_at, ends_at, f"holiday {where}", title, section.effect == "deny"))
    return entries


def _prices(section: Prices, folder: Path, time_zone: str) -> PriceSeries:
    return read_prices(
        folder / section.path,
        unit=section.unit,
        time_zone=section.time_zone or time_zone,
        time_column=section.time_column,
        price_column=section.price_column,
    )


def _price_entries(section: Prices, prices: PriceSeries) -> list[CalendarEntry]:
    """Return the dear stretches as denials, if the plan sets a limit."""
    if section.deny_above is None:
        return []
    limit = section.deny_above
    return [
        CalendarEntry(begin, end, "price", f"up to {price:,.4g} {prices.unit}, over the limit of {limit:,.4g}", True)
        for begin, end, price in prices.above(limit)
    ]
