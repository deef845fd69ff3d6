"""
Finding steps in which the collector, not the traffic, went quiet: outages, frozen counters, recurring holes.

Start at `find_outages`. Each finder asks what ordinary traffic would have to do to look like this, and marks
only what it practically never does.
"""

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
_EXPECTED_IN_OUTAGE = 100.0  # requests that should have come in a run of zeros; bursty services stay well below
_CHANCE = 1e-6  # of a frozen run anywhere in the whole history
_MIN_FROZEN_STEPS = 6
_EDGE_STEPS = 5
_DAY_S = 86_400


def find_outages(counts: FloatArray, step_s: int) -> BoolArray:
    """
    Mark runs of exact zeros in which at least a hundred requests should have come.

    How many should have come is told by both edges of the run (zeros between busy minutes: a hole that recurs
    every night is found too) and by the same time of other weeks (an outage that ends in the quiet of the night).
    A service that falls asleep, with few requests on one side at least and zeros at that time every week, stays.
    """
    outage = np.zeros(counts.size, dtype=np.bool_)
    runs = _runs(counts == 0.0)
    usual = usual_of_week(counts, step_s) if runs else counts
    for begin, end in runs:
        before = _mean_known(counts[max(0, begin - _EDGE_STEPS) : begin])
        after = _mean_known(counts[end : end + _EDGE_STEPS])
        # Only the next few steps: over a long night even the last stragglers of the evening would add up.
        by_edges = min(before, after) * min(end - begin, _EDGE_STEPS)
        by_other_weeks = float(np.nansum(usual[begin:end]))
        outage[begin:end] = max(by_edges, by_other_weeks) >= _EXPECTED_IN_OUTAGE
    return outage


def find_frozen(counts: FloatArray) -> BoolArray:
    """
    Mark runs of one non-zero count that are longer than chance allows.

    Two Poisson counts of mean v agree with probability 1 / (2 √(π v)); counts that repeat anyway in this history
    (rounded, or a steady probe) raise that figure to what is usual here. A run is marked when a history of this
    length would show it less than once in a million.
    """
    frozen = np.zeros(counts.size, dtype=np.bool_)
    same = (counts[1:] == counts[:-1]) & (counts[1:] > 0)
    runs = [(begin, end + 1) for begin, end in _runs(same)]
    long_steps = sum(end - begin - 1 for begin, end in runs if end - begin >= _MIN_FROZEN_STEPS)
    usual_share = (float(same.sum()) - long_steps) / max(1, counts.size - long_steps)
    # A history made of runs (a steady probe) is no evidence of a stopped counter: then the share counts all of them.
    if long_steps > 0.2 * counts.size:
        usual_share = float(same.mean())
    for begin, end in runs:
        chance = max(0.5 / np.sqrt(np.pi * counts[begin]), usual_share)
        length = end - begin
        frozen[begin:end] = length >= _MIN_FROZEN_STEPS and counts.size * chance ** (length - 1) < _CHANCE
    return frozen


def usual_of_week(counts: FloatArray, step_s: int) -> FloatArray:
    """Return the median count at each step's time of the week (UTC), shape (n,); NaN where under 3 weeks know it."""
    per_week = 7 * _DAY_S // step_s
    n_weeks = -(-counts.size // per_week)
    if n_weeks < 3 or 7 * _DAY_S % step_s:
        return np.full(counts.size, np.nan)
    padded = np.full(n_weeks * per_week, np.nan)
    padded[: counts.size] = counts
    weeks = np.sort(padded.reshape(n_weeks, per_week), axis=0)  # NaN sorts last
    n_known = np.isfinite(weeks).sum(axis=0)
    middle = weeks[np.maximum(n_known - 1, 0) // 2, np.arange(per_week)]
    usual = np.where(n_known >= 3, middle, np.nan)
    return np.tile(usual, n_weeks)[: counts.size]


def recurring_holes(counts: FloatArray, start_s: int, step_s: int) -> list[tuple[int, int, int]]:
    """
    Return holes that recur: (first, last + 1) in seconds of the UTC day, and the number of days they are seen on.

    A time of day belongs to a hole when it is unknown on more than half of the days and known at other times of
    those days; at least 5 days are needed to speak of a habit.
    """
    if _DAY_S % step_s:
        return []
    per_day = _DAY_S // step_s
    lead = start_s % _DAY_S // step_s
    n_days = -(-(lead + counts.size) // per_day)
    known = np.zeros((n_days, per_day), dtype=np.bool_)
    known.ravel()[lead : lead + counts.size] = np.isfinite(counts)
    covered = np.zeros((n_days, per_day), dtype=np.bool_)
    covered.ravel()[lead : lead + counts.size] = True
    covered &= known.any(axis=1, keepdims=True)  # a day that is unknown throughout says nothing about its hours
    n_covered = covered.sum(axis=0)
    n_unknown = (covered & ~known).sum(axis=0)
    hole = (n_covered >= 5) & (2 * n_unknown > n_covered)
    return [(begin * step_s, end * step_s, int(n_unknown[begin:end].max())) for begin, end in _runs(hole)]


def _runs(flags: BoolArray) -> list[tuple[int, int]]:
    """Return [begin, end) of every run of True."""
    padded = np.zeros(flags.size + 2, dtype=np.int8)
    padded[1:-1] = flags
    edges = np.flatnonzero(np.diff(padded))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _mean_known(values: FloatArray) -> float:
    """Return the mean of what is known, 0 if nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else 0.0
