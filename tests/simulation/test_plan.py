"""Plans: what they refuse, each rule once, and what their digest depends on."""

from typing import Any

import pytest
from pydantic import ValidationError

from simulation.errors import InvalidPlan
from simulation.plan import Plan
from tests.simulation.plans import plan_data, small_plan


def test_the_small_plan_is_valid_and_knows_its_capacity() -> None:
    plan = small_plan()
    assert plan.serving.servers == 4
    assert plan.serving.capacity_rps == 80.0
    assert plan.stage("train").pausable


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"serving__replicas": 0}, "greater than or equal to 1"),
        ({"serving__slo__good_ratio": 1.0}, "less than 1"),
        ({"serving__slo__latency_ms": 0}, "greater than 0"),
        ({"serving__slo__user_impact": "bad"}, "at least 10 characters"),
        ({"serving__service_time__mean_ms": float("nan")}, "finite number"),
        ({"serving__service_time__mean_ms": float("inf")}, "finite number"),
        ({"traffic__keep_ratio": 0}, "greater than 0"),
        ({"window__duration_min": 1441}, "less than or equal to 1440"),
        ({"window__starts_at_local": "24:00"}, "String should match pattern"),
        ({"window__weekdays": []}, "at least one day"),
        ({"window__weekdays": ["mon", "mon"]}, "none twice"),
        ({"window__weekdays": ["monday"]}, "'mon'"),
        ({"window__rollback_reserve_min": 60}, "leaves nothing of duration_min 60"),
        ({"training__model": "a b"}, "String should match pattern"),
        ({"training__stages": []}, "at least 1 item"),
        ({"training__stages__0__minutes_p95": 1}, "minutes_p95 1 is below minutes_p50 2"),
        ({"training__stages__0__name": "train"}, "two stages share a name"),
        ({"training__stages__1__name": "fit"}, "no stage is called 'train'"),
        ({"training__stages__1__serving_slowdown": 0.9}, "greater than or equal to 1"),
        ({"training__storage_path": "serving/"}, "training.storage_path is the same as serving.storage_path"),
        ({"training__envelope__threads": 5}, "over four per CPU"),
        ({"training__seed": -1}, "greater than or equal to 0"),
        ({"evaluation__gates": []}, "at least 1 item"),
        ({"rollout__canary_ratios": [0.5, 0.1]}, "canary_ratios must grow"),
        ({"rollout__canary_ratios": [0.1, 0.1]}, "canary_ratios must grow"),
        ({"acceptance__replications": 1}, "greater than or equal to 2"),
        ({"acceptance__confidence": 0.5}, "greater than 0.5"),
        ({"format": 2}, "Input should be 1"),
        ({"name": "Small Night"}, "String should match pattern"),
        ({"serving__replica": 3}, "Extra inputs are not permitted"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        small_plan(**changes)
    assert message in str(refusal.value)


def trigger(**changes: Any) -> dict[str, Any]:
    return {"name": "slow", "observe": "p99_ms", "above": 800, "clears_below": 400} | changes


def test_a_trigger_without_hysteresis_would_flap_and_is_refused() -> None:
    with pytest.raises(ValidationError, match="clears_below 900 lies over above 800: it would flap"):
        small_plan(triggers=[trigger(clears_below=900)])
    assert small_plan(triggers=[trigger(clears_below=800)]).triggers[0].action == "pause"


def test_two_triggers_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="triggers: two share a name"):
        small_plan(triggers=[trigger(), trigger(above=900)])


def test_a_plan_cannot_be_changed_in_place() -> None:
    plan = small_plan()
    with pytest.raises(ValidationError, match="frozen"):
        plan.name = "another"  # type: ignore[misc]


def test_equal_plans_have_equal_digests_whatever_the_order_of_their_keys() -> None:
    data = plan_data()
    turned = dict(reversed(data.items()))
    turned["serving"] = dict(reversed(data["serving"].items()))
    assert Plan.model_validate(turned).digest() == Plan.model_validate(data).digest()


@pytest.mark.parametrize(
    "changes",
    [{"serving__replicas": 3}, {"window__reason": "quiet"}, {"training__stages__1__pausable": False}, {"name": "n"}],
)
def test_any_changed_value_changes_the_digest(changes: dict[str, Any]) -> None:
    assert small_plan(**changes).digest() != small_plan().digest()


def test_a_default_spelt_out_is_the_same_plan() -> None:
    assert small_plan(window__reason="").digest() == small_plan().digest()
    assert Plan.model_validate(small_plan().to_dict()) == small_plan()


def test_an_unknown_stage_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidPlan, match="no stage is called 'tune'; the stages are load, train"):
        small_plan().stage("tune")
