"""Challengers that a gate is for, each with its verdict in words: on labelled rows first, then live."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from flows.domain.criteria import LiveGate, criteria_of
from flows.domain.evaluation import compare
from flows.domain.features import FeatureColumn, FeatureSchema, schema_changes
from flows.domain.gates import GateVerdict, decide
from flows.domain.rollout import LiveEvidence, judge_rollout, paired_latency
from flows.domain.sequential import Shares
from simulation.plan import Evaluation, Gate, Rollout

Floats = NDArray[np.float64]
N = 6000
SETTINGS = Evaluation(
    minimum_rows=2000, minimum_group=100, bootstrap_draws=200, thresholds=(0.3, 0.5),
    gates=(
        Gate(metric="log_loss", role="success"),
        Gate(metric="auc", role="guardrail", margin=0.01),
        Gate(metric="calibration_error", role="guardrail", margin=0.02),
        Gate(metric="calibration_slope", role="guardrail", margin=0.15),
        Gate(metric="group_log_loss", role="guardrail", margin=0.03),
    ),
)  # fmt: skip
SCHEMA = FeatureSchema((FeatureColumn("age", "number"), FeatureColumn("job", "category", ("clerk", "student"))), "y")


@dataclass(frozen=True)
class Rows:
    """Labels, groups, the champion's scores, and what a model sees that the champion does not."""

    labels: Floats
    groups: NDArray[np.str_]
    champion: Floats
    logits: Floats
    seen: Floats


@pytest.fixture(scope="module")
def rows() -> Rows:
    rng = np.random.default_rng(21)
    seen, more = rng.normal(-1.2, 1.0, N), rng.normal(0.0, 0.9, N)
    labels = (rng.random(N) < special.expit(seen + more)).astype(np.float64)
    groups = np.where(rng.random(N) < 0.1, "young", np.where(rng.random(N) < 0.5, "middle", "old"))
    # What the champion knows, without overconfidence: the logit it does not see shrinks its slope by about 0.87.
    return Rows(labels, groups, special.expit(0.87 * seen - 0.05), seen + more, seen)


def challenger(rows: Rows, kind: str) -> Floats:
    """Return the scores of one kind of challenger."""
    better, is_young = special.expit(rows.logits), rows.groups == "young"
    return {
        "better": better,
        "worse for one group only": np.where(is_young, rows.labels[is_young].mean(), better),
        "better AUC but miscalibrated": special.expit(1.8 * rows.logits + 0.3),
        "slower": better,
        "changed schema": better,
        "identical": rows.champion,
    }[kind]


@pytest.mark.parametrize(
    ("kind", "verdict", "words"),
    [
        ("better", GateVerdict.PROMOTE, "log_loss: "),
        ("worse for one group only", GateVerdict.PERSON, "group_log_loss: "),
        ("better AUC but miscalibrated", GateVerdict.PERSON, "calibration_error: "),
        ("slower", GateVerdict.PROMOTE, "log_loss: "),
        ("changed schema", GateVerdict.PERSON, "the challenger's features are not the champion's: column 'pet' is new"),
        ("identical", GateVerdict.HOLD, "the challenger gives each of 6,000 rows the champion's score: there is"),
    ],
)
def test_each_challenger_gets_its_verdict_on_labelled_rows(
    rows: Rows, kind: str, verdict: GateVerdict, words: str
) -> None:
    comparison = compare(rows.labels, rows.champion, challenger(rows, kind), rows.groups, SETTINGS)
    wider = replace(SCHEMA, columns=(*SCHEMA.columns, FeatureColumn("pet", "number")))
    changes = schema_changes(SCHEMA, wider if kind == "changed schema" else SCHEMA)
    decision = decide(comparison, SETTINGS, changes)
    assert decision.verdict is verdict, decision.reasons
    assert decision.reasons[0].startswith(words), decision.reasons
    outcomes = {result.gate.metric: result.outcome for result in decision.results}
    if kind == "worse for one group only":
        # It knows nothing of the young and gives them their average; in all it is better: only one gate sees it.
        assert [name for name, outcome in outcomes.items() if outcome == "fails"] == ["group_log_loss"]
    if kind == "better AUC but miscalibrated":
        assert outcomes["auc"] == "passes"
        assert {"calibration_error", "calibration_slope"} <= {
            n for n, outcome in outcomes.items() if outcome == "fails"
        }


def test_the_slower_one_is_sent_back_by_the_live_rule() -> None:
    rng = np.random.default_rng(22)
    took_ms = rng.lognormal(math.log(0.05), 0.3, (2, 1500))
    criteria = criteria_of(Rollout(), [Gate(metric="latency_ms", role="guardrail", margin=0.005)])
    assert criteria.latency == (LiveGate("guardrail", 0.005),)
    seen = LiveEvidence(Shares(200, 0, 1800, 0), 200, 0, latency=paired_latency(1.3 * took_ms[0], took_ms[1], 0.25))
    decision = judge_rollout(seen, criteria, is_last=False)
    assert decision.verdict is GateVerdict.ROLL_BACK
    assert decision.reason.startswith("the new model is slower, surely: by 0.01")


def test_what_changes_for_those_who_act_on_scores_is_counted(rows: Rows) -> None:
    scores = challenger(rows, "better")
    found = compare(rows.labels, rows.champion, scores, rows.groups, SETTINGS)
    for point in found.operating:
        before, after = rows.champion >= point.threshold, scores >= point.threshold
        assert point.positive.champion == before.mean()
        assert point.positive.challenger == after.mean()
        assert point.positive.low < point.positive.value < point.positive.high
        assert point.swapped.challenger == pytest.approx((before != after).mean())
        assert point.swapped.low < point.swapped.challenger < point.swapped.high
    assert found.metrics["swap_ratio"] == max((p.swapped for p in found.operating), key=lambda d: d.challenger)
    assert found.metrics["positive_shift"].challenger == pytest.approx(
        max(abs(p.positive.value) for p in found.operating)
    )
    low, high = np.quantile(rows.champion, [0.05, 0.95])
    tails = [
        (scores < low).mean() - (rows.champion < low).mean(),
        (scores > high).mean() - (rows.champion > high).mean(),
    ]
    assert found.metrics["tail_shift"].challenger == pytest.approx(max(map(abs, tails)))
    assert found.n_changed == N


def test_scores_on_a_threshold_mean_yes() -> None:
    labels = np.tile([0.0, 1.0], 1000)
    found = compare(labels, np.full(2000, 0.5), np.full(2000, 0.4999), np.full(2000, "all"), SETTINGS)
    at_half = found.operating[1]
    assert (at_half.positive.champion, at_half.positive.challenger, at_half.swapped.challenger) == (1.0, 0.0, 1.0)
