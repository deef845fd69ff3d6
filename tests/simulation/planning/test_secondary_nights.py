"""Secondary plans: each is played under what it was declared for, and a plan holds only if they do."""

import datetime as dt
from typing import Any

import pytest

from simulation.experiment import simulate
from simulation.plan import Plan
from simulation.planning.secondary_nights import SecondaryNights, play_secondaries, with_secondaries
from simulation.scenario import Scenario
from simulation.verdict import Answer, Verdict, judge
from tests.simulation.nights import EXACT_STAGES, scenario
from tests.simulation.plans import OPENS_AT, flat_forecast, small_plan

SCENARIOS = {
    "surge": scenario({"kind": "more_data", "factor": 2}).model_copy(update={"name": "surge"}),
    "flood": scenario({"kind": "surge", "at_min": 5, "minutes": 50, "factor": 8}).model_copy(update={"name": "flood"}),
}
QUIET = {"acceptance__confidence": 0.6, "acceptance__max_breach_probability": 0.5,
         "acceptance__min_finish_probability": 0.5}  # fmt: skip
# The stages take 32 minutes, twice as long with twice the data: too long for the window, unless it is cut down.
SMALLER: dict[str, Any] = {
    "name": "fewer-rounds", "when": "data_surge", "reason": "twice the rows, so half of the work", "scenario": "surge",
    "changes": {"training.stages.train.minutes_p50": 10, "training.stages.train.minutes_p95": 10},
}  # fmt: skip
IDLE = {**SMALLER, "changes": {"training.rounds": 190}}


def plan_with(*secondaries: dict[str, Any], **changes: Any) -> Plan:
    return small_plan(training__stages=EXACT_STAGES, secondary=list(secondaries), **QUIET, **changes)


def read(name: str) -> Scenario:
    return SCENARIOS[name]


def play(plan: Plan, hours: int = 6) -> tuple[SecondaryNights, ...]:
    return play_secondaries(plan, read, load=flat_forecast(hours=hours), opens_at=OPENS_AT, replications=2)


def calm(plan: Plan) -> Verdict:
    return judge(plan, simulate(plan, [scenario()], load=flat_forecast(), opens_at=OPENS_AT, replications=2))


def test_a_plan_whose_secondary_plan_withstands_its_failure_holds_and_says_so() -> None:
    plan = plan_with(SMALLER)
    verdict = with_secondaries(calm(plan), play(plan))
    assert verdict.answer is Answer.HOLDS
    assert [found.scenario for found in verdict.scenarios] == ["tried", "fewer-rounds: surge"]
    assert verdict.reasons[-1].endswith("what they were declared for: fewer-rounds.")


def test_a_declared_failure_that_is_not_withstood_makes_the_plan_fail_by_name() -> None:
    plan = plan_with(IDLE)
    main = calm(plan)
    assert main.answer is Answer.HOLDS
    verdict = with_secondaries(main, play(plan))
    assert verdict.answer is Answer.FAILS
    assert all(reason.startswith("secondary plan fewer-rounds: surge: P(") for reason in verdict.reasons)
    assert "P(training finishes in the window" in verdict.reasons[0] + verdict.reasons[-1]


def test_a_declared_failure_without_a_scenario_leaves_the_plan_undecided() -> None:
    plan = plan_with({**SMALLER, "scenario": None})
    verdict = with_secondaries(calm(plan), play(plan))
    assert verdict.answer is Answer.UNDECIDED
    assert verdict.reasons == (
        "secondary plan fewer-rounds names no scenario, so nothing shows that it withstands what it is for; add one.",
    )


def test_a_secondary_plan_does_not_mend_a_plan_that_fails_itself() -> None:
    plan = plan_with(SMALLER)
    load = flat_forecast()
    bad = judge(plan, simulate(plan, [SCENARIOS["flood"]], load=load, opens_at=OPENS_AT, replications=2))
    verdict = with_secondaries(bad, play(plan))
    assert verdict.answer is bad.answer is Answer.FAILS
    assert verdict.reasons == bad.reasons


def test_a_plan_without_secondary_plans_keeps_its_verdict() -> None:
    plan = plan_with()
    assert with_secondaries(calm(plan), play(plan)) == calm(plan)


def test_it_is_the_secondary_plan_that_is_played_at_its_own_opening() -> None:
    later = {**SMALLER, "changes": {**SMALLER["changes"], "window.starts_at_local": "03:00"}}
    (nights,) = play(plan_with(later), hours=8)
    assert nights.experiment is not None
    assert nights.experiment.provenance["opens_at"] == (OPENS_AT + dt.timedelta(hours=1)).isoformat()
    assert nights.experiment.trials[0].finish_min == pytest.approx(24)  # 2 × (2 + 10)
