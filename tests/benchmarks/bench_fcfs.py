"""
How fast the exact first-come-first-served queue is, beside C, SimPy, Ciw and salabim on the same model in one run.

Run `python tests/benchmarks/bench_fcfs.py` on a machine with nothing else to do; `--requests 200000` makes it short.
The model: M/M/c at load 0.95, with and without ten waiting places and exponential patience of mean 2.
"""

import argparse
import ctypes
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from rivals import ROOM, ciw_queue, draw, salabim_queue, simpy_queue
from side_by_side import best_s, in_cells, verdict

from simulation.data_plane import serve_queue

SERVERS = (1, 4, 16, 64, 256)
LOAD = 0.95
FIRST_CALL = """
import time, numpy
from simulation.data_plane import serve_queue
arrivals, services = numpy.arange(10.0), numpy.ones(10)
began = time.process_time()
serve_queue(arrivals, services, 2)
serve_queue(arrivals, services, 2, patience_s=1.0, room=1)
print(time.process_time() - began)
"""


def compiled_c(folder: str) -> ctypes.CDLL | None:
    """Compile the recursion in C, or return None where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    library = Path(folder) / "fcfs.so"
    source = Path(__file__).with_name("fcfs.c")
    subprocess.run(
        [compiler, "-O3", "-march=native", "-shared", "-fPIC", str(source), "-o", str(library), "-lm"], check=True
    )
    return ctypes.CDLL(str(library))


def serve_in_c(library: ctypes.CDLL, requests: tuple[np.ndarray, ...], servers: int, limited: bool) -> np.ndarray:
    """Serve the requests in C, into new arrays as `serve_queue` does; return their starts."""
    arrivals, services, patience = requests
    n = len(arrivals)
    starts, finish, outcome = np.empty(n), np.empty(n), np.empty(n, np.uint8)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (arrivals, services, starts, finish, outcome)]
    library.serve(
        ctypes.c_int64(n), pointers[0], pointers[1], ctypes.c_void_p(patience.ctypes.data if limited else None),
        ctypes.c_int64(ROOM if limited else -1), ctypes.c_int64(servers), *pointers[2:],
    )  # fmt: skip
    return starts


def measure(servers: int, limited: bool, n: int, n_slow: int, library: ctypes.CDLL | None) -> dict[str, float]:
    """Return requests per second of each way to serve the same model."""
    rng = np.random.Generator(np.random.SFC64(servers))
    requests = draw(servers, n, rng)
    few = tuple(column[:n_slow] for column in requests)
    options: dict[str, Any] = {"patience_s": requests[2], "room": ROOM} if limited else {}

    def with_draws() -> None:
        arrivals, services, patience = draw(servers, n, rng)
        serve_queue(arrivals, services, servers, **({"patience_s": patience, "room": ROOM} if limited else {}))

    works = {
        "lull": lambda: serve_queue(requests[0], requests[1], servers, **options),
        "lull, draws included": with_draws,
    }
    if library is not None:
        starts = serve_queue(requests[0], requests[1], servers, **options).starts_s
        np.testing.assert_array_equal(serve_in_c(library, requests, servers, limited), starts)
        works["C"] = lambda: serve_in_c(library, requests, servers, limited)
    rates = {name: n / seconds for name, seconds in zip(works, best_s(*works.values()), strict=True)}
    rivals = {
        "SimPy": lambda: simpy_queue(servers, few, limited),
        "Ciw": lambda: ciw_queue(servers, n_slow, limited),
        "salabim": lambda: salabim_queue(servers, few, limited),
    }
    seconds = best_s(*rivals.values(), times=2)
    # SimPy plays the very requests; it adds up gaps, so the last bits may differ.
    few_options = {"patience_s": few[2], "room": ROOM} if limited else {}
    expected = serve_queue(few[0], few[1], servers, **few_options).starts_s
    np.testing.assert_allclose(simpy_queue(servers, few, limited), expected, rtol=1e-9)
    return rates | {name: n_slow / took for name, took in zip(rivals, seconds, strict=True)}


def two_threads(n: int) -> float:
    """Return how many times faster two threads serve twice the requests than one after the other."""
    requests = draw(16, min(n, 100_000), np.random.default_rng(1))

    def once(_: int) -> None:
        for _ in range(30):
            serve_queue(requests[0], requests[1], 16)

    with ThreadPoolExecutor(2) as pool:
        works = (lambda: once(0), lambda: list(pool.map(once, range(2))))
        alone, together = best_s(*works, times=20, clock=time.perf_counter)
    return 2.0 * alone / together


def judge(table: dict[int, dict[str, float]]) -> None:
    """Print the least figure of each kind, and whether it meets its target."""
    for name, target in (("lull", 20.0), ("lull, draws included", 8.0)):
        least = min(rates[name] / 1e6 for servers, rates in table.items() if servers <= 64)
        print(f"  {name}, c to 64: {least:.1f} M requests/s ({verdict(least, target)})")
    for most, target in ((4, 300.0), (64, 200.0)):
        least = min(rates["lull"] / rates["SimPy"] for servers, rates in table.items() if servers <= most)
        print(f"  c to {most}: {least:.0f} × SimPy ({verdict(least, target)})")
    if all("C" in rates for rates in table.values()):
        least = min(rates["lull"] / rates["C"] for rates in table.values())
        print(f"  {least:.2f} × the same in C ({verdict(least, 0.5)})")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    n = parser.parse_args().requests
    n_slow = max(2000, n // 200)
    serve_queue([0.0], [1.0], 1)
    with tempfile.TemporaryDirectory() as folder:
        library = compiled_c(folder)
        if library is None:
            print("No C compiler found: the comparison with C is left out.")
        print(f"requests/s, M/M/c at load {LOAD:g}; {n:,} requests, {n_slow:,} for SimPy, Ciw and salabim")
        for limited in (False, True):
            print(f"\n{f'with room {ROOM} and patience' if limited else 'no limits'}")
            table = {servers: measure(servers, limited, n, n_slow, library) for servers in SERVERS}
            for servers, rates in table.items():
                print(f"  c = {servers:3d}: {in_cells(rates)}")
            judge(table)
    ratio = two_threads(n)
    print(f"\ntwo threads: {ratio:.2f} × one ({verdict(ratio, 1.8)})")
    first = subprocess.run([sys.executable, "-c", FIRST_CALL], capture_output=True, text=True, check=True)
    print(f"first two calls in a new process, kernels cached: {float(first.stdout):.2f} s of processor time")


if __name__ == "__main__":
    main()
