"""The golden scenario of metastable failures, case by case, as a table and as a check; start at `golden_storms`."""

from dataclasses import dataclass

import numpy as np

from simulation.data_plane.pool_settings import Cancellation, Distribution
from simulation.planning.retry_feedback import Callers
from simulation.planning.serving_night import ServingNight
from simulation.planning.storm_trials import StormTrial, play


@dataclass(frozen=True)
class GoldenStorm:
    """One case of the golden scenario: what is set, and in how many of ten seeds the pool must stay down."""

    name: str
    callers: Callers
    n_stuck: int
    cancellation: Cancellation = "none"


def golden_storms() -> tuple[GoldenStorm, ...]:
    """
    Return the cases: 10 servers of rate 1, load 8, timeout 3 s, 5 servers on [200, 320) s, judged up to 2,000 s.

    Retries follow at once. Ten of ten stay down where 8 (1 + r) > 10, and none where a short queue or a budget breaks
    the feedback. Dropping what has expired when its turn comes does not help: what is served then is about to expire.

    The dip shows what it means to stay down, not what brings the pool down: at load 8 retries do that alone, in 8 of 10
    seeds within 200 s (the line passes 14 to 16 by chance). `triggered_storm` keeps the two apart.
    """
    usual, kept = Distribution("exponential", 1.0), 3.0
    return (
        GoldenStorm("no retries", Callers(usual, kept, 0), 0),
        GoldenStorm("1 retry", Callers(usual, kept, 1), 10),
        GoldenStorm("3 retries", Callers(usual, kept, 3), 10),
        GoldenStorm("3 retries, queue limit 15", Callers(usual, kept, 3, queue_limit=15), 0),
        GoldenStorm("3 retries, 10 % retry budget", Callers(usual, kept, 3, budget_ratio=0.1), 0),
        GoldenStorm("3 retries, expired dropped at their turn", Callers(usual, kept, 3), 10, "at_start"),
    )


def triggered_storm(callers: Callers, seed: int, servers: int) -> StormTrial:
    """Play the scenario at load 5 with that many servers on [200, 320) s: there the dip alone decides."""
    return _play(callers, 5.0, servers, seed, "none")


def play_golden(storm: GoldenStorm, seed: int) -> StormTrial:
    """Play one case with one seed; judged on [1600, 2000) s, so that a passing burst is not taken for a bad state."""
    return _play(storm.callers, 8.0, 5, seed, storm.cancellation)


def _play(callers: Callers, load_rps: float, fewer: int, seed: int, cancellation: Cancellation) -> StormTrial:
    servers = np.full(50, 10)
    servers[5:8] = fewer  # steps of 40 s
    night = ServingNight.of(40.0, load_rps, servers, callers)
    return play(night, seed, (1600.0, 2000.0), cancellation=cancellation)
