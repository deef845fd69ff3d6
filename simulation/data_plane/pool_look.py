"""
What a gateway saw since the last look, in a few microseconds; start at `Look`.

`ServingPool.observe` says more and copies whole histograms; a controller that looks every ten seconds of a long night
needs a handful of numbers only.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulation.data_plane import pool_layout as at
from simulation.data_plane.histogram import N_BINS, bin_of, middle_of
from simulation.data_plane.pool_machine import Machine
from simulation.data_plane.pool_report import REFUSALS, Seen
from simulation.data_plane.pool_results import Observation

IntArray = NDArray[np.int64]


class Sight(NamedTuple):
    """
    What came and went since the last look, attempts counted one by one.

    `late` answers took longer than the SLO from the attempt's arrival. `timeouts` are callers who hung up. The
    quantiles are of answers, in seconds, within 0.8 %; NaN if there was none.
    """

    attempts: int
    finished: int
    errors: int
    rejected: int
    timeouts: int
    late: int
    queue_length: int
    p50_s: float
    p99_s: float


class Look:
    """A pair of eyes on a pool that remembers what it saw; make one with `ServingPool.look`."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._first_late = int(bin_of(machine.settings.slo_s)) + 1 if math.isfinite(machine.settings.slo_s) else N_BINS
        self._before, self._row, self._bucket = np.zeros(N_BINS, np.int64), np.zeros(at.N_COUNTERS, np.int64), 0
        self._new = np.zeros(at.N_COUNTERS + 3, np.int64)
        self.take()

    def take(self) -> Sight:
        """Return what is new since the last call, or since the look was made."""
        i = self._machine.s.i
        present, width = int(i[at.BUCKET]), self._machine.s.cells.shape[1] * at.N_COUNTERS
        cells = int(i[at.CELLS])
        span = (cells + self._bucket * width, cells + present * width, width)
        _news(i, at.ANSWERS, span, self._first_late, self._before, self._row, self._new)
        self._bucket = present
        new = self._new.tolist()
        late, p50, p99 = new[at.N_COUNTERS :]
        return Sight(
            attempts=new[at.C_ATTEMPTS],
            finished=new[at.C_COMPLETED],
            errors=new[at.C_ERRORS],
            rejected=sum(new[counter] for counter in REFUSALS),
            timeouts=new[at.C_TIMEOUTS],
            late=late,
            queue_length=int(i[at.ALL_WAITING]),
            p50_s=math.nan if p50 < 0 else middle_of(p50),
            p99_s=math.nan if p99 < 0 else middle_of(p99),
        )


class Watch:
    """A close look at what came since the last one, by version; make one with `ServingPool.watch`."""

    def __init__(self, machine: Machine) -> None:
        self._machine, self._seen = machine, Seen(machine)

    def observe(self) -> Observation:
        """Return what is new since the last call, or since the watch began."""
        return self._seen.observe(self._machine)


@njit(cache=True, nogil=True)
def _news(
    i: IntArray,
    answers: int,
    span: tuple[int, int, int],
    first_late: int,
    before: IntArray,
    row: IntArray,
    out: IntArray,
) -> None:
    """
    Write what is new: all counters, then answers in bins from `first_late` on, the bins of p50 and p99 (-1: none).

    `answers` is where the histograms of two versions start in `i`, `span` where the first and the last bucket of
    counters do and how wide a bucket is. `before` and `row` become the present counts. All that is read is passed in,
    so the cache of this kernel cannot go stale.
    """
    n_bins, n_counters = before.shape[0], row.shape[0]
    first, last, width = span
    out[:n_counters] = -row
    row[:] = 0
    for bucket in range(first, last + 1, width):
        for cell in range(bucket, bucket + width, n_counters):
            for k in range(n_counters):
                out[k] += i[cell + k]
                if bucket == last:
                    row[k] += i[cell + k]
    total, late = 0, 0
    for place in range(n_bins):
        fresh = i[answers + place] + i[answers + n_bins + place] - before[place]
        total += fresh
        late += fresh if place >= first_late else 0
    middling, high = -1, -1
    if total > 0:
        half, most = (total + 1) // 2, total - total // 100  # the ranks ceil(0.5 n) and ceil(0.99 n)
        seen = 0
        for place in range(n_bins):
            seen += i[answers + place] + i[answers + n_bins + place] - before[place]
            if middling < 0 and seen >= half:
                middling = place
            if seen >= most:
                high = place
                break
    for place in range(n_bins):
        before[place] = i[answers + place] + i[answers + n_bins + place]
    out[n_counters], out[n_counters + 1], out[n_counters + 2] = late, middling, high
