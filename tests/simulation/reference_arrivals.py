"""Poisson arrivals in plain Python, one after the other: the twin of `arrivals`, of which it imports nothing."""

import math
from collections.abc import Iterator

from tests.simulation import reference_draws as draws

TRAFFIC, THINNING = 16, 17


def poisson(
    edges_s: list[float],
    rates_rps: list[float],
    seed: int,
    stream: int = 0,
    kept: tuple[float, float] = (0.0, 1.0),
) -> Iterator[float]:
    """Yield every arrival in order: each gap of added-up rate is spent step by step."""
    at_s, step, number = edges_s[0], 0, 0
    gap = draws.exponential(draws.bits(seed, number, stream, TRAFFIC))
    while step < len(rates_rps):
        rate, end_s = rates_rps[step], edges_s[step + 1]
        next_s = at_s + gap * (1.0 / rate) if rate > 0.0 else math.inf
        if next_s < end_s:
            share = draws.uniform(draws.bits(seed, number, stream, THINNING))
            if kept == (0.0, 1.0) or kept[0] <= share < kept[1]:
                yield next_s
            at_s, number = next_s, number + 1
            gap = draws.exponential(draws.bits(seed, number, stream, TRAFFIC))
        else:
            gap, at_s, step = max(0.0, gap - (end_s - at_s) * rate), end_s, step + 1
