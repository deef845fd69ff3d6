"""
How retries feed on lateness: when a full queue keeps itself full after its cause is gone. Start at `Callers`.

The bad state, in one paragraph. A pool of capacity cμ that has a line of Q makes a request wait Q / cμ; the share
late(Q) whose wait and service pass the client's timeout is worked on for nothing, for nobody cancels it, and is sent
again. Requests at λ thus bring λ·m attempts, m = 1 + late + late² + … up to r retries, which is 1 + r when all are
late; a retry budget of b per request caps m at 1 + b. The line goes on growing where λ·m > cμ. So the pool, once there,
stays there if λ·m(late at the longest line) > cμ, though λ < cμ: the vulnerable band is cμ / m < λ < cμ. Without a
queue limit the longest line makes all late. With one of K the longest wait is K / cμ; where that leaves time enough
before the timeout, few are late, m is near 1, and the pool answers even out of a full queue.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from simulation.data_plane.pool_settings import Distribution
from simulation.errors import InvalidWorkload

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Below this share of requests answered in time a state that keeps itself up is called bad.
MOST = 0.5


def exceeds(service: Distribution, durations_s: FloatArray) -> FloatArray:
    """Return the probability that a service takes longer than each duration, same shape; 1 below 0 seconds."""
    kind, a, b, c = service.parameters()
    x = np.maximum(np.asarray(durations_s, np.float64), 0.0)
    if service.kind == "deterministic" or kind == 0:
        share = (a > x).astype(np.float64)
    elif service.kind == "exponential":
        share = np.exp(-x / a)
    elif service.kind == "lognormal":
        with np.errstate(divide="ignore"):
            share = stats.norm.sf((np.log(x) - a) / b)
    elif service.kind == "hyperexponential":
        share = a * np.exp(-x / b) + (1.0 - a) * np.exp(-x / c)
    else:
        share = (1.0 - b) * stats.gamma.sf(x, a, scale=c)
        if b > 0.0:  # of the two neighbouring Erlangs the one with a phase less
            share = share + b * stats.gamma.sf(x, a - 1.0, scale=c)
    return np.where(np.asarray(durations_s) < 0.0, 1.0, share)


@dataclass(frozen=True)
class Callers:
    """
    What decides about retries: clients, service times, and the room to wait.

    Attributes
    ----------
    service : of one request on one server that nothing slows
    timeout_s : > 0 seconds per attempt, or None: nobody is ever late
    retries : >= 0, after a timeout; the work of a late attempt is not cancelled
    budget_ratio : >= 0, retries allowed per first attempt, or None: no budget
    queue_limit : >= 0 waiting places, or None: no limit
    backoff_s, jitter_ratio : before each retry; they postpone attempts and change nothing in the balance of rates

    References
    ----------
    Bronson, Aghayev, Charapko and Zhu (HotOS 2021), "Metastable failures in distributed systems"; Huang et al. (OSDI
    2022), "Metastable failures in the wild": a trigger, and a feedback that sustains what it began.
    """

    service: Distribution
    timeout_s: float | None
    retries: int
    budget_ratio: float | None = None
    queue_limit: int | None = None
    backoff_s: float = 0.0
    jitter_ratio: float = 0.0

    def __post_init__(self) -> None:
        checks = (
            ("timeout_s", self.timeout_s is None or 0.0 < self.timeout_s < math.inf, "seconds above 0, or None"),
            ("retries", isinstance(self.retries, int) and self.retries >= 0, "a count from 0 on"),
            ("budget_ratio", self.budget_ratio is None or 0.0 <= self.budget_ratio < math.inf, "0 or more, or None"),
            ("backoff_s", 0.0 <= self.backoff_s < math.inf, "seconds from 0 on"),
            ("jitter_ratio", 0.0 <= self.jitter_ratio <= 1.0, "a share from 0 to 1"),
            ("queue_limit", self.queue_limit is None or self.queue_limit >= 0, "a count from 0 on, or None"),
        )
        for name, is_good, wanted in checks:
            if not is_good:
                raise InvalidWorkload(f"Callers.{name} is {getattr(self, name)!r}; give {wanted}")

    def late_ratio(self, wait_s: FloatArray | float, slowdown: FloatArray | float = 1.0) -> FloatArray:
        """Return the share of attempts whose wait and service (``slowdown`` times as long) pass the timeout."""
        if self.timeout_s is None:
            return np.zeros(np.broadcast(wait_s, slowdown).shape)
        left_s = self.timeout_s - np.asarray(wait_s, np.float64)
        with np.errstate(invalid="ignore"):
            return np.where(left_s <= 0.0, 1.0, exceeds(self.service, np.asarray(left_s / slowdown)))

    def amplification(self, late_ratio: FloatArray | float) -> FloatArray:
        """Return attempts per request, m, where that share of attempts is late; see the head of this module."""
        late = np.asarray(late_ratio, np.float64)
        attempts = np.ones_like(late)
        for _ in range(self.retries):
            attempts = 1.0 + late * attempts
        most = math.inf if self.budget_ratio is None else 1.0 + self.budget_ratio
        return np.minimum(attempts, most)

    def longest_wait_s(self, capacity_rps: FloatArray) -> FloatArray:
        """Return the wait at the end of a full queue: K / cμ, or infinity without a limit."""
        capacity = np.asarray(capacity_rps, np.float64)
        if self.queue_limit is None:
            return np.full(capacity.shape, math.inf)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(capacity > 0.0, self.queue_limit / capacity, math.inf)


@dataclass(frozen=True)
class BadState:
    """
    The state of a pool with its queue as long as it gets, at each of some moments.

    Attributes
    ----------
    attempts_rps, capacity_rps : shape (n,), what comes with its retries, λ·m, and what can be served, cμ
    late_ratio : shape (n,), share of attempts that are late at the end of the queue
    good_ratio : shape (n,), share of requests that can be answered in time out of the full queue
    """

    attempts_rps: FloatArray
    capacity_rps: FloatArray
    late_ratio: FloatArray
    good_ratio: FloatArray

    @property
    def margin_rps(self) -> FloatArray:
        """Capacity less attempts, shape (n,): negative where the bad state would last."""
        return self.capacity_rps - self.attempts_rps

    @property
    def sustains_itself(self) -> NDArray[np.bool_]:
        """Where a line, once there, goes on growing, and most requests fail meanwhile."""
        return np.asarray((self.margin_rps < 0.0) & (self.good_ratio < MOST))


def bad_state(
    callers: Callers, load_rps: FloatArray, servers: FloatArray | IntArray, slowdown: FloatArray | float = 1.0
) -> BadState:
    """
    Return what the bad state would be like at each moment, were the pool in it.

    Parameters
    ----------
    load_rps : shape (n,), requests per second, >= 0, retries not counted
    servers : shape (n,), requests worked on at once, losses taken off
    slowdown : shape (n,) or a number, >= 1, factor on service times, such as that of training beside serving

    Notes
    -----
    A mean-field estimate, on the safe side: it takes the queue to be full all the time, while a real one hovers below.
    In the golden scenario a limit of 29 is called bad and 3 of 10 simulated seeds are; limits of 20 and 15 are not,
    and none is.
    """
    load, rate = np.asarray(load_rps, np.float64), 1.0 / (callers.service.mean_s * np.asarray(slowdown, np.float64))
    capacity = np.asarray(np.asarray(servers, np.float64) * rate)
    late = callers.late_ratio(callers.longest_wait_s(capacity), slowdown)
    useful = capacity * (1.0 - late)
    good = np.where(load > 0.0, np.minimum(1.0, useful / np.maximum(load, 1e-300)), 1.0)
    return BadState(load * callers.amplification(late), capacity, late, good)


def tipping_backlog(callers: Callers, load_rps: float, servers: float, slowdown: float = 1.0) -> float:
    """
    Return the line beyond which retries outrun the pool: the least Q with λ·m(late(Q)) > cμ.

    0 where the load alone is above capacity; infinity where no line, or none that the queue limit allows, tips it.
    """
    capacity = servers / (callers.service.mean_s * slowdown)
    if load_rps > capacity:
        return 0.0
    state = bad_state(callers, np.array([load_rps]), np.array([servers]), slowdown)
    if not state.margin_rps[0] < 0.0:
        return math.inf
    low, high = 0.0, capacity * (callers.timeout_s or 0.0)
    if callers.queue_limit is not None:
        high = min(high, float(callers.queue_limit))
    for _ in range(60):
        middle = 0.5 * (low + high)
        late = callers.late_ratio(middle / capacity, slowdown)
        low, high = (low, middle) if load_rps * callers.amplification(late) > capacity else (middle, high)
    return high
