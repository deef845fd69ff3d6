"""
Quiet windows: the best start of each coming day, held against the threshold and against a fixed 02:00.

Start at `find_windows`. Loads are compared by their median forecast: in backtests it chose better than the mean,
which rare surges of the past drive (excess over hindsight on worldcup98 in UTC: 0.047 against 0.059).
"""

import datetime as dt
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulation.errors import InvalidPlan
from simulation.planning.window_rule import load_zone
from simulation.traffic.forecast import Forecast
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

    Raises
    ------
    InvalidPlan
        If a parameter is outside of what is said above, or no start has a forecast for all of its steps.
    UnknownZone
        If `time_zone` is not an IANA name.
    """
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
    taken: list[int] = []
    for start in np.lexsort((opens_s, means)).tolist():
        if len(taken) == count:
            break
        free = all(abs(start - other) >= n_steps and end_day[start] != end_day[other] for other in taken)
        if allowed[start] and free:
            taken.append(start)
    return [
        _describe(forecast, start, duration_min, time_zone, threshold, _reason(means, allowed, local, end_day, start))
        for start in taken
    ]


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


def _reason(
    means: FloatArray,
    allowed: NDArray[np.bool_],
    local: NDArray[np.int64],
    end_day: NDArray[np.int64],
    start: int,
) -> str:
    """Say how the window compares with a fixed 02:00 of the same day, and which starts could not be offered."""
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


def _describe(
    forecast: Forecast, start: int, duration_min: float, time_zone: str, threshold_rps: float, why: str
) -> Window:
    """Put one window into numbers and a sentence."""
    steps = slice(start, start + int(np.ceil(duration_min * 60 / forecast.step_s)))
    opens = forecast.start + dt.timedelta(seconds=start * forecast.step_s)
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
