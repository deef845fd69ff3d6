"""Evaluate: champion and challenger on the newest month, which neither has seen, and what the gates say of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Failed

from flows.adapters.data_store import Snapshot, months_before, next_month
from flows.domain.evaluation import Comparison, Difference, calibration_curve, compare
from flows.domain.features import FloatArray, encode_frame, schema_changes
from flows.domain.gates import GateDecision, decide
from flows.gateway.model_package import load_package
from flows.wiring import Wired, wire
from reports.publish import markdown_for
from reports.records import (
    CheckRecord,
    EvaluationRecord,
    GroupRecord,
    MetricRecord,
    TrainingRecord,
    load_record,
    save_record,
)

_AGE_EDGES = (30, 60)
_SCORE_EDGES = np.linspace(0.0, 1.0, 21)


@flow(name="evaluate", log_prints=True)
def evaluate(cycle: str, simulated_now: str | None = None) -> Any:
    """Score the newest month with both models, compare, judge, and save the evidence."""
    wired = wire(cycle, simulated_now)
    cycle = wired.cycle.name
    training = load_record(TrainingRecord, wired.cycle.path("training.json"))
    champion = wired.registry.champion()
    if training is None or training.version is None or champion is None:
        return Failed(message=f"cycle {cycle} has no challenger to evaluate; run the retrain flow first")
    newest = newest_month(wired)
    packages = [wired.registry.package(version) for version in (champion, training.version)]
    champion_scores, challenger_scores = (score(package, newest) for package in packages)
    changes = schema_changes(*(load_package(package).schema for package in packages))
    comparison = hold_together(wired, newest, champion_scores, challenger_scores)
    decision = decide(comparison, wired.cycle.plan.evaluation, changes)
    record = _record(
        wired, newest, comparison, decision, champion, training.version, champion_scores, challenger_scores
    )
    save_record(record, wired.cycle.path("evaluation.json"))
    wired.audit.append("evaluated", at=wired.cycle.now(), cycle=cycle, verdict=decision.verdict.value,
                       champion=champion, challenger=training.version, rows=comparison.rows)  # fmt: skip
    wired.registry.log_metrics(
        training.version, {f"newest_month_{name}": d.challenger for name, d in comparison.metrics.items()}
    )
    create_markdown_artifact(key="lull-cycle", markdown=markdown_for(wired.settings.home, cycle, "cycle"))
    get_run_logger().info("verdict: %s", decision.verdict.value)
    return decision.verdict.value


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=5)
def newest_month(wired: Wired) -> Snapshot:
    """Return the rows of the newest month that had ended by the cycle's date, repeats of one row left out."""
    store = wired.store()
    month = months_before(store.months(), wired.cycle.now())[-1]
    found = store.snapshot(month, next_month(month))
    # `seq` is the row's place in the file: a row counts once, however often it was delivered.
    frame = found.frame.drop_duplicates("seq") if "seq" in found.frame else found.frame.drop_duplicates()
    return Snapshot(found.name, found.since, found.until, frame.reset_index(drop=True), found.digest)


@task(cache_policy=NO_CACHE)
def score(package: Path, rows: Snapshot) -> FloatArray:
    """Score rows with a package exactly as the gateway does."""
    model = load_package(package)
    return model.predictor.predict_many(encode_frame(rows.frame, model.schema))


@task(cache_policy=NO_CACHE)
def hold_together(wired: Wired, rows: Snapshot, champion: FloatArray, challenger: FloatArray) -> Comparison:
    """Compare both models on the same labels, in all and by age."""
    age = rows.frame["age"].to_numpy()
    low, high = _AGE_EDGES
    groups = np.where(
        age <= low, f"age up to {low}", np.where(age < high, f"age {low + 1} to {high - 1}", f"age {high} and over")
    )
    labels = rows.frame["label"].to_numpy(dtype=np.float64)
    return compare(labels, champion, challenger, groups.astype(str), wired.cycle.plan.evaluation)


def _record(
    wired: Wired, rows: Snapshot, comparison: Comparison, decision: GateDecision, champion: str, challenger: str,
    champion_scores: FloatArray, challenger_scores: FloatArray,
) -> EvaluationRecord:  # fmt: skip
    labels = rows.frame["label"].to_numpy(dtype=np.float64)
    metrics = []
    for result in decision.results:
        if result.difference is not None:
            d = result.difference
            metrics.append(MetricRecord(result.gate.metric, result.gate.role, d.champion, d.challenger, d.value, d.low,
                                        d.high, result.gate.margin, result.outcome, result.reason))  # fmt: skip
    return EvaluationRecord(
        cycle=wired.cycle.name,
        champion_version=champion,
        challenger_version=challenger,
        rows=comparison.rows,
        positives=comparison.positives,
        data_from=rows.since.isoformat(),
        data_until=rows.until.isoformat(),
        confidence=wired.cycle.plan.evaluation.confidence,
        verdict=decision.verdict.value,
        reasons=list(decision.reasons),
        metrics=metrics,
        groups=[
            GroupRecord(g.group, g.rows, g.log_loss.champion, g.log_loss.challenger, g.log_loss.value, g.log_loss.low,
                        g.log_loss.high) for g in comparison.groups
        ],
        hidden_groups=comparison.hidden_groups,
        calibration_champion=calibration_curve(labels, champion_scores),
        calibration_challenger=calibration_curve(labels, challenger_scores),
        score_edges=_SCORE_EDGES.tolist(),
        score_champion=np.histogram(champion_scores, _SCORE_EDGES)[0].tolist(),
        score_challenger=np.histogram(challenger_scores, _SCORE_EDGES)[0].tolist(),
        checks=[CheckRecord(name, d.champion, d.challenger, d.low, d.high) for name, d in _checks(comparison)],
    )  # fmt: skip


def _checks(comparison: Comparison) -> Iterator[tuple[str, Difference]]:
    """Yield everything that was compared, gated or not, by the words under which it is kept."""
    yield from comparison.metrics.items()
    for point in comparison.operating:
        yield f"positive from {point.threshold:g}", point.positive
        yield f"decided otherwise from {point.threshold:g}", point.swapped
    if comparison.lines is not None:
        for name in ("slope", "intercept"):
            one, two = (getattr(line, name) for line in comparison.lines)
            yield f"calibration {name} itself", Difference(one, two, float("nan"), float("nan"))
