"""One simulated night: its traffic, its result, and what must hold of both."""

import datetime as dt
import math

import numpy as np
import pytest

from simulation.control_plane.night import LEAD_S
from simulation.errors import InvalidScenario
from simulation.traffic.forecast import Forecast
from tests.simulation.nights import EXACT_STAGES, calm_night, play, times_of
from tests.simulation.plans import OPENS_AT, flat_forecast, small_plan, stepped_forecast


def test_a_quiet_night_is_as_busy_as_forecast_and_finishes() -> None:
    trial = calm_night()
    expected = 20.0 * 7200
    assert abs(sum(trial.offered_per_min) - expected) < 4 * math.sqrt(expected)
    assert trial.has_finished
    assert trial.finish_min == pytest.approx(32.0)
    assert [(name, round(a, 6), round(b, 6)) for a, b, name in trial.steps] == [("load", 0, 2), ("train", 2, 32)]
    assert not trial.is_breach
    # Exponential services of 50 ms, stretched by 1.2 for half of the judged hour and a half; hardly anyone waits.
    assert 1000 * 0.05 * math.log(2) < trial.p50_ms < 1.25 * 1000 * 0.05 * math.log(2)


def test_the_same_seed_gives_the_same_night_and_another_seed_another() -> None:
    assert play(seed=3) == play(seed=3)
    assert play(seed=3).fingerprint != play(seed=4).fingerprint


def test_another_plan_meets_the_same_traffic() -> None:
    larger = small_plan(serving__replicas=3, training__stages=EXACT_STAGES)
    assert play(plan=larger).offered_per_min == calm_night().offered_per_min


def test_a_surge_is_added_to_the_same_traffic() -> None:
    calm, surge = calm_night(), play({"kind": "surge", "at_min": 10, "minutes": 5, "factor": 3})
    extra = np.array(surge.offered_per_min) - np.array(calm.offered_per_min)
    assert (extra[:40] == 0).all()
    assert (extra[45:] == 0).all()
    assert abs(extra[40:45].sum() - 2 * 20 * 300) < 4 * math.sqrt(2 * 20 * 300)


def test_a_surge_beyond_capacity_raises_bad_requests() -> None:
    calm, surge = calm_night(), play({"kind": "surge", "at_min": 40, "minutes": 5, "factor": 6})
    assert calm.n_bad == 0
    assert surge.n_bad > 5 * 60 * 20
    assert surge.is_breach
    assert surge.good_ratio == 1 - surge.n_bad / surge.n_requests
    assert surge.max_queue > 100 * max(1, calm.max_queue)


@pytest.mark.parametrize("minutes_late", [0, 5, 7])
def test_the_load_of_a_step_arrives_in_that_step_wherever_the_window_opens(minutes_late: int) -> None:
    """Six hours of which the first two carry 10 requests per second and the rest 40; the opening is off the steps."""
    opens_at = OPENS_AT + dt.timedelta(minutes=minutes_late)
    trial = play(load=stepped_forecast([10.0] * 12 + [40.0] * 24, step_s=600), opens_at=opens_at)
    change = 30 - minutes_late
    offered = np.array(trial.offered_per_min) / 60
    assert offered[:change].mean() == pytest.approx(10.0, abs=1.0)
    assert offered[change : change + 5].mean() == pytest.approx(40.0, abs=2.5)
    assert len(offered) == 121


@pytest.mark.parametrize(
    ("opens_at", "load"),
    [
        (OPENS_AT - dt.timedelta(minutes=100), flat_forecast()),  # the half hour before it is not forecast
        (OPENS_AT + dt.timedelta(minutes=180), flat_forecast()),  # the half hour after it is not forecast
        (OPENS_AT - dt.timedelta(minutes=110), flat_forecast(step_s=3600)),
        (OPENS_AT + dt.timedelta(days=30), flat_forecast()),
        (OPENS_AT, flat_forecast(math.nan)),
    ],
)
def test_a_night_that_is_not_forecast_is_refused(opens_at: dt.datetime, load: Forecast) -> None:
    with pytest.raises(InvalidScenario, match=r"does not cover the night around .* choose an opening inside"):
        play(opens_at=opens_at, load=load)


def test_a_night_at_either_end_of_the_forecast_is_played() -> None:
    for minutes in (-90, 150):
        assert play(opens_at=OPENS_AT + dt.timedelta(minutes=minutes)).n_requests > 0


def test_a_surge_that_shrinks_is_refused() -> None:
    with pytest.raises(InvalidScenario, match=r"events\[0\]\.factor: 0\.5 is below 1"):
        play({"kind": "surge", "at_min": 10, "minutes": 5, "factor": 0.5})


def test_an_overload_is_reported_and_not_run_for_ever() -> None:
    trial = play({"kind": "surge", "at_min": 5, "minutes": 60, "factor": 200})
    assert trial.is_overloaded
    assert trial.is_breach
    assert not trial.has_finished
    assert 5 <= times_of(trial, "overloaded at")[0] < 10
    assert sum(trial.offered_per_min[60:]) == 0  # the rest of the night was not played
    assert len(trial.offered_per_min) == len(calm_night().offered_per_min)


def test_a_scenario_that_does_not_fit_the_plan_is_refused() -> None:
    with pytest.raises(InvalidScenario, match="the plan has no stage 'tune'"):
        play({"kind": "stage_fails", "stage": "tune"})


def test_the_lead_is_played_but_not_judged() -> None:
    trial = play({"kind": "slow_serving", "at_min": -25, "minutes": 5, "factor": 8})
    assert sum(trial.bad_per_min[: int(LEAD_S // 60)]) > 1000
    assert trial.n_bad == 0


def test_the_longest_bad_spell_is_that_of_the_fault_and_its_backlog() -> None:
    trial = play({"kind": "replica_lost", "at_min": 40, "minutes": 4, "replicas": 2})
    assert calm_night().longest_bad_min == 0
    # Four minutes without a server leave 4,800 requests, which 60 spare per second clear in another 80 seconds.
    assert 4 <= trial.longest_bad_min <= 7


def test_a_night_costs_its_replicas_its_training_and_its_dear_hours() -> None:
    prices = {"replica_hour": 2.0, "training_cpu_hour": 1.0}
    plan = small_plan(training__stages=EXACT_STAGES, rollout__keep_warm_min=0.0, costs=prices)
    trial = play(plan=plan)
    opened = trial.promoted_min - trial.finish_min  # green and blue run side by side while traffic moves
    assert trial.promoted_min > trial.finish_min == pytest.approx(32.0)
    both_h = (times_of(trial, "the old replicas are drained")[0] - 32.0) / 60
    assert both_h * 60 >= opened
    assert trial.cost == pytest.approx(2.0 * (2 * 1.0 + 2 * both_h) + 32 / 60)
    dear = play({"kind": "price_spike", "at_min": 10, "minutes": 15, "factor": 3}, plan=plan)
    assert dear.cost == pytest.approx(trial.cost + 2.0 * 2 * 0.25 * 2)
    assert dear.fingerprint == trial.fingerprint


def test_capacity_is_written_down_as_it_changes() -> None:
    trial = play({"kind": "replica_lost", "at_min": 40, "minutes": 5})
    steps = {round(minute, 6): rps for minute, rps in trial.capacity_steps}
    assert steps[-30.0] == pytest.approx(80.0)
    assert steps[2.0] == pytest.approx(80.0 / 1.2)  # training slows serving
    live = [rps for minute, rps in trial.capacity_steps if 40 <= minute < 45]
    assert live == [pytest.approx(120.0)]  # one of blue's or green's four replicas is gone
