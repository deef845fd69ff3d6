"""
Latencies in bins whose width grows with the value: any number of requests in 20 KiB, quantiles within 0.8 %.

Start at `LatencyHistogram`. Each power of two is cut into 64 equal bins, as in HdrHistogram (Tene), so the bin of a
value is read off the top bits of its floating-point form. From 2^-20 s (1 µs) to 2^20 s (12 days) the middle of a bin
is within 1/128 of every value in it; shorter ones count as 0, longer ones as the longest seen.
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulation.errors import InvalidWorkload

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

RELATIVE_ERROR = 1.0 / 128.0
N_BINS = 40 * 64 + 2
TICKS_PER_S = 2**20  # sums are kept in whole ticks, because integers add up to the same in any order

_FIRST = (1023 - 20) << 6
_SHIFT = 46


@njit(nogil=True)
def bin_of(latency_s: float) -> int:
    """Return the bin of a latency >= 0."""
    place = (np.float64(latency_s).view(np.int64) >> _SHIFT) - _FIRST + 1
    return int(max(0, min(N_BINS - 1, place)))


@njit(cache=True, nogil=True)
def _count(latencies_s: FloatArray, counts: IntArray) -> int:
    """Add each latency to its bin; return the sum in ticks."""
    total = 0
    for latency_s in latencies_s:
        counts[bin_of(latency_s)] += 1
        total += int(latency_s * TICKS_PER_S)
    return total


@njit(cache=True, nogil=True)
def _difference(later: IntArray, earlier: IntArray, fresh: IntArray) -> int:
    """Write what came in between; return its highest filled bin, -1 if there is none, -2 if a bin has lost some."""
    highest = -1
    lowest = 0
    for place in range(fresh.shape[0]):
        n = later[place] - earlier[place]
        fresh[place] = n
        lowest = min(lowest, n)
        highest = place if n != 0 else highest
    return -2 if lowest < 0 else highest


def bin_edges_s() -> FloatArray:
    """Return the N_BINS + 1 edges of the bins in seconds: bin i is [edge i, edge i + 1)."""
    octaves = np.repeat(np.arange(-20.0, 20.0), 64)
    inner = (1.0 + np.tile(np.arange(64) / 64.0, 40)) * 2.0**octaves
    return np.concatenate([[0.0], inner, [2.0**20, np.inf]])


_EDGES = bin_edges_s()
_MIDDLES = np.concatenate([[0.0], (_EDGES[1:-2] + _EDGES[2:-1]) / 2.0, [np.inf]])


def middle_of(place: int) -> float:
    """Return the middle of a bin in seconds, infinity for the last."""
    return float(_MIDDLES[place])


@dataclass(frozen=True, eq=False)
class LatencyHistogram:
    """
    Counts of latencies per bin, with their sum and maximum.

    `+` merges two histograms; `later - earlier` is what came in between, with the upper edge of its highest bin as its
    maximum. Both are exact and in any order.
    """

    counts: IntArray
    sum_ticks: int
    max_s: float

    @classmethod
    def empty(cls) -> Self:
        """Return a histogram of nothing."""
        return cls(np.zeros(N_BINS, np.int64), 0, 0.0)

    @classmethod
    def of(cls, latencies_s: FloatArray) -> Self:
        """
        Return the histogram of these latencies.

        Raises
        ------
        InvalidWorkload
            If one of them is negative or NaN.
        """
        values = np.ascontiguousarray(latencies_s, np.float64).ravel()
        bad = np.flatnonzero(~(values >= 0.0) | np.isinf(values))
        if bad.size:
            raise InvalidWorkload(f"latencies_s[{bad[0]}] is {values[bad[0]]}; latencies are finite numbers from 0 on")
        counts = np.zeros(N_BINS, np.int64)
        total = int(_count(values, counts))
        return cls(counts, total, float(values.max(initial=0.0)))

    @property
    def count(self) -> int:
        """How many latencies it holds."""
        return int(self.counts.sum())

    @property
    def mean_s(self) -> float:
        """Their mean in seconds, to within a tick of 2^-20 s; NaN when empty."""
        n = self.count
        return self.sum_ticks / TICKS_PER_S / n if n else math.nan

    def quantile(self, p: float) -> float:
        """
        Return the smallest latency that at least a share `p` of all does not exceed, within 0.8 %; NaN when empty.

        Raises
        ------
        InvalidWorkload
            If `p` is not in (0, 1].
        """
        if not 0.0 < p <= 1.0:
            raise InvalidWorkload(f"quantile {p!r} is not in (0, 1]; p99 is 0.99")
        cumulated = np.cumsum(self.counts)
        n = int(cumulated[-1])
        if n == 0:
            return math.nan
        # The rank of an exact product like 0.99 × 100 must not be lifted by rounding.
        rank = max(1, math.ceil(round(p * n, 6)))
        return float(min(_MIDDLES[np.searchsorted(cumulated, rank)], self.max_s))

    def share_over(self, latency_s: float) -> float:
        """Return the share of latencies above a limit, each taken at the middle of its bin; NaN when empty."""
        n = self.count
        return float(self.counts[latency_s < _MIDDLES].sum()) / n if n else math.nan

    def __add__(self, other: Self) -> Self:
        return type(self)(self.counts + other.counts, self.sum_ticks + other.sum_ticks, max(self.max_s, other.max_s))

    def __sub__(self, earlier: Self) -> Self:
        return self.since(earlier.counts, self.sum_ticks - earlier.sum_ticks)

    def since(self, earlier_counts: IntArray, sum_ticks: int) -> Self:
        """Return what came in after there were `earlier_counts`, given its sum: `later - earlier` in a single pass."""
        counts = np.empty(N_BINS, np.int64)
        highest = int(_difference(self.counts, earlier_counts, counts))
        if highest == -2:
            raise InvalidWorkload("the histogram to take away holds latencies that this one lacks; swap the two")
        highest_s = min(float(_EDGES[highest + 1]), self.max_s) if highest >= 0 else 0.0
        return type(self)(counts, sum_ticks, highest_s)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LatencyHistogram):
            return NotImplemented
        same = np.array_equal(self.counts, other.counts)
        return same and self.sum_ticks == other.sum_ticks and self.max_s == other.max_s

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: the filled bins by number, the sum in ticks and the maximum."""
        filled = np.flatnonzero(self.counts)
        bins = {int(i): int(self.counts[i]) for i in filled}
        return {"bins": bins, "sum_ticks": self.sum_ticks, "max_s": self.max_s}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Return the histogram that `to_dict` described, also after a passage through JSON."""
        counts = np.zeros(N_BINS, np.int64)
        for place, n in data["bins"].items():
            counts[int(place)] = n
        return cls(counts, int(data["sum_ticks"]), float(data["max_s"]))
