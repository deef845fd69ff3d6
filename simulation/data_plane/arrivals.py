"""
When requests come: Poisson processes whose rate changes in steps, drawn piece by piece; start at `PoissonArrivals`.

The k-th arrival of a stream comes when the rate, added up over time, has grown by the k-th exponential gap since the
one before: exact, because in added-up rate the process has rate 1 (Çinlar 1975, "Introduction to stochastic processes",
section 4.7). A gap that reaches over a change of rate is therefore spent in parts, each at its own rate, and the k-th
gap of a stream is the same number under every rate: a busier day is the same day, squeezed.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

import simulation.randomness
from simulation.data_plane.compiled_sources import digest_of
from simulation.errors import InvalidWorkload
from simulation.randomness import Purpose, bits_at, check_seed, exponential_of, stream_key, uniform_of

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

TRAFFIC, THINNING = int(Purpose.TRAFFIC), int(Purpose.THINNING)
_BLOCK = 256  # gaps drawn in one go: a loop of its own, which the compiler turns into vector instructions
_AHEAD = 4096  # arrivals that a merge asks of one stream at a time
_MOST_STREAMS = 2**32
# The place of a stream: the moment of the last candidate, the part of the next gap that is still to be spent (NaN: all
# of it), the step of the rate, the number of the next candidate.
_AT_S, _LEFT = range(2)
_STEP, _CANDIDATE = range(2)


def _take_kernel(sources: int) -> Any:
    @njit(cache=True, nogil=True, error_model="numpy")
    def take(place_f, place_i, keys, edges_s, rates_rps, gaps_s, kept, until_s, out):  # type: ignore[no-untyped-def]  # numba's types
        """Write the next arrivals before `until_s`; return how many. `gaps_s` are the mean gaps, infinite at rate 0."""
        _ = sources
        at_s, left, step, candidate = place_f[_AT_S], place_f[_LEFT], place_i[_STEP], place_i[_CANDIDATE]
        low, high = kept[0], kept[1]
        keeps_all = low <= 0.0 and high >= 1.0
        n_steps, n_wanted, n = rates_rps.shape[0], out.shape[0], 0
        gaps, is_kept = np.empty(_BLOCK), np.ones(_BLOCK, np.int64)
        first, n_drawn, is_open = candidate, 0, n_wanted > 0 and step < n_steps
        until_s = min(until_s, edges_s[n_steps])
        while is_open:
            if candidate - first == n_drawn:
                first, n_drawn = candidate, min(_BLOCK, n_wanted - n + 8)
                for k in range(n_drawn):
                    gaps[k] = exponential_of(bits_at(keys[0], first + k))
                if not keeps_all:
                    for k in range(n_drawn):
                        share = uniform_of(bits_at(keys[1], first + k))
                        is_kept[k] = (low <= share) & (share < high)
            gap = gaps[candidate - first] if math.isnan(left) else left
            next_s = at_s + gap * gaps_s[step]
            if not next_s < edges_s[step + 1]:
                # What this step takes of the gap is spent; rounding must not leave less than nothing.
                left = max(0.0, gap - (edges_s[step + 1] - at_s) * rates_rps[step])
                at_s = edges_s[step + 1]
                step += 1
                is_open = step < n_steps and at_s < until_s
                continue
            if next_s >= until_s:
                break
            at_s, left = next_s, np.nan
            out[n] = next_s
            n += is_kept[candidate - first]
            candidate += 1
            is_open = n < n_wanted
        place_f[_AT_S], place_f[_LEFT], place_i[_STEP], place_i[_CANDIDATE] = at_s, left, step, candidate
        return n

    return take


@njit(cache=True, nogil=True)
def _merge(times_s: FloatArray, ends: IntArray, heads: IntArray, until_s: float, out: FloatArray, n: int) -> int:
    """
    Write the earliest of all heads again and again from place `n` on; return where it stopped.

    It stops at `until_s`, at the end of `out`, or when a stream is used up.
    """
    n_streams = heads.shape[0]
    heads_s = np.empty(n_streams)
    for stream in range(n_streams):
        heads_s[stream] = times_s[stream, heads[stream]]
    while n < out.shape[0]:
        best, best_s, next_s = 0, heads_s[0], until_s
        for stream in range(1, n_streams):
            is_sooner = heads_s[stream] < best_s
            next_s = min(next_s, best_s if is_sooner else heads_s[stream])
            best, best_s = stream if is_sooner else best, heads_s[stream] if is_sooner else best_s
        if best_s >= until_s:
            break
        head = heads[best] + 1
        out[n] = best_s
        n += 1
        if next_s >= until_s:  # no other stream has anything before the end: what this one has goes in one run
            while n < out.shape[0] and head < ends[best] and times_s[best, head] < until_s:
                out[n] = times_s[best, head]
                n += 1
                head += 1
        heads[best] = head
        if head == ends[best]:
            break
        heads_s[best] = times_s[best, head]
    return n


SOURCES = (simulation.randomness,)
_take = _take_kernel(digest_of(*SOURCES, __file__))


class PoissonArrivals:
    """
    One stream of arrivals in order of time, handed out in pieces of any size by `take`.

    Parameters
    ----------
    edges_s : shape (n + 1,), seconds, finite, >= 0, increasing
        Step j of the rate is ``[edges_s[j], edges_s[j + 1])``; outside of all steps nothing comes.
    rates_rps : shape (n,), requests per second, finite, >= 0
        The rate in each step; at 0 nothing comes.
    seed : 0 <= seed < 2**63
        Of the trial.
    stream : 0 <= stream < 2**32
        Streams of one seed are independent: one for the base load, one for each surge.
    kept : (low, high), 0 <= low <= high <= 1
        Split the stream: an arrival stays if its own draw lies in ``[low, high)``. Parts that cover [0, 1) without
        overlap share out the very same arrivals, and each is a Poisson process of its own.

    Raises
    ------
    InvalidWorkload
        If a shape, an order or a value is wrong.

    Notes
    -----
    Exact: no step size. The draws are keyed by (seed, stream, number of the arrival), so the pieces do not depend on
    how they are asked for, to the bit. Memory does not grow with the number of arrivals.

    Examples
    --------
    >>> arrivals = PoissonArrivals([0.0, 60.0, 120.0], [2.0, 0.0], seed=7)
    >>> bool(arrivals.take(1000).max() < 60.0), arrivals.take(1000).size
    (True, 0)
    """

    def __init__(
        self,
        edges_s: ArrayLike,
        rates_rps: ArrayLike,
        seed: int,
        stream: int = 0,
        *,
        kept: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self._edges_s, self._rates_rps = _steps(edges_s, rates_rps)
        if isinstance(stream, bool) or not isinstance(stream, int | np.integer) or not 0 <= stream < _MOST_STREAMS:
            raise InvalidWorkload(f"stream is {stream!r}; give a whole number from 0 to 2**32 - 1")
        low, high = (float(share) for share in kept)
        if not 0.0 <= low <= high <= 1.0:
            raise InvalidWorkload(f"kept is {kept!r}; give two shares from 0 to 1, the lower one first")
        self._kept = np.array([low, high])
        with np.errstate(divide="ignore", over="ignore"):
            self._gaps_s = 1.0 / self._rates_rps
            keys = [stream_key(check_seed(seed), int(stream), purpose) for purpose in (TRAFFIC, THINNING)]
        self._keys = np.array(keys, np.uint64)
        self._place_f, self._place_i = np.array([self._edges_s[0], np.nan]), np.zeros(2, np.int64)

    def take(self, max_n: int, until_s: float = math.inf) -> FloatArray:
        """
        Return the next arrivals before `until_s`, at most `max_n`; fewer mean that none before `until_s` is left.

        Parameters
        ----------
        max_n : >= 0
            How many at most.
        until_s : seconds, not NaN
            What comes at `until_s` or later is left for the next call.

        Returns
        -------
        arrivals_s : shape (k,), k <= max_n, seconds, non-decreasing
            The array is the caller's own.

        Raises
        ------
        InvalidWorkload
            If `max_n` is not a count, or `until_s` is NaN.
        """
        out = _room_for(max_n, until_s)
        # Without the compiler numpy scalars do the arithmetic of the draws, and warn about the meant wrap-around.
        with np.errstate(over="ignore", invalid="ignore"):
            n = _take(
                self._place_f,
                self._place_i,
                self._keys,
                self._edges_s,
                self._rates_rps,
                self._gaps_s,
                self._kept,
                float(until_s),
                out,
            )
        return out[:n]


class MergedArrivals:
    """
    Several streams as one, in order of time.

    Parameters
    ----------
    streams : at least one
        They belong to the merge from now on: do not take from them.

    Raises
    ------
    InvalidWorkload
        If there is no stream.

    Notes
    -----
    The sum of independent Poisson processes is one, whose rate is the sum of theirs: a surge that triples the load is
    a second stream of twice its rate, and the arrivals of the base load stay what they were. Holds up to 4096 arrivals
    of each stream.

    Examples
    --------
    >>> base = PoissonArrivals([0.0, 10.0], [1.0], seed=7)
    >>> surge = PoissonArrivals([4.0, 6.0], [5.0], seed=7, stream=1)
    >>> both = MergedArrivals([base, surge]).take(1000)
    >>> bool((np.diff(both) >= 0.0).all())
    True
    """

    def __init__(self, streams: Sequence[PoissonArrivals]) -> None:
        if not streams:
            raise InvalidWorkload("streams is empty; give at least one stream of arrivals")
        self._streams = tuple(streams)
        self._times_s = np.empty((len(streams), _AHEAD))
        self._heads, self._ends = np.zeros((2, len(streams)), np.int64)

    def take(self, max_n: int, until_s: float = math.inf) -> FloatArray:
        """Return the next arrivals of all streams before `until_s`; arguments and errors as for one stream."""
        out = _room_for(max_n, until_s)
        n = 0
        while n < max_n:
            for k, (head, end) in enumerate(zip(self._heads.tolist(), self._ends.tolist(), strict=True)):
                if head == end:
                    self._refill(k)
            n = _merge(self._times_s, self._ends, self._heads, float(until_s), out, n)
            # A merge that stops with something at every head has come to `until_s`, or `out` is full.
            if not (self._heads == self._ends).any():
                break
        return out[:n]

    def _refill(self, k: int) -> None:
        """Draw the next arrivals of a stream; one that has ended is put at infinity, where it is never the earliest."""
        more = self._streams[k].take(_AHEAD)
        self._times_s[k, : more.size] = more
        self._heads[k], self._ends[k] = 0, more.size
        if more.size == 0:
            self._times_s[k, 0], self._ends[k] = np.inf, 1


def _steps(edges_s: ArrayLike, rates_rps: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return edges and rates as arrays, or say what is wrong with them."""
    try:
        edges, rates = np.array(edges_s, np.float64), np.array(rates_rps, np.float64)
    except (TypeError, ValueError) as problem:
        raise InvalidWorkload(f"edges_s and rates_rps must be real numbers: {problem}") from problem
    if rates.ndim != 1 or rates.size == 0 or edges.shape != (rates.size + 1,):
        raise InvalidWorkload(f"edges_s has shape {edges.shape} for rates_rps of {rates.shape}; give n + 1 edges for n")
    if not 0.0 <= edges[0] < np.inf:
        raise InvalidWorkload(f"edges_s[0] is {float(edges[0])!r}; give seconds from 0 on")
    for j, (before, after) in enumerate(pairwise(edges.tolist())):
        if not before < after < math.inf:
            raise InvalidWorkload(f"edges_s[{j + 1}] is {after!r} after {before!r}; edges are finite and increase")
    for j, rate in enumerate(rates.tolist()):
        if not 0.0 <= rate < math.inf:
            raise InvalidWorkload(f"rates_rps[{j}] is {rate!r}; give a finite number from 0 on")
    return edges, rates


def _room_for(max_n: int, until_s: float) -> FloatArray:
    if isinstance(max_n, bool) or not isinstance(max_n, int | np.integer) or max_n < 0:
        raise InvalidWorkload(f"max_n is {max_n!r}; give a count from 0 on")
    if math.isnan(until_s):
        raise InvalidWorkload("until_s is NaN; give seconds, or infinity")
    return np.empty(max_n)
