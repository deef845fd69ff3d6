"""A rollout with rollback: green takes more traffic step by step until its errors are told apart from blue's."""

import numpy as np

from simulation.data_plane.pool import ServingPool
from simulation.data_plane.pool_settings import BLUE, GREEN, Distribution, PoolSettings, Version
from simulation.randomness import Purpose, exponentials

LOAD_RPS, STEP_S, MARGIN = 40.0, 120.0, 0.01
SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)


def worse_by(errors: tuple[int, int], finished: tuple[int, int]) -> tuple[float, float]:
    """Return by how much green's error ratio is above blue's, and three standard errors of that."""
    ratios = [e / max(1, n) for e, n in zip(errors, finished, strict=True)]
    variance = sum(p * (1 - p) / max(1, n) for p, n in zip(ratios, finished, strict=True))
    return ratios[GREEN] - ratios[BLUE], 3.0 * float(np.sqrt(variance))


def main() -> None:
    """Roll out a green that is as fast as blue, and fails on 4 % of requests where blue fails on 0.5 %."""
    versions = (Version(2, 4, error_ratio=0.005), Version(2, 4, error_ratio=0.04))
    pool = ServingPool(PoolSettings(Distribution("lognormal", 0.1, 1.0), versions, slo_s=1.0), seed=1)
    pool.offer(np.cumsum(exponentials(1, np.arange(40_000), 0, Purpose.TRAFFIC)) / LOAD_RPS)
    errors, finished, now_s = [0, 0], [0, 0], 0.0
    print("   share of green   answers of green    errors: blue   green      worse by")
    for share in SHARES:
        pool.set_green_share(share)
        now_s += STEP_S
        pool.advance(now_s)
        for version, seen in enumerate(pool.observe().by_version):
            errors[version] += seen.errors
            finished[version] += seen.finished
        gap, sure = worse_by((errors[0], errors[1]), (finished[0], finished[1]))
        ratios = [e / max(1, n) for e, n in zip(errors, finished, strict=True)]
        print(f"{share:17.0%}{finished[GREEN]:19,}{ratios[BLUE]:16.2%}{ratios[GREEN]:8.2%}{gap:+9.2%} ± {sure:.2%}")
        if gap - sure > MARGIN:
            pool.set_green_share(0.0)
            print(f"rolled back at {now_s:g} s: green is worse by more than {MARGIN:.0%} for sure")
            break
    pool.finish()
    pool.check_conservation()
    result = pool.result().counters
    print(f"{result['offered']:,} requests: {result['served']:,} served, {result['failed']:,} failed, none lost")


if __name__ == "__main__":
    main()
