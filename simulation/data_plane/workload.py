"""Turn what a caller passes as requests into checked arrays, or refuse it in one sentence that names the value."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from simulation.errors import InvalidWorkload

Floats = NDArray[np.float64]


@njit(cache=True, nogil=True)
def first_unsorted(arrivals_s: Floats, at_least_s: float) -> int:
    """Return the first position that is before its predecessor, infinite or NaN; -1 if there is none."""
    before_s = at_least_s
    for i in range(arrivals_s.shape[0]):
        if not before_s <= arrivals_s[i] < np.inf:
            return i
        before_s = arrivals_s[i]
    return -1


@njit(cache=True, nogil=True)
def first_negative(durations_s: Floats, limit_s: float) -> int:
    """Return the first position that is negative, NaN or above the limit; -1 if there is none."""
    for i in range(durations_s.shape[0]):
        if not 0.0 <= durations_s[i] <= limit_s:
            return i
    return -1


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only view: results stay as computed, and kernels are compiled for one kind of array only."""
    view = array.view()
    view.flags.writeable = False
    return view


def _floats(name: str, values: ArrayLike) -> Floats:
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "iuf":
            raise TypeError(f"holds {array.dtype}")
        floats = np.ascontiguousarray(array, dtype=np.float64)
    except (TypeError, ValueError) as problem:
        raise InvalidWorkload(f"{name} must be real numbers of seconds: {problem}") from problem
    if array.ndim != 1:
        raise InvalidWorkload(f"{name} must have one dimension, got shape {array.shape}; pass one number per request")
    return floats


def _refuse(name: str, values: Floats, find: Callable[[Floats, float], int], limit: float, remedy: str) -> None:
    at = find(frozen(values), limit)
    if at >= 0:
        raise InvalidWorkload(f"{name}[{at}] is {values[at]:g}; {remedy}")


def checked_arrivals(arrivals_s: ArrayLike, at_least_s: float = 0.0) -> Floats:
    """Return arrival times as float64, shape (n,); refuse unsorted, infinite, NaN or too early ones."""
    arrivals = _floats("arrivals_s", arrivals_s)
    remedy = f"arrivals must be finite, {at_least_s:g} or later, and each no earlier than the one before: sort them"
    _refuse("arrivals_s", arrivals, first_unsorted, at_least_s, remedy)
    return arrivals


def checked_services(services_s: ArrayLike, n: int) -> Floats:
    """Return service times as float64, shape (n,); refuse negative, infinite and NaN ones."""
    services = _floats("services_s", services_s)
    if services.shape[0] != n:
        raise InvalidWorkload(f"services_s has {services.shape[0]} values for {n} arrivals; pass one per request")
    longest_s = float(np.finfo(np.float64).max)
    _refuse("services_s", services, first_negative, longest_s, "service times must be finite and not negative")
    return services


def checked_patience(patience_s: ArrayLike | None, n: int) -> Floats | None:
    """Return patience as float64, shape (n,), or None where nobody leaves; refuse negative and NaN values."""
    if patience_s is None:
        return None
    remedy = "patience must be 0 or more; infinity, or None for all, means that nobody leaves"
    if np.ndim(patience_s) == 0:
        patience = _floats("patience_s", np.reshape(np.asarray(patience_s), 1))
        if not patience[0] >= 0.0:
            raise InvalidWorkload(f"patience_s is {patience[0]:g}; {remedy}")
        return None if patience[0] == np.inf else np.full(n, patience[0])
    patience = _floats("patience_s", patience_s)
    if patience.shape[0] != n:
        raise InvalidWorkload(f"patience_s has {patience.shape[0]} values for {n} arrivals; pass one, or one each")
    _refuse("patience_s", patience, first_negative, np.inf, remedy)
    return patience


def checked_count(name: str, value: object, least: int) -> int:
    """Return a whole number of servers or places; refuse fractions, truth values and what is below ``least``."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < least:
        raise InvalidWorkload(f"{name} is {value!r}; it must be a whole number, {least} or more")
    return int(value)


def checked_room(room: object) -> int:
    """Return the number of waiting places, -1 for no limit."""
    return -1 if room is None else checked_count("room", room, 0)
