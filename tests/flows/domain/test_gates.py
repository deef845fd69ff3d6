"""Gates: no promotion for lack of data, each role at its limit, and a canary that fails goes back."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from flows.domain.evaluation import Comparison, Difference, GroupDifference
from flows.domain.gates import GateVerdict, decide, judge_canary, judge_gate
from simulation.plan import Evaluation, Gate, Rollout
from simulation.plan_file import read_plan

BETTER = Difference(0.30, 0.28, -0.03, -0.01)
WORSE = Difference(0.30, 0.40, 0.08, 0.12)
UNSURE = Difference(0.30, 0.30, -0.02, 0.02)
SUCCESS = Gate(metric="log_loss", role="success")
GUARD = Gate(metric="brier", role="guardrail", margin=0.01)


@pytest.fixture(scope="module")
def settings() -> Evaluation:
    found = read_plan(Path(__file__).parents[3] / "examples" / "plan.yaml").evaluation
    return found.model_copy(update={"minimum_rows": 2000, "gates": (SUCCESS, GUARD)})


def evidence(log_loss: Difference, brier: Difference, rows: int = 2000) -> Comparison:
    """Return evidence for both gates of the plan."""
    return Comparison(rows, rows // 5, {"log_loss": log_loss, "brier": brier}, (), 0)


@pytest.mark.parametrize(
    ("role", "margin", "low", "high", "outcome"),
    [
        ("success", 0.0, -0.02, -1e-9, "passes"),
        ("success", 0.0, -0.02, 0.0, "undecided"),
        ("success", 0.0, -0.02, 1e-9, "undecided"),
        ("success", 0.0, 0.0, 0.02, "undecided"),
        ("success", 0.0, 1e-9, 0.02, "fails"),
        ("success", 0.0, 0.0, 0.0, "undecided"),
        ("success", 0.5, -0.02, 0.02, "undecided"),
        ("guardrail", 0.01, -0.02, 0.01, "passes"),
        ("guardrail", 0.01, -0.02, 0.010001, "undecided"),
        ("guardrail", 0.01, 0.01, 0.02, "undecided"),
        ("guardrail", 0.01, 0.010001, 0.02, "fails"),
        ("guardrail", 0.0, 0.0, 0.0, "passes"),
    ],
)
def test_each_role_is_judged_by_its_bounds_and_at_its_limit(
    role: str, margin: float, low: float, high: float, outcome: str
) -> None:
    gate = Gate.model_validate({"metric": "brier", "role": role, "margin": margin})
    assert judge_gate(gate, Difference(0.3, 0.3, low, high)).outcome == outcome


@pytest.mark.parametrize(("value", "outcome"), [(0.2, "passes"), (0.200001, "fails")])
def test_a_quality_gate_bounds_the_challenger_s_own_value(value: float, outcome: str) -> None:
    gate = Gate(metric="score_shift", role="quality", margin=0.2)
    assert judge_gate(gate, Difference(0.0, value, value, value)).outcome == outcome


@pytest.mark.parametrize("missing", [None, Difference(math.nan, math.nan, math.nan, math.nan)])
@pytest.mark.parametrize("role", ["success", "guardrail", "quality"])
def test_missing_evidence_is_undecided_for_every_role(missing: Difference | None, role: str) -> None:
    gate = Gate.model_validate({"metric": "auc", "role": role, "margin": 1.0})
    assert judge_gate(gate, missing).outcome == "undecided"


def test_all_gates_passing_promotes(settings: Evaluation) -> None:
    assert decide(evidence(BETTER, BETTER), settings).verdict is GateVerdict.PROMOTE


@pytest.mark.parametrize("difference", [BETTER, WORSE])
def test_one_row_too_few_holds_whatever_the_numbers_say(settings: Evaluation, difference: Difference) -> None:
    decision = decide(evidence(difference, difference, rows=1999), settings)
    assert decision.verdict is GateVerdict.HOLD
    assert decision.reasons == ("1,999 distinct labelled rows are fewer than the 2,000 of the plan",)


def test_one_gate_that_surely_fails_needs_a_person_even_beside_an_undecided_one(settings: Evaluation) -> None:
    decision = decide(evidence(UNSURE, WORSE), settings)
    assert decision.verdict is GateVerdict.PERSON
    assert [reason.split(":")[0] for reason in decision.reasons] == ["brier"]


def test_one_undecided_gate_holds(settings: Evaluation) -> None:
    assert decide(evidence(UNSURE, BETTER), settings).verdict is GateVerdict.HOLD


def test_evidence_that_was_never_collected_holds(settings: Evaluation) -> None:
    assert decide(Comparison(9999, 900, {"log_loss": BETTER}, (), 0), settings).verdict is GateVerdict.HOLD


def test_groups_that_are_all_too_small_hold_instead_of_passing(settings: Evaluation) -> None:
    gates = settings.model_copy(update={"gates": (Gate(metric="group_log_loss", role="guardrail", margin=1.0),)})
    assert decide(Comparison(9999, 900, {}, (), 3), gates).verdict is GateVerdict.HOLD
    shown = (GroupDifference("young", 500, BETTER),)
    assert decide(Comparison(9999, 900, {}, shown, 3), gates).verdict is GateVerdict.PROMOTE


def test_one_group_surely_hurt_is_not_hidden_by_one_that_only_may_be(settings: Evaluation) -> None:
    gates = settings.model_copy(
        update={"gates": (Gate(metric="group_log_loss", role="guardrail", margin=0.03), GUARD, SUCCESS)}
    )
    hurt = GroupDifference("hurt", 900, Difference(0.3, 0.36, 0.05, 0.07))
    unsure = GroupDifference("small", 100, Difference(0.3, 0.33, -0.1, 0.2))
    found = Comparison(9999, 900, {"log_loss": BETTER, "brier": BETTER}, (hurt, unsure), 0)
    assert decide(found, gates).verdict is GateVerdict.PERSON


def test_a_plan_whose_gates_ask_nothing_of_the_labels_does_not_promote_by_itself(settings: Evaluation) -> None:
    online = settings.model_copy(update={"gates": (Gate(metric="failed_ratio", role="quality", margin=0.01),)})
    assert decide(evidence(BETTER, BETTER), online).verdict is GateVerdict.HOLD


@pytest.mark.parametrize(("n_changed", "verdict"), [(0, GateVerdict.HOLD), (1, GateVerdict.PROMOTE)])
def test_a_challenger_that_changes_no_score_has_nothing_to_gain(
    settings: Evaluation, n_changed: int, verdict: GateVerdict
) -> None:
    same = replace(evidence(BETTER, BETTER), n_changed=n_changed)
    assert decide(same, settings).verdict is verdict


@pytest.mark.parametrize("rows", [1999, 2000])
def test_another_schema_needs_a_person_whatever_the_rows_say(settings: Evaluation, rows: int) -> None:
    decision = decide(evidence(BETTER, BETTER, rows), settings, ("column 'pet' is new",))
    assert decision.verdict is GateVerdict.PERSON
    assert decision.reasons == ("the challenger's features are not the champion's: column 'pet' is new",)


@pytest.mark.parametrize(
    ("answered", "failed", "verdict"),
    [
        (0, 0, GateVerdict.HOLD),
        (99, 0, GateVerdict.HOLD),
        (0, 99, GateVerdict.HOLD),
        (100, 0, GateVerdict.PROMOTE),
        (99, 1, GateVerdict.PROMOTE),
        (98, 2, GateVerdict.ROLL_BACK),
        (0, 100, GateVerdict.ROLL_BACK),
    ],
)
def test_a_canary_needs_enough_requests_and_few_enough_failures(
    answered: int, failed: int, verdict: GateVerdict
) -> None:
    rollout = Rollout(requests_per_step=100, max_failed_ratio=0.01)
    assert judge_canary(answered, failed, rollout)[0] is verdict
