"""
Retry storms played request by request: does a pool that was pushed over stay down? Start at `play`.

What `metastability` estimates is confirmed here, always over several seeds that serve the same days: a larger surge
adds requests to a day and takes none away.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulation.data_plane.pool import ServingPool
from simulation.data_plane.pool_settings import Backoff, Cancellation, Client, PoolSettings, RetryBudget
from simulation.errors import InvalidWorkload
from simulation.planning.retry_feedback import MOST
from simulation.planning.serving_night import ServingNight, Surge

FloatArray = NDArray[np.float64]


def _poisson(
    rng: np.random.Generator, rates_rps: FloatArray, starts_s: FloatArray, lengths_s: FloatArray
) -> FloatArray:
    counts = rng.poisson(rates_rps * lengths_s)
    return np.asarray(np.repeat(starts_s, counts) + rng.random(int(counts.sum())) * np.repeat(lengths_s, counts))


def arrivals_of(night: ServingNight, seed: int, surge: Surge | None = None, most: float = 20.0) -> FloatArray:
    """
    Return Poisson arrivals of the night, seconds, in order.

    The surge's further arrivals are drawn for a factor of ``most`` and thinned: of one seed, a larger factor keeps all
    that a smaller one has.
    """
    usual = np.random.Generator(np.random.Philox(key=[seed, 1]))
    arrivals = _poisson(usual, night.load_rps, night.starts_s, np.full(night.load_rps.shape, night.step_s))
    if surge is None:
        return np.sort(arrivals)
    if surge.factor > most:
        raise InvalidWorkload(f"surge factor {surge.factor:g} is above {most:g}, for which arrivals are drawn")
    further = np.random.Generator(np.random.Philox(key=[seed, 2]))
    begins = np.maximum(night.starts_s, surge.at_s)
    lengths = np.clip(np.minimum(night.starts_s + night.step_s, surge.at_s + surge.length_s) - begins, 0.0, None)
    more = _poisson(further, night.load_rps * (most - 1.0), begins, lengths)
    kept = further.random(more.shape[0]) * (most - 1.0) < surge.factor - 1.0
    return np.sort(np.concatenate([arrivals, more[kept]]))


@dataclass(frozen=True)
class StormTrial:
    """
    What became of one seed: requests of the judged seconds, those answered in time among them, and the line.

    ``waiting`` is how many attempts wait at the end of the judged seconds.
    """

    seed: int
    n_offered: int
    n_good: int
    waiting: int
    is_overloaded: bool

    @property
    def is_stuck(self) -> bool:
        """Whether fewer than half of the requests were answered in time, long after the cause was gone."""
        return self.is_overloaded or self.n_good < MOST * self.n_offered


def play(
    night: ServingNight,
    seed: int,
    judged_s: tuple[float, float],
    *,
    surge: Surge | None = None,
    cancellation: Cancellation = "none",
    most: float = 20.0,
) -> StormTrial:
    """
    Play the night on `ServingPool` and judge the seconds [from, to) of it.

    Parameters
    ----------
    seed : >= 0; of arrivals and services
    judged_s : a while long after the cause; a request is good if answered within the timeout of its first attempt
    cancellation : what becomes of work that nobody waits for, see `Client`
    most : the largest factor that arrivals are drawn for, see `arrivals_of`
    """
    if not 0.0 <= judged_s[0] < judged_s[1] <= night.end_s:
        raise InvalidWorkload(f"judged_s is {judged_s}; give two moments of the night, which ends at {night.end_s:g} s")
    pool = ServingPool(_settings(night, cancellation), seed)
    pool.offer(arrivals_of(night, seed, surge, most))
    changes = _changes(night)
    _drive(pool, [change for change in changes if change[0] < judged_s[0]], judged_s[0])
    before = pool.result().counters
    _drive(pool, [change for change in changes if judged_s[0] <= change[0] < judged_s[1]], judged_s[1])
    after = pool.result().counters
    return StormTrial(
        seed, after["offered"] - before["offered"], after["good"] - before["good"], after["waiting"], pool.is_overloaded
    )


def _settings(night: ServingNight, cancellation: Cancellation) -> PoolSettings:
    callers = night.callers
    client = Client(
        timeout_s=callers.timeout_s,
        cancellation=cancellation,
        retries=callers.retries,
        backoff=Backoff(callers.backoff_s, jitter="ratio", jitter_ratio=callers.jitter_ratio),
        budget=None if callers.budget_ratio is None else RetryBudget(callers.budget_ratio),
    )
    good_within_s = np.inf if callers.timeout_s is None else callers.timeout_s
    return PoolSettings.simple(
        1, callers.service, queue_limit=callers.queue_limit, client=client, slo_s=good_within_s
    )  # fmt: skip


def _changes(night: ServingNight) -> list[tuple[float, int, float]]:
    """Return (when, servers, slowdown) for the first step and each that differs from the one before."""
    differs = (np.diff(night.servers, prepend=-1) != 0) | (np.diff(night.slowdown, prepend=0.0) != 0.0)
    return [
        (float(night.starts_s[k]), int(night.servers[k]), float(night.slowdown[k])) for k in np.flatnonzero(differs)
    ]


def _drive(pool: ServingPool, changes: list[tuple[float, int, float]], until_s: float) -> None:
    """Play up to a moment; running work is finished where servers go, and stretched where they slow down."""
    for at_s, servers, slowdown in changes:
        pool.advance(at_s)
        if servers:
            pool.set_capacity(replicas=1, servers_per_replica=servers, running_work="drain")
        else:
            pool.set_capacity(replicas=0, running_work="drain")
        pool.set_slowdown(slowdown)
    pool.advance(until_s)


@dataclass(frozen=True)
class SimulatedSurge:
    """
    The smallest surge factor that tips at least half of the seeds, between two factors that were played.

    Attributes
    ----------
    low, high : the largest factor found not to tip, the smallest found to; ``high`` is infinite if none did,
        ``low`` 1 if the pool goes down without a surge
    stuck_at_low, stuck_at_high : seeds that stayed down, of ``n_seeds``
    reason : a sentence
    """

    low: float
    high: float
    stuck_at_low: int
    stuck_at_high: int
    n_seeds: int
    reason: str


def simulated_surge(
    night: ServingNight,
    at_s: float,
    length_s: float,
    judged_s: tuple[float, float],
    *,
    seeds: Sequence[int] = tuple(range(8)),
    most: float = 20.0,
    closeness: float = 0.05,
) -> SimulatedSurge:
    """
    Find by bisection the smallest surge factor after which a pool stays down, all seeds played at every step.

    Parameters
    ----------
    at_s, length_s : seconds, when the surge begins and how long it is
    judged_s : a while long after it
    seeds : three or more; each serves the same day under every factor
    most : the largest factor tried
    closeness : the search ends when ``high`` − ``low`` is below this share of ``low``

    Raises
    ------
    InvalidWorkload
        If fewer than three seeds are given: a bisection over one noisy seed finds that seed's luck.
    """
    if len(set(seeds)) < 3 or not 1.0 < most < np.inf or not 0.0 < closeness < 1.0:
        raise InvalidWorkload(
            f"seeds {tuple(seeds)}, most {most:g}, closeness {closeness:g}: give three different seeds or more, a "
            "factor above 1 and a share below 1"
        )

    def stuck(factor: float) -> int:
        surge = Surge(at_s, length_s, factor)
        return sum(play(night, seed, judged_s, surge=surge, most=most).is_stuck for seed in seeds)

    n, low, high = len(seeds), 1.0, most
    at_low, at_high = stuck(low), stuck(high)
    if 2 * at_low >= n:
        return SimulatedSurge(1.0, 1.0, at_low, at_low, n, f"{at_low} of {n} days stay down without any surge.")
    if 2 * at_high < n:
        reason = f"no surge up to {most:g} times the load keeps half of {n} days down; {at_high} at {most:g} times."
        return SimulatedSurge(most, np.inf, at_high, 0, n, reason)
    while high - low > closeness * low:
        middle = float(np.sqrt(low * high))
        found = stuck(middle)
        if 2 * found >= n:
            high, at_high = middle, found
        else:
            low, at_low = middle, found
    reason = (
        f"{length_s:g} s at {high:.2f} times the load keep {at_high} of {n} days down for good, "
        f"at {low:.2f} times {at_low}."
    )
    return SimulatedSurge(low, high, at_low, at_high, n, reason)
