"""How numbers and times are written on pages: one way each, and "not known" where there is nothing to write."""

import datetime as dt
import math

from simulation.planning.window_rule import load_zone

UNKNOWN = "not known"


def count(value: int | float) -> str:
    """Return a whole number with thousands marked: ``12,345``."""
    return UNKNOWN if isinstance(value, float) and not math.isfinite(value) else f"{value:,.0f}"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with `digits` significant digits, never in powers of ten between 0.0001 and a million."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value == 0 or not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits}g}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def signed(value: float, digits: int = 2) -> str:
    """Return a difference with its sign: ``+0.0012``."""
    text = number(value, digits)
    return text if text == UNKNOWN or value <= 0 else f"+{text}"


def percent(value: float | None) -> str:
    """Return a share as a percentage, ``87 %`` or, near the ends, ``99.7 %``."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    decimals = 0 if value in (0.0, 1.0) or 0.01 <= value <= 0.99 else 1
    return f"{100 * value:.{decimals}f} %"


def spread(low: str, high: str) -> str:
    """Return an interval that reads the same on the page and aloud: ``0.1 to 0.3``; unbounded if neither is known."""
    return "no interval" if low == high == UNKNOWN else f"{low} to {high}"


def took(seconds: float) -> str:
    """Return how long something took: in milliseconds below a second, ``5 ms``, else ``12.3 s``."""
    if not math.isfinite(seconds):
        return UNKNOWN
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{number(seconds)} s"


def utc(text: str) -> dt.datetime:
    """Return an ISO 8601 time as it stands in a record, in UTC; raise `ValueError` for a time without zone."""
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no zone; records keep times in UTC")
    return moment.astimezone(dt.UTC)


def moment(text: str, time_zone: str | None = None) -> str:
    """Return a recorded time for reading: in UTC, or on the wall clock of `time_zone`."""
    when = utc(text)
    if time_zone is None:
        return f"{when:%Y-%m-%d %H:%M} UTC"
    return f"{when.astimezone(load_zone(time_zone)):%a %Y-%m-%d %H:%M}"


def short(digest: str | None) -> str:
    """Return the first twelve characters of a digest, enough to compare by eye."""
    return digest[:12] if digest else UNKNOWN


def plural(n: int, one: str, many: str | None = None) -> str:
    """Return the count with its noun: ``1 row``, ``2 rows``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def listed(words: list[str]) -> str:
    """Return words as a spoken list: ``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "none"
