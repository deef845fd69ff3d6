"""Gates: from evidence to promote, hold for data, needs a person or roll back; none passes for lack of data."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np

from flows.domain.evaluation import Comparison, Difference, metric_of
from simulation.plan import Evaluation, Gate, Rollout


class GateVerdict(StrEnum):
    """What the evidence allows."""

    PROMOTE = "promote"
    HOLD = "hold for data"
    PERSON = "needs a person"
    ROLL_BACK = "roll back"


@dataclass(frozen=True)
class GateResult:
    """One gate, its evidence, and what it says."""

    gate: Gate
    difference: Difference | None
    outcome: Literal["passes", "fails", "undecided"]
    reason: str


@dataclass(frozen=True)
class GateDecision:
    """The verdict over all gates, with its reasons as sentences."""

    verdict: GateVerdict
    reasons: tuple[str, ...]
    results: tuple[GateResult, ...]


def decide(comparison: Comparison, settings: Evaluation, schema_changes: tuple[str, ...] = ()) -> GateDecision:
    """
    Judge the offline gates.

    A challenger that asks for other features than the champion: a person must look, as clients would have to change.
    Too few distinct rows: hold for data, whatever the numbers say. A gate that surely fails: a person must look.
    A gate that is undecided, or no gate that labelled rows can answer: hold for data. All pass: promote.
    A challenger that gives every row the champion's score has nothing to gain: traffic stays, whatever the gates say.
    """
    results = tuple(judge_gate(gate, metric_of(gate, comparison)) for gate in settings.gates if _is_offline(gate))
    if schema_changes:
        changed = tuple(f"the challenger's features are not the champion's: {change}" for change in schema_changes)
        return GateDecision(GateVerdict.PERSON, changed, results)
    if comparison.rows < settings.minimum_rows:
        reason = f"{comparison.rows:,} distinct labelled rows are fewer than the {settings.minimum_rows:,} of the plan"
        return GateDecision(GateVerdict.HOLD, (reason,), results)
    if comparison.n_changed == 0:
        same = f"the challenger gives each of {comparison.rows:,} rows the champion's score: there is nothing to gain"
        return GateDecision(GateVerdict.HOLD, (same,), results)
    if not results:
        return GateDecision(GateVerdict.HOLD, ("no gate of the plan looks at labelled rows; add one",), results)
    failed = [result.reason for result in results if result.outcome == "fails"]
    if failed:
        return GateDecision(GateVerdict.PERSON, tuple(failed), results)
    undecided = [result.reason for result in results if result.outcome == "undecided"]
    if undecided:
        return GateDecision(GateVerdict.HOLD, tuple(undecided), results)
    return GateDecision(GateVerdict.PROMOTE, tuple(result.reason for result in results), results)


def judge_gate(gate: Gate, difference: Difference | None) -> GateResult:
    """Judge one gate by the bounds of its interval, never by its middle."""
    if difference is None or not np.isfinite([difference.low, difference.high]).all():
        return GateResult(gate, difference, "undecided", f"{gate.metric}: there is no evidence for this {gate.role}")
    d = difference
    spread = f"{d.value:+.4f}, from {d.low:+.4f} to {d.high:+.4f} (worse is larger)"
    outcome: Literal["passes", "fails", "undecided"]
    if gate.role == "quality":
        outcome = "passes" if d.challenger <= gate.margin else "fails"
        return GateResult(
            gate, d, outcome, f"{gate.metric}: {d.challenger:.4f} against at most {gate.margin:g}: {outcome}"
        )
    limit = 0.0 if gate.role == "success" else gate.margin
    goal = "must be better" if gate.role == "success" else f"may be worse by at most {gate.margin:g}"
    outcome = "passes" if d.high <= limit and not (gate.role == "success" and d.high == 0) else "undecided"
    if d.low > limit:
        outcome = "fails"
    return GateResult(gate, d, outcome, f"{gate.metric}: {spread}; {goal}: {outcome}")


def judge_canary(n_answered: int, n_failed: int, rollout: Rollout) -> tuple[GateVerdict, str]:
    """Judge a canary step by what the slot under test answered: enough requests, few enough failures."""
    if n_answered + n_failed < rollout.requests_per_step:
        return GateVerdict.HOLD, (
            f"{n_answered + n_failed} requests reached the new model, the plan asks for {rollout.requests_per_step}"
        )
    ratio = n_failed / (n_answered + n_failed)
    if ratio > rollout.max_failed_ratio:
        return GateVerdict.ROLL_BACK, (
            f"{n_failed} of {n_answered + n_failed} requests failed on the new model, over {rollout.max_failed_ratio:g}"
        )
    return GateVerdict.PROMOTE, f"{n_answered} requests answered by the new model, {n_failed} failed"


def _is_offline(gate: Gate) -> bool:
    return gate.metric not in ("latency_ms", "failed_ratio")
