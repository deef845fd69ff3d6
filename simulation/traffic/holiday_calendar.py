"""Which days are public holidays, by name: start at `holiday_names`. The days beside one are named after it."""

import datetime as dt
from functools import cache
from importlib.resources import files

import holidays

from simulation.errors import InvalidHistory

OF_ZONE = "zone"  # the country of the time zone
NONE = "none"
EVE, AFTER = "eve of ", "after "


def country_of_zone(time_zone: str) -> str | None:
    """Return the ISO 3166 code of the country that an IANA zone lies in; None for UTC, old aliases and the like."""
    return _zone_countries().get(time_zone)


def resolve_country(holidays_of: str, time_zone: str) -> str | None:
    """
    Return the country code meant by "zone", "none" or a code such as "US"; None for no calendar.

    Raises
    ------
    InvalidHistory
        If a code is not one that the `holidays` package knows. A zone whose country it does not know has none.
    """
    if holidays_of == NONE:
        return None
    known = holidays.list_supported_countries(include_aliases=False)
    if holidays_of == OF_ZONE:
        country = country_of_zone(time_zone)
        return country if country in known else None
    if holidays_of not in known:
        raise InvalidHistory(f"--holidays: {holidays_of!r} is no country code; write such as US or FR, or none")
    return holidays_of


def holiday_names(first_day: int, n_days: int, country: str | None) -> list[str]:
    """
    Return a name per day, empty for an ordinary one; `eve of …` and `after …` for the days beside a holiday.

    Parameters
    ----------
    first_day : days from 1970-01-01 to the first
    country : ISO 3166 code, None for no calendar

    References
    ----------
    The `holidays` package: national holidays and the days on which they are observed.
    """
    if country is None:
        return [""] * n_days
    start = dt.date(1970, 1, 1) + dt.timedelta(days=first_day - 1)
    dates = [start + dt.timedelta(days=i) for i in range(n_days + 2)]
    calendar = holidays.country_holidays(country, years=range(dates[0].year, dates[-1].year + 1), language="en_US")
    told = [str(calendar.get(date, "")) for date in dates]
    names = []
    for before, name, after in zip(told, told[1:], told[2:], strict=False):
        beside = AFTER + before if before else EVE + after if after else ""
        names.append(name or beside)
    return names


def is_public(name: str) -> bool:
    """Return whether a name of `holiday_names` is that of the holiday itself, not of a day beside it."""
    return bool(name) and not name.startswith((EVE, AFTER))


@cache
def _zone_countries() -> dict[str, str]:
    table = (files("tzdata") / "zoneinfo" / "zone.tab").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in table.splitlines() if not line.startswith("#")]
    return {row[2]: row[0] for row in rows}
