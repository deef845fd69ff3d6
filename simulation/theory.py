"""
Closed forms and exact series of queueing theory: what the simulator must agree with.

Rates are per second, times in seconds, loads without unit; every function refuses arguments outside its range with
`InvalidWorkload`. Start at `MMc`. Chains without a closed form: `simulation/theory_chains.py`.
"""

import math
from dataclasses import dataclass

import numpy as np

from simulation.errors import InvalidWorkload


def positive(**values: float) -> None:
    """Refuse values that are not finite and above 0."""
    for name, value in values.items():
        if isinstance(value, bool) or not 0.0 < value < math.inf:
            raise InvalidWorkload(f"{name} is {value!r}; it must be finite and above 0")


def whole(least: int, **values: int) -> None:
    """Refuse values that are not whole numbers, ``least`` or more."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise InvalidWorkload(f"{name} is {value!r}; it must be a whole number, {least} or more")


def stable(load_ratio: float) -> None:
    """Refuse a load that no steady state exists for."""
    if load_ratio >= 1.0:
        raise InvalidWorkload(f"load is {load_ratio:.6g} of capacity; a steady state needs less than 1: add servers")


def erlang_b(offered_load: float, servers: int) -> float:
    """
    Return the share of arrivals that a loss system with Poisson arrivals turns away.

    Parameters
    ----------
    offered_load : > 0, erlang
        Arrival rate times mean service time, whatever the service distribution.
    servers : >= 0

    References
    ----------
    Erlang (1917); recursion as in Jagerman (1974), stable for any number of servers.
    """
    positive(offered_load=offered_load)
    whole(0, servers=servers)
    blocked = 1.0
    for k in range(1, servers + 1):
        blocked = offered_load * blocked / (k + offered_load * blocked)
    return blocked


def erlang_c(offered_load: float, servers: int) -> float:
    """
    Return the share of arrivals that must wait in the M/M/c queue.

    Parameters
    ----------
    offered_load : > 0, erlang, below ``servers``
    servers : >= 1

    References
    ----------
    Erlang (1917).
    """
    whole(1, servers=servers)
    positive(offered_load=offered_load)
    stable(offered_load / servers)
    blocked = erlang_b(offered_load, servers)
    return blocked / (1.0 - offered_load / servers * (1.0 - blocked))


@dataclass(frozen=True)
class MMc:
    """
    The M/M/c queue in its steady state: Poisson arrivals, exponential services, nobody leaves.

    Parameters
    ----------
    arrival_rps, service_rps : > 0, per second
        ``service_rps`` is the rate of one server.
    servers : >= 1

    References
    ----------
    Kleinrock (1975), Queueing Systems I, section 3.5.
    """

    arrival_rps: float
    service_rps: float
    servers: int

    def __post_init__(self) -> None:
        positive(arrival_rps=self.arrival_rps, service_rps=self.service_rps)
        whole(1, servers=self.servers)
        stable(self.arrival_rps / (self.servers * self.service_rps))

    @property
    def wait_probability(self) -> float:
        """Share of requests that wait at all (Erlang C)."""
        return erlang_c(self.arrival_rps / self.service_rps, self.servers)

    @property
    def spare_rps(self) -> float:
        """Rate at which a line dissolves: capacity less arrivals; those who wait do so for an exponential time."""
        return self.servers * self.service_rps - self.arrival_rps

    @property
    def mean_wait_s(self) -> float:
        """Mean wait of all requests, seconds."""
        return self.wait_probability / self.spare_rps

    @property
    def second_moment_wait_s2(self) -> float:
        """Mean square of the wait, seconds²."""
        return 2.0 * self.wait_probability / self.spare_rps**2

    def wait_exceeds(self, wait_s: float) -> float:
        """Return the share of requests that wait longer than ``wait_s`` >= 0 seconds."""
        if not wait_s >= 0.0:
            raise InvalidWorkload(f"wait_s is {wait_s!r}; it must be 0 or more")
        return self.wait_probability * math.exp(-self.spare_rps * wait_s)

    def wait_quantile_s(self, level: float) -> float:
        """Return the wait in seconds that a share ``level`` (in [0, 1)) of requests does not exceed."""
        if not 0.0 <= level < 1.0:
            raise InvalidWorkload(f"level is {level!r}; it must be in [0, 1)")
        return max(0.0, math.log(self.wait_probability / (1.0 - level)) / self.spare_rps)


def mg1_wait(arrival_rps: float, moments_s: tuple[float, float, float]) -> tuple[float, float]:
    """
    Return mean (s) and second moment (s²) of the wait in the M/G/1 queue, first come, first served.

    Parameters
    ----------
    arrival_rps : > 0, per second
    moments_s : E[S], E[S²], E[S³] in s, s², s³
        Of the service time; see `deterministic_moments` and its neighbours.

    References
    ----------
    Pollaczek (1930), Khinchine (1932) for the mean; Takács (1962) for the second moment.
    """
    first, second, third = moments_s
    positive(arrival_rps=arrival_rps, mean_service_s=first, second_moment=second, third_moment=third)
    if second < first**2 * (1 - 1e-12) or third * first < second**2 * (1 - 1e-12):
        raise InvalidWorkload(f"moments_s {moments_s} belong to no service time: E[S²] >= E[S]², E[S]E[S³] >= E[S²]²")
    load = arrival_rps * first
    stable(load)
    mean = arrival_rps * second / (2.0 * (1.0 - load))
    return mean, 2.0 * mean**2 + arrival_rps * third / (3.0 * (1.0 - load))


def deterministic_moments(mean_s: float) -> tuple[float, float, float]:
    """Return E[S], E[S²], E[S³] of a constant service time of ``mean_s`` seconds."""
    positive(mean_s=mean_s)
    return mean_s, mean_s**2, mean_s**3


def erlang_moments(mean_s: float, stages: int) -> tuple[float, float, float]:
    """Return E[S], E[S²], E[S³] of a sum of ``stages`` equal exponential times; one stage is the exponential."""
    positive(mean_s=mean_s)
    whole(1, stages=stages)
    stage_s = mean_s / stages
    return mean_s, stages * (stages + 1) * stage_s**2, stages * (stages + 1) * (stages + 2) * stage_s**3


def balanced_hyperexponential(mean_s: float, scv: float) -> tuple[float, float, float]:
    """
    Return probability, rate and other rate (per second) of two exponential branches with balanced means.

    ``scv`` > 1 is variance / mean². Each branch brings half of the work (Whitt 1982).
    """
    positive(mean_s=mean_s)
    if not 1.0 < scv < math.inf:
        raise InvalidWorkload(f"scv is {scv!r}; a hyperexponential time has a finite scv above 1")
    likely = (1.0 + math.sqrt((scv - 1.0) / (scv + 1.0))) / 2.0
    return likely, 2.0 * likely / mean_s, 2.0 * (1.0 - likely) / mean_s


def hyperexponential_moments(mean_s: float, scv: float) -> tuple[float, float, float]:
    """Return E[S], E[S²], E[S³] of the hyperexponential time with balanced means."""
    likely, fast, slow = balanced_hyperexponential(mean_s, scv)
    second, third = (
        math.factorial(k) * (likely / fast**k + (1.0 - likely) / slow**k) for k in (2, 3)
    )  # fmt: skip
    return mean_s, second, third


def lognormal_moments(mean_s: float, scv: float) -> tuple[float, float, float]:
    """Return E[S], E[S²], E[S³] of a lognormal time with that mean and variance / mean²."""
    positive(mean_s=mean_s, scv=scv)
    return mean_s, mean_s**2 * (1.0 + scv), mean_s**3 * (1.0 + scv) ** 3


def _stationary(births: list[float], deaths: list[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    # Products run in logarithms: a 1,000-server chain passes 1e300 on the way.
    logs = np.concatenate([[0.0], np.cumsum(np.log(births) - np.log(deaths))])
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum())


def mmck(arrival_rps: float, service_rps: float, servers: int, room: int) -> tuple[float, float]:
    """
    Return the share of arrivals that M/M/c with ``room`` waiting places rejects, and the mean wait (s) of the others.

    ``room`` 0 is the loss system; in the notation M/M/c/K, K = servers + room. Any load is allowed.

    References
    ----------
    Gross and Harris (1998), Fundamentals of Queueing Theory, section 2.5.
    """
    positive(arrival_rps=arrival_rps, service_rps=service_rps)
    whole(1, servers=servers)
    whole(0, room=room)
    most = servers + room
    deaths = [service_rps * min(k, servers) for k in range(1, most + 1)]
    share = _stationary([arrival_rps] * most, deaths)
    waiting = float(np.maximum(np.arange(most + 1) - servers, 0) @ share)
    return float(share[-1]), waiting / (arrival_rps * (1.0 - float(share[-1])))


@dataclass(frozen=True)
class ErlangA:
    """
    M/M/c with exponential patience, in its steady state: M/M/c+M. Any load is stable.

    Attributes
    ----------
    abandon_probability, wait_probability : shares of all arrivals
    mean_wait_s : seconds in line, of all arrivals, those who give up included
    """

    abandon_probability: float
    wait_probability: float
    mean_wait_s: float


def erlang_a(arrival_rps: float, service_rps: float, servers: int, abandon_rps: float) -> ErlangA:
    """
    Return abandonment, waiting and mean wait of M/M/c where each waiting request gives up at rate ``abandon_rps``.

    References
    ----------
    Palm (1957); Garnett, Mandelbaum and Reiman (2002). Birth-death chain, cut where shares fall below 1e-18.
    """
    positive(arrival_rps=arrival_rps, service_rps=service_rps, abandon_rps=abandon_rps)
    whole(1, servers=servers)
    # Beyond this line length departures exceed arrivals fivefold, so 60 more states lose a factor 5^60.
    most = servers + int(max(0.0, 5.0 * arrival_rps - servers * service_rps) / abandon_rps) + 60
    if most > 10_000_000:
        raise InvalidWorkload(f"abandon_rps is {abandon_rps!r}: {most} states are too many, patience is endless")
    deaths = [service_rps * min(k, servers) + abandon_rps * max(k - servers, 0) for k in range(1, most + 1)]
    share = _stationary([arrival_rps] * most, deaths)
    waiting = float(np.maximum(np.arange(most + 1) - servers, 0) @ share)
    return ErlangA(abandon_rps * waiting / arrival_rps, float(share[servers:].sum()), waiting / arrival_rps)


def mdc_mean_wait_s(arrival_rps: float, service_s: float, servers: int) -> float:
    """
    Return the mean wait (s) in the M/D/c queue: Poisson arrivals, constant services.

    Notes
    -----
    Whoever is in service now is gone one service time later, so the number in the system one service time apart is a
    Markov chain; its stationary law, cut where it is below 1e-13, gives the mean by Little's law.

    References
    ----------
    Crommelin (1932); Tijms (2003), A First Course in Stochastic Models, section 9.6.
    """
    positive(arrival_rps=arrival_rps, service_s=service_s)
    whole(1, servers=servers)
    load = arrival_rps * service_s
    stable(load / servers)
    # In heavy traffic the share of n waiting falls like exp(-2 (1 - load) n), so 16 / (1 - load) leaves 1e-14.
    most = servers + int(load + 16.0 / (1.0 - load / servers)) + 60
    if most > 5000:
        raise InvalidWorkload(f"load {load / servers:.6g} of {servers} servers makes {most} states; 5,000 can be done")
    counts = np.arange(most + 1)
    logs = counts * math.log(load) - load - np.array([math.lgamma(k + 1) for k in counts])
    arriving = np.exp(logs)
    step = np.zeros((most + 1, most + 1))
    for state in counts:
        left = max(0, int(state) - servers)
        step[state, left:] = arriving[: most + 1 - left]
        step[state, -1] += 1.0 - step[state].sum()
    balance = step.T - np.eye(most + 1)
    balance[-1] = 1.0
    share = np.linalg.solve(balance, np.concatenate([np.zeros(most), [1.0]]))
    return float(np.maximum(counts - servers, 0) @ share) / arrival_rps


def mt_m_infinity_mean(
    time_s: float, mean_rps: float, amplitude_rps: float, period_s: float, service_rps: float
) -> float:
    """
    Return the mean number in service at ``time_s`` with arrival rate mean + amplitude sin(2πt/period), no limit.

    Long after the start, with exponential services; the number in service is then Poisson.

    References
    ----------
    Eick, Massey and Whitt (1993), "M_t/G/∞ queues with sinusoidal arrival rates".
    """
    positive(mean_rps=mean_rps, period_s=period_s, service_rps=service_rps)
    if not 0.0 <= amplitude_rps <= mean_rps:
        raise InvalidWorkload(f"amplitude_rps is {amplitude_rps!r}; it must be between 0 and mean_rps {mean_rps:g}")
    if not math.isfinite(time_s):
        raise InvalidWorkload(f"time_s is {time_s!r}; it must be finite")
    turn = 2.0 * math.pi / period_s
    swing = service_rps * math.sin(turn * time_s) - turn * math.cos(turn * time_s)
    return mean_rps / service_rps + amplitude_rps * swing / (service_rps**2 + turn**2)


def mm1_retrial_orbit(arrival_rps: float, service_rps: float, retry_rps: float) -> float:
    """
    Return the mean number in orbit of M/M/1 where who finds the server busy tries again at rate ``retry_rps``.

    References
    ----------
    Falin and Templeton (1997), Retrial Queues, section 1.2.
    """
    positive(arrival_rps=arrival_rps, service_rps=service_rps, retry_rps=retry_rps)
    load = arrival_rps / service_rps
    stable(load)
    return load**2 / (1.0 - load) + load * arrival_rps / ((1.0 - load) * retry_rps)


def mm1_wait_asymptotic_variance(load: float, service_rps: float = 1.0) -> float:
    """
    Return n times the variance of the mean wait of n successive M/M/1 requests, seconds², for large n.

    How long a run must be: n = (1.96 / (ratio × mean wait))² × this, for ± ratio at 95 %.

    References
    ----------
    Daley (1968); Whitt (1989), "Planning queueing simulations".
    """
    positive(load=load, service_rps=service_rps)
    stable(load)
    return load * (2 + 5 * load - 4 * load**2 + load**3) / (1 - load) ** 4 / service_rps**2


def sustains_retry_storm(arrival_rps: float, capacity_rps: float, retries: int) -> bool:
    """
    Say whether a pool that was once overloaded stays so: λ(1 + r) > capacity, with work that nobody cancels.

    References
    ----------
    Bronson et al. (HotOS 2021), "Metastable failures in distributed systems"; Huang et al. (OSDI 2022).
    """
    positive(arrival_rps=arrival_rps, capacity_rps=capacity_rps)
    whole(0, retries=retries)
    return arrival_rps * (1 + retries) > capacity_rps
