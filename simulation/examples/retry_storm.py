"""A retry storm: capacity falls for two minutes; the pool stays down for good, unless retries have a budget."""

import numpy as np

from simulation.data_plane.pool import ServingPool
from simulation.data_plane.pool_settings import Client, Distribution, PoolSettings, RetryBudget
from simulation.randomness import Purpose, exponentials

LOAD_RPS, TIMEOUT_S, SERVERS, FEWER = 5.0, 3.0, 10, 4


def play(budget: RetryBudget | None, fewer: int) -> ServingPool:
    """Return the pool after 2,000 s: ten servers of 1 request/s, ``fewer`` on [200, 320), three retries at once."""
    client = Client(timeout_s=TIMEOUT_S, retries=3, budget=budget)
    service = Distribution("exponential", 1.0)
    pool = ServingPool(PoolSettings.simple(SERVERS, service, client=client, slo_s=TIMEOUT_S, bucket_s=100.0), seed=1)
    arrivals_s = np.cumsum(exponentials(1, np.arange(17_000), 0, Purpose.TRAFFIC)) / LOAD_RPS
    pool.offer(arrivals_s[arrivals_s < 2000.0])
    for at_s, servers in ((200.0, fewer), (320.0, SERVERS)):
        pool.advance(at_s)
        pool.set_capacity(servers_per_replica=servers, running_work="drain")
    pool.advance(2000.0)
    pool.check_conservation()
    return pool


def main() -> None:
    """Draw both runs, a row for every other 100 s: answers in time, a mark for each 2.5 %."""
    runs = (
        (f"3 retries, capacity {SERVERS} throughout", None, SERVERS),
        (f"3 retries, capacity {FEWER} from 200 to 320 s", None, FEWER),
        ("the same with a budget of 0.1 retries per request", RetryBudget(0.1), FEWER),
    )
    for name, budget, fewer in runs:
        minutes = play(budget, fewer).result().minutes
        ended = minutes["good"] + minutes["bad"]
        print(f"{LOAD_RPS:g} requests/s, {name}")
        print("   from s  in time  attempts/s")
        for k in range(0, 20, 2):
            share = minutes["good"][k] / ended[k]
            bar = "#" * round(40 * share)
            print(f"{minutes.start_s[k]:9.0f}{share:9.0%}{minutes['attempts'][k] / 100.0:12.1f}  {bar}".rstrip())
        print()


if __name__ == "__main__":
    main()
