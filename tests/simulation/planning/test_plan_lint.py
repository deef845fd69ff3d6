"""The lint: each rule finds its problem at the limit itself, in one sentence with a remedy; sound plans have none."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.plan_file import read_plan
from simulation.planning.plan_lint import RULES, lint_plan, paths_overlap
from tests.simulation.plans import small_plan

EXAMPLE = Path(__file__).parents[3] / "examples" / "plan.yaml"


def trigger(**changes: Any) -> dict[str, Any]:
    return {"name": "t", "observe": "p99_ms", "above": 800, "clears_below": 500, **changes}


def job(model: str, **changes: Any) -> dict[str, Any]:
    stages = [{"name": "train", "minutes_p50": 5, "minutes_p95": 10}]
    return {"model": model, "data": "d", "stages": stages, "storage_path": f"jobs/{model}", **changes}


def test_sound_plans_have_no_problem() -> None:
    assert lint_plan(small_plan()) == []
    assert lint_plan(read_plan(EXAMPLE)) == []
    assert lint_plan(small_plan(triggers=[trigger()], training__jobs=[job("b")])) == []


@pytest.mark.parametrize(
    ("changes", "place", "said"),
    [
        ({"serving__slo__user_impact": "TBD by the team"}, "serving.slo.user_impact", "what a user notices"),
        ({"serving__slo__user_impact": "unpleasantness"}, "serving.slo.user_impact", "what a user notices"),
        ({"serving__slo__latency_ms": 50}, "serving.slo.latency_ms", "50 ms is no more than one request takes"),
        ({"serving__client": {"timeout_ms": 999}}, "serving.client.timeout_ms", "before the promised 1000 ms"),
        ({"training__storage_path": "serving/models"}, "training.storage_path", "overlap"),
        ({"training__storage_path": "./x/../serving"}, "training.storage_path", "overlap"),
        ({"training__jobs": [job("b", storage_path="training/b")]}, "training.jobs.0.storage_path", "bank-marketing"),
        ({"training__jobs": [job("b", storage_path="serving")]}, "training.jobs.0.storage_path", "overlap"),
        ({"window__duration_min": 23}, "window.duration_min", "18 minutes, but the stages take 19"),
        (
            {"training__jobs": [job(x) for x in "bcde"]},
            "window.duration_min",
            "for 5 jobs, 1 at a time",
        ),
        (
            {"training__jobs": [job("b", start_after_min=60)]},
            "training.jobs.0.start_after_min",
            "window's end",
        ),
        ({"window__threshold_rps": 80 / 1.2}, "window.threshold_rps", "slows it 1.2 times"),
        ({"training__stages__0__cpus": 1.5}, "training.envelope.cpus", "1 is less than stage load takes (1.5)"),
        ({"training__stages__1__memory_gib": 3}, "training.envelope.memory_gib", "stage train takes (3)"),
        ({"training__envelope": {"minutes": 18}}, "training.envelope.minutes", "before its stages do"),
        ({"training__envelope": {"cpus": 4}}, "training.envelope.cpus", "may take 4 processors"),
        ({"triggers": [trigger(observe="error_ratio", above=1, clears_below=0)]}, "triggers.t.above", "never act"),
        ({"triggers": [trigger(observe="bad_ratio", above=1.5, clears_below=0)]}, "triggers.t.above", "never act"),
        (
            {"triggers": [trigger(observe="queue_length", above=9, clears_below=0)], "serving__queue_limit": 9},
            "triggers.t.above",
            "the queue never holds more than its 9 places",
        ),
        (
            {"triggers": [trigger(above=1500)], "serving__client": {"timeout_ms": 1500}},
            "triggers.t.above",
            "callers give up after 1500 ms",
        ),
        ({"triggers": [trigger(for_s=3600)]}, "triggers.t.for_s", "as long as the window (60 minutes)"),
        ({"triggers": [trigger()], "training__stages__1__pausable": False}, "triggers.t.action", "no stage"),
        ({"triggers": [trigger(above=40, clears_below=10)]}, "triggers.t.above", "always acts"),
        ({"triggers": [trigger(above=1001)]}, "triggers.t.above", "when the promise is broken already"),
    ],
)
def test_each_problem_is_one_sentence_with_its_place_and_a_remedy(
    changes: dict[str, Any], place: str, said: str
) -> None:
    problems = lint_plan(small_plan(**changes))
    found = [sentence for sentence in problems if sentence.startswith(f"{place}: ")]
    assert len(found) == 1, problems
    assert said in found[0]
    assert any(mark in found[0] for mark in (";", ", so")), "no remedy is named"


@pytest.mark.parametrize(
    "changes",
    [
        {"serving__slo__latency_ms": 51},
        {"serving__client": {"timeout_ms": 1000}},
        {"training__storage_path": "serving-logs"},
        {"window__duration_min": 24},
        {"window__threshold_rps": 66.6},
        {"training__stages__0__cpus": 1.0},
        {"training__envelope": {"minutes": 19}},
        {"training__envelope": {"cpus": 3.9}},
        {"triggers": [trigger(observe="error_ratio", above=0.99, clears_below=0)]},
        {"triggers": [trigger(observe="queue_length", above=8, clears_below=0)], "serving__queue_limit": 9},
        {"triggers": [trigger(for_s=3599)]},
        {"triggers": [trigger(above=1000)]},
        {"triggers": [trigger(action="stop")], "training__stages__1__pausable": False},
    ],
)
def test_just_inside_a_limit_nothing_is_said(changes: dict[str, Any]) -> None:
    assert lint_plan(small_plan(**changes)) == []


def test_all_problems_are_told_at_once() -> None:
    plan = small_plan(
        serving__slo__user_impact="TBD by the team", training__storage_path="serving/x", window__duration_min=20,
        triggers=[trigger(for_s=3600)],
    )  # fmt: skip
    assert len(lint_plan(plan)) == 4
    assert len(RULES) == 6


def test_a_secondary_plan_is_held_to_the_same_rules_and_told_apart() -> None:
    plan = small_plan(
        secondary=[
            {"name": "surge", "when": "data_surge", "reason": "three times the data",
             "changes": {"training.stages.train.minutes_p95": 70}}
        ]
    )  # fmt: skip
    problems = lint_plan(plan)
    assert [p.split(":")[0] for p in problems] == ["secondary.surge", "secondary.surge"]
    assert "the stages take 74" in problems[0]


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("serving", "serving", True), ("serving", "serving/", True), ("serving", "./serving//models", True),
        ("serving", "serving-logs", False), ("data/a", "data/b", False), ("data", "data/a", True),
        ("a/b/../c", "a/c", True), ("a/../b", "a", False), ("/srv/a", "srv/a", False), ("/srv", "/srv/a", True),
        ("/srv/../a", "/a", True), ("//a", "/a", True), ("..", "a", True), ("../b", "a", True), (".", "a", True),
        ("a\\b", "a/b/c", True), ("A", "a", False),
    ],
)  # fmt: skip
def test_paths_overlap_by_whole_parts(one: str, other: str, overlap: bool) -> None:
    assert paths_overlap(one, other) is overlap
    assert paths_overlap(other, one) is overlap


parts = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4)


@given(parts, parts)
def test_overlap_is_one_path_being_the_beginning_of_the_other(one: list[str], other: list[str]) -> None:
    expected = all(a == b for a, b in zip(one, other, strict=False))
    assert paths_overlap("/".join(one), "./" + "//".join(other) + "/") is expected
