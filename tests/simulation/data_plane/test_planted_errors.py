"""The tests are tested: each error planted in the compiled source of the exact queue is caught by the twin or a law."""

import re
import types
from pathlib import Path

import numpy as np
import pytest

from simulation.data_plane import changing_capacity, fcfs, fcfs_kernel
from tests.simulation.data_plane.fcfs_cases import SHRINKS, TICK_S, Case, assert_same
from tests.simulation.reference import last_moment, serve

SOURCE = Path(fcfs_kernel.__file__).read_text()

PLANTED = {
    "the tournament is for the latest": ("sooner = other_s < free_s", "sooner = other_s > free_s"),
    "the loser stays under the winner's name": ("leaf[node] = winner if sooner", "leaf[node] = other if sooner"),
    "a missing server is free": ("leaf_time_s = np.full(size, np.inf)", "leaf_time_s = np.full(size, 0.0)"),
    "a service begins before its request": ("start_s = max(arrival_s, free_s)", "start_s = free_s"),
    "a request waits beside an idle server": ("start_s = max(arrival_s, free_s)", "start_s = arrival_s + free_s"),
    "a wait equal to the patience is refused": ("> patience_s[i]:", ">= patience_s[i]:"),
    "infinite patience acts as 1": (
        "start_s - arrival_s > patience_s[i]:",
        "start_s - arrival_s > 1.0 and (patience_s := np.minimum(patience_s, 1.0)) is not None:",
    ),
    "who gives up holds the server": ("if abandons or start_s >= until_s:", "if start_s >= until_s:"),
    "who gives up counts as waiting until served": (
        "push(leaving_s, n_waiting, leaves_line_s)",
        "push(leaving_s, n_waiting, start_s)",
    ),
    "one place too many": ("full = n_waiting >= room", "full = n_waiting > room"),
    "room 0 is no limit": ("full = room == 0 or ", "full = "),
    "room needs a place beside a free server": ("if limited and start_s > arrival_s and", "if limited and"),
    "who starts now still waits, in the ring": ("leaving_s[slot] > arrival_s", "leaving_s[slot] >= arrival_s"),
    "who starts now still waits, in the heap": ("leaving_s[0] <= arrival_s", "leaving_s[0] < arrival_s"),
    "the ring is one too long": ("slot + 1 if slot + 1 < room else 0", "slot + 1 if slot < room else 0"),
    "the line rejects those in it": (" and start_s > arrival_s and not carried:", " and start_s > arrival_s:"),
    "the heap rises the wrong way": ("heap[(at - 1) // 2] > value", "heap[(at - 1) // 2] < value"),
    "the heap sinks to the larger child": ("heap[child + 1] < heap[child]", "heap[child + 1] > heap[child]"),
    "a start at the epoch is settled": ("if abandons or start_s >= until_s:", "if abandons or start_s > until_s:"),
    "the impatient leave before the epoch's starts": ("leaves_line_s < until_s", "leaves_line_s <= until_s"),
    "a service that ends at the epoch runs on": ("elif finish_s[i] <= until_s:", "elif finish_s[i] < until_s:"),
    "an idle server works in the past": ("np.full(servers, now_s)", "np.full(servers, 0.0)"),
    "draining frees the wrong servers": ("[max(0, n_busy - servers) :]", "[:servers]"),
    "eviction takes the first comer": ("for i in active[::-1]:", "for i in active:"),
    "eviction loses the work done": ("if shrink == EVICT:", "if False:"),
    "evicted work is counted in slow seconds": ("(finish_s[i] - now_s) / slowdown", "(finish_s[i] - now_s)"),
    "the evicted give up": ("patience_s[i] = np.inf", "patience_s[i] = patience_s[i]"),
    "the evicted wait twice": ("if not (carried and code[i] == PREEMPTED):", "if True:"),
    "the evicted are lost": ("code[i] == WAITING or code[i] == PREEMPTED", "code[i] == WAITING"),
    "restart resumes": ("if shrink == EVICT:", "if shrink != HAND_OVER:"),
    "what is handed over keeps its server": ("code[i] = ELSEWHERE", "code[i] = RUNNING"),
    "slowdown is forgotten": ("left_s[i] * slowdown", "left_s[i]"),
    "the new speed is turned round": ("(new_slowdown / slowdown)", "(slowdown / new_slowdown)"),
    "a gap is carried across the change": ("arrivals_s[last] < until_s", "arrivals_s[last] <= until_s"),
    "arrival plus patience is trusted": ("while last_s - arrival_s > patience_s:", "while False:"),
    "the last moment is one too early": ("while after_s - arrival_s <= patience_s:", "while False:"),
}


def plain_kernel(old: str = "", new: str = "") -> types.ModuleType:
    """Return the kernel as plain Python, with one piece of its text replaced wherever it stands."""
    assert old in SOURCE, f"the kernel no longer says {old!r}: plant this error anew"
    text = re.sub(r"@njit\(.*\)\n", "", SOURCE.replace(old, new) if old else SOURCE)
    module = types.ModuleType("planted_kernel")
    exec(compile(text, "planted_kernel", "exec"), module.__dict__)
    return module


def random_case(rng: np.random.Generator) -> Case:
    """Return a small crowded queue on the grid, more often than not with limits and changes."""
    n = int(rng.integers(1, 25))
    span = int(rng.choice([2, 8, 40]))
    patience = rng.integers(0, 2 * span, n) * TICK_S if rng.random() < 0.6 else None
    if patience is not None and rng.random() < 0.5:
        patience[rng.random(n) < 0.5] = np.inf
    case = Case(
        (np.cumsum(rng.integers(0, span, n)) * TICK_S).tolist(),
        (rng.integers(0, 3 * span, n) * rng.choice([TICK_S, 1.0])).tolist(),
        int(rng.integers(1, 7)),
        None if patience is None else patience.tolist(),
        int(rng.integers(0, rng.choice([4, 12]))) if rng.random() < 0.6 else None,
    )
    if rng.random() < 0.7:
        moments = np.cumsum(rng.integers(1, 6 * span, int(rng.integers(1, 5)))) * TICK_S
        case.changes = [(float(at), int(rng.integers(0, 5)), float(rng.choice([1.0, 2.0, 0.5]))) for at in moments]
        case.shrink = str(rng.choice(SHRINKS))
    return case


def examine(kernel: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold a kernel against the twin in 500 cases, and its last moment of patience against the definition."""
    monkeypatch.setattr(fcfs, "serve_until", kernel.serve_until)
    monkeypatch.setattr(changing_capacity, "kernel", kernel)
    rng = np.random.default_rng(7)
    for _ in range(500):
        case = random_case(rng)
        expected = serve(
            case.arrivals, case.services, case.servers, case.patience, case.room, case.changes, case.shrink
        )
        if case.changes:
            steps = [changing_capacity.CapacityStep(*step) for step in [(0.0, case.servers, 1.0), *case.changes]]
            result = changing_capacity.serve_schedule(
                case.arrivals, case.services, steps, patience_s=case.patience, room=case.room, running=case.shrink
            )
        else:
            result = fcfs.serve_queue(
                case.arrivals, case.services, case.servers, patience_s=case.patience, room=case.room
            )
        assert_same(result, expected)
    halfway = (2.0**-41, 2.0**12 + 2.0**-39)  # arrival + patience lies between two floats: rounded up, down, to even
    for arrival, patience in [*rng.exponential([1e4, 1.0], (200, 2)), *rng.random((200, 2)), halfway]:
        assert kernel.latest_start(arrival, patience) == last_moment(arrival, patience)


def test_the_kernel_as_it_stands_passes(monkeypatch):
    examine(plain_kernel(), monkeypatch)


@pytest.mark.parametrize("error", PLANTED)
def test_a_planted_error_is_caught(error, monkeypatch):
    kernel = plain_kernel(*PLANTED[error])
    with pytest.raises((AssertionError, IndexError, ValueError)):
        examine(kernel, monkeypatch)
