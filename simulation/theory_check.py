"""
Hold the exact queue against queueing theory, over fixed seeds: `check_theory` returns the table that users are shown.

What is simulated and expected stands in `simulation/theory_studies.py`; here a study becomes rows with standard errors.
"""

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Values = tuple[tuple[str, float], ...]
Measure = Callable[[np.random.Generator], list[float]]


@dataclass(frozen=True)
class TheoryRow:
    """One value of theory beside what the simulator says; ``seconds`` is what its study took."""

    name: str
    expected: float
    observed: float
    standard_error: float
    seconds: float

    @property
    def z(self) -> float:
        """How many standard errors lie between the two; 4 and more is disagreement."""
        if self.standard_error == 0.0:
            return 0.0 if self.observed == self.expected else math.inf
        return (self.observed - self.expected) / self.standard_error

    @property
    def is_sharp(self) -> bool:
        """Whether the standard error is at most 1 % of the value, 2 % where the value is under 0.02."""
        return self.standard_error <= (0.02 if abs(self.expected) < 0.02 else 0.01) * abs(self.expected)

    @property
    def agrees(self) -> bool:
        """Whether simulator and theory agree within 4 standard errors, and the comparison is sharp enough to say so."""
        return abs(self.z) <= 4.0 and self.is_sharp


@dataclass(frozen=True)
class Study:
    """
    Values that come out of the same simulated requests: ``measure`` plays one replication and returns all of them.

    After the values it may return controls, sample means whose expectation is known (``control_means``): what they
    are off by explains a part of what the values are off by, and is taken out by regression (Lavenberg, Welch 1981).
    """

    name: str
    expected: Callable[[], Values]
    measure: Measure
    replications: int
    control_means: tuple[float, ...] = ()

    def rows(self, seed: int) -> list[TheoryRow]:
        """Simulate, and return one row per value; the same seed gives the same rows, whatever the threads do."""
        compile_kernels()
        expected = self.expected()
        began = time.perf_counter()
        children = np.random.SeedSequence([seed, *self.name.encode()]).spawn(self.replications)
        with ThreadPoolExecutor(2) as pool:
            values = np.array(list(pool.map(lambda child: self.measure(_generator(child)), children)))
        means, errors = controlled_means(values, np.array(self.control_means))
        took = time.perf_counter() - began
        return [
            TheoryRow(f"{self.name}: {what}", value, float(mean), float(error), took)
            for (what, value), mean, error in zip(expected, means, errors, strict=True)
        ]


def controlled_means(values: Floats, control_means: Floats) -> tuple[Floats, Floats]:
    """Return means and standard errors of the first columns, with the last ones taken as controls of known mean."""
    n = values.shape[0]
    split = values.shape[1] - control_means.shape[0]
    spread = values[:, split:].std(axis=0)
    moves = spread > 0.0  # a constant service time controls nothing
    off = (values[:, split:] - control_means)[:, moves] / spread[moves]
    design = np.hstack([np.ones((n, 1)), off])
    fitted, *_ = np.linalg.lstsq(design, values[:, :split], rcond=None)
    residuals = values[:, :split] - design @ fitted
    variance = (residuals**2).sum(axis=0) / (n - design.shape[1])
    return fitted[0], np.sqrt(variance * np.linalg.pinv(design.T @ design)[0, 0])


@cache
def compile_kernels() -> None:
    """Call each kernel once, so that the seconds of a row are of its requests and not of the compiler."""
    from simulation.data_plane.changing_capacity import CapacityStep, serve_schedule
    from simulation.data_plane.fcfs import serve_queue
    from simulation.data_plane.pool import ServingPool
    from simulation.data_plane.pool_settings import Distribution, PoolSettings

    one = np.ones(1)
    for servers in (1, 10, 100):
        serve_queue(one, one, servers)
        serve_queue(one, one, servers, room=1)
        serve_queue(one, one, servers, patience_s=one)
    serve_schedule(one, one, [CapacityStep(0.0, 2), CapacityStep(1.5, 1)], running="evict")
    pool = ServingPool(PoolSettings.simple(2, Distribution("exponential", 1.0)), 1)
    pool.offer(one)
    pool.advance(1.1)
    pool.set_capacity(servers_per_replica=1, running_work="evict_and_requeue")
    pool.finish()


def _generator(seed: np.random.SeedSequence) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(seed))


def check_theory(seed: int = 1, names: str = "") -> list[TheoryRow]:
    """
    Simulate every study whose name contains ``names``, and return one row per value of theory.

    The same seed gives the same rows but for their ``seconds``. All take under two minutes on two cores.
    """
    from simulation.theory_studies import all_studies  # it builds on this module

    return [row for study in all_studies() if names in study.name for row in study.rows(seed)]
