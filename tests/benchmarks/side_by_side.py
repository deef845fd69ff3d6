"""
Time several ways to do one thing, in turns; start at `best_s`.

Seconds are those of the processor that the thread had, so that others on the machine count as little as can be.
"""

import time
from collections.abc import Callable
from typing import Any


def best_s(*works: Callable[[], Any], times: int = 7, clock: Callable[[], float] = time.thread_time) -> list[float]:
    """Return the shortest run of each, in seconds, taken in turns: others on the machine then disturb all alike."""
    best = [float("inf")] * len(works)
    for _ in range(times):
        for k, work in enumerate(works):
            began = clock()
            work()
            best[k] = min(best[k], clock() - began)
    return best


def in_cells(rates: dict[str, float]) -> str:
    """Return requests per second by name, as one line."""
    return " | ".join(f"{name} {rate / 1e6:.3g} M" for name, rate in rates.items())


def verdict(value: float, target: float, *, at_most: bool = False) -> str:
    """Return whether a target is met, with the target."""
    is_met = value <= target if at_most else value >= target
    return f"{'met' if is_met else 'MISSED'}: target {'at most' if at_most else 'at least'} {target:g}"
