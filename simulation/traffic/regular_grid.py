"""Placing rows on a regular grid: sorted, repeats settled, holes NaN, outages marked."""

import datetime as dt
import itertools

import numpy as np
from numpy.typing import NDArray

from simulation.errors import InvalidHistory
from simulation.traffic.history import FloatArray, HistoryQuality, RequestHistory
from simulation.traffic.outages import find_frozen, find_outages, recurring_holes
from simulation.traffic.read_times import TimesUtc

_MAX_STEPS = 20_000_000  # 38 years of minutes: beyond it a time is wrong, and the grid would not fit in memory
_MAX_CONFLICT_SHARE = 0.1
_MAX_OTHER_STEP_SHARE = 0.05  # real hourly data with 24 rows at every other hour is still read


def on_a_grid(name: str, place: str, times: TimesUtc, counts: FloatArray) -> RequestHistory:
    """
    Return the history of these rows.

    Parameters
    ----------
    name, place : the history's name, and what messages call its file
    times, counts : one per row, in the order of the file

    Raises
    ------
    InvalidHistory
        Fewer than two times; no regular step, or one that changes; most times repeated with other counts.
    """
    seconds, counts = times.seconds[times.is_real], counts[times.is_real]
    n_unsorted = int((np.diff(seconds) < 0).sum())
    order = np.lexsort((counts, seconds))  # NaN sorts last, so a known count comes before an unknown one
    seconds, counts, n_duplicates, n_conflicts = _settle_repeats(place, seconds[order], counts[order])
    if seconds.size < 2:
        raise InvalidHistory(f"{place}: holds one time only; give at least two, a step apart")
    step_s = _step_s(place, seconds)
    at = (seconds - seconds[0]) // step_s
    if at[-1] >= _MAX_STEPS:
        raise InvalidHistory(
            f"{place}: from {_utc(seconds[0])} to {_utc(seconds[-1])} are {at[-1]:,} steps of {step_s} s, "
            "too many to be meant; mend the first or the last time"
        )
    grid = np.full(int(at[-1]) + 1, np.nan)
    grid[at] = counts
    n_gap_steps = grid.size - seconds.size
    n_flagged_steps = int(np.isnan(counts).sum())
    outage, frozen = find_outages(grid, step_s), find_frozen(grid)
    grid[outage | frozen] = np.nan
    quality = HistoryQuality(
        n_rows=times.seconds.size,
        n_duplicates=n_duplicates,
        n_conflicts=n_conflicts,
        n_unsorted=n_unsorted,
        n_skipped_hour_rows=times.n_skipped_hour_rows,
        n_doubled_hour_rows=times.n_doubled_hour_rows,
        n_gap_steps=n_gap_steps,
        n_flagged_steps=n_flagged_steps,
        n_outage_steps=int(outage.sum()),
        n_frozen_steps=int(frozen.sum()),
        notes=tuple(_hole_sentences(grid, int(seconds[0]), step_s)),
    )
    return RequestHistory(name, dt.datetime.fromtimestamp(int(seconds[0]), dt.UTC), step_s, grid, quality)


def _settle_repeats(
    place: str, seconds: NDArray[np.int64], counts: FloatArray
) -> tuple[NDArray[np.int64], FloatArray, int, int]:
    """Return one row per time: exact repeats dropped, an unknown count giving way to a known one, others added up."""
    if np.all(seconds[1:] > seconds[:-1]):
        return seconds, counts, 0, 0
    same_time = np.append(False, seconds[1:] == seconds[:-1])
    same_count = np.append(False, (counts[1:] == counts[:-1]) | np.isnan(counts[1:]))
    repeated, conflicting = same_time & same_count, same_time & ~same_count
    n_times = int((~same_time).sum())
    if conflicting.sum() > _MAX_CONFLICT_SHARE * n_times:
        row = int(np.flatnonzero(conflicting)[0])
        raise InvalidHistory(
            f"{place}: {int(conflicting.sum()):,} rows repeat a time with another count (first {_utc(seconds[row])}), "
            "as if several series stood below one another; add them up or keep one"
        )
    kept_seconds, kept_counts = seconds[~repeated], counts[~repeated]
    first = np.flatnonzero(np.append(True, kept_seconds[1:] != kept_seconds[:-1]))
    return kept_seconds[first], np.add.reduceat(kept_counts, first), int(repeated.sum()), int(conflicting.sum())


def _step_s(place: str, seconds: NDArray[np.int64]) -> int:
    """Return the most frequent step, and refuse rows off its grid or a file that changes its step."""
    steps = np.diff(seconds)
    values, frequency = np.unique(steps, return_counts=True)
    step_s = int(values[frequency.argmax()])
    off = (seconds - seconds[0]) % step_s != 0
    if off.any():
        row = int(np.flatnonzero(off)[0])
        raise InvalidHistory(
            f"{place}: {_utc(seconds[row])} is off the grid of {step_s} s steps that begins at {_utc(seconds[0])}; "
            "count requests per regular interval first"
        )
    # Coarser rows on a finer grid would look like gaps between bursts: the load would be wrong by the ratio.
    change = np.flatnonzero(np.append(True, np.append(steps[1:] != steps[:-1], True)))
    for begin, end in itertools.pairwise(change.tolist()):
        if steps[begin] != step_s and end - begin > _MAX_OTHER_STEP_SHARE * steps.size + 1:
            raise InvalidHistory(
                f"{place}: rows are {int(steps[begin])} s apart from {_utc(seconds[begin])} on and {step_s} s "
                "elsewhere; split the file, or bring it to one step"
            )
    return step_s


def _hole_sentences(grid: FloatArray, start_s: int, step_s: int) -> list[str]:
    return [
        f"From {_clock(begin)} to {_clock(end)} UTC nothing is known on most days ({n_days} of them): "
        "no window is placed there."
        for begin, end, n_days in recurring_holes(grid, start_s, step_s)
    ]


def _clock(second_of_day: int) -> str:
    return f"{second_of_day // 3600:02d}:{second_of_day // 60 % 60:02d}"


def _utc(seconds: np.int64) -> str:
    return f"{dt.datetime.fromtimestamp(int(seconds), dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
