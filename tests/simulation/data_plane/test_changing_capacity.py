"""Capacity that changes: the same queue as the twin's, one run however it is split, and explicit about running work."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.data_plane import serve_queue
from simulation.data_plane.changing_capacity import CapacityStep, FcfsQueue, serve_schedule
from simulation.errors import InvalidWorkload
from tests.simulation.data_plane.fcfs_cases import SHRINKS, TICK_S, Case, assert_same, cases
from tests.simulation.reference import serve

quick = settings(deadline=None, max_examples=150)


def steps(case: Case) -> list[CapacityStep]:
    return [CapacityStep(0.0, case.servers), *(CapacityStep(*change) for change in case.changes)]


def by_schedule(case: Case):
    return serve_schedule(
        case.arrivals, case.services, steps(case), patience_s=case.patience, room=case.room, running=case.shrink
    )


def by_steps(case: Case, pauses: list[float], chunk: int):
    """Play the case through the online queue, with pauses at which nothing changes; return (start, finish, outcome)."""
    queue = FcfsQueue(case.servers, room=case.room)
    rows = [(np.nan, np.nan, "waiting")] * len(case.arrivals)
    changes = {moment: (servers, slowdown) for moment, servers, slowdown in case.changes}
    offered = 0
    for epoch in [*sorted({*pauses, *changes}), np.inf]:
        while offered < len(case.arrivals) and case.arrivals[offered] < epoch:  # only what is needed, chunk by chunk
            part = slice(offered, offered + chunk)
            patience = None if case.patience is None else case.patience[part]
            queue.offer(case.arrivals[part], case.services[part], patience)
            offered += chunk
        settled = queue.advance(epoch)
        for number, start, finish, outcome in zip(
            settled.numbers, settled.starts_s, settled.departures_s, settled.outcome, strict=True
        ):
            rows[number] = (start, finish, str(outcome))
        queue = FcfsQueue.resume(queue.state)
        if epoch in changes:
            queue.change(servers=changes[epoch][0], slowdown=changes[epoch][1], running=case.shrink)
    left = queue.state
    for number, start in zip(left.numbers, left.starts_s, strict=True):
        rows[number] = (start, np.nan, "waiting")
    return rows


def test_three_jobs_wait_for_the_capacity_that_comes_and_goes():
    capacity = [CapacityStep(0, 0), CapacityStep(5, 1), CapacityStep(10, 0), CapacityStep(15, 1)]
    assert serve_schedule([0, 0, 0], [5, 5, 5], capacity).departures_s.tolist() == [10, 20, 25]


@quick
@given(cases(changing=True))
def test_a_schedule_fares_as_in_the_plain_twin(case):
    expected = serve(case.arrivals, case.services, case.servers, case.patience, case.room, case.changes, case.shrink)
    assert_same(by_schedule(case), expected)


@quick
@given(cases(changing=True), st.lists(st.integers(0, 20_000), max_size=6), st.integers(1, 7))
def test_a_run_split_anywhere_is_one_run_bit_for_bit(case, ticks, chunk):
    rows = by_steps(case, [tick * TICK_S for tick in ticks], chunk)
    assert_same(by_schedule(case), rows)


@quick
@given(cases(), st.lists(st.integers(0, 20_000), max_size=6), st.integers(1, 7))
def test_pauses_without_a_change_leave_the_plain_queue(case, ticks, chunk):
    rows = by_steps(case, [tick * TICK_S for tick in ticks], chunk)
    assert_same(serve_queue(case.arrivals, case.services, case.servers, patience_s=case.patience, room=case.room), rows)


@quick
@given(st.integers(0, 2**32 - 1), st.sampled_from(SHRINKS), st.integers(1, 60))
def test_splits_lose_no_bit_off_the_grid(seed, shrink, chunk):
    rng = np.random.default_rng(seed)
    arrivals, services = np.cumsum(rng.exponential(1.0, 60)) + 1e4 * rng.random(), rng.exponential(3.0, 60)
    patience = rng.choice([0.1, 0.7, 2.3, np.inf], 60)
    moments = np.sort(rng.choice(arrivals, 4, replace=False) + rng.choice([0.0, 0.3], 4))
    changes = [(float(moment), int(rng.integers(0, 5)), float(rng.choice([1.0, 1.7]))) for moment in moments]
    case = Case(arrivals.tolist(), services.tolist(), 3, patience.tolist(), int(rng.integers(0, 6)), changes, shrink)
    pauses = rng.uniform(arrivals[0], arrivals[-1] + 5, 8).tolist()
    assert_same(by_schedule(case), by_steps(case, pauses, chunk))
    expected = serve(case.arrivals, case.services, 3, case.patience, case.room, changes, shrink)
    assert_same(by_schedule(case), expected)


@quick
@given(cases(changing=True, impatient=False, limited=False))
def test_no_choice_for_running_work_loses_a_request(case):
    case.changes.append((case.changes[-1][0] + 1.0, 2, 1.0))
    for case.shrink in SHRINKS:
        assert by_schedule(case).counts["served"] == len(case.arrivals)


@quick
@given(cases(changing=True))
def test_a_change_reorders_nothing(case):
    starts = by_schedule(case).starts_s
    assert (np.diff(starts[np.isfinite(starts)]) >= 0).all()


def two_run_when_one_server_goes(shrink):
    # Two services of 10 s start at 0 and 1; at 4 s one server goes, at 20 s it comes back. A third waits from 2 s.
    capacity = [CapacityStep(0, 2), CapacityStep(4, 1), CapacityStep(20, 2)]
    return serve_schedule([0, 1, 2], [10, 10, 3], capacity, running=shrink)


def test_drain_lets_both_finish_and_starts_nobody_until_fewer_run_than_servers_remain():
    result = two_run_when_one_server_goes("drain")
    assert result.departures_s.tolist() == [10, 11, 14]
    assert result.starts_s.tolist() == [0, 1, 11]


def test_evict_puts_the_last_comer_at_the_head_of_the_line_and_keeps_its_work():
    result = two_run_when_one_server_goes("evict")
    assert result.departures_s.tolist() == [10, 17, 20]  # 3 s done, 7 s left at 10
    assert result.starts_s.tolist() == [0, 1, 17]  # a wait ends when service first starts


def test_restart_puts_it_at_the_head_of_the_line_and_begins_anew():
    result = two_run_when_one_server_goes("restart")
    assert result.departures_s.tolist() == [10, 20, 23]


def test_hand_over_frees_the_server_without_touching_the_work():
    result = two_run_when_one_server_goes("hand over")
    assert result.departures_s.tolist() == [10, 11, 13]


def test_a_new_speed_rescales_only_what_is_left():
    capacity = [CapacityStep(0, 1), CapacityStep(4, 1, slowdown=2.0), CapacityStep(8, 1, slowdown=0.5)]
    assert serve_schedule([0, 0], [7, 4], capacity).departures_s.tolist() == [8.5, 10.5]


def test_capacity_is_used_at_once_when_it_comes():
    capacity = [CapacityStep(0, 1), CapacityStep(3, 3)]
    assert serve_schedule([0, 1, 2], [10, 1, 1], capacity).starts_s.tolist() == [0, 3, 3]


def test_a_service_that_ends_at_the_change_is_done_not_evicted():
    capacity = [CapacityStep(0, 1), CapacityStep(5, 0)]
    assert serve_schedule([0, 1], [5, 5], capacity, running="evict").outcome.tolist() == ["served", "waiting"]


def test_a_closed_queue_keeps_its_line_and_says_so():
    queue = FcfsQueue(0)
    queue.offer([1, 2], [1, 1], patience_s=[5, np.inf])
    assert queue.advance(10).outcome.tolist() == ["abandoned"]
    assert (queue.n_waiting, queue.n_running, queue.n_in_system) == (1, 0, 1)
    assert queue.advance(np.inf).numbers.shape == (0,)
    assert queue.n_waiting == 1


def test_a_start_at_the_epoch_stays_open():
    queue = FcfsQueue(1)
    queue.offer([0, 0], [5, 5])
    assert queue.advance(5).numbers.tolist() == [0]
    assert (queue.n_waiting, queue.n_running) == (1, 0)
    queue.change(servers=0)
    queue.advance(8)
    queue.change(servers=1)
    assert queue.advance(np.inf).starts_s.tolist() == [8]


def test_a_smaller_room_turns_away_newcomers_only():
    queue = FcfsQueue(1, room=3)
    queue.offer([0, 1, 2, 3], [10, 1, 1, 1])
    queue.advance(4)
    queue.change(room=1)
    queue.offer([5, 10.5, 11.5, 12.5], [1, 1, 1, 1])
    assert queue.advance(np.inf).outcome.tolist() == ["served"] * 4 + ["rejected"] * 3 + ["served"]
    queue = FcfsQueue(1, room=0)
    queue.change(room=None)
    queue.offer([0, 0], [1, 1])
    assert queue.advance(np.inf).counts["served"] == 2


def test_a_state_can_be_resumed_twice_for_a_what_if():
    queue = FcfsQueue(2)
    queue.offer(np.arange(20.0), np.full(20, 2.5))
    queue.advance(7)
    other = FcfsQueue.resume(queue.state)
    other.change(servers=1)
    assert other.advance(np.inf).departures_s[-1] > queue.advance(np.inf).departures_s[-1]


def test_memory_holds_only_the_requests_that_are_not_settled():
    queue = FcfsQueue(2)
    for hour in range(50):
        queue.offer(hour * 100 + np.arange(100.0), np.full(100, 1.5))
        queue.advance((hour + 1) * 100)
        assert queue.state.numbers.shape[0] <= 2


@pytest.mark.parametrize(
    ("attempt", "sentence"),
    [
        (lambda: FcfsQueue(-1), "servers is -1; it must be a whole number, 0 or more"),
        (lambda: FcfsQueue(1, room=-2), "room is -2"),
        (lambda: FcfsQueue(1, slowdown=0), "slowdown is 0; it must be finite and above 0"),
        (lambda: FcfsQueue(1, now_s=np.nan), "now_s is nan"),
        (lambda: FcfsQueue(1, now_s=5).offer([4], [1]), r"arrivals_s\[0\] is 4; .* 5 or later"),
        (lambda: FcfsQueue(1, now_s=5).advance(4), "until_s is 4; the queue is already at 5 s"),
        (lambda: FcfsQueue(1).advance(np.nan), "until_s is nan"),
        (lambda: FcfsQueue(1).change(running="kill"), "running is 'kill'; choose one of 'drain', 'evict'"),
        (lambda: FcfsQueue(1).change(slowdown=np.inf), "slowdown is inf"),
        (lambda: FcfsQueue(1).change(room=-1), "room is -1"),
        (lambda: serve_schedule([0], [1], []), "capacity must begin with a step from_s=0"),
        (lambda: serve_schedule([0], [1], [CapacityStep(1, 1)]), "capacity must begin with a step from_s=0"),
        (
            lambda: serve_schedule([0], [1], [CapacityStep(0, 1), CapacityStep(0, 2)]),
            r"capacity\[1\].from_s is 0 after 0; steps go forward",
        ),
        (lambda: serve_schedule([0], [1], [CapacityStep(0, -1)]), r"capacity\[0\].servers is -1"),
        (lambda: serve_schedule([0], [1], [CapacityStep(0, 1, -1.0)]), r"capacity\[0\].slowdown is -1.0"),
    ],
)
def test_a_bad_change_is_refused_with_its_name(attempt, sentence):
    with pytest.raises(InvalidWorkload, match=sentence):
        attempt()
