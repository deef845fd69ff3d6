"""The analytic screen: its formula against closed forms and the simulator, its requirements, its remedies."""

import datetime as dt
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.control_plane.training import stage_seconds
from simulation.errors import InvalidPlan
from simulation.plan import Plan, ServiceTime
from simulation.planning.capacity import Requirement, Screen, late_probability, screen
from simulation.planning.variation import changed
from simulation.theory import erlang_c
from tests.simulation.nights import play
from tests.simulation.plans import OPENS_AT, flat_forecast, small_plan, stepped_forecast


def exponential(mean_ms: float = 1000.0) -> ServiceTime:
    return ServiceTime(mean_ms=mean_ms, distribution="exponential")


def mmc_late(arrival_rps: float, servers: int, within_s: float) -> float:
    """P(wait + service > t) in M/M/c with service rate 1: the integral, in closed form."""
    wait, spare = erlang_c(arrival_rps, servers), servers - arrival_rps
    if spare == 1.0:
        return math.exp(-within_s) * (1 + wait * within_s)
    return math.exp(-within_s) * (1 + wait * (1 - math.exp(-within_s * (spare - 1))) / (spare - 1))


@pytest.mark.parametrize(
    ("arrival_rps", "servers", "within_s"), [(0.8, 1, 5.0), (0.8, 1, 20.0), (1.8, 2, 6.0), (9.0, 10, 4.0), (3, 10, 2.0)]
)
def test_it_is_exact_for_exponential_services(arrival_rps: float, servers: int, within_s: float) -> None:
    found = late_probability(arrival_rps, exponential(), servers, within_s, 1.0)
    # The service distribution is cut into 2,000 equal shares, each taken at its middle.
    assert found == pytest.approx(mmc_late(arrival_rps, servers, within_s), abs=1 / 2000)


@pytest.mark.parametrize("distribution", ["deterministic", "erlang", "lognormal", "hyperexponential"])
def test_nobody_waits_in_an_empty_pool_and_everybody_is_late_in_a_full_one(distribution: Any) -> None:
    scv = {"erlang": 0.4, "hyperexponential": 4.0}.get(distribution, 2.0)
    service = ServiceTime(mean_ms=1000, scv=scv, distribution=distribution)
    assert late_probability(5.0, service, 5, 3.0, 1.0) == 1.0
    assert late_probability(2.5, service, 5, 3.0, 2.0) == 1.0  # half the load, twice as slow
    idle = late_probability(0.0, service, 5, 3.0, 1.0)
    assert idle < 0.1
    assert idle <= late_probability(2.5, service, 5, 3.0, 1.0) < 1.0


def test_the_mean_wait_is_that_of_allen_and_cunneen() -> None:
    # M/D/2 at 1.8: 2.13158 by their formula, 2.14692 exactly. The mean is the integral of the tail.
    service = ServiceTime(mean_ms=1000, distribution="deterministic")
    waits_s = np.linspace(1e-9, 80, 20_001)
    tail = [late_probability(1.8, service, 2, 1.0 + wait_s, 1.0) for wait_s in waits_s.tolist()]
    assert np.trapezoid(tail, waits_s) == pytest.approx(2.13158, abs=1e-4)


@settings(deadline=None, max_examples=60)
@given(st.floats(0.1, 8), st.integers(1, 12), st.floats(0.5, 8), st.floats(1, 2))
def test_more_servers_or_more_time_never_make_more_late(rps: float, servers: int, within_s: float, slow: float) -> None:
    late = late_probability(rps, exponential(), servers, within_s, slow)
    assert late_probability(rps, exponential(), servers + 1, within_s, slow) <= late + 1e-12
    assert late_probability(rps, exponential(), servers, within_s + 1, slow) <= late + 1e-12
    assert late <= late_probability(rps, exponential(), servers, within_s, slow + 0.2) + 1e-12


# The requirements


def broken(found: Screen) -> list[str]:
    return [requirement.name for requirement in found.requirements if not requirement.is_kept]


def look(load_rps: float = 20.0, lost: int = 1, **changes: Any) -> Screen:
    return screen(small_plan(**changes), flat_forecast(load_rps), OPENS_AT, replicas_lost=lost)


def requirement(found: Screen, name: str) -> Requirement:
    return next(r for r in found.requirements if r.name == name)


def test_a_calm_plan_fits() -> None:
    found = look()
    assert found.fits
    assert not any(r.remedy for r in found.requirements)
    assert requirement(found, "utilisation").value == pytest.approx(20 * 1.2 * 0.05 / 2)


def test_work_that_is_longer_than_its_window_is_ruled_out_with_the_minutes_that_lack() -> None:
    found = look(window__duration_min=20)
    assert found.is_ruled_out
    assert found.binding.name == "work"
    assert "19 minutes at its p95" in found.binding.sentence
    assert found.binding.remedy == "lengthen the window to 24 minutes, or shorten the work by 4"
    assert not look(window__duration_min=24).is_ruled_out


def test_what_it_rules_out_never_finishes_in_the_simulator_and_its_remedy_can() -> None:
    plan = small_plan(window__duration_min=20)
    assert screen(plan, flat_forecast(), OPENS_AT).is_ruled_out
    assert not any(play(plan=plan, seed=seed).steps for seed in range(4))
    starts = [play(plan=changed(plan, {"window.duration_min": 24}), seed=seed).steps for seed in range(4)]
    assert all(starts)


def test_a_stage_that_wants_more_memory_than_it_may_have_is_ruled_out() -> None:
    found = look(training__envelope={"memory_gib": 0.5})
    assert (found.is_ruled_out, found.binding.name) == (True, "memory")
    assert found.binding.remedy == "raise envelope.memory_gib to 1"


def test_an_envelope_that_keeps_cpus_from_a_stage_stretches_it() -> None:
    found = look(training__envelope={"cpus": 0.25})
    envelope = requirement(found, "envelope")
    assert envelope.value == pytest.approx(19 * 4)
    assert not found.is_ruled_out  # at its median it may be done: simulation has the last word
    assert envelope.remedy == "give it 1 CPUs and 76 minutes"


def test_losing_a_replica_binds_first_and_says_how_many_are_enough() -> None:
    found = look(load_rps=60.0)
    utilisation = requirement(found, "utilisation")
    assert utilisation.value == pytest.approx(60 * 1.2 * 0.05 / 2)
    assert utilisation.remedy == "use 3 replicas"
    assert "utilisation" not in broken(look(load_rps=60.0, serving__replicas=3))
    assert not requirement(look(load_rps=60.0, lost=0), "utilisation").remedy
    assert "no server is left" in requirement(look(serving__replicas=1), "utilisation").sentence


def test_late_answers_are_counted_with_the_fewest_replicas_that_are_enough() -> None:
    found = look(load_rps=75.0, lost=0)
    latency = requirement(found, "latency")
    assert not latency.is_kept
    assert not found.is_ruled_out
    n = int(latency.remedy.split()[1])
    assert not requirement(look(load_rps=75.0, lost=0, serving__replicas=n - 1), "latency").is_kept
    assert requirement(look(load_rps=75.0, lost=0, serving__replicas=n), "latency").is_kept


def test_a_promise_that_service_itself_breaks_is_no_matter_of_replicas() -> None:
    found = look(serving__slo={"latency_ms": 60, "good_ratio": 0.99, "user_impact": "the answer takes longer"})
    assert requirement(found, "latency").remedy.startswith("no number of replicas is enough")


def test_training_slows_only_the_steps_in_which_it_runs() -> None:
    quiet_then_busy = stepped_forecast([20.0] * 15 + [70.0] * 21, step_s=600)  # 02:30 on: training ended at 02:19
    found = screen(small_plan(), quiet_then_busy, OPENS_AT, replicas_lost=0)
    assert requirement(found, "utilisation").value == pytest.approx(70 * 0.05 / 4)


def test_an_autoscaler_is_taken_to_have_opened_all_it_may() -> None:
    scaler = {"min_replicas": 1, "max_replicas": 4}
    assert requirement(look(serving__autoscaler=scaler), "utilisation").value == pytest.approx(20 * 1.2 * 0.05 / 6)


def test_a_window_that_is_not_forecast_is_refused() -> None:
    with pytest.raises(InvalidPlan, match="does not know the whole window from 2026-03-11"):
        screen(small_plan(), flat_forecast(), OPENS_AT + dt.timedelta(days=1))


def test_the_screen_as_data_says_what_it_assumes() -> None:
    data = look().to_dict()
    assert "only simulation shows" in data["assumptions"]
    assert [r["name"] for r in data["requirements"]] == ["work", "memory", "envelope", "utilisation", "latency"]


def test_the_stretch_of_the_screen_is_that_of_the_night() -> None:
    plan: Plan = small_plan(training__envelope={"cpus": 0.5, "minutes": 200}, window__duration_min=120)
    seconds = sum(stage_seconds(stage, i, 1) for i, stage in enumerate(plan.training.stages))
    trial = play(plan=plan, load=flat_forecast(hours=8))
    assert trial.finish_min == pytest.approx(2 * seconds / 60)
