"""Two pools on the same days: how much less noise a comparison has when both serve the same requests."""

import numpy as np

from simulation.data_plane.pool import ServingPool
from simulation.data_plane.pool_settings import Distribution, PoolSettings
from simulation.randomness import Purpose, exponentials

LOAD_RPS, DAYS = 8.0, 40


def mean_latency_s(settings: PoolSettings, seed: int) -> float:
    """Play one day of 20,000 requests; draws belong to the request, whatever the pool does with it."""
    pool = ServingPool(settings, seed)
    pool.offer(np.cumsum(exponentials(seed, np.arange(20_000), 0, Purpose.TRAFFIC)) / LOAD_RPS)
    pool.finish()
    return pool.result().mean_latency_s


def main() -> None:
    """Compare ten servers with a model 1 % slower, and with nine servers, on paired and on independent days."""
    usual = PoolSettings.simple(10, Distribution("exponential", 1.0))
    others = {
        "1 % slower": PoolSettings.simple(10, Distribution("exponential", 1.01)),
        "9 servers": PoolSettings.simple(9, Distribution("exponential", 1.0)),
    }
    base = np.array([mean_latency_s(usual, seed) for seed in range(DAYS)])
    print(f"Mean latency of 10 servers: {base.mean():.4f} s, {DAYS} days of 20,000 requests")
    print(f"{'':12}{'same days: difference':>25}{'other days: difference':>26}{'variance ratio':>17}")
    for name, settings in others.items():
        paired = np.array([mean_latency_s(settings, seed) for seed in range(DAYS)]) - base
        apart = np.array([mean_latency_s(settings, 1000 + seed) for seed in range(DAYS)]) - base
        cells = [f"{d.mean():+.4f} ± {1.96 * d.std(ddof=1) / np.sqrt(DAYS):.4f} s" for d in (paired, apart)]
        print(f"{name:12}{cells[0]:>25}{cells[1]:>26}{apart.var(ddof=1) / paired.var(ddof=1):17.1f}")


if __name__ == "__main__":
    main()
