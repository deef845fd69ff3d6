"""Differences between plans: what reaches users in words, every changed value once, nothing between equal plans."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.plan import Plan
from simulation.planning.plan_diff import diff_plans
from tests.simulation.plans import plan_data, small_plan

TRIGGER = {"name": "surge", "observe": "load_rps", "above": 60, "clears_below": 40}
DENIAL = {"rule": "gdpr", "reason": "no EU data at night.", "time_zone": "Europe/Paris"}


def told(before: Plan, after: Plan, kind: str = "users") -> list[str]:
    return [d.sentence for d in diff_plans(before, after) if d.kind == kind]


def test_equal_plans_do_not_differ() -> None:
    assert diff_plans(small_plan(), small_plan()) == []


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"serving__slo__good_ratio": 0.98}, "users", "of a million requests 10,000 more may be bad"),
        ({"serving__slo__latency_ms": 800}, "users", "answered within 800 ms, where it was 99.000% within 1000 ms"),
        ({"serving__slo__user_impact": "pages stay empty"}, "users", "'pages stay empty' instead of"),
        ({"serving__replicas": 3}, "users", "finish 120.0 requests/s instead of 80.0: users wait at higher loads"),
        ({"serving__client": {"timeout_ms": 500}}, "users", "Callers wait at most 500 ms instead of without limit"),
        ({"window__starts_at_local": "03:30"}, "users", "from 03:30 UTC every day for 60 minutes instead of"),
        ({"window__weekdays": ["sun"]}, "users", "on sun for 60 minutes instead of"),
        ({"window__threshold_rps": 40}, "users", "training may meet busier hours"),
        ({"window__rollback_reserve_min": 10}, "users", "10 minutes instead of 5 are kept free"),
        ({"training__stages__1__serving_slowdown": 1.5}, "users", "While train runs, answers take 1.5 times as long"),
        ({"training__stages__1__minutes_p95": 20}, "night", "takes 24 minutes at its p95 instead of 19 (train 20"),
        ({"training__rounds": 90}, "night", "training.rounds: 90 instead of 200."),
        ({"training__stages__1__retries": 3}, "night", "training.stages.train.retries: 3 instead of 1."),
        ({"triggers": [TRIGGER]}, "users", "The trigger surge is new: pause when load_rps passes 60."),
        ({"rollout": {"canary_ratios": [0.25]}}, "users", "shown to 25% of users before all, instead of 10% then 50%"),
        ({"evaluation__gates": [{"metric": "log_loss", "role": "success"}, {"metric": "auc", "role": "guardrail"}]},
         "users", "The gate auc is new: guardrail with margin 0."),
        ({"approvals": {"required": True}}, "users", "approvals.required: True instead of False."),
        ({"calendar": {"denials": [DENIAL]}}, "night", "The denial gdpr is new: no EU data at night."),
        ({"costs": {"replica_hour": 2}}, "other", "costs.replica_hour: 2 instead of 0."),
        ({"name": "renamed"}, "other", "name: renamed instead of small-night."),
    ],
)  # fmt: skip
def test_each_change_is_told_in_words_to_whom_it_concerns(changes: dict[str, Any], kind: str, said: str) -> None:
    sentences = told(small_plan(), small_plan(**changes), kind)
    assert any(said in sentence for sentence in sentences), sentences


def test_what_is_gone_is_told_as_gone_and_a_new_order_too() -> None:
    full = small_plan(triggers=[TRIGGER], calendar={"denials": [DENIAL]})
    assert told(full, small_plan()) == ["The trigger surge is gone: pause when load_rps passes 60."]
    assert "The denial gdpr is gone: no EU data at night." in told(full, small_plan(), "night")
    stages = plan_data()["training"]["stages"]
    assert told(small_plan(), small_plan(training__stages=stages[::-1]), "night") == [
        "training.stages.order: train, load instead of load, train."
    ]
    changed = small_plan(triggers=[{**TRIGGER, "above": 70}])
    assert told(full, changed)[0] == "The trigger surge changes: above 70 instead of 60."


CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "serving__replicas": st.integers(1, 5),
    "serving__service_time__mean_ms": st.integers(20, 90),
    "serving__slo__latency_ms": st.integers(200, 2000),
    "window__duration_min": st.integers(30, 90),
    "window__time_zone": st.sampled_from(["UTC", "Asia/Tokyo"]),
    "window__reason": st.sampled_from(["", "quiet"]),
    "training__stages__0__minutes_p95": st.integers(4, 9),
    "training__stages__1__minutes_p50": st.integers(8, 12),
    "training__stages__1__serving_slowdown": st.sampled_from([1.2, 1.3]),
    "training__stages__0__serving_slowdown": st.sampled_from([1.0, 1.25]),
    "training__priority": st.integers(40, 60),
    "rollout": st.fixed_dictionaries({"canary_ratios": st.sampled_from([[0.1], [0.1, 0.5]])}),
    "triggers": st.lists(st.builds(lambda above: {**TRIGGER, "above": above}, st.integers(50, 52)), max_size=1),
    "acceptance__replications": st.integers(2, 9),
}
changes = st.fixed_dictionaries({}, optional=CHANGES)


@settings(deadline=None, max_examples=200)
@given(changes, changes)
def test_every_value_that_differs_is_told_once_and_no_other(a: dict[str, Any], b: dict[str, Any]) -> None:
    before, after = small_plan(**a), small_plan(**b)
    found = diff_plans(before, after)
    names = [name for difference in found for name in difference.names]
    assert len(set(names)) == len(names)
    assert set(names) == set(leaves(before.to_dict(), after.to_dict()))
    assert bool(found) == (before.digest() != after.digest())
    assert [d.sentence for d in found if not d.sentence.endswith(".")] == []


def leaves(a: Any, b: Any, name: str = "") -> list[str]:
    """Return the names of the values that differ; parts of lists go by their names. A plain twin."""
    if isinstance(a, list) and isinstance(b, list) and any(isinstance(x, dict) for x in a + b):
        a, b = ({x.get("name") or x["metric"]: x for x in part} for part in (a, b))
    if isinstance(a, dict) or isinstance(b, dict):
        a, b = a or {}, b or {}
        return [n for key in {*a, *b} for n in leaves(a.get(key), b.get(key), f"{name}.{key}".strip("."))]
    return [name] if a != b and not (a in (None, []) and b in (None, [])) else []
