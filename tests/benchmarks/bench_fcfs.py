"""
How fast the exact first-come-first-served queue is, beside C, SimPy, Ciw and salabim on the same model in one run.

Run `PYTHONPATH=. python tests/benchmarks/bench_fcfs.py` from the root of the repository, on a machine with nothing
else to do; `--requests 200000` makes it short. The model: M/M/c at load 0.95, with and without ten waiting places
and exponential patience of mean 2.
"""

import argparse
import ctypes
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ciw
import numpy as np
import salabim
import simpy

from simulation.data_plane import serve_queue

SERVERS = (1, 4, 16, 64, 256)
LOAD, ROOM, PATIENCE_S = 0.95, 10, 2.0
FIRST_CALL = """
import time, numpy
from simulation.data_plane import serve_queue
arrivals, services = numpy.arange(10.0), numpy.ones(10)
began = time.perf_counter()
serve_queue(arrivals, services, 2)
serve_queue(arrivals, services, 2, patience_s=1.0, room=1)
print(time.perf_counter() - began)
"""


def draw(servers: int, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return arrivals, services and patience of n requests."""
    arrivals = np.cumsum(rng.standard_exponential(n) / (LOAD * servers))
    return arrivals, rng.standard_exponential(n), rng.standard_exponential(n) * PATIENCE_S


def best_s(*works: Callable[[], Any], times: int = 7) -> list[float]:
    """Return the shortest run of each, in seconds, taken in turns: others on the machine then disturb all alike."""
    best = [float("inf")] * len(works)
    for _ in range(times):
        for k, work in enumerate(works):
            began = time.perf_counter()
            work()
            best[k] = min(best[k], time.perf_counter() - began)
    return best


def simpy_queue(servers: int, requests: tuple[np.ndarray, ...], limited: bool) -> np.ndarray:
    """Serve the requests by one SimPy process each; return their starts."""
    arrivals, services, patience = (column.tolist() for column in requests)
    environment = simpy.Environment()
    pool = simpy.Resource(environment, servers)
    starts = np.full(len(arrivals), np.nan)

    def request(i: int) -> Iterator[Any]:
        if limited and pool.count == servers and len(pool.queue) >= ROOM:
            return
        with pool.request() as turn:
            yield (turn | environment.timeout(patience[i])) if limited else turn
            if turn.triggered:
                starts[i] = environment.now
                yield environment.timeout(services[i])

    def source() -> Iterator[Any]:
        for i, arrival in enumerate(arrivals):
            yield environment.timeout(arrival - environment.now)
            environment.process(request(i))

    environment.process(source())
    environment.run()
    return starts


def ciw_queue(servers: int, n: int, limited: bool) -> None:
    """Serve about n requests by Ciw."""
    options: dict[str, Any] = {}
    if limited:
        options = {
            "queue_capacities": [ROOM],
            "reneging_time_distributions": [ciw.dists.Exponential(1.0 / PATIENCE_S)],
        }
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(LOAD * servers)],
        service_distributions=[ciw.dists.Exponential(1.0)],
        number_of_servers=[servers],
        **options,
    )
    ciw.Simulation(network).simulate_until_max_time(n / (LOAD * servers))


def salabim_queue(servers: int, requests: tuple[np.ndarray, ...], limited: bool) -> None:
    """Serve the requests by one salabim component each."""
    arrivals, services, patience = (column.tolist() for column in requests)
    environment = salabim.Environment(trace=False, yieldless=False)
    pool = salabim.Resource("pool", capacity=servers, env=environment)

    class Request(salabim.Component):  # type: ignore[misc]
        def setup(self, number: int) -> None:
            self.number = number

        def process(self) -> Iterator[Any]:
            if limited and pool.available_quantity() == 0 and len(pool.requesters()) >= ROOM:
                return
            yield self.request(pool, fail_delay=patience[self.number] if limited else None)
            if not self.failed():
                yield self.hold(services[self.number])

    class Source(salabim.Component):  # type: ignore[misc]
        def process(self) -> Iterator[Any]:
            for number, arrival in enumerate(arrivals):
                yield self.hold(till=arrival)
                Request(number=number, env=environment)

    Source(env=environment)
    environment.run()


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
        alone, together = best_s(lambda: once(0), lambda: list(pool.map(once, range(2))), times=20)
    return 2.0 * alone / together


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
            for servers in SERVERS:
                rates = measure(servers, limited, n, n_slow, library)
                cells = [f"{name} {rate / 1e6:.3g} M" for name, rate in rates.items()]
                ratios = f"{rates['lull'] / rates['SimPy']:.0f} × SimPy"
                ratios += f", {rates['lull'] / rates['C']:.2f} × C" if "C" in rates else ""
                print(f"  c = {servers:3d}: {' | '.join(cells)} | {ratios}", flush=True)
    print(f"\ntwo threads: {two_threads(n):.2f} × one")
    first = subprocess.run([sys.executable, "-c", FIRST_CALL], capture_output=True, text=True, check=True)
    print(f"first two calls in a new process, kernels cached: {float(first.stdout):.2f} s")


if __name__ == "__main__":
    main()
