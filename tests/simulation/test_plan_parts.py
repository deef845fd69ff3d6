"""Calendars, jobs and secondary plans in a plan: what they refuse; a plan without them is what it was before."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from simulation.errors import InvalidPlan, UnknownZone
from simulation.plan import Plan
from simulation.plan_file import plan_problems, read_plan, write_plan
from tests.simulation.plans import PLAN_YAML, small_plan

DENIAL = {"rule": "gdpr", "reason": "no EU data at night", "time_zone": "Europe/Paris"}
SURGE = {"name": "surge", "when": "data_surge", "reason": "three times the data",
         "changes": {"training.rounds": 60, "training.stages.train.minutes_p95": 12}}  # fmt: skip
DIGEST_BEFORE = "211768a0c9a03e4b2403c4a59e422ee3b2a1eebb94eb6f2a5c76ecc3f5bfbcf1"
JOB = {
    "model": "b",
    "data": "d",
    "storage_path": "b",
    "stages": [{"name": "train", "minutes_p50": 1, "minutes_p95": 2}],
}


def test_parts_that_are_not_given_leave_no_trace_so_that_older_plans_keep_their_digest() -> None:
    data = small_plan().to_dict()
    assert {"calendar", "secondary"}.isdisjoint(data)
    lately = {"jobs", "max_concurrent", "priority", "start_after_min", "personal_data_regions"}
    assert lately.isdisjoint(data["training"])
    # The digest of this plan as it was first computed without its defaults: no later field may change it.
    assert small_plan().digest() == DIGEST_BEFORE


def test_parts_that_are_given_count_and_come_back_as_they_were(tmp_path: Path) -> None:
    plan = small_plan(
        calendar={"denials": [{**DENIAL, "first_day": "2026-03-01", "regions": ["eu"]}]}, secondary=[SURGE],
        training__jobs=[JOB], training__personal_data_regions=[], training__max_concurrent=2,
    )  # fmt: skip
    assert plan.digest() != small_plan().digest()
    assert Plan.model_validate(plan.to_dict()) == plan
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN_YAML, encoding="utf-8")
    write_plan(plan, path)
    assert read_plan(path) == plan
    assert "# Agreed with the on-call team." in path.read_text(encoding="utf-8")
    assert plan.calendar is not None
    assert plan.calendar.denials[0].first_day == dt.date(2026, 3, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"calendar": {"denials": [DENIAL, DENIAL]}}, "two denials share a rule name"),
        ({"calendar": {"denials": [{**DENIAL, "weekdays": []}]}}, "at least 1 item"),
        ({"calendar": {"denials": [{**DENIAL, "reason": "so"}]}}, "at least 10 characters"),
        ({"calendar": {"denials": [{**DENIAL, "rule": "a rule"}]}}, "String should match pattern"),
        ({"calendar": {"denials": [{**DENIAL, "first_day": "2026-03-02", "last_day": "2026-03-01"}]}}, "swap them"),
        ({"calendar": {"files": [{"path": "../x.ics", "kind": "release"}]}}, "leaves the plan's folder"),
        ({"calendar": {"prices": {"path": "a/../../x.csv"}}}, "leaves the plan's folder"),
        ({"calendar": {"files": [{"path": "x.ics", "kind": "party"}]}}, "'campaign', 'release' or 'maintenance'"),
        ({"calendar": {"holidays": [{"country": "germany"}]}}, "String should match pattern"),
        ({"training__jobs": [JOB, JOB]}, "two jobs train the same model"),
        ({"training__jobs": [{**JOB, "stages": [{"name": "fit", "minutes_p50": 1, "minutes_p95": 2}]}]}, "no stage is"),
        ({"secondary": [SURGE, SURGE]}, "secondary: two share a name"),
        ({"secondary": [{**SURGE, "changes": {}}]}, "at least 1 item"),
    ],
)
def test_a_part_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        small_plan(**changes)
    assert message in str(refusal.value)


def test_a_secondary_plan_is_the_plan_with_its_changes_made() -> None:
    plan = small_plan(secondary=[SURGE])
    changed = plan.under("surge")
    assert (changed.name, changed.secondary) == ("small-night-surge", ())
    assert changed.training.rounds == 60
    assert changed.stage("train").minutes_p95 == 12
    assert changed.serving == plan.serving
    with pytest.raises(InvalidPlan, match="no secondary plan is called 'flood'; there is surge"):
        plan.under("flood")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.round": 60}, "secondary.surge.changes: training.round: extra inputs"),
        ({"training.rounds": 0}, "secondary.surge.changes: training.rounds: input should be greater"),
        ({"training.stages.fit.minutes_p95": 5}, "there is no 'fit'"),
        ({"training.stages.train.minutes_p95": 5}, "minutes_p95 5 is below minutes_p50 10"),
        ({"serving.slo.latency_ms": 5000}, "a secondary plan may not change it"),
        ({"evaluation.confidence": 0.6}, "a secondary plan may not change it"),
        ({"approvals.required": False}, "a secondary plan may not change it"),
        ({"calendar": None}, "a secondary plan may not change it"),
        ({"training.model": "other"}, "a secondary plan may not change it"),
        ({"training.personal_data_regions": []}, "a secondary plan may not change it"),
        ({"triggers": []}, "a secondary plan may not change it"),
        ({"rollout.max_failed_ratio": 0.5}, "a secondary plan may not change it"),
        ({"window.duration_min": 4}, "leaves nothing of duration_min 4"),
    ],
)
def test_a_secondary_plan_that_breaks_the_plan_or_its_promises_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError) as refusal:
        small_plan(secondary=[{**SURGE, "changes": changes}])
    assert message in str(refusal.value)


def test_all_broken_rules_of_a_file_are_told_each_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    text = PLAN_YAML.replace("    user_impact: the answer takes longer than a page view\n", "")
    path.write_text(text.replace("duration_min: 60", "duration_min: 1500").replace("replicas: 2", "replcas: 2"))
    assert plan_problems(path) == [
        "serving.replcas: no such key; did you mean 'replicas'?",
        "serving.replicas: is missing; add it",
        "serving.slo.user_impact: is missing; add it",
        "window.duration_min: input should be less than or equal to 1440 (got 1500); write a plain number of minutes",
    ]
    path.write_text(PLAN_YAML, encoding="utf-8")
    assert plan_problems(path) == []


def test_every_zone_of_the_calendar_is_looked_up_when_the_plan_is_read(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN_YAML, encoding="utf-8")
    write_plan(small_plan(calendar={"denials": [{**DENIAL, "time_zone": "Europe/Pari"}]}), path)
    with pytest.raises(UnknownZone, match=r"calendar\.denials\.gdpr: no time zone is called 'Europe/Pari'; did you"):
        read_plan(path)
    assert len(plan_problems(path)) == 1
