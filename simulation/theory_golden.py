"""Cases whose outcome is known exactly: queues worked out by hand, and the golden scenario. Start at `golden_cases`."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from simulation.data_plane.changing_capacity import CapacityStep, serve_schedule
from simulation.data_plane.fcfs import serve_queue
from simulation.data_plane.pool import ServingPool
from simulation.data_plane.pool_settings import Distribution, PoolSettings
from simulation.planning.golden_storm import GoldenStorm, golden_storms, play_golden, triggered_storm
from simulation.planning.retry_feedback import Callers
from simulation.theory_check import TheoryRow

_SETTINGS = Distribution("deterministic", 1.0)  # the services are given
ARRIVALS_S = (0.0, 1.0, 1.5, 2.0, 5.0, 5.5, 6.0, 6.0)
SERVICES_S = (3.0, 3.0, 1.0, 4.0, 1.0, 2.0, 0.5, 1.0)
WAITS_S = {
    1: (0.0, 2.0, 4.5, 5.0, 6.0, 6.5, 8.0, 8.5),
    2: (0.0, 0.0, 1.5, 2.0, 0.0, 0.5, 2.0, 2.0),
    3: (0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.5),
}
# Three requests of 5 s at 0, no server on [0, 5), one on [5, 10), none on [10, 15), then one; who runs is finished.
OPENINGS = ((0.0, 0), (5.0, 1), (10.0, 0), (15.0, 1))
DEPARTURES_S = (10.0, 20.0, 25.0)


@dataclass(frozen=True)
class GoldenCase:
    """A count that must come out exactly; it has the shape of a `Study`, and rows without a standard error."""

    name: str
    expected: float
    measure: Callable[[], float]

    def rows(self, seed: int) -> list[TheoryRow]:
        """Play the case and return its one row; the case has seeds of its own, so ``seed`` changes nothing."""
        began = time.perf_counter()
        observed = self.measure()
        return [TheoryRow(self.name, self.expected, observed, 0.0, time.perf_counter() - began)]


def recursion_waits(servers: int) -> list[float]:
    """Return the eight waits as the recursion has them."""
    return [float(wait) for wait in serve_queue(ARRIVALS_S, SERVICES_S, servers).waits_s]


def pool_waits(servers: int) -> list[float]:
    """Return the eight waits as the event-heap pool has them."""
    pool = ServingPool(PoolSettings.simple(servers, _SETTINGS), 1, records=True)
    pool.offer(ARRIVALS_S, SERVICES_S)
    pool.finish()
    return [float(wait) for wait in pool.records().starts_s - np.array(ARRIVALS_S)]


def recursion_departures() -> list[float]:
    """Return when the three requests leave, by the recursion."""
    steps = [CapacityStep(from_s, servers) for from_s, servers in OPENINGS]
    return [float(s) for s in serve_schedule(np.zeros(3), np.full(3, 5.0), steps, running="drain").departures_s]


def pool_departures() -> list[float]:
    """Return when the three requests leave, by the event-heap pool."""
    pool = ServingPool(PoolSettings.simple(1, _SETTINGS), 1, records=True)
    pool.offer(np.zeros(3), np.full(3, 5.0))
    for from_s, servers in OPENINGS:
        pool.advance(from_s)
        pool.set_capacity(replicas=servers, running_work="drain")
    pool.finish()
    return [float(s) for s in pool.records().ends_s]


def _as_recorded(found: list[float], recorded: tuple[float, ...]) -> float:
    return float(sum(a == b for a, b in zip(found, recorded, strict=True)))


def _stuck(storm: GoldenStorm) -> float:
    return float(sum(play_golden(storm, seed).is_stuck for seed in range(10)))


def _dipped(callers: Callers, servers: int) -> float:
    return float(sum(triggered_storm(callers, seed, servers).is_stuck for seed in range(10)))


def golden_cases() -> Iterator[GoldenCase]:
    """Yield every case; those of the pool say so."""
    for servers, waits in WAITS_S.items():
        for prefix, played in (("", recursion_waits), ("pool: ", pool_waits)):
            name = f"{prefix}eight requests, {servers} servers: waits as worked out"
            yield GoldenCase(name, 8.0, lambda n=servers, w=waits, play=played: _as_recorded(play(n), w))  # type: ignore[misc]  # defaults bind the loop's values
    for prefix, leave in (("", recursion_departures), ("pool: ", pool_departures)):
        name = f"{prefix}servers 0, 1, 0, 1: departures as worked out"
        yield GoldenCase(name, 3.0, lambda leave=leave: _as_recorded(leave(), DEPARTURES_S))  # type: ignore[misc]  # as above
    for storm in golden_storms():
        yield GoldenCase(
            f"pool: retry storm, {storm.name}: stuck of 10",
            float(storm.n_stuck),
            lambda storm=storm: _stuck(storm),  # type: ignore[misc]  # as above
        )
    lively = golden_storms()[2].callers  # three retries, no budget, no queue limit
    for servers, n_stuck in ((10, 0), (4, 10)):
        name = f"pool: retry storm, load 5, dip to {servers} servers: stuck of 10"
        yield GoldenCase(name, float(n_stuck), lambda n=servers: _dipped(lively, n))  # type: ignore[misc]  # as above
