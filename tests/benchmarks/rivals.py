"""
The same queues in SimPy, Ciw and salabim, a process or component per request; start at `simpy_queue`.

With limits there are ten waiting places and exponential patience of mean 2; with retries, the caller of `Retrying`.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ciw
import numpy as np
import salabim
import simpy

ROOM, PATIENCE_S = 10, 2.0


def draw(
    servers: int, n: int, rng: np.random.Generator, load: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return arrivals, services and patience of n requests."""
    arrivals = np.cumsum(rng.standard_exponential(n) / (load * servers))
    return arrivals, rng.standard_exponential(n), rng.standard_exponential(n) * PATIENCE_S


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


def ciw_queue(servers: int, n: int, limited: bool, load: float = 0.95) -> None:
    """Serve about n requests by Ciw."""
    options: dict[str, Any] = {}
    if limited:
        options = {
            "queue_capacities": [ROOM],
            "reneging_time_distributions": [ciw.dists.Exponential(1.0 / PATIENCE_S)],
        }
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(load * servers)],
        service_distributions=[ciw.dists.Exponential(1.0)],
        number_of_servers=[servers],
        **options,
    )
    ciw.Simulation(network).simulate_until_max_time(n / (load * servers))


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


@dataclass(frozen=True)
class Retrying:
    """A caller who leaves the queue after a timeout and tries again, within a budget, as `Client` describes it."""

    timeout_s: float = 4.0
    retries: int = 3
    backoff_s: float = 0.5
    budget_ratio: float = 0.1
    budget_burst: float = 10.0


def simpy_retries(servers: int, requests: tuple[np.ndarray, ...], caller: Retrying) -> Counter[str]:
    """Serve callers that time out and retry; work whose caller has gone is finished all the same."""
    arrivals, services = requests[0].tolist(), requests[1].tolist()
    environment, seen = simpy.Environment(), Counter[str]()
    pool = simpy.Resource(environment, servers)
    tokens = caller.budget_burst

    def request(i: int) -> Iterator[Any]:
        nonlocal tokens
        tokens = min(caller.budget_burst, tokens + caller.budget_ratio)
        for attempt in range(caller.retries + 1):
            deadline_s = environment.now + caller.timeout_s
            turn = pool.request()
            yield turn | environment.timeout(caller.timeout_s)
            if turn.triggered:
                left_s = deadline_s - environment.now
                work = environment.timeout(services[i])
                work.callbacks.append(lambda _, turn=turn: pool.release(turn))
                if services[i] <= left_s:
                    yield work
                    seen["served"] += 1
                    return
                yield environment.timeout(left_s)
            else:
                turn.cancel()
            seen["timeouts"] += 1
            if attempt == caller.retries or tokens < 1.0:
                break
            tokens -= 1.0
            seen["retries"] += 1
            yield environment.timeout(caller.backoff_s)

    def source() -> Iterator[Any]:
        for i, arrival in enumerate(arrivals):
            yield environment.timeout(arrival - environment.now)
            environment.process(request(i))

    environment.process(source())
    environment.run()
    return seen


def salabim_retries(servers: int, requests: tuple[np.ndarray, ...], caller: Retrying) -> None:
    """Serve the same callers in salabim; one who is being served waits for the end, which makes it a little easier."""
    arrivals, services = requests[0].tolist(), requests[1].tolist()
    environment = salabim.Environment(trace=False, yieldless=False)
    pool = salabim.Resource("pool", capacity=servers, env=environment)

    class Request(salabim.Component):  # type: ignore[misc]
        def setup(self, number: int) -> None:
            self.number = number

        def process(self) -> Iterator[Any]:
            for _ in range(caller.retries + 1):
                yield self.request(pool, fail_delay=caller.timeout_s)
                if not self.failed():
                    yield self.hold(services[self.number])
                    return
                yield self.hold(caller.backoff_s)

    class Source(salabim.Component):  # type: ignore[misc]
        def process(self) -> Iterator[Any]:
            for number, arrival in enumerate(arrivals):
                yield self.hold(till=arrival)
                Request(number=number, env=environment)

    Source(env=environment)
    environment.run()


def ciw_retries(servers: int, n: int, caller: Retrying, load: float) -> None:
    """Serve about n callers in Ciw, where who has left the queue after a timeout cannot come back."""
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(load * servers)],
        service_distributions=[ciw.dists.Exponential(1.0)],
        number_of_servers=[servers],
        reneging_time_distributions=[ciw.dists.Deterministic(caller.timeout_s)],
    )
    ciw.Simulation(network).simulate_until_max_time(n / (load * servers))
