"""
Where the time of a simulated night goes, and how long 20 scenarios × 10 seeds take on two cores.

Run `python tests/benchmarks/bench_night.py`: 8 trials; `--full` plays all 200, more than 10^9 requests. A trial is 8 h
at 200 requests/s on average with a surge, lognormal services, client timeouts with one retry, counters per minute,
histograms, and a controller that looks at the pool every 10 s. Only the data plane is played: no training, no faults.
Two threads wait for each other between the kernels, so `--processes` plays in two processes instead.
"""

import argparse
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
from side_by_side import verdict

from simulation.data_plane.arrivals import MergedArrivals, PoissonArrivals
from simulation.data_plane.pool import ServingPool
from simulation.data_plane.pool_settings import Backoff, Client, Distribution, PoolSettings

HOURS, MEAN_RPS, LOOK_S = 8, 200.0, 10.0
TRIALS, TARGET_S = 200, 90.0
END_S = HOURS * 3600.0
EDGES_S = np.linspace(0.0, END_S, HOURS * 12 + 1)
RATES_RPS = MEAN_RPS * (1.0 + 0.4 * np.cos(np.linspace(0.0, 2.0 * np.pi, HOURS * 12, endpoint=False)))
PARTS = ("arrivals", "offer", "advance", "observe")
POOL = PoolSettings.simple(
    16,
    Distribution("lognormal", 0.05, 1.0),
    client=Client(timeout_s=1.0, cancellation="queued", retries=1, backoff=Backoff(0.1, jitter="full")),
    slo_s=0.25,
)


def play(seed: int) -> dict[str, float]:
    """Play one trial; return the requests and the processor seconds of each part."""
    base = PoissonArrivals(EDGES_S, RATES_RPS, seed)
    surge = PoissonArrivals([3600.0, 5400.0], [0.2 * MEAN_RPS], seed, stream=1)
    arrivals, pool = MergedArrivals([base, surge]), ServingPool(POOL, seed)
    spent = dict.fromkeys(("requests", *PARTS), 0.0)
    for look in range(1, int(END_S / LOOK_S) + 1):
        marks = [time.thread_time()]
        came = arrivals.take(10_000, look * LOOK_S)
        marks.append(time.thread_time())
        pool.offer(came)
        marks.append(time.thread_time())
        pool.advance(look * LOOK_S)
        marks.append(time.thread_time())
        pool.observe()
        marks.append(time.thread_time())
        for part, took in zip(PARTS, np.diff(marks), strict=True):
            spent[part] += took
        spent["requests"] += came.size
    pool.check_conservation()
    return spent


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="all 200 trials, not 8")
    parser.add_argument("--processes", action="store_true", help="two processes, not two threads")
    options = parser.parse_args()
    n = TRIALS if options.full else 8
    workers: Executor = ProcessPoolExecutor(2) if options.processes else ThreadPoolExecutor(2)
    with workers:
        list(workers.map(play, range(4)))  # compiled, loaded and warm
        began = time.perf_counter()
        trials = list(workers.map(play, range(n)))
        took_s = time.perf_counter() - began
    requests = sum(trial["requests"] for trial in trials)
    each = {part: sum(trial[part] for trial in trials) / requests * 1e9 for part in PARTS}
    print(
        f"{n} trials, {requests:.3g} requests in two {'processes' if options.processes else 'threads'}: {took_s:.1f} s"
    )
    print("ns per request: " + ", ".join(f"{part} {ns:.1f}" for part, ns in each.items()), end="; ")
    print(f"together {sum(each.values()):.1f}")
    for name, whole_s in (
        ("by the clock", took_s * TRIALS / n),
        ("by processor time, on two cores of one's own", sum(each.values()) * 1e-9 * requests * TRIALS / n / 2.0),
    ):
        print(f"{TRIALS} trials {name}: {whole_s:.0f} s ({verdict(whole_s, TARGET_S, at_most=True)} s)")


if __name__ == "__main__":
    main()
