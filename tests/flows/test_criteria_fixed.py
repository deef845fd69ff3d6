"""Criteria are fixed when training begins and looked up when traffic is about to move."""

import datetime as dt
from pathlib import Path

from flows.adapters.audit import InMemoryAudit
from flows.domain.criteria import criteria_digest, criteria_problem
from flows.promote import fixed_criteria
from simulation.plan_file import read_plan

PLAN = read_plan(Path(__file__).parents[2] / "examples" / "plan.yaml")
AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def test_the_newest_training_of_the_cycle_itself_counts() -> None:
    audit = InMemoryAudit()
    assert fixed_criteria(audit, "2009-05") is None
    audit.append("retrain started", at=AT, cycle="2009-05", criteria_digest="an older one")
    audit.append("retrain started", at=AT, cycle="2009-05", criteria_digest=criteria_digest(PLAN))
    audit.append("retrain started", at=AT, cycle="2009-06", criteria_digest="another cycle's")
    audit.append("evaluated", at=AT, cycle="2009-05")
    assert criteria_problem(fixed_criteria(audit, "2009-05"), PLAN) is None


def test_a_training_that_wrote_no_criteria_down_needs_a_person() -> None:
    audit = InMemoryAudit()
    audit.append("retrain started", at=AT, cycle="2009-05", data_digest="abc")
    assert criteria_problem(fixed_criteria(audit, "2009-05"), PLAN) is not None
