"""Random queues on a grid of 2^-10 s, where sums are exact, and how a result is held against the twin's."""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from simulation.data_plane import QueueResult

TICK_S = 2.0**-10
SHRINKS = ("drain", "evict", "restart", "hand over")


@dataclass
class Case:
    """One queue to compute: what `serve_queue` and the twin are both asked."""

    arrivals: list[float]
    services: list[float]
    servers: int
    patience: list[float] | None = None
    room: int | None = None
    changes: list[tuple[float, int, float]] = field(default_factory=list)
    shrink: str = "drain"


def _times(draw, n, ticks):
    # Few distinct values make simultaneous events common; those are where queues go wrong.
    span = draw(st.sampled_from([3, 20, ticks]))
    return [tick * TICK_S for tick in draw(st.lists(st.integers(0, span), min_size=n, max_size=n))]


@st.composite
def cases(draw, most=30, changing=False, impatient=None, limited=None):
    """Draw a queue of up to `most` requests, with capacity changes if asked; None lets chance choose."""
    n = draw(st.integers(0, most))
    arrivals = np.cumsum(_times(draw, n, 2000)).tolist()
    services = _times(draw, n, 5000)
    patience = None
    if draw(st.booleans()) if impatient is None else impatient:
        patience = _times(draw, n, 5000)
        if draw(st.booleans()):
            patience = [value if index % 3 else float("inf") for index, value in enumerate(patience)]
        elif patience and draw(st.booleans()):
            patience = [patience[0]] * n
    room = draw(st.integers(0, 5)) if (draw(st.booleans()) if limited is None else limited) else None
    servers = draw(st.one_of(st.integers(1, 5), st.integers(1, 40)))
    case = Case(arrivals, services, servers, patience, room)
    if changing:
        gaps = _times(draw, draw(st.integers(1, 5)), 8000)
        moments = np.cumsum([gap + TICK_S for gap in gaps]).tolist()
        pick = [
            (moment, draw(st.integers(0, 5)), draw(st.sampled_from([1.0, 1.0, 0.5, 2.0, 3.0]))) for moment in moments
        ]
        case.changes, case.shrink = pick, draw(st.sampled_from(SHRINKS))
    return case


def assert_same(result: QueueResult, expected: list[tuple[float, float, str]]) -> None:
    """Every start, every departure and every outcome is the twin's, bit for bit."""
    np.testing.assert_array_equal(result.outcome, [outcome for _, _, outcome in expected])
    np.testing.assert_array_equal(result.starts_s, [start for start, _, _ in expected])
    np.testing.assert_array_equal(result.departures_s, [departure for _, departure, _ in expected])
