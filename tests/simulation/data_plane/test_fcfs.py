"""The exact queue: is it the algorithm, does it obey its definition, does it refuse well?"""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.data_plane import Outcome, fcfs_kernel, serve_queue, workload
from simulation.errors import InvalidWorkload
from tests.simulation.data_plane.fcfs_cases import Case, assert_same, cases
from tests.simulation.reference import serve

ARRIVALS = [0, 1, 1.5, 2, 5, 5.5, 6, 6]
SERVICES = [3, 3, 1, 4, 1, 2, 0.5, 1]
quick = settings(deadline=None, max_examples=150)


def run(case: Case):
    return serve_queue(case.arrivals, case.services, case.servers, patience_s=case.patience, room=case.room)


# Is it the algorithm?


@pytest.mark.parametrize(
    ("servers", "waits"),
    [
        (1, [0, 2, 4.5, 5, 6, 6.5, 8, 8.5]),
        (2, [0, 0, 1.5, 2, 0, 0.5, 2, 2]),
        (3, [0, 0, 0, 0.5, 0, 0, 0, 0.5]),
    ],
)
def test_the_waits_worked_out_by_hand_come_out(servers, waits):
    result = serve_queue(ARRIVALS, SERVICES, servers)
    assert result.waits_s.tolist() == waits
    assert result.departures_s.tolist() == (np.add(ARRIVALS, waits) + SERVICES).tolist()


def test_patience_and_room_together_count_only_those_who_still_wait():
    arrivals, services, patience = [1, 2, 2, 3, 4], [3, 1, 6, 8, 2], [6, 9, 1, 7, 3]
    result = serve_queue(arrivals, services, 1, patience_s=patience, room=2)
    assert_same(result, serve(arrivals, services, 1, patience, 2))
    assert result.outcome.tolist() == ["served", "served", "abandoned", "served", "abandoned"]


@quick
@given(cases())
def test_every_request_fares_as_in_the_plain_twin(case):
    assert_same(run(case), serve(case.arrivals, case.services, case.servers, case.patience, case.room))


@quick
@given(cases(impatient=True, limited=True))
def test_every_request_fares_as_in_the_plain_twin_with_patience_and_room(case):
    assert_same(run(case), serve(case.arrivals, case.services, case.servers, case.patience, case.room))


@quick
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(0, 6))
def test_the_twin_is_matched_off_the_grid_too(seed, servers, room):
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1.0, 40)) + 10.0 ** rng.integers(-3, 6)
    services, patience = rng.exponential(servers, 40), rng.choice([0.1, 0.3, 0.7, 1.1], 40)
    result = serve_queue(arrivals, services, servers, patience_s=patience, room=room)
    assert_same(result, serve(arrivals.tolist(), services.tolist(), servers, patience.tolist(), room))


@pytest.mark.parametrize("servers", [1, 2, 3, 7, 8, 9, 63, 64, 65, 300])
def test_many_servers_fare_as_in_the_plain_twin(servers):
    rng = np.random.default_rng(servers)
    arrivals = (np.cumsum(rng.integers(0, 3, 900)) / 1024).tolist()
    services = (rng.integers(0, 2 * servers, 900) / 1024).tolist()
    assert_same(serve_queue(arrivals, services, servers), serve(arrivals, services, servers))


# Does it obey its definition?


@quick
@given(cases())
def test_every_request_ends_in_exactly_one_way(case):
    result = run(case)
    served = result.outcome == Outcome.SERVED
    assert sum(result.counts.values()) == len(case.arrivals)
    assert set(result.outcome.tolist()) <= {"served", "rejected", "abandoned"}
    assert (np.isfinite(result.starts_s) == served).all()
    assert (np.isfinite(result.departures_s) == served).all()
    assert (np.isfinite(result.waits_s) == served).all()
    assert (result.waits_s[served] >= 0).all()
    assert (result.departures_s[served] - result.starts_s[served] == np.array(case.services)[served]).all()


@quick
@given(cases())
def test_no_more_are_served_at_once_than_there_are_servers_and_none_idles_beside_a_line(case):
    result = run(case)
    served = result.outcome == Outcome.SERVED
    starts, ends = result.starts_s[served], result.departures_s[served]
    patience = np.full(len(case.arrivals), np.inf) if case.patience is None else np.array(case.patience)
    arrivals = np.array(case.arrivals)
    leaves_line = np.where(served, result.starts_s, arrivals + patience)
    leaves_line[result.outcome == Outcome.REJECTED] = -np.inf
    for now in np.unique(np.concatenate([arrivals, starts, ends, leaves_line[np.isfinite(leaves_line)]])):
        n_running = ((starts <= now) & (now < ends)).sum()
        n_waiting = ((arrivals <= now) & (now < leaves_line)).sum()
        assert n_running <= case.servers
        assert n_running == case.servers or n_waiting == 0
        assert case.room is None or n_waiting <= case.room


@quick
@given(cases())
def test_nobody_overtakes(case):
    starts = run(case).starts_s
    assert (np.diff(starts[np.isfinite(starts)]) >= 0).all()


@quick
@given(cases(impatient=True))
def test_nobody_is_served_after_its_patience_and_nobody_leaves_before(case):
    result = run(case)
    served = result.outcome == Outcome.SERVED
    assert (result.waits_s[served] <= np.array(case.patience)[served]).all()


def test_a_wait_equal_to_the_patience_is_served():
    assert serve_queue([0, 0], [1, 1], 1, patience_s=1.0).outcome.tolist() == ["served", "served"]
    assert serve_queue([0, 0], [1, 1], 1, patience_s=1 - 2**-20).outcome.tolist() == ["served", "abandoned"]


def test_a_departure_makes_room_for_an_arrival_at_the_same_instant():
    assert serve_queue([0, 1], [1, 1], 1, room=0).outcome.tolist() == ["served", "served"]
    assert serve_queue([0, 0, 1], [1, 1, 1], 1, room=1).outcome.tolist() == ["served"] * 3


@quick
@given(cases(impatient=False))
def test_infinite_patience_is_no_patience_limit(case):
    endless = serve_queue(case.arrivals, case.services, case.servers, patience_s=np.inf, room=case.room)
    each = serve_queue(
        case.arrivals, case.services, case.servers, patience_s=np.full(len(case.arrivals), np.inf), room=case.room
    )
    for result in (endless, each):
        np.testing.assert_array_equal(result.starts_s, run(case).starts_s)


@quick
@given(cases(impatient=False, limited=False))
def test_one_more_server_lengthens_no_wait(case):
    more = serve_queue(case.arrivals, case.services, case.servers + 1)
    assert (more.waits_s <= run(case).waits_s).all()


@quick
@given(cases(impatient=False, limited=False))
def test_as_many_servers_as_requests_leave_no_wait(case):
    assert not serve_queue(case.arrivals, case.services, max(1, len(case.arrivals))).waits_s.any()


@quick
@given(cases(), st.integers(-8, 8))
def test_other_units_of_time_change_nothing_else(case, power):
    factor = 2.0**power
    patience = None if case.patience is None else np.array(case.patience) * factor
    scaled = serve_queue(
        np.array(case.arrivals) * factor, np.array(case.services) * factor, case.servers,
        patience_s=patience, room=case.room,
    )  # fmt: skip
    np.testing.assert_array_equal(scaled.departures_s, run(case).departures_s * factor)
    np.testing.assert_array_equal(scaled.outcome, run(case).outcome)


@quick
@given(cases(limited=False))
def test_a_room_that_nobody_fills_is_no_limit(case):
    roomy = serve_queue(case.arrivals, case.services, case.servers, patience_s=case.patience, room=len(case.arrivals))
    vast = serve_queue(case.arrivals, case.services, case.servers, patience_s=case.patience, room=10**15)
    np.testing.assert_array_equal(roomy.starts_s, run(case).starts_s)
    np.testing.assert_array_equal(vast.starts_s, run(case).starts_s)


@quick
@given(cases(impatient=False, limited=False))
def test_littles_law_holds_as_an_identity_from_empty_to_empty(case):
    result = run(case)
    moments = np.unique(np.concatenate([case.arrivals, result.starts_s])) if case.arrivals else np.empty(0)
    waiting = [((np.array(case.arrivals) <= now) & (now < result.starts_s)).sum() for now in moments[:-1]]
    assert (np.array(waiting) * np.diff(moments)).sum() == result.waits_s.sum()  # exact: all on the grid


@pytest.mark.parametrize("module", [fcfs_kernel, workload])
def test_a_kernel_stands_in_one_file_with_all_that_it_calls(module):
    # numba's cache notices a change of the kernel's own file only; a helper elsewhere would leave it stale.
    compiled = [value for value in vars(module).values() if hasattr(value, "py_func")]
    plain = [value for value in vars(module).values() if inspect.isfunction(value)]
    for function in [kernel.py_func for kernel in compiled] + plain:
        assert function.__module__ in (module.__name__, "numba.core.decorators"), function.__name__
    for kernel in compiled:
        assert kernel.targetoptions["nogil"]
        assert not kernel.targetoptions.get("fastmath"), "NaN must stay NaN"


def test_results_cannot_be_overwritten():
    result = serve_queue(ARRIVALS, SERVICES, 1)
    with pytest.raises(ValueError, match="read-only"):
        result.starts_s[0] = 7.0


def test_no_requests_make_an_empty_result():
    result = serve_queue([], [], 3, patience_s=1.0, room=2)
    assert result.starts_s.shape == (0,)
    assert sum(result.counts.values()) == 0


# Does it refuse well?


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([0, 2, 1], [1, 1, 1], 1), r"arrivals_s\[2\] is 1; .* sort them"),
        (([-1.0], [1], 1), r"arrivals_s\[0\] is -1"),
        (([0, np.nan], [1, 1], 1), r"arrivals_s\[1\] is nan"),
        (([0, np.inf], [1, 1], 1), r"arrivals_s\[1\] is inf"),
        (([0], [-0.5], 1), r"services_s\[0\] is -0.5"),
        (([0], [np.nan], 1), r"services_s\[0\] is nan"),
        (([0], [np.inf], 1), r"services_s\[0\] is inf"),
        (([0, 1], [1], 1), "services_s has 1 values for 2 arrivals"),
        (([[0, 1]], [1], 1), "arrivals_s must have one dimension"),
        ((["soon"], [1], 1), "arrivals_s must be real numbers"),
        (([0], [1j], 1), "services_s must be real numbers"),
        (([0], [1], 0), "servers is 0; it must be a whole number, 1 or more"),
        (([0], [1], 1.5), "servers is 1.5"),
        (([0], [1], True), "servers is True"),
    ],
)
def test_a_bad_workload_is_refused_with_its_place(arguments, sentence):
    with pytest.raises(InvalidWorkload, match=sentence):
        serve_queue(*arguments)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"patience_s": -1.0}, "patience_s is -1; patience must be 0 or more"),
        ({"patience_s": np.nan}, "patience_s is nan"),
        ({"patience_s": [1.0, -2.0]}, r"patience_s\[1\] is -2"),
        ({"patience_s": [1.0]}, "patience_s has 1 values for 2 arrivals"),
        ({"patience_s": "long"}, "patience_s must be real numbers"),
        ({"room": -1}, "room is -1; it must be a whole number, 0 or more"),
        ({"room": 2.5}, "room is 2.5"),
    ],
)
def test_bad_limits_are_refused_with_their_name(options, sentence):
    with pytest.raises(InvalidWorkload, match=sentence):
        serve_queue([0, 1], [1, 1], 1, **options)
