"""The rule of a live rollout: every verdict with its words, each limit as a row, and no promotion for lack of data."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.domain.criteria import Criteria, LiveGate, criteria_of
from flows.domain.gates import GateVerdict
from flows.domain.rollout import Latency, LiveEvidence, judge_rollout, paired_latency, paired_losses
from flows.domain.sequential import Discordances, Scores, Shares, Split, add_scores
from simulation.plan import Gate, Rollout

PROMOTE, HOLD, PERSON, BACK = GateVerdict.PROMOTE, GateVerdict.HOLD, GateVerdict.PERSON, GateVerdict.ROLL_BACK
CRITERIA = criteria_of(Rollout(requests_per_step=100, max_failed_ratio=0.01))
GUARDED = replace(CRITERIA, failed=(LiveGate("guardrail", 0.005),))


def evidence(green: tuple[int, int], blue: tuple[int, int], **more: object) -> LiveEvidence:
    """Return evidence of one step: requests taken and failed by each slot."""
    return LiveEvidence(Shares(*green, *blue), *green, **more)  # type: ignore[arg-type]  # as the field asks


@pytest.mark.parametrize(
    ("green", "blue", "verdict", "words"),
    [
        ((0, 0), (0, 0), HOLD, "0 requests reached the new model, the plan asks for 100"),
        ((99, 0), (900, 0), HOLD, "99 requests reached the new model, the plan asks for 100"),
        ((100, 0), (900, 0), PROMOTE, "100 requests answered by the new model, 0 failed"),
        ((100, 1), (900, 0), PROMOTE, "99 requests answered by the new model, 1 failed"),
        ((100, 2), (900, 9), HOLD, "2 of 100 requests failed on the new model, over 0.01, but not yet surely"),
        ((1000, 11), (9000, 90), HOLD, "11 of 1,000 requests failed on the new model, over 0.01, but not yet surely"),
        ((1000, 10), (9000, 90), PROMOTE, "990 requests answered by the new model, 10 failed"),
        ((5000, 100), (5000, 40), BACK, "the new model fails more, surely: 100 of 5,000 against 40 of 5,000"),
        ((60, 30), (540, 0), BACK, "the new model fails more, surely: 30 of 60 against 0 of 540"),
        ((20_000, 300), (20_000, 300), BACK, "300 of 20,000 requests failed on the new model, surely over 0.01"),
        ((5000, 0), (5000, 40), PROMOTE, "5,000 requests answered by the new model, 0 failed"),
    ],
)
def test_a_step_without_gates_needs_requests_and_no_alarm(
    green: tuple[int, int], blue: tuple[int, int], verdict: GateVerdict, words: str
) -> None:
    decision = judge_rollout(evidence(green, blue), CRITERIA, is_last=True)
    assert (decision.verdict, decision.reasons[0].startswith(words)) == (verdict, True), decision.reasons


@pytest.mark.parametrize(
    ("role", "margin", "green", "blue", "verdict"),
    [
        ("guardrail", 0.005, (900, 0), (900, 0), HOLD),
        ("guardrail", 0.005, (1800, 0), (1800, 0), HOLD),
        ("guardrail", 0.005, (1900, 0), (1900, 0), PROMOTE),
        ("guardrail", 0.0, (50_000, 0), (50_000, 0), HOLD),
        ("guardrail", 0.005, (20_000, 100), (20_000, 100), PROMOTE),
        ("success", 0.0, (20_000, 100), (20_000, 100), HOLD),
        ("success", 0.0, (20_000, 20), (20_000, 100), PROMOTE),
        ("quality", 0.01, (300, 0), (0, 0), HOLD),
        ("quality", 0.01, (900, 0), (0, 0), PROMOTE),
        ("guardrail", 0.005, (900, 0), (0, 0), HOLD),
    ],
)
def test_a_gate_on_failures_must_be_shown_before_the_switch_and_not_before(
    role: str, margin: float, green: tuple[int, int], blue: tuple[int, int], verdict: GateVerdict
) -> None:
    criteria = replace(CRITERIA, failed=(LiveGate(role, margin),))
    assert judge_rollout(evidence(green, blue), criteria, is_last=True).verdict is verdict
    assert judge_rollout(evidence(green, blue), criteria, is_last=False).verdict is PROMOTE


def test_surely_worse_but_surely_within_the_margin_passes() -> None:
    seen = evidence((100_000, 700), (100_000, 450))
    assert judge_rollout(seen, replace(GUARDED, failed=(LiveGate("guardrail", 0.001),)), is_last=True).verdict is BACK
    decision = judge_rollout(seen, GUARDED, is_last=True)
    assert decision.verdict is PROMOTE
    assert decision.reasons[1].endswith("against the old model, may be worse by 0.50%")


def test_the_shadow_may_show_what_a_small_canary_cannot() -> None:
    starved = evidence((200, 0), (1800, 10))
    assert judge_rollout(starved, GUARDED, is_last=True).verdict is HOLD
    shadowed = replace(starved, shadow=Discordances(4000, 0, 0))
    assert judge_rollout(shadowed, GUARDED, is_last=True).verdict is PROMOTE


def test_a_shadow_in_which_the_new_model_alone_fails_rolls_back() -> None:
    seen = evidence((200, 0), (1800, 0), shadow=Discordances(1000, 60, 2))
    decision = judge_rollout(seen, CRITERIA, is_last=False)
    assert decision.verdict is BACK
    assert decision.reasons[0].startswith("of 1,000 requests given to both models the new one alone failed 60")


@pytest.mark.parametrize(
    ("splits", "verdict"),
    [
        ((), PROMOTE),
        ((Split(0.1, 100, 900),), PROMOTE),
        ((Split(0.1, 130, 870),), PROMOTE),
        ((Split(0.1, 170, 830),), PERSON),
        ((Split(0.1, 100, 900), Split(0.5, 400, 600)), PERSON),
        ((Split(0.5, 0, 60),), PERSON),
    ],
)
def test_a_split_that_was_not_set_needs_a_person_before_anything_else(
    splits: tuple[Split, ...], verdict: GateVerdict
) -> None:
    found = judge_rollout(evidence((100, 0), (900, 0), splits=splits), CRITERIA, is_last=True)
    assert found.verdict is verdict
    if verdict is PERSON:
        worse = judge_rollout(evidence((100, 90), (900, 0), splits=splits), CRITERIA, is_last=True)
        assert worse.verdict is PERSON
        assert "the slots cannot be compared until a person finds out why" in found.reason


def scores(values: np.ndarray) -> Scores:
    """Return the state after scores in batches of fifty."""
    state = Scores()
    for part in np.split(values, values.size // 50):
        state = add_scores(state, n=part.size, total=float(part.sum()), squares=float((part**2).sum()))
    return state


def latency(slower: float, n: int = 3000) -> Latency:
    """Return latencies of both slots around 30 ms, counted up to 150 ms, green slower by a factor."""
    rng = np.random.default_rng(4)
    blue, green = (rng.lognormal(math.log(30), 0.5, n) for _ in range(2))
    return Latency(scores(np.minimum(green * slower / 150, 1)), scores(np.minimum(blue / 150, 1)), 150.0)


@pytest.mark.parametrize(
    ("slower", "gates", "verdict"),
    [
        (1.0, (), PROMOTE),
        (1.3, (), BACK),
        (1.0, (LiveGate("guardrail", 5.0),), PROMOTE),
        (1.0, (LiveGate("guardrail", 0.1),), HOLD),
        (1.3, (LiveGate("guardrail", 5.0),), BACK),
        (1.3, (LiveGate("guardrail", 30.0),), PROMOTE),
        (1.0, (LiveGate("success", 0.0),), HOLD),
        (0.7, (LiveGate("success", 0.0),), PROMOTE),
        (1.0, (LiveGate("quality", 30.0),), HOLD),
        (1.0, (LiveGate("quality", 40.0),), PROMOTE),
    ],
)
def test_latency_is_judged_by_its_role(slower: float, gates: tuple[LiveGate, ...], verdict: GateVerdict) -> None:
    seen = evidence((3000, 0), (3000, 0), latency=latency(slower))
    assert judge_rollout(seen, replace(CRITERIA, latency=gates), is_last=True).verdict is verdict


@pytest.mark.parametrize("gate", [LiveGate("guardrail", 5.0), LiveGate("success", 0.0), LiveGate("quality", 5.0)])
def test_a_latency_that_nobody_measured_holds(gate: LiveGate) -> None:
    criteria = replace(CRITERIA, latency=(gate,))
    for unknown in (None, Latency(Scores(), Scores(), 150.0), paired_latency(np.zeros(0), np.zeros(0), 1.0)):
        seen = evidence((1000, 0), (1000, 0), latency=unknown)
        decision = judge_rollout(seen, criteria, is_last=True)
        assert decision.verdict is HOLD
        assert decision.reason == f"latency: there is no evidence for this {gate.role}"


@pytest.mark.parametrize(("slower", "verdict"), [(1.0, PROMOTE), (1.3, BACK)])
def test_a_slower_model_is_seen_in_the_shadow_on_the_same_requests(slower: float, verdict: GateVerdict) -> None:
    rng = np.random.default_rng(6)
    rows = rng.lognormal(math.log(0.05), 0.4, 1000)
    noise = [rng.lognormal(0, 0.2, 1000) for _ in range(2)]
    pairs = paired_latency(rows * noise[0] * slower, rows * noise[1], 0.25)
    seen = evidence((100, 0), (900, 0), latency=pairs)
    decision = judge_rollout(seen, replace(CRITERIA, latency=(LiveGate("guardrail", 0.02),)), is_last=False)
    assert decision.verdict is verdict
    assert slower == 1.0 or decision.reasons[0].startswith("the new model is slower, surely: by 0.01")


@pytest.mark.parametrize(("slope", "verdict"), [(1.0, PROMOTE), (0.5, BACK)])
def test_scores_that_fit_worse_what_happened_roll_back(slope: float, verdict: GateVerdict) -> None:
    rng = np.random.default_rng(9)
    logits = rng.normal(-1.5, 1.2, 5000)
    truth, pressed = (1 / (1 + np.exp(-logits * s)) for s in (1.0, slope))
    losses = paired_losses((rng.random(5000) < truth).astype(float), pressed, truth)
    decision = judge_rollout(evidence((100, 0), (900, 0), losses=losses), CRITERIA, is_last=True)
    assert decision.verdict is verdict
    assert slope == 1.0 or "further from what happened, surely: by 0.0" in decision.reason


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 99), st.integers(0, 2000), st.floats(0, 1), st.booleans())
def test_a_step_short_of_its_requests_is_never_passed(taken: int, blue: int, ratio: float, is_last: bool) -> None:
    seen = evidence((taken, round(ratio * taken)), (blue, 0))
    assert judge_rollout(seen, CRITERIA, is_last=is_last).verdict in (HOLD, BACK)


@settings(deadline=None, max_examples=30)
@given(st.integers(100, 3000), st.integers(100, 3000), st.integers(0, 100))
def test_more_failures_of_green_never_make_the_verdict_kinder(green: int, blue: int, failed: int) -> None:
    order = (BACK, HOLD, PROMOTE)
    verdicts = [
        judge_rollout(evidence((green, f), (blue, 0)), GUARDED, is_last=True).verdict for f in (failed // 2, failed)
    ]
    assert order.index(verdicts[1]) <= order.index(verdicts[0])


def test_only_gates_on_live_answers_reach_the_rule() -> None:
    gates = (
        Gate(metric="auc", role="guardrail", margin=0.02),
        Gate(metric="failed_ratio", role="guardrail", margin=0.004),
        Gate(metric="latency_ms", role="quality", margin=40.0),
    )
    found = criteria_of(Rollout(requests_per_step=7, max_failed_ratio=0.02), gates)
    assert found == Criteria(7, 0.02, 0.005, 0.05, (LiveGate("guardrail", 0.004),), (LiveGate("quality", 40.0),))
