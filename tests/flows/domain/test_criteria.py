"""Criteria fixed before training: what changes their digest, what does not, and what is said about a change."""

from pathlib import Path
from typing import Any

import pytest

from flows.domain.criteria import criteria_digest, criteria_problem
from simulation.plan import Plan
from simulation.plan_file import read_plan


@pytest.fixture(scope="module")
def plan() -> Plan:
    return read_plan(Path(__file__).parents[3] / "examples" / "plan.yaml")


def changed(plan: Plan, section: str, **values: Any) -> Plan:
    """Return the plan with some values of one section changed."""
    return Plan.model_validate(plan.to_dict() | {section: plan.to_dict()[section] | values})


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("evaluation", {"minimum_rows": 1999}),
        ("evaluation", {"gates": [{"metric": "auc", "role": "success"}]}),
        ("rollout", {"max_failed_ratio": 0.011}),
        ("rollout", {"evidence": {"margin": 0.006}}),
    ],
)
def test_a_changed_criterion_needs_a_person(plan: Plan, section: str, values: dict[str, Any]) -> None:
    fixed, after = criteria_digest(plan), changed(plan, section, **values)
    assert criteria_digest(after) != fixed
    sentence = criteria_problem(fixed, after)
    assert sentence is not None
    assert "evaluation or rollout section was changed after training began" in sentence
    assert fixed[:12] in sentence


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("training", {"seed": 8}),
        ("costs", {"replica_hour": 2.0}),
        ("window", {"reason": "it suits"}),
        ("rollout", {}),
    ],
)
def test_what_is_no_criterion_leaves_the_digest_alone(plan: Plan, section: str, values: dict[str, Any]) -> None:
    assert criteria_problem(criteria_digest(plan), changed(plan, section, **values)) is None


def test_criteria_that_were_never_fixed_need_a_person(plan: Plan) -> None:
    sentence = criteria_problem(None, plan)
    assert sentence is not None
    assert "must be fixed before training" in sentence
