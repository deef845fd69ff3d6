"""
A queue as a fluid: how a line grows and drains where single requests do not matter; start at `fluid_line`.

dQ/dt = λ(t)·m(late(Q)) − c(t)μ(t), Q between 0 and the queue limit; m is the number of attempts per request when a
share ``late`` of them passes the timeout (see `simulation/planning/retry_feedback.py`).
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulation.errors import InvalidWorkload

FloatArray = NDArray[np.float64]


@njit(cache=True, nogil=True)
def _line_after(
    load_rps: FloatArray,
    capacity_rps: FloatArray,
    slowdown: FloatArray,
    step_s: float,
    parts: int,
    longest: float,
    timeout_s: float,
    exceeds: FloatArray,
    grid_s: float,
    retries: int,
    most_attempts: float,
    line: FloatArray,
) -> None:
    """Write the line at the end of each step into ``line``; ``parts`` Euler steps make a step."""
    waiting, last = 0.0, exceeds.shape[0] - 1
    for k in range(load_rps.shape[0]):
        for _ in range(parts):
            late = 0.0
            if timeout_s < np.inf:
                left_s = timeout_s
                if waiting > 0.0:
                    left_s = timeout_s - waiting / capacity_rps[k] if capacity_rps[k] > 0.0 else 0.0
                if left_s <= 0.0:
                    late = 1.0
                else:
                    place = left_s / slowdown[k] / grid_s
                    low = min(int(place), last - 1)
                    late = exceeds[low] + min(1.0, place - low) * (exceeds[low + 1] - exceeds[low])
            attempts = 1.0
            for _ in range(retries):
                attempts = 1.0 + late * attempts
            attempts = min(attempts, most_attempts)
            before = waiting
            waiting += (load_rps[k] * attempts - capacity_rps[k]) * step_s / parts
            waiting = min(max(waiting, 0.0), longest)
            if waiting == before:  # empty, full or in balance: it stays so for the rest of the step
                break
        line[k] = waiting


def fluid_line(
    load_rps: FloatArray,
    capacity_rps: FloatArray,
    slowdown: FloatArray,
    *,
    step_s: float,
    exceeds: FloatArray,
    timeout_s: float,
    retries: int,
    most_attempts: float = np.inf,
    longest: float = np.inf,
) -> FloatArray:
    """
    Return the length of the line at the end of each step, shape (n,), from an empty pool on.

    Parameters
    ----------
    load_rps, capacity_rps, slowdown : shape (n,)
        Requests per second, requests per second that can be served, factor on service times; one per step.
    step_s : > 0 seconds
    exceeds : shape (m,), P(service time > k × timeout / (m − 1)), for k from 0; at least 2
    timeout_s : > 0 seconds per attempt, or infinity: nobody is late
    retries : >= 0, after a timeout
    most_attempts : attempts per request that a retry budget allows, >= 1
    longest : waiting places

    Raises
    ------
    InvalidWorkload
        If shapes differ or a value is out of its range.

    Notes
    -----
    Euler steps of an eighth of the timeout, 5 s at most. Randomness is left out: near capacity real lines are longer.

    References
    ----------
    Newell (1971), Applications of Queueing Theory, chapter 2: fluid approximations.
    """
    load, capacity, slow = (np.ascontiguousarray(a, np.float64) for a in (load_rps, capacity_rps, slowdown))
    arrays = (load, capacity, slow)
    if arrays[0].ndim != 1 or any(a.shape != arrays[0].shape for a in arrays):
        raise InvalidWorkload(
            f"load_rps, capacity_rps and slowdown have shapes {', '.join(str(a.shape) for a in arrays)}; "
            "give one number per step in each"
        )
    for name, array, least in zip(("load_rps", "capacity_rps", "slowdown"), arrays, (0.0, 0.0, 1e-9), strict=True):
        if not ((array >= least) & (array < np.inf)).all():
            at = int(np.argmin((array >= least) & (array < np.inf)))
            raise InvalidWorkload(f"{name}[{at}] is {array[at]:g}; give finite numbers from {least:g} on")
    if not (0.0 < step_s < np.inf and timeout_s > 0.0 and retries >= 0 and most_attempts >= 1.0 and longest >= 0.0):
        raise InvalidWorkload(
            f"step_s {step_s!r}, timeout_s {timeout_s!r}, retries {retries!r}, most_attempts {most_attempts!r} and "
            f"longest {longest!r}: times are above 0, attempts 1 or more, counts 0 or more"
        )
    table = np.ascontiguousarray(exceeds, np.float64)
    if table.ndim != 1 or table.shape[0] < 2:
        raise InvalidWorkload(f"exceeds has shape {table.shape}; give at least two probabilities")
    line = np.empty(load.shape)
    parts = max(1, int(np.ceil(step_s / min(5.0, timeout_s / 8.0))))
    grid_s = timeout_s / (table.shape[0] - 1) if timeout_s < np.inf else 1.0
    _line_after(load, capacity, slow, step_s, parts, longest, timeout_s, table, grid_s, retries, most_attempts, line)
    return line
