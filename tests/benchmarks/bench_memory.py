"""
How much memory a pool takes for 10^6 and for 100 times as many requests, each in a process of its own.

Run `python tests/benchmarks/bench_memory.py`; `--requests 5000000` makes it short: the larger number. Arrivals are
drawn and offered in pieces of 2^16, no records are kept, and peak memory is what the operating system says.
"""

import argparse
import resource
import subprocess
import sys

import numpy as np
from side_by_side import verdict

from simulation.data_plane.arrivals import PoissonArrivals
from simulation.data_plane.pool import ServingPool
from simulation.data_plane.pool_settings import Client, Distribution, PoolSettings

RATE_RPS, FEW, TARGET = 200.0, 1_000_000, 1.5


def peak_mib(requests: int) -> float:
    """Serve about that many requests; return the peak memory of this process."""
    end_s = requests / RATE_RPS
    arrivals = PoissonArrivals([0.0, end_s], [RATE_RPS], seed=1)
    service, client = Distribution("exponential", 0.07), Client(timeout_s=1.0, cancellation="queued", retries=1)
    pool = ServingPool(PoolSettings.simple(16, service, client=client), seed=1)
    while (piece := arrivals.take(2**16)).size:
        pool.offer(piece)
        pool.advance(float(np.nextafter(piece[-1], 0.0)))
    pool.finish()
    pool.check_conservation()
    assert abs(pool.result().counters["offered"] - requests) < 6.0 * requests**0.5
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def main() -> None:
    """Measure in new processes and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100 * FEW)
    parser.add_argument("--alone", type=int, help="serve so many in this process and print its peak in MiB")
    options = parser.parse_args()
    if options.alone:
        print(peak_mib(options.alone))
        return
    peaks = []
    for requests in (FEW, FEW, options.requests):  # the first one may have to compile
        command = [sys.executable, __file__, "--alone", str(requests)]
        peaks.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    ratio = peaks[2] / peaks[1]
    print(f"peak memory: {peaks[1]:.0f} MiB for {FEW:,} requests, {peaks[2]:.0f} MiB for {options.requests:,}")
    print(f"ratio {ratio:.2f} ({verdict(ratio, TARGET, at_most=True)})")


if __name__ == "__main__":
    main()
