"""
Quiet windows: the best start of each coming day, held against the threshold and against a fixed 02:00.

Start at `find_windows`; `denied_windows` returns what a calendar took away. Loads are compared by their median
forecast: in backtests it chose better than the mean, which rare surges of the past drive (excess over
hindsight on worldcup98 in UTC: 0.047 against 0.059).
"""

import datetime as dt
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simulation.errors import InvalidPlan
from simulation.planning.window_rule import load_zone
from simulation.traffic.calendar import Calendar, CalendarEntry
from simulation.traffic.forecast import Forecast, mean_of_quantiles
from simulation.traffic.history import FloatArray
from simulation.traffic.seasonal import DAY_S, local_seconds

_FIXED_S = 2 * 3600  # the customary 02:00


@dataclass(frozen=True)
class Window:
    """
    A half-open interval in UTC in which little traffic is expected, and why.

    Attributes
    ----------
    opens_at, closes_at : UTC, [opens_at, closes_at)
    time_zone : IANA name, for reading and printing
    mean_load_rps, peak_load_rps : mean and highest of the median forecast over the window
    p95_load_rps : highest 95 % quantile over the window
    expected_requests : sum of the expected load, which lies over the median where surges are likely
    threshold_rps : the load called quiet
    headroom_ratio : 1 − p95_load_rps / threshold_rps; negative when the threshold may well be passed
    probability_below : P(load < threshold) throughout, taken as that of the worst step: errors of one night rise
        and fall together. If they did not, it would be lower.
    reason : a sentence
    capacity_headroom_ratio : 1 − p95_load_rps / the pool's capacity; NaN when the capacity was not given
    price, price_known_ratio : mean known price over the window, NaN if none, and which share of it is known
    conflicts : what else happens in it without denying it: holidays, noted campaigns, a change of clocks
    denied_by : the rules that deny it, with their reasons; empty for windows that may be used
    """

    opens_at: dt.datetime
    closes_at: dt.datetime
    time_zone: str
    mean_load_rps: float
    peak_load_rps: float
    p95_load_rps: float
    expected_requests: float
    threshold_rps: float
    headroom_ratio: float
    probability_below: float
    reason: str
    capacity_headroom_ratio: float = float("nan")
    price: float = float("nan")
    price_known_ratio: float = 0.0
    conflicts: tuple[str, ...] = ()
    denied_by: tuple[str, ...] = ()

    @property
    def opens_local(self) -> dt.datetime:
        """The opening on the wall clock of the window's zone."""
        return self.opens_at.astimezone(load_zone(self.time_zone))

    @property
    def closes_local(self) -> dt.datetime:
        """The closing on the wall clock of the window's zone."""
        return self.closes_at.astimezone(load_zone(self.time_zone))


def find_windows(
    forecast: Forecast,
    *,
    duration_min: float,
    time_zone: str,
    threshold_rps: float | None = None,
    count: int = 7,
    earliest: dt.datetime | None = None,
    latest: dt.datetime | None = None,
    calendar: Calendar | None = None,
    capacity_rps: float | None = None,
) -> list[Window]:
    """
    Return the best window of each coming local day, quietest first; no two overlap.

    Parameters
    ----------
    forecast : with the levels 0.5 and 0.95; no window touches a step that it does not know
    duration_min : minutes, over 0 and at most 1440
    time_zone : IANA name; a window belongs to the local day on which it ends
    threshold_rps : the load called quiet, over 0; without one, the lower quartile of the median forecast
    count : how many to return at most, 1 or more
    earliest, latest : UTC, the first moment to open and the last to close; without them the whole forecast
    calendar : no window touches one of its denials; its notes and prices are told. It must cover the forecast
    capacity_rps : what the pool can serve, for the headroom

    Raises
    ------
    InvalidPlan
        If a parameter is outside of what is said above, no start has a forecast for all of its steps, or denials
        leave none; the sentence then names the rules.
    UnknownZone
        If `time_zone` is not an IANA name.
    """
    search = _search(forecast, duration_min, time_zone, threshold_rps, count, earliest, latest)
    denied = _denied_starts(search, calendar)
    if not (search.allowed & ~denied).any():
        told = _denials(calendar, forecast.start, forecast.end)
        raise InvalidPlan(
            f"every start of the forecast is denied, by {' and '.join(told)}; shorten the window, lengthen the horizon "
            "or change the rule"
        )
    search = replace(search, allowed=search.allowed & ~denied)
    chosen = _quietest(search, count)
    return [_with_calendar(_describe(search, start), calendar, capacity_rps) for start in chosen]


def denied_windows(
    forecast: Forecast,
    *,
    duration_min: float,
    time_zone: str,
    threshold_rps: float | None = None,
    count: int = 7,
    calendar: Calendar,
    capacity_rps: float | None = None,
) -> list[Window]:
    """Return the windows that `find_windows` would have chosen without the calendar's denials, with who denied them."""
    search = _search(forecast, duration_min, time_zone, threshold_rps, count, None, None)
    denied = _denied_starts(search, calendar)
    found = [_describe(search, start) for start in _quietest(search, count) if denied[start]]
    return [_with_calendar(window, calendar, capacity_rps) for window in found]


@dataclass(frozen=True)
class Expectation:
    """What the forecast says of an interval: P(load < threshold) of its worst step, requests, highest 95 % quantile."""

    probability_below: float
    expected_requests: float
    p95_load_rps: float


def expect(
    forecast: Forecast, opens_at: dt.datetime, closes_at: dt.datetime, threshold_rps: float
) -> Expectation | None:
    """Return what is expected in [opens_at, closes_at), or None where the forecast does not know all of it."""
    begin, end = ((moment - forecast.start).total_seconds() for moment in (opens_at, closes_at))
    first, last = int(begin // forecast.step_s), int(-(-end // forecast.step_s))
    if begin < 0 or last > len(forecast.load_rps) or not np.isfinite(forecast.load_rps[first:last]).all():
        return None
    edges = np.clip(np.arange(first, last + 1) * float(forecast.step_s), begin, end)
    rows = forecast.load_rps[first:last]
    return Expectation(
        probability_below=min(probability_below(row, forecast.levels, threshold_rps) for row in rows),
        expected_requests=float(mean_of_quantiles(rows, forecast.levels) @ np.diff(edges)),
        p95_load_rps=float(forecast.at(0.95)[first:last].max()),
    )


@dataclass(frozen=True)
class _Search:
    """All starts of a forecast: their mean load, which may be offered, and the local day on which each ends."""

    forecast: Forecast
    duration_min: float
    time_zone: str
    threshold_rps: float
    n_steps: int
    means: FloatArray
    allowed: NDArray[np.bool_]
    local: NDArray[np.int64]
    end_day: NDArray[np.int64]

    def opens_at(self, start: int) -> dt.datetime:
        return self.forecast.start + dt.timedelta(seconds=start * self.forecast.step_s)


def _search(
    forecast: Forecast,
    duration_min: float,
    time_zone: str,
    threshold_rps: float | None,
    count: int,
    earliest: dt.datetime | None,
    latest: dt.datetime | None,
) -> _Search:
    """Weigh every start of the forecast; see `find_windows` for the parameters and errors."""
    _check(duration_min, threshold_rps, count, earliest, latest)
    duration_s = duration_min * 60
    n_steps = int(np.ceil(duration_s / forecast.step_s))
    median = forecast.at(0.5)
    means = _sliding_mean(median, n_steps)
    opens_s = np.arange(means.size) * forecast.step_s  # since the forecast's start
    allowed = np.isfinite(means)
    if earliest is not None:
        allowed &= opens_s >= (earliest - forecast.start).total_seconds()
    if latest is not None:
        allowed &= opens_s + duration_s <= (latest - forecast.start).total_seconds()
    if not allowed.any():
        raise InvalidPlan(
            f"no start from {earliest or forecast.start:%Y-%m-%d %H:%M} to {latest or forecast.end:%Y-%m-%d %H:%M} UTC "
            f"has a forecast for all of its {duration_min:g} minutes; shorten the window or lengthen the horizon"
        )
    threshold = float(np.nanquantile(median, 0.25)) if threshold_rps is None else threshold_rps
    if threshold <= 0:
        raise InvalidPlan("threshold_rps: a quarter of the forecast is no request at all; give a threshold over 0")
    local = local_seconds(forecast.start, forecast.step_s, len(median) + n_steps, time_zone)
    end_day = local[n_steps - 1 : n_steps - 1 + means.size] // DAY_S
    return _Search(forecast, duration_min, time_zone, threshold, n_steps, means, allowed, local, end_day)


def _quietest(search: _Search, count: int) -> list[int]:
    """Return the starts of the quietest windows, one for each local day, none overlapping; the earlier of equals."""
    taken: list[int] = []
    for start in np.lexsort((np.arange(search.means.size), search.means)).tolist():
        if len(taken) == count:
            break
        free = all(
            abs(start - other) >= search.n_steps and search.end_day[start] != search.end_day[other] for other in taken
        )
        if search.allowed[start] and free:
            taken.append(start)
    return taken


def _denied_starts(search: _Search, calendar: Calendar | None) -> NDArray[np.bool_]:
    """Return which starts have a denial in their [opens_at, closes_at)."""
    denied = np.zeros(search.means.size, dtype=np.bool_)
    if calendar is None:
        return denied
    begin = search.forecast.start
    if calendar.since > begin or calendar.until < search.forecast.end:
        raise InvalidPlan("calendar: it does not cover the forecast; read it from the forecast's start to its end")
    opens_s = np.arange(search.means.size) * search.forecast.step_s
    for entry in calendar.denials(begin, search.forecast.end):
        since, until = ((moment - begin).total_seconds() for moment in (entry.begins_at, entry.ends_at))
        denied |= (opens_s < until) & (since < opens_s + search.duration_min * 60)
    return denied


def _with_calendar(window: Window, calendar: Calendar | None, capacity_rps: float | None) -> Window:
    """Add what the calendar and the pool's capacity say of a window."""
    zone = load_zone(window.time_zone)
    conflicts = []
    if window.opens_at.astimezone(zone).utcoffset() != window.closes_at.astimezone(zone).utcoffset():
        conflicts.append("clocks change in it")
    if capacity_rps is not None:
        window = replace(window, capacity_headroom_ratio=1 - window.p95_load_rps / capacity_rps)
    if calendar is None:
        return replace(window, conflicts=tuple(conflicts))
    price, known = calendar.price(window.opens_at, window.closes_at)
    conflicts += _once(calendar.notes(window.opens_at, window.closes_at))
    if calendar.prices is not None and known < 1:
        conflicts.append("price unknown" if known <= 0 else f"price unknown for {1 - known:.0%} of it")
    denied_by = tuple(_denials(calendar, window.opens_at, window.closes_at))
    return replace(window, price=price, price_known_ratio=known, conflicts=tuple(conflicts), denied_by=denied_by)


def _denials(calendar: Calendar | None, begins_at: dt.datetime, ends_at: dt.datetime) -> list[str]:
    return [] if calendar is None else _once(calendar.denials(begins_at, ends_at))


def _once(entries: list[CalendarEntry]) -> list[str]:
    """Return the sentences of entries, each once."""
    return list(dict.fromkeys(entry.sentence() for entry in entries))


def probability_below(quantiles_rps: FloatArray, levels: tuple[float, ...], threshold_rps: float) -> float:
    """
    Return P(load < threshold) from the quantiles of one step, on lines between them.

    Past the outermost quantile nothing is known: below the lowest it is 0, above the highest that level and no more.
    """
    if threshold_rps < quantiles_rps[0]:
        return 0.0
    if threshold_rps >= quantiles_rps[-1]:
        return levels[-1]
    return float(np.interp(threshold_rps, quantiles_rps, levels))


def _check(
    duration_min: float,
    threshold_rps: float | None,
    count: int,
    earliest: dt.datetime | None,
    latest: dt.datetime | None,
) -> None:
    """Refuse parameters that cannot be, each by name."""
    if not 0 < duration_min <= 1440:
        raise InvalidPlan(f"duration_min: {duration_min:g} is not within a day; use more than 0, at most 1440")
    if threshold_rps is not None and not 0 < threshold_rps < np.inf:
        raise InvalidPlan(f"threshold_rps: {threshold_rps:g} is no load to stay below; use more than 0")
    if count < 1:
        raise InvalidPlan(f"count: {count} leaves no window; use 1 or more")
    for name, moment in (("earliest", earliest), ("latest", latest)):
        if moment is not None and moment.tzinfo is None:
            raise InvalidPlan(f"{name}: {moment.isoformat()} carries no time zone; give the moment in UTC")


def _sliding_mean(values: FloatArray, n_steps: int) -> FloatArray:
    """Return the mean over every `n_steps` neighbours; NaN where one of them is; empty if there are too few."""
    if values.size < n_steps:
        return np.empty(0)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(values, n_steps).mean(axis=1))


def _reason(search: _Search, start: int) -> str:
    """Say how the window compares with a fixed 02:00 of the same day, and which starts could not be offered."""
    means, allowed, local, end_day = search.means, search.allowed, search.local, search.end_day
    of_day = np.flatnonzero(end_day == end_day[start])
    unknown = int(np.isnan(means[of_day]).sum())
    told = f"quietest of {int(allowed[of_day].sum())} starts that day"
    after_two = of_day[(local[of_day] % DAY_S >= _FIXED_S) & (local[of_day] // DAY_S == end_day[start])]
    at_two = float(means[after_two[0]]) if after_two.size else float("nan")
    if np.isfinite(at_two) and at_two > 0:
        fewer = 1 - float(means[start]) / at_two
        loads = f"{means[start]:,.3g} against {at_two:,.3g} requests/s"
        told += f": {fewer:.0%} fewer requests than 02:00 ({loads})" if fewer >= 0.005 else ": no busier than 02:00"
    elif after_two.size:
        told += "; what comes at 02:00 is not known"
    if unknown:
        told += f"; {unknown} starts were left out, since the history hardly knows these times of day"
    return told


def _describe(search: _Search, start: int) -> Window:
    """Put one window into numbers and a sentence."""
    forecast, threshold_rps, duration_min = search.forecast, search.threshold_rps, search.duration_min
    time_zone, why = search.time_zone, _reason(search, start)
    steps = slice(start, start + search.n_steps)
    opens = search.opens_at(start)
    closes = opens + dt.timedelta(minutes=duration_min)
    median, high = forecast.at(0.5)[steps], float(forecast.at(0.95)[steps].max())
    chance = min(probability_below(row, forecast.levels, threshold_rps) for row in forecast.load_rps[steps])
    zone = load_zone(time_zone)
    hours = f"{opens.astimezone(zone):%a %Y-%m-%d %H:%M} to {closes.astimezone(zone):%H:%M %Z}"
    odds = f"load stays below {threshold_rps:,.3g} requests/s with probability {chance:.0%}"
    return Window(
        opens_at=opens,
        closes_at=closes,
        time_zone=time_zone,
        mean_load_rps=float(median.mean()),
        peak_load_rps=float(median.max()),
        p95_load_rps=high,
        expected_requests=float(forecast.mean_rps()[steps].mean()) * duration_min * 60,
        threshold_rps=threshold_rps,
        headroom_ratio=1 - high / threshold_rps,
        probability_below=chance,
        reason=f"{hours}: {why}; {odds}.",
    )
