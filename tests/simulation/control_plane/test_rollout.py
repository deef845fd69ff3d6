"""The rollout at the end of a night: steps as the rule says, double capacity, cold replicas, the way back."""

import math

import pytest

from simulation.plan import Rollout
from simulation.rules import StepVerdict
from tests.simulation.nights import EXACT_STAGES, play, times_of
from tests.simulation.plans import small_plan


def strict(n_answered: int, n_failed: int, rollout: Rollout) -> tuple[str, str]:
    """Judge as a careful operator: enough answers, and none of them failed."""
    if n_answered + n_failed < rollout.requests_per_step:
        return StepVerdict.HOLD, "too few"
    return (StepVerdict.ROLL_BACK if n_failed else StepVerdict.PROMOTE), f"{n_failed} failed"


def test_a_good_model_goes_live_step_by_step_beside_the_old_one() -> None:
    trial = play(step_rule=strict)
    (shadow,) = times_of(trial, "shadow")
    (first,), (second,) = times_of(trial, "canary 10%: promote"), times_of(trial, "canary 50%: promote")
    assert 32.0 < shadow < first < second == trial.promoted_min
    assert math.isnan(trial.rolled_back_min)
    # A tenth of 20 requests per second: a hundred of them take 50 seconds.
    assert first - shadow == pytest.approx(50 / 60, abs=20 / 60)
    during = [rps for minute, rps in trial.capacity_steps if 32.0 <= minute <= trial.promoted_min]
    assert during[-1] == pytest.approx(160.0)


def test_the_old_replicas_stay_warm_as_long_as_the_plan_says() -> None:
    trial = play(plan=small_plan(training__stages=EXACT_STAGES, rollout__keep_warm_min=20.0))
    (drained,) = times_of(trial, "the old replicas are drained")
    assert drained == pytest.approx(trial.promoted_min + 20.0, abs=0.5)
    assert trial.capacity_steps[-1] == (drained, pytest.approx(80.0))
    assert trial.n_bad == 0


def test_errors_are_caught_in_the_first_canary() -> None:
    trial = play({"kind": "bad_model", "error_ratio": 0.5}, step_rule=strict)
    assert math.isnan(trial.promoted_min)
    assert trial.rolled_back_min == times_of(trial, "rolled back to the old model")[0]
    # Half of a tenth of 20 requests per second, for about a minute.
    assert 10 < trial.n_bad < 120
    assert sum(trial.bad_per_min[int(30 + trial.rolled_back_min) + 2 :]) == 0


def test_a_rule_that_only_counts_lets_it_go_live_until_somebody_notices() -> None:
    trial = play({"kind": "bad_model", "error_ratio": 0.5, "noticed_after_min": 5})
    assert times_of(trial, "the new model goes live, and is bad") == [trial.promoted_min]
    assert trial.rolled_back_min == pytest.approx(trial.promoted_min + 5.0)
    assert trial.n_bad > 0.5 * 20 * 300 - 4 * math.sqrt(0.25 * 20 * 300)


def test_a_step_without_enough_answers_in_time_goes_back() -> None:
    plan = small_plan(training__stages=EXACT_STAGES, rollout__requests_per_step=5000, rollout__step_timeout_s=30.0)
    trial = play(plan=plan, step_rule=strict)
    assert times_of(trial, "canary 10%: hold for data, too few")
    assert math.isnan(trial.promoted_min)
    assert not math.isnan(trial.rolled_back_min)


def test_cold_replicas_make_the_first_answers_slow() -> None:
    cold = {"seconds": 120.0, "slowdown": 8.0}
    warm = play(step_rule=strict)
    slow = play(plan=small_plan(training__stages=EXACT_STAGES, serving__cold_start=cold), step_rule=strict)
    assert slow.p99_ms > 1.2 * warm.p99_ms
    assert slow.offered_per_min == warm.offered_per_min


def test_no_training_no_rollout() -> None:
    trial = play({"kind": "late_data", "minutes": 50})
    assert math.isnan(trial.finish_min)
    assert math.isnan(trial.promoted_min)
    assert not times_of(trial, "shadow")
