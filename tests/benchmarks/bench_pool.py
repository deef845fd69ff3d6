"""
How fast the event-heap pool is, with client timeouts, retries and a budget, beside SimPy, salabim and Ciw.

Run `python tests/benchmarks/bench_pool.py` on a machine with nothing else to do; `--requests 200000` makes it short.
The model: M/M/c at load 0.9; callers wait 4 mean services, leave the queue, and try again up to three times after half
a service, within a budget of a tenth. "Drawn" services are drawn inside the kernel, "all drawn" arrivals too.
"""

import argparse
import subprocess
import sys
from typing import Any

import numpy as np
from rivals import ROOM, Retrying, ciw_retries, draw, salabim_retries, simpy_retries
from side_by_side import best_s, in_cells, verdict

from simulation.data_plane import serve_queue
from simulation.data_plane.arrivals import PoissonArrivals
from simulation.data_plane.histogram import LatencyHistogram
from simulation.data_plane.pool import ServingPool
from simulation.data_plane.pool_settings import Backoff, Client, Distribution, PoolSettings, RetryBudget

SERVERS = (1, 4, 16, 64, 256)
LOAD = 0.9
CALLER = Retrying()
CLIENT = Client(
    timeout_s=CALLER.timeout_s,
    cancellation="queued",
    retries=CALLER.retries,
    backoff=Backoff(CALLER.backoff_s),
    budget=RetryBudget(CALLER.budget_ratio, CALLER.budget_burst),
)
SERVICE = Distribution("exponential", 1.0)
FIRST_CALL = """
import time
from simulation.data_plane.pool import ServingPool
from simulation.data_plane.pool_settings import Distribution, PoolSettings
began = time.process_time()
pool = ServingPool(PoolSettings.simple(1, Distribution("exponential", 1.0)), seed=1)
pool.offer([0.0, 1.0])
pool.finish()
print(time.process_time() - began)
"""


def serve(servers: int, arrivals_s: np.ndarray, services_s: np.ndarray | None = None, **settings: Any) -> ServingPool:
    """Serve all requests; return the pool."""
    pool = ServingPool(PoolSettings.simple(servers, SERVICE, **settings), seed=1)
    pool.offer(arrivals_s, services_s)
    pool.finish()
    return pool


def serve_all_drawn(servers: int, n: int) -> None:
    """Serve about n requests whose arrivals are drawn as well, in pieces."""
    end_s = n / (LOAD * servers)
    arrivals = PoissonArrivals([0.0, end_s], [LOAD * servers], seed=1)
    pool = ServingPool(PoolSettings.simple(servers, SERVICE, client=CLIENT), seed=1)
    while (piece := arrivals.take(2**14)).size:
        pool.offer(piece)
        pool.advance(float(np.nextafter(piece[-1], 0.0)))
    pool.finish()


def check(servers: int, few: tuple[np.ndarray, ...]) -> None:
    """Refuse to compare speeds of different answers: without limits the recursion's, with retries SimPy's."""
    pool = ServingPool(PoolSettings.simple(servers, SERVICE), seed=1, records=True)
    pool.offer(few[0], few[1])
    pool.finish()
    np.testing.assert_array_equal(pool.records().starts_s, serve_queue(few[0], few[1], servers).starts_s)
    counters = serve(servers, few[0], few[1], client=CLIENT).result().counters
    seen = simpy_retries(servers, few, CALLER)
    for name in ("served", "timeouts", "retries"):
        assert counters[name] == seen[name], (servers, name, counters[name], seen[name])


def measure(servers: int, n: int, n_slow: int) -> dict[str, float]:
    """Return requests per second of each way and model."""
    requests = draw(servers, n, np.random.Generator(np.random.SFC64(servers)), LOAD)
    few = tuple(column[:n_slow] for column in requests)
    check(servers, few)
    works = {
        "plain, given": lambda: serve(servers, requests[0], requests[1]),
        "plain, drawn": lambda: serve(servers, requests[0]),
        "retries, drawn": lambda: serve(servers, requests[0], client=CLIENT),
        f"retries and room {ROOM}, drawn": lambda: serve(servers, requests[0], client=CLIENT, queue_limit=ROOM),
        "retries, all drawn": lambda: serve_all_drawn(servers, n),
    }
    rates = {name: n / seconds for name, seconds in zip(works, best_s(*works.values()), strict=True)}
    rivals = {
        "SimPy": lambda: simpy_retries(servers, few, CALLER),
        "salabim": lambda: salabim_retries(servers, few, CALLER),
        "Ciw": lambda: ciw_retries(servers, n_slow, CALLER, LOAD),
    }
    seconds = best_s(*rivals.values(), times=2)
    return rates | {name: n_slow / took for name, took in zip(rivals, seconds, strict=True)}


def histogram_error() -> float:
    """Return the largest relative error of a quantile over three shapes of latencies, against the sorted values."""
    rng = np.random.default_rng(1)
    worst = 0.0
    for latencies in (rng.exponential(0.1, 10**6), rng.lognormal(-3.0, 1.5, 10**6), rng.uniform(0.01, 0.02, 10**6)):
        histogram, exact = LatencyHistogram.of(latencies), np.sort(latencies)
        for p in (0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0):
            true_s = exact[int(np.ceil(round(p * exact.size, 6))) - 1]
            worst = max(worst, abs(histogram.quantile(p) / true_s - 1.0))
    return worst


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    n = parser.parse_args().requests
    n_slow = max(2000, n // 200)
    print(f"requests/s, M/M/c at load {LOAD:g}; {n:,} requests, {n_slow:,} for SimPy, salabim and Ciw, with retries")
    table = {servers: measure(servers, n, n_slow) for servers in SERVERS}
    for servers, rates in table.items():
        print(f"  c = {servers:3d}: {in_cells(rates)} | {rates['retries, drawn'] / rates['SimPy']:.0f} × SimPy")
    least = min(rates["retries, drawn"] / 1e6 for servers, rates in table.items() if servers <= 16)
    print(f"retries, drawn, c to 16: {least:.1f} M requests/s ({verdict(least, 10.0)})")
    for most, target in ((4, 300.0), (64, 200.0)):
        least = min(rates["retries, drawn"] / rates["SimPy"] for servers, rates in table.items() if servers <= most)
        print(f"c to {most}: {least:.0f} × SimPy ({verdict(least, target)})")
    error = 100.0 * histogram_error()
    print(f"latency histogram: quantiles within {error:.2f} % ({verdict(error, 1.0, at_most=True)} %)")
    first = float(subprocess.run([sys.executable, "-c", FIRST_CALL], capture_output=True, text=True, check=True).stdout)
    is_quick = verdict(first, 1.0, at_most=True)
    print(f"first call in a new process, kernels cached: {first:.2f} s of processor time ({is_quick} s)")


if __name__ == "__main__":
    main()
