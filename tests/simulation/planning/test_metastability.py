"""Metastability: the feedback against closed forms, the fluid against plain Python, estimates against simulation."""

import datetime as dt
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config as numba_config

from simulation.data_plane.fluid_queue import fluid_line
from simulation.data_plane.pool_settings import Distribution
from simulation.errors import InvalidHistory, InvalidPlan, InvalidWorkload
from simulation.planning.golden_storm import golden_storms, play_golden, triggered_storm
from simulation.planning.metastability import (
    abort_curve,
    assess_metastability,
    estimated_surge,
    line_of,
    spans,
)
from simulation.planning.retry_feedback import Callers, bad_state, exceeds, tipping_backlog
from simulation.planning.serving_night import ServingNight, Surge, callers_of, night_of, training_slowdown
from simulation.planning.storm_trials import arrivals_of, play, simulated_surge
from simulation.randomness import bits_at, duration_of, stream_key
from tests.simulation.plans import OPENS_AT, flat_forecast, small_plan, stepped_forecast

compiled_only = pytest.mark.skipif(bool(numba_config.DISABLE_JIT), reason="millions of requests need the compiler")
EXPONENTIAL = Distribution("exponential", 1.0)
KINDS = [
    Distribution("deterministic", 0.5),
    Distribution("exponential", 0.5),
    Distribution("erlang", 0.5, 0.5),
    Distribution("erlang", 0.5, 0.3),
    Distribution("lognormal", 0.5, 4.0),
    Distribution("lognormal", 0.5, 0.0),
    Distribution("hyperexponential", 0.5, 4.0),
]

# Is the feedback what it is said to be?


@pytest.mark.parametrize("storm", golden_storms(), ids=lambda storm: storm.name)
@pytest.mark.theory
@compiled_only
def test_the_golden_scenario_comes_out_in_every_case(storm):
    assert sum(play_golden(storm, seed).is_stuck for seed in range(10)) == storm.n_stuck
    state = bad_state(storm.callers, np.array([8.0]), np.array([10]))
    assert state.sustains_itself[0] == (storm.n_stuck > 0)


@pytest.mark.theory
@compiled_only
@pytest.mark.parametrize(
    ("budget", "servers", "n_stuck"), [(None, 10, 0), (None, 4, 10), (0.1, 4, 0)], ids=["no dip", "dip", "budget"]
)
def test_a_dip_brings_down_for_good_a_pool_that_stands_without_it(budget, servers, n_stuck):
    callers = Callers(EXPONENTIAL, 3.0, 3, budget)
    assert sum(triggered_storm(callers, seed, servers).is_stuck for seed in range(10)) == n_stuck


def test_the_golden_scenario_in_short():
    fates = {storm.name: play_golden(storm, 3).is_stuck for storm in golden_storms()[1:4:2]}
    assert fates == {"1 retry": True, "3 retries, queue limit 15": False}


@pytest.mark.parametrize("service", KINDS, ids=lambda service: f"{service.kind} {service.scv:g}")
def test_the_tail_of_services_is_that_of_their_draws(service):
    n = 20_000
    key, parameters = np.uint64(stream_key(5, 0, 0)), service.parameters()
    draws = np.array([duration_of(np.uint64(bits_at(key, request)), *parameters) for request in range(n)])
    for level in (0.2, 0.5, 1.0, 2.0):
        expected = float(exceeds(service, np.array([level * service.mean_s]))[0])
        if service.scv == 0.0 or service.kind == "deterministic":
            assert expected == float(level < 1.0)
        else:
            error = math.sqrt(expected * (1 - expected) / n)
            assert abs((draws > level * service.mean_s).mean() - expected) < 4 * error
    assert exceeds(service, np.array([-1.0])).tolist() == [1.0]
    grid = np.linspace(0, 200, 400_001)
    assert np.trapezoid(exceeds(service, grid), grid) == pytest.approx(service.mean_s, rel=1e-3)  # E S = ∫ P(S > t)


@pytest.mark.parametrize(("late", "retries", "attempts"), [(1.0, 3, 4.0), (0.0, 3, 1.0), (0.5, 2, 1.75), (0.9, 0, 1.0)])
def test_attempts_per_request_are_the_geometric_sum(late, retries, attempts):
    assert Callers(EXPONENTIAL, 3.0, retries).amplification(late) == pytest.approx(attempts)
    assert Callers(EXPONENTIAL, 3.0, retries, budget_ratio=0.1).amplification(late) == pytest.approx(min(1.1, attempts))


@pytest.mark.parametrize(
    ("load", "retries", "is_bad"), [(2.4, 3, False), (2.6, 3, True), (4.9, 1, False), (5.1, 1, True), (9.9, 0, False)]
)
def test_the_vulnerable_band_begins_at_capacity_over_one_plus_r(load, retries, is_bad):
    state = bad_state(Callers(EXPONENTIAL, 3.0, retries), np.array([load]), np.array([10]))
    assert state.sustains_itself.tolist() == [is_bad]
    assert state.margin_rps[0] == pytest.approx(10.0 - load * (1 + retries))


def test_a_budget_moves_the_band_to_capacity_over_one_plus_b():
    callers = Callers(EXPONENTIAL, 3.0, 3, budget_ratio=0.25)
    state = bad_state(callers, np.array([7.9, 8.1]), np.array([10, 10]))
    assert state.sustains_itself.tolist() == [False, True]


def test_nobody_is_late_without_a_timeout():
    assert not bad_state(Callers(EXPONENTIAL, None, 3), np.array([9.0]), np.array([10])).sustains_itself.any()


def test_a_constant_service_makes_the_queue_limit_a_sharp_border():
    """Wait K / cμ and service 0.5 s: late iff K / 10 + 0.5 > 3, that is K > 25 at capacity 10."""
    for limit, is_bad in ((24, False), (26, True)):
        callers = Callers(Distribution("deterministic", 0.5), 3.0, 3, queue_limit=limit)
        assert bad_state(callers, np.array([8.0]), np.array([5])).sustains_itself.tolist() == [is_bad]


def test_beyond_the_tipping_backlog_the_line_grows_and_below_it_shrinks():
    callers = Callers(EXPONENTIAL, 3.0, 1)
    tip = tipping_backlog(callers, 8.0, 10.0)
    assert 8.0 * callers.amplification(callers.late_ratio(tip / 10.0)) == pytest.approx(10.0)
    assert tip == pytest.approx(10.0 * (3.0 + math.log(0.25)))  # exp(-(3 - w)) = 1/4
    assert tipping_backlog(callers, 4.0, 10.0) == math.inf
    assert tipping_backlog(callers, 11.0, 10.0) == 0.0


@compiled_only
@pytest.mark.theory
def test_what_is_called_safe_is_never_seen_to_stay_down():
    """Over queue limits, retries and loads; with a queue limit the estimate is on the safe side."""
    for limit in (5, 15, 20, 40, None):
        for retries in (1, 3):
            for load in (4.0, 8.0):
                callers = Callers(EXPONENTIAL, 3.0, retries, queue_limit=limit)
                servers = np.full(30, 10)
                servers[5:8] = 3
                night = ServingNight.of(40.0, load, servers, callers)
                n_stuck = sum(play(night, seed, (900.0, 1200.0)).is_stuck for seed in range(5))
                state = bad_state(callers, np.array([load]), np.array([10]))
                if not state.sustains_itself[0]:
                    assert n_stuck == 0, (limit, retries, load)
                elif load * (1 + retries) > 15 and limit is None:
                    assert n_stuck == 5, (limit, retries, load)


# Is the fluid the algorithm, and is it true?


def plain_line(load, capacity, slowdown, step_s, tail, timeout_s, retries, most, longest):
    """The fluid in plain Python, with late shares from the distribution instead of a table."""
    parts = max(1, math.ceil(step_s / min(5.0, timeout_s / 8.0)))
    line, waiting = [], 0.0
    for rate, room, slow in zip(load, capacity, slowdown, strict=True):
        for _ in range(parts):
            wait = waiting / room if room else (math.inf if waiting else 0.0)
            late = 0.0 if timeout_s == math.inf else 1.0 if wait >= timeout_s else tail((timeout_s - wait) / slow)
            attempts = min(most, sum(late**k for k in range(retries + 1)))
            waiting = min(longest, max(0.0, waiting + (rate * attempts - room) * step_s / parts))
        line.append(waiting)
    return line


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0, 30), st.integers(0, 20), st.sampled_from([1.0, 1.5])), min_size=1, max_size=12),
    st.integers(0, 3),
    st.sampled_from([1.0, 1.2, math.inf]),
    st.sampled_from([3.0, 10.0, math.inf]),
    st.sampled_from([20.0, math.inf]),
)
def test_the_fluid_is_its_plain_twin(steps, retries, most, timeout_s, longest):
    load, servers, slowdown = (np.array(column, float) for column in zip(*steps, strict=True))
    grid = np.linspace(0.0, timeout_s, 20_001) if timeout_s < math.inf else np.zeros(2)
    found = fluid_line(
        load, servers / slowdown, slowdown, step_s=7.0, exceeds=np.exp(-grid),
        timeout_s=timeout_s, retries=retries, most_attempts=most, longest=longest,
    )  # fmt: skip
    twin = plain_line(
        load, servers / slowdown, slowdown, 7.0, lambda s: math.exp(-s), timeout_s, retries, most, longest
    )
    assert found == pytest.approx(twin, rel=1e-5, abs=1e-5)  # a table of 20,001 places between the two


def test_a_line_without_retries_is_the_integral_of_load_less_capacity():
    line = fluid_line(
        np.array([4.0, 12.0, 12.0, 0.0, 0.0]), np.full(5, 10.0), np.ones(5),
        step_s=60.0, exceeds=np.array([1.0, 0.0]), timeout_s=math.inf, retries=0,
    )  # fmt: skip
    assert line == pytest.approx([0.0, 120.0, 240.0, 0.0, 0.0])


SERVICE = Distribution("exponential", 0.1)


@compiled_only
@pytest.mark.theory
@pytest.mark.parametrize("length_s", [10.0, 60.0])
def test_the_estimated_surge_is_where_half_of_the_simulated_days_tip(length_s):
    night = ServingNight.of(30.0, np.full(22, 200.0), 40, Callers(SERVICE, 1.0, 2))
    estimate = estimated_surge(night, 90.0, length_s)
    found = simulated_surge(night, 90.0, length_s, (500.0, 660.0), most=6.0)
    assert found.stuck_at_low < 4 <= found.stuck_at_high
    # 10 s at 2.2 × 200 requests/s bring 4,400 ± 66: three of these are 10 % of what the factor adds.
    spread = 3 * math.sqrt(estimate.factor * 200 * length_s) / (200 * length_s)
    assert found.low - spread < estimate.factor < found.high + spread


@compiled_only
@pytest.mark.theory
def test_the_line_drains_in_simulation_just_where_the_abort_curve_says():
    night = ServingNight.of(60.0, np.full(45, 180.0), 40, Callers(SERVICE, 1.0, 1), 1.5)
    curve = abort_curve(night, 2400.0, 300.0, 1.6)
    for begin in (0, 5, 10):
        latest, surge = float(curve.latest_min[begin]), Surge(60.0 * begin, 300.0, 1.6)

        def waiting(stop_min, surge=surge):
            stopped = night.without_training_from(60.0 * stop_min)
            return [play(stopped, seed, (2399.0, 2400.0), surge=surge).waiting for seed in range(3)]

        assert max(waiting(latest - 1)) <= 5, begin  # at 45 % of capacity a few may wait by chance
        assert min(waiting(latest + 2)) > 100, begin


def test_the_abort_curve_knows_never_at_once_and_too_late():
    callers = Callers(SERVICE, 1.0, 1)
    quiet = abort_curve(ServingNight.of(60.0, np.full(20, 50.0), 40, callers, 1.5), 900.0, 300.0, 1.6)
    assert quiet.latest_min.tolist() == [15.0] * 15
    assert "drains before the close though training goes on" in quiet.reason
    lost = abort_curve(ServingNight.of(60.0, np.full(20, 250.0), 40, callers, 1.5), 900.0, 300.0, 2.0)
    assert np.isnan(lost.latest_min).all()  # 500 on (1 + 1) is above the full capacity of 400, and so is 250
    assert "even stopping at once is too late" in lost.reason
    later = abort_curve(ServingNight.of(60.0, np.full(45, 180.0), 40, callers, 1.5), 2400.0, 300.0, 1.6)
    known = later.latest_min[np.isfinite(later.latest_min)]
    assert (np.diff(known) >= 0.0).all()
    assert (known >= later.begins_min[np.isfinite(later.latest_min)]).all()


def test_the_latest_minute_of_the_curve_is_the_last_that_drains():
    night = ServingNight.of(60.0, np.full(45, 180.0), 40, Callers(SERVICE, 1.0, 1), 1.5)
    latest = float(abort_curve(night, 2400.0, 300.0, 1.6).latest_min[0])
    at_close = [
        line_of(night.without_training_from(60.0 * stop), Surge(0.0, 300.0, 1.6))[39] for stop in (latest, latest + 1)
    ]
    assert at_close[0] == 0.0
    assert at_close[1] > 100.0


def test_a_short_queue_is_not_called_bad_where_most_are_answered_out_of_it():
    """8 requests/s, limit 15: 1 - exp(-1.5) of 10 a second are in time; the line lasts, and most are answered."""
    state = bad_state(Callers(EXPONENTIAL, 3.0, 3, queue_limit=15), np.array([8.0]), np.array([10]))
    assert state.margin_rps[0] < 0.0
    assert state.good_ratio[0] == pytest.approx(10 * (1 - math.exp(-1.5)) / 8)
    assert not state.sustains_itself[0]


def test_stopping_later_never_leaves_a_shorter_line():
    night = ServingNight.of(60.0, np.full(45, 180.0), 40, Callers(SERVICE, 1.0, 1), 1.5)
    lines = [line_of(night.without_training_from(60.0 * stop), Surge(300.0, 300.0, 1.6))[-1] for stop in range(45)]
    assert (np.diff(lines) >= 0.0).all()
    assert lines[0] == 0.0
    assert lines[-1] > 1000.0


# Are days compared fairly?


def test_a_larger_surge_keeps_every_request_of_a_smaller_one():
    night = ServingNight.of(60.0, np.full(10, 5.0), 4, Callers(SERVICE, 1.0, 1))
    usual, small, large = (
        set(arrivals_of(night, 7, Surge(100.0, 150.0, factor)).tolist()) for factor in (1.0, 2.0, 3.0)
    )
    assert usual < small < large
    assert usual == set(arrivals_of(night, 7).tolist())
    assert all(100.0 <= s < 250.0 for s in large - usual)
    n = len(large - usual)
    assert abs(n - 2 * 5.0 * 150.0) < 4 * math.sqrt(n)


def test_arrivals_follow_the_load_of_each_step():
    night = ServingNight.of(100.0, np.array([2.0, 0.0, 20.0]), 4, Callers(SERVICE, 1.0, 1))
    counts = np.histogram(arrivals_of(night, 1), bins=[0, 100, 200, 300])[0]
    assert counts[1] == 0
    assert abs(counts[0] - 200) < 4 * math.sqrt(200)
    assert abs(counts[2] - 2000) < 4 * math.sqrt(2000)


def test_a_pool_without_servers_for_a_while_answers_afterwards():
    night = ServingNight.of(60.0, 2.0, np.array([4, 0, 4, 4]), Callers(SERVICE, None, 0))
    during, after = play(night, 1, (60.0, 120.0)), play(night, 1, (180.0, 240.0))
    assert (during.n_good, during.is_stuck) == (0, True)
    assert during.waiting == during.n_offered
    assert not after.is_stuck


def test_the_search_says_when_no_surge_and_when_none_is_needed():
    calm = ServingNight.of(30.0, np.full(20, 20.0), 40, Callers(SERVICE, 1.0, 0))
    found = simulated_surge(calm, 60.0, 60.0, (400.0, 600.0), seeds=(1, 2, 3))
    assert (found.low, found.high, found.stuck_at_low) == (20.0, math.inf, 0)
    assert estimated_surge(calm, 60.0, 60.0).factor == math.inf
    drowned = ServingNight.of(30.0, np.full(20, 500.0), 40, Callers(SERVICE, 1.0, 1))
    assert simulated_surge(drowned, 60.0, 60.0, (400.0, 600.0), seeds=(1, 2, 3), most=2.0).high == 1.0
    assert estimated_surge(drowned, 60.0, 60.0).factor == 1.0


# The whole report


def storm_plan(**changes):
    return small_plan(serving__client={"timeout_ms": 500, "retries": 2, **changes})


def test_a_night_without_retries_is_not_vulnerable():
    report = assess_metastability(small_plan(), flat_forecast(20.0), OPENS_AT)
    assert not report.is_vulnerable.any()
    assert report.least_margin_rps == pytest.approx(80 / 1.2 - 20)
    assert "nobody retries after a timeout" in " ".join(report.reasons)
    assert report.surge.factor == math.inf
    assert report.to_dict()["surge"]["factor"] is None


def test_training_opens_the_band_and_stopping_it_closes_it():
    """25 × 3 attempts lie between 80 / 1.2, beside training, and 80; the train stage may run from minute 2 to 19."""
    report = assess_metastability(storm_plan(), flat_forecast(25.0), OPENS_AT)
    assert report.vulnerable_min == ((2.0, 19.0),)
    assert report.stopping_restores
    assert report.least_margin_rps == pytest.approx(80 / 1.2 - 75)
    assert "Stopping training ends it." in report.reasons
    assert report.minutes.shape == (90,)


def test_a_higher_load_stays_down_at_full_capacity_too():
    report = assess_metastability(storm_plan(), flat_forecast(30.0), OPENS_AT)
    assert not report.stopping_restores
    assert report.vulnerable_min == ((0.0, 90.0),)
    assert 1.0 < report.surge.factor < 3.0
    assert any("does not end it" in reason for reason in report.reasons)


def test_a_budget_and_a_short_queue_make_the_night_safe_and_say_why():
    budget = assess_metastability(storm_plan(retry_budget_ratio=0.1), flat_forecast(30.0), OPENS_AT)
    assert not budget.is_vulnerable.any()
    assert budget.attempts_rps[0] == pytest.approx(33.0)
    assert any("the budget allows 0.1 each" in reason for reason in budget.reasons)
    plan = small_plan(serving__client={"timeout_ms": 500, "retries": 2}, serving__queue_limit=8)
    assert not assess_metastability(plan, flat_forecast(30.0), OPENS_AT).is_vulnerable.any()


def test_load_above_capacity_is_called_overload_not_vulnerable():
    load = stepped_forecast([20.0] * 15 + [90.0] * 3 + [20.0] * 18, step_s=600)
    report = assess_metastability(storm_plan(), load, OPENS_AT)
    assert spans(report.is_overloaded) == ((30.0, 60.0),)
    assert not report.is_vulnerable[30:60].any()
    assert any("The load alone reaches capacity in 30 minutes, first at 30" in reason for reason in report.reasons)


def test_a_lost_replica_halves_the_capacity():
    report = assess_metastability(storm_plan(), flat_forecast(15.0), OPENS_AT, lost_replicas=1)
    assert report.full_capacity_rps[0] == pytest.approx(40.0)
    assert report.vulnerable_min == ((0.0, 90.0),)


def test_the_plan_becomes_numbers_in_seconds():
    callers = callers_of(small_plan(serving__client={"timeout_ms": 700, "retries": 2, "backoff_ms": 50}))
    assert (callers.timeout_s, callers.retries, callers.backoff_s) == (0.7, 2, 0.05)
    assert callers.service == Distribution("exponential", 0.05)
    slowdown = training_slowdown(small_plan(), 60.0 * np.arange(25.0))  # load 2 to 4 min, then train 10 to 15
    assert np.flatnonzero(slowdown == 1.2).tolist() == list(range(2, 19))


# Does it refuse well?


@pytest.mark.parametrize(
    ("attempt", "error", "sentence"),
    [
        (lambda: Callers(EXPONENTIAL, 0.0, 1), InvalidWorkload, "Callers.timeout_s is 0.0"),
        (lambda: Callers(EXPONENTIAL, 1.0, -1), InvalidWorkload, "Callers.retries is -1"),
        (lambda: Callers(EXPONENTIAL, 1.0, 1, math.nan), InvalidWorkload, "Callers.budget_ratio is nan"),
        (lambda: Callers(EXPONENTIAL, 1.0, 1, None, -1), InvalidWorkload, "Callers.queue_limit is -1"),
        (lambda: Callers(EXPONENTIAL, 1.0, 1, backoff_s=-1.0), InvalidWorkload, "Callers.backoff_s is -1.0"),
        (lambda: Callers(EXPONENTIAL, 1.0, 1, jitter_ratio=2.0), InvalidWorkload, "Callers.jitter_ratio is 2.0"),
        (lambda: a_night(load=[1.0, math.nan]), InvalidWorkload, r"load_rps\[1\] is nan"),
        (
            lambda: ServingNight(1.0, np.ones(2), np.ones(1, int), np.ones(2), CALM),
            InvalidWorkload,
            "one per step each",
        ),
        (lambda: ServingNight.of(0.0, [1.0], 1, CALM), InvalidWorkload, "step_s is 0.0"),
        (lambda: Surge(0.0, 1.0, 0.5), InvalidWorkload, "factor 1 or more"),
        (lambda: play(a_night(), 1, (5.0, 500.0)), InvalidWorkload, "give two moments of the night"),
        (lambda: arrivals_of(a_night(), 1, Surge(0.0, 1.0, 30.0)), InvalidWorkload, "surge factor 30 is above 20"),
        (lambda: simulated_surge(a_night(), 0.0, 1.0, (1.0, 2.0), seeds=(1, 1, 2)), InvalidWorkload, "three different"),
        (lambda: fluid(load=[-1.0]), InvalidWorkload, r"load_rps\[0\] is -1"),
        (lambda: fluid(load=[1.0, 1.0]), InvalidWorkload, "give one number per step in each"),
        (lambda: fluid(timeout_s=0.0), InvalidWorkload, "times are above 0"),
        (lambda: fluid(exceeds=np.ones(1)), InvalidWorkload, "at least two probabilities"),
        (lambda: assess(opens_at=OPENS_AT + dt.timedelta(days=9)), InvalidPlan, "choose an opening inside it"),
        (lambda: assess(lost_replicas=2), InvalidPlan, "of 2 replicas one must be left"),
        (lambda: assess(level=0.77), InvalidHistory, "level 0.77 was not forecast"),
        (lambda: assess(surge_at_min=60.0), InvalidPlan, "it begins within the window's 60 min"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(attempt, error, sentence):
    with pytest.raises(error, match=sentence):
        attempt()


CALM = Callers(EXPONENTIAL, 1.0, 1)


def a_night(load=(1.0, 1.0)):
    return ServingNight.of(10.0, np.array(load), 2, CALM)


def fluid(load=(1.0,), **changes):
    known = {"step_s": 1.0, "exceeds": np.array([1.0, 0.0]), "timeout_s": 1.0, "retries": 1, **changes}
    return fluid_line(np.array(load), np.ones(1), np.ones(1), **known)


def assess(opens_at=OPENS_AT, **changes):
    return assess_metastability(small_plan(), flat_forecast(20.0), opens_at, **changes)


def test_the_night_has_the_quantile_asked_for():
    load = flat_forecast(20.0)
    load.load_rps[:, load.levels.index(0.95)] = 26.0
    assert set(night_of(small_plan(), load, OPENS_AT).load_rps.tolist()) == {26.0}
    assert set(night_of(small_plan(), load, OPENS_AT, level=0.5).load_rps.tolist()) == {20.0}
