"""Queues without a closed form, solved as Markov chains: capacity that comes and goes, at random or by schedule."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.sparse import diags, eye, kron
from scipy.sparse.linalg import splu

from simulation.errors import InvalidWorkload
from simulation.theory import positive, stable, whole

Floats = NDArray[np.float64]


def interrupted_mean_number(
    arrival_rps: float,
    usual: tuple[int, float],
    beside: tuple[int, float],
    on_rps: float,
    off_rps: float,
) -> float:
    """
    Return the mean number in an M/M/c system while something else comes and goes at random and takes capacity.

    Parameters
    ----------
    arrival_rps : > 0, per second
    usual, beside : (servers, rate of one server per second)
        Capacity without and with the other work; running requests are evicted and requeued where servers go.
    on_rps, off_rps : > 0, per second
        Rates at which the other work starts and ends; both times are exponential.

    Notes
    -----
    The chain (number, other work there or not) is cut at twice as many requests until the mean stands to 1e-9.

    References
    ----------
    Neuts (1981), Matrix-Geometric Solutions, section 6.2: queues in a random environment.
    """
    positive(arrival_rps=arrival_rps, on_rps=on_rps, off_rps=off_rps)
    for name, (servers, rate) in (("usual", usual), ("beside", beside)):
        whole(0, **{f"{name} servers": servers})
        positive(**{f"{name} rate": rate})
    share = on_rps / (on_rps + off_rps)
    capacity_rps = (1.0 - share) * usual[0] * usual[1] + share * beside[0] * beside[1]
    stable(arrival_rps / capacity_rps if capacity_rps > 0.0 else np.inf)
    before, most = -1.0, 256
    while most <= 2**20:
        mean = _interrupted_mean(arrival_rps, usual, beside, on_rps, off_rps, most)
        if abs(mean - before) < 1e-9 * mean:
            return mean
        before, most = mean, 2 * most
    raise InvalidWorkload(f"load is {arrival_rps / capacity_rps:.6g} of the mean capacity: too many states to solve")


def _interrupted_mean(
    arrival_rps: float,
    usual: tuple[int, float],
    beside: tuple[int, float],
    on_rps: float,
    off_rps: float,
    most: int,
) -> float:
    """Solve the balance equations with at most that many requests; state = 2 × number + phase."""
    number = np.arange(most + 1)
    births = np.full(most, arrival_rps)
    environment = np.array([[-on_rps, on_rps], [off_rps, -off_rps]])
    generator = kron(eye(most + 1), environment)
    for phase, (servers, rate) in enumerate((usual, beside)):
        deaths = np.minimum(number[1:], servers) * rate
        stay = -np.concatenate([births, [0.0]]) - np.concatenate([[0.0], deaths])
        chain = diags([births, stay, deaths], offsets=[1, 0, -1])
        chosen = np.zeros((2, 2))
        chosen[phase, phase] = 1.0
        generator = generator + kron(chain, chosen)
    # Fixing the share of state 0 and leaving its equation out keeps the matrix banded; the scale comes afterwards.
    balance = generator.T.tocsc()
    rest = splu(balance[1:, 1:], permc_spec="NATURAL").solve(-balance[1:, 0].toarray().ravel())
    share = np.concatenate([[1.0], rest]).reshape(most + 1, 2).sum(axis=1)
    return float(number @ share / share.sum())


@dataclass(frozen=True)
class Transient:
    """
    What an M/M/c queue with scheduled capacity is expected to look like at the asked moments.

    Attributes
    ----------
    mean_number, mean_waiting : shape (n,)
        Requests in the system, and in line.
    all_busy_probability : shape (n,)
        Probability that an arrival at that moment must wait.
    cut_probability : number
        Largest share of probability in the longest line that the chain admits: the error is about as large.
    """

    times_s: Floats
    mean_number: Floats
    mean_waiting: Floats
    all_busy_probability: Floats
    cut_probability: float


class _Chain:
    """The chain (running, waiting): both counted, because with draining more may run than there are servers."""

    def __init__(self, most_running: int, longest_line: int, service_rps: float) -> None:
        self.shape = (most_running + 1, longest_line + 1)
        self.running, self.waiting = np.indices(self.shape)
        self.service_rps = service_rps

    def slope(self, share: Floats, arrival_rps: float, servers: int) -> Floats:
        """Return the derivative of the probabilities; states that cannot be reached hold none."""
        running, waiting = self.running, self.waiting
        change = np.zeros(self.shape)
        arriving = share * arrival_rps
        starts = (running < servers) & (waiting == 0)
        into_line = np.where(starts, 0.0, arriving)
        into_line[:, -1] = 0.0  # the cut: who finds the longest line is lost
        change -= np.where(starts, arriving, into_line)
        change[1:, :] += np.where(starts, arriving, 0.0)[:-1, :]
        change[:, 1:] += into_line[:, :-1]
        ending = share * running * self.service_rps
        hands_on = (waiting > 0) & (running <= servers)
        change -= ending
        change[:, :-1] += np.where(hands_on, ending, 0.0)[:, 1:]
        change[:-1, :] += np.where(hands_on, 0.0, ending)[1:, :]
        return change

    def resized(self, share: Floats, servers: int, running_work: str) -> Floats:
        """Return the probabilities right after the number of servers has become ``servers``."""
        moved = np.zeros(self.shape)
        most_running, longest = self.shape[0] - 1, self.shape[1] - 1
        for running, waiting in np.argwhere(share > 0.0):
            number = running + waiting
            drains = running_work == "drain" and running > servers
            now_running = running if drains else min(number, servers, most_running)
            moved[now_running, min(number - now_running, longest)] += share[running, waiting]
        return moved


def transient_queue(
    times_s: Sequence[float],
    arrival_rps: float | Callable[[float], float],
    service_rps: float,
    capacity: Sequence[tuple[float, int]],
    *,
    running: str = "drain",
    longest_line: int = 400,
) -> Transient:
    """
    Return the expected state over time of an M_t/M/c queue that starts empty and whose servers change by schedule.

    Parameters
    ----------
    times_s : seconds, increasing, >= 0
        At a moment of change the state before it is given.
    arrival_rps : > 0 per second, or a function of the time in seconds
    service_rps : > 0 per second
    capacity : pairs (from_s, servers), the first from 0 s
    running : "drain" or "evict"
        Whether running requests finish where servers become fewer, or go back to the head of the line.
    longest_line : > 0
        Where the chain is cut; see ``cut_probability``.

    References
    ----------
    The Kolmogorov forward equations, integrated by an order-8 Runge-Kutta method (Hairer, Nørsett and Wanner 1993)
    to a relative 1e-10 per step.
    """
    positive(service_rps=service_rps)
    whole(1, longest_line=longest_line)
    if not callable(arrival_rps):
        positive(arrival_rps=arrival_rps)
    if running not in ("drain", "evict"):
        raise InvalidWorkload(f"running is {running!r}; choose 'drain' or 'evict'")
    asked = np.asarray(times_s, np.float64)
    if asked.ndim != 1 or not asked.size or not (np.diff(asked, prepend=0.0) >= 0.0).all():
        raise InvalidWorkload("times_s must be seconds in increasing order, 0 or later")
    _check_steps(capacity)
    return _integrate(asked, arrival_rps, service_rps, capacity, running, longest_line)


def _check_steps(capacity: Sequence[tuple[float, int]]) -> None:
    if not capacity or capacity[0][0] != 0.0:
        raise InvalidWorkload("capacity must begin with a pair (0, servers)")
    for k, (from_s, servers) in enumerate(capacity):
        whole(0, **{f"capacity[{k}] servers": servers})
        if k and not from_s > capacity[k - 1][0]:
            raise InvalidWorkload(f"capacity[{k}] is from {from_s!r} s on; steps go forward in time")


def _integrate(
    asked: Floats,
    arrival_rps: float | Callable[[float], float],
    service_rps: float,
    capacity: Sequence[tuple[float, int]],
    running: str,
    longest_line: int,
) -> Transient:
    """Carry the probabilities from step to step of the schedule and read off the asked moments."""
    chain = _Chain(max(servers for _, servers in capacity), longest_line, service_rps)
    share = np.zeros(chain.shape)
    share[0, 0] = 1.0
    rows: list[tuple[float, float, float]] = []
    cut = 0.0
    for k, (from_s, servers) in enumerate(capacity):
        share = chain.resized(share, servers, running)
        until_s = capacity[k + 1][0] if k + 1 < len(capacity) else max(float(asked[-1]), from_s)
        inside = asked[(asked > from_s) & (asked <= until_s)]
        if k == 0:
            inside = np.concatenate([asked[asked == 0.0], inside])
        moments = np.append(inside, until_s)
        if until_s > from_s:
            solved = solve_ivp(
                _slope_of(chain, arrival_rps, servers), (from_s, until_s), share.ravel(), "DOP853",
                t_eval=np.unique(moments), rtol=1e-10, atol=1e-14,
            )  # fmt: skip
            if not solved.success:
                raise InvalidWorkload(f"the chain could not be integrated to {until_s:g} s: {solved.message}")
            by_time = dict(zip(np.unique(moments), solved.y.T.reshape(-1, *chain.shape), strict=True))
        else:
            by_time = {until_s: share}
        for moment in inside:
            now = by_time[moment]
            busy = now[(chain.running >= servers) | (chain.waiting > 0)].sum()
            rows.append(
                (float(((chain.running + chain.waiting) * now).sum()), float((chain.waiting * now).sum()), busy)
            )
        share = np.maximum(by_time[until_s], 0.0)
        cut = max(cut, *(float(state[:, -1].sum()) for state in by_time.values()))
        if asked[-1] <= until_s:
            break
    number, waiting, busy_share = (np.array(column) for column in zip(*rows, strict=True))
    return Transient(asked, number, waiting, busy_share, cut)


def _slope_of(
    chain: _Chain, arrival_rps: float | Callable[[float], float], servers: int
) -> Callable[[float, Floats], Floats]:
    def slope(time_s: float, flat: Floats) -> Floats:
        rate = arrival_rps(time_s) if callable(arrival_rps) else arrival_rps
        return chain.slope(flat.reshape(chain.shape), rate, servers).ravel()

    return slope
