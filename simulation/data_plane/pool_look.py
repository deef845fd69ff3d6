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

_WANTED = [at.C_ATTEMPTS, at.C_COMPLETED, at.C_ERRORS, at.C_TIMEOUTS, *REFUSALS]


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
        self._before = np.zeros(N_BINS, np.int64)
        self._bucket, self._row = 0, np.zeros(len(_WANTED), np.int64)
        self.take()

    def take(self) -> Sight:
        """Return what is new since the last call, or since the look was made."""
        s = self._machine.s
        present = int(s.i[at.BUCKET])
        new = s.cells[self._bucket : present + 1, :, _WANTED].sum(axis=(0, 1)) - self._row
        self._bucket, self._row = present, s.cells[present][:, _WANTED].sum(axis=0)
        answers = s.i[at.ANSWERS : at.ANSWERS + 2 * N_BINS].reshape(2, N_BINS)
        late, p50, p99 = _news(answers, self._before, self._first_late)
        attempts, finished, errors, timeouts, *rejected = new.tolist()
        return Sight(
            attempts=attempts,
            finished=finished,
            errors=errors,
            rejected=sum(rejected),
            timeouts=timeouts,
            late=late,
            queue_length=int(s.i[at.ALL_WAITING]),
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
def _news(answers: IntArray, before: IntArray, first_late: int) -> tuple[int, int, int]:
    """
    Return how many new answers lie in bins from `first_late` on, and the bins of p50 and p99 (-1: nothing is new).

    `before` becomes the present counts. All it reads is passed in, so its cache cannot go stale.
    """
    n_bins = before.shape[0]
    total, late = 0, 0
    for place in range(n_bins):
        fresh = answers[0, place] + answers[1, place] - before[place]
        total += fresh
        late += fresh if place >= first_late else 0
    middling, high = -1, -1
    if total > 0:
        half, most = (total + 1) // 2, total - total // 100  # the ranks ceil(0.5 n) and ceil(0.99 n)
        seen = 0
        for place in range(n_bins):
            seen += answers[0, place] + answers[1, place] - before[place]
            if middling < 0 and seen >= half:
                middling = place
            if seen >= most:
                high = place
                break
    for place in range(n_bins):
        before[place] = answers[0, place] + answers[1, place]
    return late, middling, high
