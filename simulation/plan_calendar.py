"""
The plan's calendar, as data: holidays, iCalendar files, prices, and rules that deny.

Start at `CalendarSection`; `simulation/traffic/calendar.py` turns it into half-open UTC intervals.
"""

import datetime as dt
from pathlib import PurePath
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from simulation.section import WEEKDAYS, LocalTime, RuleName, Section, Weekday

Effect = Literal["deny", "note"]


class Holidays(Section):
    """Public holidays of a country, whole local days."""

    country: Annotated[str, Field(pattern=r"^[A-Z]{2,3}$", description="ISO 3166, such as DE")]
    subdivision: str | None = Field(None, description="state or province, such as BY")
    time_zone: str | None = Field(None, description="where the days begin; none: the window's zone")
    effect: Effect = Field("note", description="deny: nothing heavy on these days; note: shown beside windows")


class CalendarFile(Section):
    """An iCalendar file of campaigns, releases or maintenance, recurring events included."""

    path: Annotated[str, Field(min_length=1, description="beside the plan, or absolute to be read live each night")]
    kind: Literal["campaign", "release", "maintenance"]
    effect: Effect = "deny"
    time_zone: str | None = Field(None, description="for times that carry no zone; none: the window's zone")

    @model_validator(mode="after")
    def _stays_beside_the_plan(self) -> Self:
        _refuse_way_up(self.path)
        return self


class Prices(Section):
    """A price series from a CSV file: each price holds for one step; where rows are missing nothing is known."""

    path: Annotated[str, Field(min_length=1)]
    unit: str = "EUR/MWh"
    time_zone: str | None = Field(None, description="for times that carry no zone; none: the window's zone")
    time_column: str | None = None
    price_column: str | None = None
    deny_above: float | None = Field(None, description="dearer steps are denied; none: prices are only shown")

    @model_validator(mode="after")
    def _stays_beside_the_plan(self) -> Self:
        _refuse_way_up(self.path)
        return self


class DenialRule(Section):
    """
    A rule by which nothing heavy may run, such as: no personal data of the EU between 22:00 and 06:00.

    An end at or before the start lies on the next day. With `regions`, it binds only training that reads personal
    data of one of them, and training that does not say which it reads.
    """

    rule: RuleName
    reason: Annotated[str, Field(min_length=10, description="why, in a sentence")]
    time_zone: str
    weekdays: tuple[Weekday, ...] = Field(WEEKDAYS, min_length=1, description="local days on which it begins")
    starts_at_local: LocalTime = "00:00"
    ends_at_local: LocalTime = "00:00"
    first_day: dt.date | None = Field(None, description="the first local day on which it begins")
    last_day: dt.date | None = Field(None, description="the last local day on which it begins")
    regions: tuple[RuleName, ...] = Field((), description="whose personal data; none: it binds all training")

    @model_validator(mode="after")
    def _days_in_order(self) -> Self:
        if self.first_day is not None and self.last_day is not None and self.last_day < self.first_day:
            raise ValueError(f"last_day {self.last_day} lies before first_day {self.first_day}; swap them")
        return self


class CalendarSection(Section):
    """What windows must keep clear of. Denials win over everything but a rollback."""

    holidays: tuple[Holidays, ...] = ()
    files: tuple[CalendarFile, ...] = ()
    prices: Prices | None = None
    denials: tuple[DenialRule, ...] = ()
    horizon_days: Annotated[int, Field(ge=7, le=1830)] = Field(400, description="how far ahead it is looked at")

    @model_validator(mode="after")
    def _rules_differ(self) -> Self:
        names = [denial.rule for denial in self.denials]
        if len(set(names)) != len(names):
            raise ValueError(f"two denials share a rule name in {names}; a refusal must name one rule")
        return self

    def paths(self) -> tuple[str, ...]:
        """Return the files that it reads, as the plan names them."""
        prices = (self.prices.path,) if self.prices is not None else ()
        return (*(file.path for file in self.files), *prices)


def _refuse_way_up(path: str) -> None:
    """Refuse a relative path that leaves the plan's folder: it could not be kept with a deployed plan."""
    if not PurePath(path).is_absolute() and ".." in PurePath(path).parts:
        raise ValueError(f"path {path!r} leaves the plan's folder; move the file beside the plan or name it absolutely")
