"""The exact first-come-first-served queue: arrays of seconds in, what became of each request out. See `serve_queue`."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulation.data_plane.fcfs_kernel import UNLIMITED, serve_until
from simulation.data_plane.workload import (
    checked_arrivals,
    checked_count,
    checked_patience,
    checked_room,
    checked_services,
    frozen,
)

Floats = NDArray[np.float64]


class Outcome(StrEnum):
    """What became of a request; the order is that of the kernel's codes."""

    SERVED = "served"
    REJECTED = "rejected"  # nobody was free and all waiting places were taken
    ABANDONED = "abandoned"  # its patience ended before its service began
    WAITING = "waiting"  # no server ever came: only where capacity ends at 0


_NAMES = np.array([outcome.value for outcome in Outcome])


@dataclass(frozen=True)
class QueueResult:
    """
    What became of each request; all arrays are read-only and in the order of the arrivals.

    Attributes
    ----------
    starts_s, departures_s : shape (n,), seconds
        When its service began and ended; NaN where it was not served.
    waits_s : shape (n,), seconds, >= 0
        From arrival to start; NaN where it was not served.
    outcome_codes : shape (n,), uint8
        What became of it, as a position in `Outcome`: one byte per request.
    """

    starts_s: Floats
    departures_s: Floats
    waits_s: Floats
    outcome_codes: NDArray[np.uint8]

    @cached_property
    def outcome(self) -> NDArray[np.str_]:
        """
        What became of each request by name, shape (n,): "served", "rejected", "abandoned" or "waiting".

        Made on first use, because text takes forty times the room of the codes; compares with `Outcome`.
        """
        return frozen(_NAMES[self.outcome_codes])

    @property
    def counts(self) -> dict[str, int]:
        """How many requests ended in which way; they add up to the number of arrivals."""
        return dict(zip(_NAMES.tolist(), np.bincount(self.outcome_codes, minlength=len(_NAMES)).tolist(), strict=True))


def serve_queue(
    arrivals_s: ArrayLike,
    services_s: ArrayLike,
    servers: int,
    *,
    patience_s: ArrayLike | None = None,
    room: int | None = None,
) -> QueueResult:
    """
    Serve requests first come, first served, by ``servers`` equal servers, and say what became of each.

    Parameters
    ----------
    arrivals_s : shape (n,), seconds, >= 0, non-decreasing
        When each request comes; of two at one instant the first in the array is first.
    services_s : shape (n,), seconds, >= 0
        How long each occupies a server.
    servers : >= 1
        How many are served at once.
    patience_s : seconds, >= 0, one number or shape (n,), optional
        The longest wait before service starts; a request whose wait would equal it is served. None or infinity:
        it waits for ever.
    room : >= 0, optional
        Waiting places; 0 makes a loss system, None leaves the line without limit. A request that finds no free
        server and no free place is rejected.

    Returns
    -------
    QueueResult
        Start, departure, wait and outcome of each request.

    Raises
    ------
    InvalidWorkload
        If an array is unsorted, holds a negative, infinite or NaN value, or has another length than ``arrivals_s``;
        if ``servers`` or ``room`` is not a whole number in its range.

    Notes
    -----
    Exact: no step size, no random draw; O(n log servers), with room and patience together O(n log(servers × room)).
    At one instant: services end, waiting requests start, the impatient leave, requests arrive. The interpreter
    lock is released, so that runs in threads go side by side.

    References
    ----------
    Kiefer and Wolfowitz (1955), "On the theory of queues with many servers".

    Examples
    --------
    >>> result = serve_queue([0.0, 1.0, 1.5], [3.0, 3.0, 1.0], 1, patience_s=2.0)
    >>> result.waits_s
    array([ 0.,  2., nan])
    >>> [str(name) for name in result.outcome]
    ['served', 'served', 'abandoned']
    """
    arrivals = checked_arrivals(arrivals_s)
    n = arrivals.shape[0]
    services = checked_services(services_s, n)
    patience = checked_patience(patience_s, n)
    n_servers = min(checked_count("servers", servers, 1), max(1, n))  # more servers than requests: the rest never work
    places = checked_room(room)
    starts, departures, codes = np.empty(n), np.empty(n), np.empty(n, np.uint8)
    serve_until(
        frozen(arrivals),
        frozen(services),
        None if patience is None else frozen(patience),
        UNLIMITED if places >= n else places,
        1.0,
        n_servers,
        0.0,
        np.inf,
        frozen(np.empty(0, np.int64)),
        0,
        n,
        starts,
        departures,
        codes,
    )
    return QueueResult(frozen(starts), frozen(departures), frozen(starts - arrivals), frozen(codes))
