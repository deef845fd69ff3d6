"""
The requests of a simulated night: drawn from a forecast, or replayed from a trace; start at `night_arrivals`.

A forecast is turned into one path of load per seed, because its errors hang together in time, and the path into a
Poisson process. Surges are streams of their own on top of it, so a scenario adds requests and moves none. A trace is
played as it is; scaling one never squeezes time, see `scale_trace`.
"""

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import ndtr

from simulation import randomness
from simulation.data_plane.arrivals import MergedArrivals, PoissonArrivals
from simulation.errors import InvalidScenario
from simulation.randomness import Purpose
from simulation.scenario import Surge
from simulation.traffic.forecast import Forecast
from simulation.traffic.history import FloatArray

# How forecast errors hang together: most of the variance belongs to the whole night, the rest wanders step by step.
_NIGHT_WEIGHT, _WANDER_WEIGHT, _WANDER_KEEPS = 0.8, 0.6, 0.9
_NIGHT_DRAW, _FIRST_STEP_DRAW = 0, 1


class Arrivals(Protocol):
    """Where requests come from: asked for in pieces, in order of time."""

    def until(self, until_s: float) -> FloatArray:
        """Return the arrivals from the last call's end to `until_s`, in seconds of the play, in order."""
        ...


@dataclass(frozen=True)
class Trace:
    """
    Recorded arrivals to be replayed as they were.

    Attributes
    ----------
    start : UTC, when second 0 of the trace was
    arrivals_s : shape (n,), seconds since `start`, non-decreasing
    end : UTC, up to when the recording went
    """

    start: dt.datetime
    arrivals_s: FloatArray
    end: dt.datetime


class Load(Protocol):
    """What can say the load of a night per seed: a forecast, or days drawn from a history."""

    def night_rates(self, begin: dt.datetime, end: dt.datetime, seed: int) -> tuple[FloatArray, FloatArray]:
        """Return edges in seconds since `begin`, shape (n + 1,), and requests per second between them, shape (n,)."""
        ...


def night_arrivals(
    load: Forecast | Trace | Load,
    opens_at: dt.datetime,
    span_s: tuple[float, float],
    seed: int,
    surges: Sequence[Surge],
) -> Arrivals:
    """
    Return the arrivals of one night.

    Parameters
    ----------
    span_s : when the play begins and ends, in seconds relative to the opening
    surges : added on top, each a stream of its own (times in minutes after the opening)

    Raises
    ------
    InvalidScenario
        If the load does not cover the night, or a trace is to be multiplied.
    """
    begin, end = (opens_at + dt.timedelta(seconds=s) for s in span_s)
    if isinstance(load, Trace):
        return _traced(load, opens_at, begin, end, surges)
    edges_s, rates_rps = (
        forecast_rates(load, begin, end, seed) if isinstance(load, Forecast) else load.night_rates(begin, end, seed)
    )
    _check_cover(edges_s, rates_rps, span_s[1] - span_s[0], opens_at)
    streams = [PoissonArrivals(edges_s, rates_rps, seed)]
    for k, surge in enumerate(surges, start=1):
        begin_s = max(0.0, surge.at_min * 60 - span_s[0])
        end_s = min(edges_s[-1], surge.at_min * 60 - span_s[0] + surge.minutes * 60)
        if surge.factor > 1 and end_s > begin_s:
            streams.append(PoissonArrivals(*_part(edges_s, rates_rps * (surge.factor - 1), begin_s, end_s), seed, k))
    return _Drawn(streams, float(edges_s[-1]))


def forecast_rates(load: Forecast, begin: dt.datetime, end: dt.datetime, seed: int) -> tuple[FloatArray, FloatArray]:
    """
    Draw one path of load from a forecast's quantiles, by the inverse of a Gaussian copula over its steps.

    Returns
    -------
    edges_s : shape (n + 1,), seconds since `begin`, the first 0
    rates_rps : shape (n,), requests per second; NaN where nothing is forecast

    Notes
    -----
    The outermost levels bound the path: what is rarer than they are belongs into a scenario.
    """
    step = dt.timedelta(seconds=load.step_s)
    first = load.start + (begin - load.start) // step * step  # the step that holds the beginning
    part = load.between(first, end)
    n = len(part.load_rps)
    if n == 0 or begin < load.start:
        return np.zeros(1), np.zeros(0)
    draws = randomness.normals(seed, np.arange(n + 1), 0, Purpose.TRAFFIC_LEVEL)
    wander = np.empty(n)
    level = draws[_FIRST_STEP_DRAW]
    for i in range(n):
        level = level if i == 0 else _WANDER_KEEPS * level + math.sqrt(1 - _WANDER_KEEPS**2) * draws[i + 1]
        wander[i] = level
    shares = ndtr(_NIGHT_WEIGHT * draws[_NIGHT_DRAW] + _WANDER_WEIGHT * wander)
    path = np.array([np.interp(u, load.levels, row) for u, row in zip(shares, part.load_rps, strict=True)])
    edges = (first - begin).total_seconds() + np.arange(n + 1, dtype=np.float64) * load.step_s
    edges[0] = 0.0
    return edges, path


def scale_trace(arrivals_s: FloatArray, factor: float, period_s: float, seed: int) -> FloatArray:
    """
    Return a trace with `factor` times as many requests, by superposition and splitting.

    Parameters
    ----------
    arrivals_s : shape (n,), seconds in [0, period_s), non-decreasing
    factor : >= 0; its whole part is that many copies, each shifted by an equal part of the period and wrapped around,
        the rest one more copy of which each request is kept with that probability
    period_s : seconds, the time after which the pattern repeats: a day, for a day's trace
    seed : of the splitting

    Returns
    -------
    arrivals_s : in order, in [0, period_s)

    Notes
    -----
    Dividing the timestamps would do the same to the mean, and squeeze every burst: the queue would see another traffic.
    The copies are shifted because copies laid on each other would make each arrival a batch. A shift moves the daily
    pattern too, so for loads that change within a day take the copies from other days instead, or split.

    Raises
    ------
    InvalidScenario
        If the factor is negative or not finite, or a time lies outside of the period.
    """
    if not (factor >= 0 and math.isfinite(factor)):
        raise InvalidScenario(f"factor {factor!r} cannot scale a trace; give a number from 0 on")
    if arrivals_s.size and not (arrivals_s[0] >= 0 and arrivals_s[-1] < period_s):
        raise InvalidScenario(f"arrivals_s leave [0, {period_s:g}); cut the trace to its period")
    whole = int(factor)
    copies = whole + (1 if factor > whole else 0)
    parts = []
    for k in range(copies):
        shifted = (arrivals_s + k * period_s / copies) % period_s
        if k == whole:
            kept = randomness.uniforms(seed, np.arange(arrivals_s.size), k, Purpose.THINNING) < factor - whole
            shifted = shifted[kept]
        parts.append(shifted)
    return np.sort(np.concatenate(parts)) if parts else np.empty(0)


class _Drawn:
    """Poisson streams, handed out up to a moment."""

    def __init__(self, streams: list[PoissonArrivals], end_s: float):
        self._source = streams[0] if len(streams) == 1 else MergedArrivals(streams)
        self._end_s, self._seen, self._taken_until_s = end_s, 1.0, 0.0

    def until(self, until_s: float) -> FloatArray:
        """Return all arrivals up to `until_s`; asks for what came before in the same time, and for more if need be."""
        span_s = max(0.0, min(until_s, self._end_s) - self._taken_until_s)
        pieces: list[FloatArray] = []
        while True:
            wanted = int(1.2 * self._seen * span_s) + 256
            pieces.append(self._source.take(wanted, until_s))
            if len(pieces[-1]) < wanted:
                break
        arrivals = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        if span_s > 0:
            self._seen, self._taken_until_s = len(arrivals) / span_s, until_s
        return arrivals


class _Replayed:
    """Recorded arrivals, handed out up to a moment."""

    def __init__(self, arrivals_s: FloatArray):
        self._arrivals_s, self._next = arrivals_s, 0

    def until(self, until_s: float) -> FloatArray:
        """Return the recorded arrivals up to `until_s`."""
        end = int(np.searchsorted(self._arrivals_s, until_s, side="left"))
        first, self._next = self._next, max(self._next, end)
        return self._arrivals_s[first : self._next]


def _traced(
    trace: Trace, opens_at: dt.datetime, begin: dt.datetime, end: dt.datetime, surges: Sequence[Surge]
) -> Arrivals:
    if begin < trace.start or trace.end < end:
        raise InvalidScenario(
            f"the trace from {trace.start:%Y-%m-%d %H:%M} to {trace.end:%Y-%m-%d %H:%M} UTC does not cover the night "
            f"around {opens_at:%Y-%m-%d %H:%M} UTC; choose an opening inside it"
        )
    if surges:
        raise InvalidScenario("a trace is replayed as it was; scale it with scale_trace instead of a surge")
    offset_s = (begin - trace.start).total_seconds()
    first, last = np.searchsorted(trace.arrivals_s, [offset_s, (end - trace.start).total_seconds()])
    return _Replayed(trace.arrivals_s[first:last] - offset_s)


def _part(edges_s: FloatArray, rates_rps: FloatArray, begin_s: float, end_s: float) -> tuple[FloatArray, FloatArray]:
    """Return the steps between two moments."""
    inside = edges_s[(edges_s > begin_s) & (edges_s < end_s)]
    first = int(np.searchsorted(edges_s, begin_s, side="right")) - 1
    return np.concatenate([[begin_s], inside, [end_s]]), rates_rps[first : first + len(inside) + 1]


def _check_cover(edges_s: FloatArray, rates_rps: FloatArray, length_s: float, opens_at: dt.datetime) -> None:
    if rates_rps.size == 0 or edges_s[-1] < length_s or not np.isfinite(rates_rps).all():
        raise InvalidScenario(
            f"the load does not cover the night around {opens_at:%Y-%m-%d %H:%M} UTC; choose an opening inside of "
            "what is forecast, with half an hour on either side"
        )
