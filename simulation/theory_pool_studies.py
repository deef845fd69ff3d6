"""
What the event-heap pool is asked to reproduce: retrials, which no recursion knows, and cases that the recursion shares.

Services, patience and backoffs are the pool's own keyed draws, so these studies hold the draws against theory as well.
Start at `pool_studies`; the studies of the recursion stand in `simulation/theory_studies.py`.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from simulation import theory
from simulation.data_plane.pool import ServingPool
from simulation.data_plane.pool_results import RequestRecords
from simulation.data_plane.pool_settings import Backoff, Client, Distribution, PoolSettings, RunningWork
from simulation.theory_chains import transient_queue
from simulation.theory_check import Study, Values

Floats = NDArray[np.float64]

_BUCKET_S = 36_000.0  # nothing here is looked at per minute
_SKIP = 10_000


def _poisson(rng: np.random.Generator, rate_rps: float, n: int) -> Floats:
    gaps = rng.standard_exponential(n)
    gaps /= rate_rps
    return np.asarray(np.cumsum(gaps, out=gaps), np.float64)


def _played(rng: np.random.Generator, settings: PoolSettings, arrivals_s: Floats) -> RequestRecords:
    """Return what became of each request; the pool's seed comes from the generator."""
    pool = ServingPool(settings, int(rng.integers(2**62)), records=True)
    pool.offer(arrivals_s)
    # Clients that retry without end leave no last event; of these queues none has a request wait for so long.
    pool.advance(float(arrivals_s[-1]) + 5000.0)
    pool.check_conservation()
    return pool.records()


def _waits(
    rng: np.random.Generator, settings: PoolSettings, load: float, n: int, skip: int = _SKIP
) -> tuple[Floats, list[float]]:
    """Return waits, NaN unless served, and the controls: mean gap, mean service and mean square of it."""
    arrivals = _poisson(rng, load, n + skip)
    records = _played(rng, settings, arrivals)
    services = (records.ends_s - records.starts_s)[skip:]
    gap = (arrivals[-1] - arrivals[skip - 1]) / n
    controls = [float(gap), float(np.nanmean(services)), float(np.nanmean(services * services))]
    return (records.starts_s - arrivals)[skip:], controls


def _retrials(arrival_rps: float, retry_rps: float, n: int, replications: int) -> Study:
    """One server and no room: who finds it busy tries again, for ever, after exponential times."""
    client = Client(retries=None, retry_on=("rejection",), backoff=Backoff(1.0 / retry_rps, jitter="exponential"))
    settings = PoolSettings.simple(
        1, Distribution("exponential", 1.0), queue_limit=0, client=client, bucket_s=_BUCKET_S
    )  # fmt: skip

    def expected() -> Values:
        return (("mean number in orbit", theory.mm1_retrial_orbit(arrival_rps, 1.0, retry_rps)),)

    def measure(rng: np.random.Generator) -> list[float]:
        waits, controls = _waits(rng, settings, arrival_rps, n, skip=5000)
        return [arrival_rps * float(waits.mean()), *controls]  # Little's law: all of the wait is spent in orbit

    name = f"pool: M/M/1 with retrials, arrivals {arrival_rps:g}, retries {retry_rps:g}"
    return Study(name, expected, measure, replications, (1.0 / arrival_rps, 1.0, 2.0))


def _mmc(load: float, servers: int, replications: int) -> Study:
    settings = PoolSettings.simple(servers, Distribution("exponential", 1.0), bucket_s=_BUCKET_S)

    def expected() -> Values:
        queue = theory.MMc(load, 1.0, servers)
        return ("share that waits", queue.wait_probability), ("mean wait", queue.mean_wait_s)

    def measure(rng: np.random.Generator) -> list[float]:
        waits, controls = _waits(rng, settings, load, 200_000)
        return [float((waits > 0.0).mean()), float(waits.mean()), *controls[:2]]

    return Study(f"pool: M/M/{servers}, load {load / servers:g}", expected, measure, replications, (1.0 / load, 1.0))


def _mg1(service: Distribution, moments_s: tuple[float, float, float], load: float, replications: int) -> Study:
    settings = PoolSettings.simple(1, service, bucket_s=_BUCKET_S)

    def expected() -> Values:
        return (("mean wait", theory.mg1_wait(load, moments_s)[0]),)

    def measure(rng: np.random.Generator) -> list[float]:
        waits, controls = _waits(rng, settings, load, 200_000)
        return [float(waits.mean()), *controls]

    name = f"pool: M/{service.kind}/1, scv {service.scv:g}, load {load:g}"
    return Study(name, expected, measure, replications, (1.0 / load, *moments_s[:2]))


def _mmck(arrival_rps: float, servers: int, room: int) -> Study:
    settings = PoolSettings.simple(servers, Distribution("exponential", 1.0), queue_limit=room, bucket_s=_BUCKET_S)

    def expected() -> Values:
        rejected, mean = theory.mmck(arrival_rps, 1.0, servers, room)
        return ("share rejected", rejected), ("mean wait of the others", mean)

    def measure(rng: np.random.Generator) -> list[float]:
        waits, _ = _waits(rng, settings, arrival_rps, 200_000)
        return [float(np.isnan(waits).mean()), float(np.nanmean(waits))]

    return Study(f"pool: M/M/{servers} with room {room}, arrivals {arrival_rps:g}", expected, measure, 30)


def _erlang_a(arrival_rps: float, servers: int, abandon_rps: float) -> Study:
    client = Client(patience=Distribution("exponential", 1.0 / abandon_rps))
    settings = PoolSettings.simple(servers, Distribution("exponential", 1.0), client=client, bucket_s=_BUCKET_S)

    def expected() -> Values:
        known = theory.erlang_a(arrival_rps, 1.0, servers, abandon_rps)
        return ("share that gives up", known.abandon_probability), ("mean wait of all", known.mean_wait_s)

    def measure(rng: np.random.Generator) -> list[float]:
        arrivals = _poisson(rng, arrival_rps, 200_000 + _SKIP)
        records = _played(rng, settings, arrivals)
        gave_up = records.is_outcome("abandoned")
        spent = np.where(gave_up, records.ends_s, records.starts_s) - arrivals
        return [float(gave_up[_SKIP:].mean()), float(spent[_SKIP:].mean())]

    name = f"pool: M/M/{servers}+M, arrivals {arrival_rps:g}, impatience {abandon_rps:g}"
    return Study(name, expected, measure, 30)


def _window(running: str, running_work: RunningWork) -> Study:
    """Ten servers, seven from 20 to 50 s; a night every 150 s begins empty; pools of few nights change faster."""
    moments, n_nights, period_s = np.array([5.0, 21.0, 30.0, 50.0]), 20, 150.0
    spans = [0.0, 5.0, 20.0, 50.0]  # controls: arrivals of each
    settings = PoolSettings.simple(10, Distribution("exponential", 1.0), bucket_s=_BUCKET_S)

    def expected() -> Values:
        known = transient_queue(
            moments.tolist(), 8.0, 1.0, ((0.0, 10), (20.0, 7), (50.0, 10)), running=running, longest_line=220
        )
        return tuple((f"mean number at {at:g}", float(n)) for at, n in zip(moments, known.mean_number, strict=True))

    def measure(rng: np.random.Generator) -> list[float]:
        begins = period_s * np.arange(n_nights)
        counts = rng.poisson(8.0 * 50.0, n_nights)
        arrivals = np.sort(np.repeat(begins, counts) + 50.0 * rng.random(int(counts.sum())))
        pool = ServingPool(settings, int(rng.integers(2**62)), records=True)
        pool.offer(arrivals)
        for begin in begins:
            for at_s, servers in ((20.0, 7), (50.0, 10)):
                pool.advance(begin + at_s)
                pool.set_capacity(servers_per_replica=servers, running_work=running_work)
        pool.finish()
        ends = np.sort(pool.records().ends_s)
        numbers = [
            float((np.searchsorted(arrivals, begins + at) - np.searchsorted(ends, begins + at, side="right")).mean())
            for at in moments
        ]
        since = arrivals % period_s
        return [*numbers, *(np.histogram(since, spans)[0] / n_nights)]

    return Study(
        f"pool: 10, 7, 10 servers, {running_work.replace('_', ' ')}", expected, measure, 200, (40.0, 120.0, 240.0)
    )


def pool_studies() -> Iterator[Study]:
    """Yield every study of theory that the event-heap pool is held against."""
    yield _retrials(0.5, 1.0, 60_000, 16)
    yield _retrials(0.8, 0.5, 60_000, 24)
    yield _mmc(0.8, 1, 24)
    yield _mmc(1.8, 2, 40)
    yield _mmc(9.0, 10, 40)
    yield _mg1(Distribution("deterministic", 1.0, 0.0), theory.deterministic_moments(1.0), 0.8, 16)
    yield _mg1(Distribution("erlang", 1.0, 0.5), theory.erlang_moments(1.0, 2), 0.8, 16)
    yield _mg1(Distribution("hyperexponential", 1.0, 4.0), theory.hyperexponential_moments(1.0, 4.0), 0.8, 40)
    yield _mg1(Distribution("lognormal", 1.0, 4.0), theory.lognormal_moments(1.0, 4.0), 0.8, 40)
    yield _mmck(9.0, 10, 5)
    yield _erlang_a(10.0, 10, 0.5)
    # With exponential services, work begun anew from a fresh draw, and work handed over, are the chain's eviction.
    yield _window("evict", "evict_and_requeue")
    yield _window("evict", "hand_over")
    yield _window("drain", "drain")
