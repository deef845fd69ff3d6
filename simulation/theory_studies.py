"""
What the exact queue is asked to reproduce: each study plays a queue and names the values that it should show.

Start at `all_studies`. The expected values come from closed forms or exact chains (`simulation.theory`,
`simulation.theory_chains`), never from a simulation. Where a text counts hours, a second stands for an hour.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from simulation import theory
from simulation.data_plane.changing_capacity import CapacityStep, serve_schedule
from simulation.data_plane.fcfs import serve_queue
from simulation.theory_chains import interrupted_mean_number, transient_queue
from simulation.theory_check import Study, Values
from simulation.theory_golden import GoldenCase, golden_cases
from simulation.theory_pool_studies import pool_studies

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]
Rate = Callable[[Floats], Floats]
Plan = tuple[tuple[float, int], ...]


def _poisson(rng: np.random.Generator, rate_rps: float, n: int) -> Floats:
    gaps = rng.standard_exponential(n)
    gaps /= rate_rps
    return np.cumsum(gaps, out=gaps)


def _exponential(rng: np.random.Generator, n: int) -> Floats:
    return rng.standard_exponential(n)


def _constant(rng: np.random.Generator, n: int) -> Floats:
    return np.ones(n)


def _erlang2(rng: np.random.Generator, n: int) -> Floats:
    return (rng.standard_exponential(n) + rng.standard_exponential(n)) / 2.0


def _hyperexponential(rng: np.random.Generator, n: int) -> Floats:
    likely, fast, slow = theory.balanced_hyperexponential(1.0, 4.0)
    return rng.standard_exponential(n) * np.where(rng.random(n) < likely, 1.0 / fast, 1.0 / slow)


def _lognormal(rng: np.random.Generator, n: int) -> Floats:
    variance = math.log(5.0)  # scv 4
    normals = rng.standard_normal(n)
    normals *= math.sqrt(variance)
    normals -= variance / 2.0
    return np.exp(normals, out=normals)


def _waits(rng: np.random.Generator, load: float, servers: int, draw: Draw, n: int) -> tuple[Floats, list[float]]:
    """Return waits of ``n`` requests after a warm-up, and the controls: mean gap, mean S, S² and S³ of the services."""
    skip = 30_000  # twenty times what the slowest of these queues remembers
    arrivals, services = _poisson(rng, load, n + skip), draw(rng, n + skip)
    waits = serve_queue(arrivals, services, servers).waits_s[skip:]
    counted = services[skip:]
    squares = counted * counted
    gap = (arrivals[-1] - arrivals[skip - 1]) / n
    return waits, [float(gap), float(counted.mean()), float(squares.mean()), float((squares * counted).mean())]


def _mmc(load: float, servers: int, n: int, replications: int) -> Study:
    def expected() -> Values:
        queue = theory.MMc(load, 1.0, servers)
        return (
            ("share that waits", queue.wait_probability),
            ("mean wait", queue.mean_wait_s),
            ("p95 of the wait", queue.wait_quantile_s(0.95)),
            ("p99 of the wait", queue.wait_quantile_s(0.99)),
        )

    def measure(rng: np.random.Generator) -> list[float]:
        waits, controls = _waits(rng, load, servers, _exponential, n)
        p95, p99 = int(0.95 * n), int(0.99 * n)
        tail = np.partition(waits, [p95, p99])
        return [float((waits > 0.0).mean()), float(waits.mean()), float(tail[p95]), float(tail[p99]), *controls[:2]]

    return Study(f"M/M/{servers}, load {load / servers:g}", expected, measure, replications, (1.0 / load, 1.0))


def _mg1(name: str, draw: Draw, moments_s: tuple[float, float, float], load: float) -> Study:
    def expected() -> Values:
        mean, second = theory.mg1_wait(load, moments_s)
        return ("mean wait", mean), ("sd of the wait", math.sqrt(second - mean**2))

    def measure(rng: np.random.Generator) -> list[float]:
        waits, controls = _waits(rng, load, 1, draw, 500_000)
        return [float(waits.mean()), float(waits.std()), *controls]

    return Study(f"{name}, load {load:g}", expected, measure, 80, (1.0 / load, *moments_s))


def _mdc(load: float, servers: int) -> Study:
    def expected() -> Values:
        return (("mean wait", theory.mdc_mean_wait_s(load, 1.0, servers)),)

    def measure(rng: np.random.Generator) -> list[float]:
        waits, controls = _waits(rng, load, servers, _constant, 500_000)
        return [float(waits.mean()), controls[0]]

    return Study(f"M/D/{servers}, load {load / servers:g}", expected, measure, 40, (1.0 / load,))


def _mmck(arrival_rps: float, service_rps: float, servers: int, room: int) -> Study:
    def expected() -> Values:
        rejected, mean = theory.mmck(arrival_rps, service_rps, servers, room)
        return ("share rejected", rejected), ("mean wait of the others", mean)

    def measure(rng: np.random.Generator) -> list[float]:
        n = 500_000
        result = serve_queue(_poisson(rng, arrival_rps, n), _exponential(rng, n) / service_rps, servers, room=room)
        waits = result.waits_s[1000:]
        return [float(np.isnan(waits).mean()), float(np.nanmean(waits))]

    return Study(f"M/M/{servers} with room {room}, arrivals {arrival_rps:g}", expected, measure, 20)


def _erlang_a(arrival_rps: float, servers: int, abandon_rps: float) -> Study:
    def expected() -> Values:
        known = theory.erlang_a(arrival_rps, 1.0, servers, abandon_rps)
        return (
            ("share that gives up", known.abandon_probability),
            ("share that waits", known.wait_probability),
            ("mean wait of all", known.mean_wait_s),
        )

    def measure(rng: np.random.Generator) -> list[float]:
        n, skip = 500_000, 5000
        patience = _exponential(rng, n) / abandon_rps
        arrivals, services = _poisson(rng, arrival_rps, n), _exponential(rng, n)
        waits = serve_queue(arrivals, services, servers, patience_s=patience).waits_s[skip:]
        gave_up = np.isnan(waits)
        spent = np.where(gave_up, patience[skip:], waits)
        return [float(gave_up.mean()), float((spent > 0.0).mean()), float(spent.mean())]

    return Study(f"M/M/{servers}+M, arrivals {arrival_rps:g}, impatience {abandon_rps:g}", expected, measure, 20)


def _sine_rate(mean_rps: float, swing_rps: float) -> Rate:
    return lambda times_s: mean_rps + swing_rps * np.sin(times_s * (2.0 * math.pi / 24.0))


def _nights(
    rng: np.random.Generator, rate: Rate, most_rps: float, span_s: tuple[float, float], n_nights: int, period_s: float
) -> Floats:
    """
    Return the arrivals of many independent nights, one every ``period_s``, far enough apart to begin empty.

    Thinning: each candidate, at rate ``most_rps``, is judged by the rate at its own time of the night.
    """
    from_s, until_s = span_s
    length_s = until_s - from_s
    n_expected = most_rps * length_s * n_nights
    candidates = _poisson(rng, most_rps, int(n_expected + 8.0 * math.sqrt(n_expected) + 50.0))
    night = np.floor(candidates / length_s)
    in_night = from_s + candidates - night * length_s
    kept = (rng.random(in_night.shape[0]) * most_rps < rate(in_night)) & (night < n_nights)
    return np.asarray((night * period_s + in_night)[kept], np.float64)


def _steps(plan: Plan, n_nights: int, period_s: float) -> list[CapacityStep]:
    """Return the capacity of those nights; between them it stays as it ended."""
    steps = [CapacityStep(0.0, plan[-1][1])]
    for k in range(n_nights):
        steps += [CapacityStep(k * period_s + from_s, servers) for from_s, servers in plan]
    return steps


def _count_at(moments: Floats, arrivals_s: Floats, departures_s: Floats) -> Floats:
    """Return how many are in the system at each moment: those who came before it less those who left by then."""
    came = np.searchsorted(arrivals_s, moments, side="left")
    return np.asarray(came - np.searchsorted(np.sort(departures_s), moments, side="right"), np.float64)


def _window(running: str) -> Study:
    """Ten servers, seven from 20 to 50 s: what a retraining window does to the queue."""
    moments, plan, n_nights, period_s = np.array([5.0, 21.0, 30.0, 50.0]), ((20.0, 7), (50.0, 10)), 250, 150.0

    def expected() -> Values:
        window = np.linspace(20.0 + 1e-9, 50.0, 601)  # from right after the change
        known, busy = (
            transient_queue(times.tolist(), 8.0, 1.0, ((0.0, 10), *plan), running=running, longest_line=220)
            for times in (moments, window)
        )
        numbers = [(f"mean number at {at:g}", float(mean)) for at, mean in zip(moments, known.mean_number, strict=True)]
        share = float(np.trapezoid(busy.all_busy_probability, window)) / 30.0
        return (*numbers, ("share of window arrivals that find all busy", share))

    def measure(rng: np.random.Generator) -> list[float]:
        arrivals = _nights(rng, lambda times_s: np.full_like(times_s, 8.0), 8.0, (0.0, 50.0), n_nights, period_s)
        services = _exponential(rng, arrivals.shape[0])
        result = serve_schedule(arrivals, services, _steps(plan, n_nights, period_s), running=running)
        begins = period_s * np.arange(n_nights)
        counts = [float(_count_at(begins + at, arrivals, result.departures_s).mean()) for at in moments]
        return [*counts, float((result.waits_s[arrivals % period_s >= 20.0] > 0.0).mean())]

    return Study(f"10, 7, 10 servers, {running}", expected, measure, 40)


def _interrupted(arrival_rps: float, servers: int, slow_rate: float, on_rps: float, off_rps: float) -> Study:
    """Something that comes and goes at random slows every server from rate 1 to ``slow_rate``."""
    until_s, skip_s = 280_000.0 / arrival_rps**0.6, 10_000.0
    share = on_rps / (on_rps + off_rps)

    def expected() -> Values:
        mean = interrupted_mean_number(arrival_rps, (servers, 1.0), (servers, slow_rate), on_rps, off_rps)
        return (("mean number", mean),)

    def measure(rng: np.random.Generator) -> list[float]:
        n_changes = int(until_s * 2.0 * share * off_rps * 1.2) + 50
        is_on = (np.arange(n_changes) + (rng.random() < share)) % 2 == 1
        spans = rng.standard_exponential(n_changes) / np.where(is_on, off_rps, on_rps)
        changes = np.concatenate([[0.0], np.cumsum(spans)[:-1]])
        slowdowns = np.where(is_on, 1.0 / slow_rate, 1.0)
        steps = [CapacityStep(at, servers, slow) for at, slow in zip(changes, slowdowns, strict=True)]
        arrivals = _poisson(rng, arrival_rps, int(arrival_rps * until_s * 1.05) + 200)
        arrivals = arrivals[: np.searchsorted(arrivals, until_s)]
        services = _exponential(rng, arrivals.shape[0])
        stays = (serve_schedule(arrivals, services, steps).departures_s - arrivals)[arrivals > skip_s]
        on_s = float(np.clip(np.minimum(changes + spans, until_s) - changes, 0.0, None) @ is_on)
        number = arrival_rps * float(stays.mean())  # Little's law
        return [number, on_s / until_s, arrivals.shape[0] / until_s, float(services.mean())]

    name = f"interruptions of {servers} servers, arrivals {arrival_rps:g}"
    return Study(name, expected, measure, 30, (share, arrival_rps, 1.0))


def _unlimited_under_a_sine() -> Study:
    hours = (0.0, 6.0, 18.0)

    def expected() -> Values:
        return tuple((f"mean number at {at:g} h", theory.mt_m_infinity_mean(at, 100, 40, 24, 2)) for at in hours)

    def measure(rng: np.random.Generator) -> list[float]:
        arrivals = _nights(rng, _sine_rate(100.0, 40.0), 140.0, (0.0, 2424.0), 1, 2424.0)
        departures = serve_queue(arrivals, _exponential(rng, arrivals.shape[0]) / 2.0, 1000).departures_s
        days = np.arange(24.0, 2401.0, 24.0)
        return [float(_count_at(days + at, arrivals, departures).mean()) for at in hours]

    return Study("M_t/M/1000, arrivals 100 ± 40", expected, measure, 20)


def _window_under_a_sine(opens: float, n_nights: int, replications: int) -> Study:
    """Ten servers, eight for six hours of the second day, under λ(t) = 7 + 3 sin(2πt/24)."""
    closes = 30.0 + opens
    begins = max(0.0, closes - 27.0)  # what came 27 h before changes the mean by 3e-4 of it, says the chain
    plan = ((24.0 + opens, 8), (closes, 10))

    def expected() -> Values:
        rate = _sine_rate(7.0, 3.0)
        known = transient_queue(
            [closes], lambda t: float(rate(np.array(t))), 1.0, ((0.0, 10), *plan), running="evict", longest_line=150
        )
        return (("mean line at its end", float(known.mean_waiting[0])),)

    def measure(rng: np.random.Generator) -> list[float]:
        arrivals = _nights(rng, _sine_rate(7.0, 3.0), 10.0, (begins, closes), n_nights, 120.0)
        services = _exponential(rng, arrivals.shape[0])
        departures = serve_schedule(arrivals, services, _steps(plan, n_nights, 120.0), running="evict").departures_s
        night = (arrivals / 120.0).astype(np.int64)
        ends = night * 120.0 + closes
        here = departures > ends, arrivals + services > ends  # with these servers, and with one for each
        lines = [np.maximum(np.bincount(night[who], minlength=n_nights) - 8, 0) for who in here]
        return [float(line.mean()) for line in lines]

    # The control: with a server for each request the number is Poisson.
    mean = theory.mt_m_infinity_mean(closes, 7.0, 3.0, 24.0, 1.0)
    above = sum((k - 8) * math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(9, 100))
    name = f"window {opens:g} to {opens + 6:g} h, 10 to 8 servers"
    return Study(name, expected, measure, replications, (above,))


def all_studies() -> Iterator[Study | GoldenCase]:
    """Yield every study of theory: of the recursion, of the event-heap pool, and cases whose outcome is exact."""
    yield from recursion_studies()
    yield from pool_studies()
    yield from golden_cases()


def recursion_studies() -> Iterator[Study]:
    """Yield every study of theory that the first-come-first-served queue can show."""
    yield _mmc(0.8, 1, 500_000, 40)
    yield _mmc(1.8, 2, 500_000, 60)
    yield _mmc(9.0, 10, 500_000, 60)
    yield _mmc(95.0, 100, 1_000_000, 112)
    for load in (0.5, 0.8, 0.9):
        yield _mg1("M/D/1", _constant, theory.deterministic_moments(1.0), load)
        yield _mg1("M/E2/1", _erlang2, theory.erlang_moments(1.0, 2), load)
        yield _mg1("M/H2/1, scv 4", _hyperexponential, theory.hyperexponential_moments(1.0, 4.0), load)
        yield _mg1("M/lognormal/1, scv 4", _lognormal, theory.lognormal_moments(1.0, 4.0), load)
    yield _mdc(1.8, 2)
    for arrival_rps, service_rps, servers, room in ((3.0, 4.0, 2, 1), (9.0, 1.0, 10, 5), (10.0, 1.0, 10, 0)):
        yield _mmck(arrival_rps, service_rps, servers, room)
    for arrival_rps, servers, abandon_rps in ((10.0, 10, 0.5), (12.0, 10, 1.0), (120.0, 100, 0.5)):
        yield _erlang_a(arrival_rps, servers, abandon_rps)
    yield _window("evict")
    yield _window("drain")
    yield _interrupted(0.7, 1, 0.5, 0.01, 0.04)
    yield _interrupted(8.0, 10, 0.7, 0.02, 0.08)
    yield _unlimited_under_a_sine()
    yield _window_under_a_sine(3.0, 400, 60)
    yield _window_under_a_sine(15.0, 400, 680)
