"""Report drift: the newest month against rows of the training span, with a known rate of false alarms."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows.adapters.data_store import Snapshot, months_before, next_month
from flows.adapters.drift import DriftResult, measure_drift
from flows.domain.data_quality import QualityFinding, check_freshness, check_row_count, movement
from flows.domain.drift import FALSE_ALARM_RATE, N_RANKED
from flows.domain.evaluation import log_loss, one_minus_auc
from flows.domain.features import FeatureSchema, bank_marketing_schema
from flows.domain.unlabelled import ASSUMPTION
from flows.drift_findings import SCORE, Measured, measure
from flows.gateway.model_package import Model, load_package
from flows.training import held_for_calibration
from flows.wiring import Wired, wire
from reports.publish import markdown_for
from reports.records import (
    DriftColumn,
    DriftRecord,
    PromiseRecord,
    QualityRecord,
    TrainingRecord,
    load_record,
    save_record,
)
from simulation.errors import LullError

_PAGE = "evidently.html"
_SEED = 20260101


@dataclass(frozen=True)
class Compared:
    """Both sets of rows and what they show; `evidently` is None where its page was left out."""

    reference: Snapshot
    current: Snapshot
    schema: FeatureSchema
    measured: Measured
    quality: tuple[QualityFinding, ...]
    evidently: DriftResult | None


@flow(name="report-drift", log_prints=True)
def report_drift(cycle: str, simulated_now: str | None = None) -> Any:
    """Compare the newest month with the training data and save what moved, whether it matters, and how sure that is."""
    wired = wire(cycle, simulated_now)
    cycle = wired.cycle.name
    training = load_record(TrainingRecord, wired.cycle.path("training.json"))
    compared = compare_months(wired, training)
    record = nothing_compared(wired, compared) if isinstance(compared, str) else _record(wired, compared, training)
    save_record(record, wired.cycle.path("drift.json"))
    moved = [column.column for column in record.columns if column.is_drifted]
    share = None if record.problem else record.share_drifted  # JSON knows no NaN
    wired.audit.append("drift reported", at=wired.cycle.now(), cycle=cycle, share_drifted=share, moved=moved,
                       problem=record.problem)  # fmt: skip
    create_markdown_artifact(key="lull-drift", markdown=markdown_for(wired.settings.home, cycle, "drift"))
    get_run_logger().info(record.problem or f"{len(moved)} of {len(record.columns)} columns moved")
    return share


@task(cache_policy=NO_CACHE, retries=1)
def compare_months(wired: Wired, training: TrainingRecord | None) -> Compared | str:
    """Measure drift, or return the sentence that says why nothing can be compared."""
    store, now = wired.store(), wired.cycle.now()
    months = months_before(store.months(), now)
    if not months:
        return f"No month with rows had ended by {now:%Y-%m-%d}, so there is nothing to compare yet."
    if len(months) == 1:
        return f"{months[0]:%Y-%m} is the first month with rows: there are none before it to compare with."
    past = store.snapshot(months[0], months[-1])
    current, quality = _distinct(store.snapshot(months[-1], next_month(months[-1])))
    counts = [len(store.snapshot(month, next_month(month)).frame) for month in months[:-1]]
    quality += [check_row_count(len(current.frame), counts), check_freshness(current.until, now.replace(
        day=1, hour=0, minute=0, second=0, microsecond=0))]  # fmt: skip
    reference, model, findings = _reference(wired, past, training)
    schema = model.schema if model is not None else bank_marketing_schema(store.frame)
    score = model.predictor.predict_many if model is not None else None
    measured = measure(reference.frame, current.frame, schema, score, seed=_SEED)
    quality += [*findings, *measured.quality]
    evidently = _evidently(wired, reference, current, schema, quality)
    return Compared(reference, current, schema, measured, tuple(quality), evidently)


def nothing_compared(wired: Wired, why: str) -> DriftRecord:
    """Return the record of a report that had nothing to compare; the sentence says why."""
    return DriftRecord(
        cycle=wired.cycle.name, problem=why, reference_rows=0, current_rows=0, reference_from="", reference_until="",
        current_from="", current_until="", columns=[], score_name=SCORE, share_drifted=float("nan"),
        false_alarm_rate=FALSE_ALARM_RATE, dealings=N_RANKED, promises=[], promise_assumption=ASSUMPTION, quality=[],
        evidently_page="", evidently_version="",
    )  # fmt: skip


def _distinct(month: Snapshot) -> tuple[Snapshot, list[QualityFinding]]:
    """Leave repeated rows out: the same row twice is no more evidence, and would raise the false-alarm rate."""
    frame = month.frame.drop_duplicates().reset_index(drop=True)
    n_repeats = len(month.frame) - len(frame)
    told = [QualityFinding("repeats", False, f"{n_repeats:,} rows repeat another row and are left out.")]
    return Snapshot(month.name, month.since, month.until, frame, month.digest), told if n_repeats else []


def _reference(
    wired: Wired, past: Snapshot, training: TrainingRecord | None
) -> tuple[Snapshot, Model | None, list[QualityFinding]]:
    """Return the rows held out of training and the model; all past rows and none, with the reason, if that fails."""
    why = ""
    if training is None or training.version is None:
        why = "this cycle has no trained model"
    elif training.data_digest != past.digest:
        why = "the rows before this month are no longer those that the model was trained on"
    else:
        try:
            model = load_package(wired.registry.package(training.version))
        except LullError as problem:
            why = str(problem)
    held = held_for_calibration(len(past.frame), wired.cycle.plan.training.calibration_ratio)
    if not why and not held.any():
        why = "the plan holds no rows out of training, and scores of trained rows are no measure"
    if why:
        return past, None, [QualityFinding("scores", False, f"Scores, losses and promises are left out: {why}.")]
    return Snapshot(past.name, past.since, past.until, past.frame[held].reset_index(drop=True), past.digest), model, []


def _evidently(
    wired: Wired, reference: Snapshot, current: Snapshot, schema: FeatureSchema, quality: list[QualityFinding]
) -> DriftResult | None:
    """Run Evidently beside our own tests, unless its page would show too few rows or it could not read them."""
    fewest, page = wired.cycle.plan.evaluation.minimum_group, wired.settings.reports / wired.cycle.name / _PAGE
    n_rows = min(len(reference.frame), len(current.frame))
    why = ""
    if n_rows < fewest:
        why = f"the smaller set has {n_rows:,}, fewer than the {fewest:,} rows that the plan lets be shown"
    elif any(not check.is_met and check.check in ("columns", "values") for check in quality):
        why = "its columns are not those of the schema"
    if why:
        quality.append(QualityFinding("Evidently", False, f"Evidently's page is left out: {why}."))
        page.unlink(missing_ok=True)
        return None
    return measure_drift(reference.frame, current.frame, schema, page, minimum_group=fewest)


def _record(wired: Wired, compared: Compared, training: TrainingRecord | None) -> DriftRecord:
    reference, current, shifts = compared.reference, compared.current, compared.measured.shifts
    columns = _columns(compared, training, wired.cycle.plan.evaluation.minimum_group)
    of_features = [column.is_drifted for column in columns if column.column != SCORE]
    return DriftRecord(
        cycle=wired.cycle.name,
        problem="",
        reference_rows=len(reference.frame),
        current_rows=len(current.frame),
        reference_from=reference.since.isoformat(),
        reference_until=reference.until.isoformat(),
        current_from=current.since.isoformat(),
        current_until=current.until.isoformat(),
        columns=columns,
        score_name=SCORE,
        share_drifted=sum(of_features) / len(of_features),
        false_alarm_rate=shifts.false_alarm_rate,
        dealings=shifts.n_ranked,
        promises=_promises(compared),
        promise_assumption=ASSUMPTION,
        quality=[QualityRecord(q.check, q.is_met, q.sentence) for q in compared.quality],
        evidently_page=_PAGE if compared.evidently is not None else "",
        evidently_version=compared.evidently.version if compared.evidently is not None else "",
    )


def _columns(compared: Compared, training: TrainingRecord | None, minimum_group: int) -> list[DriftColumn]:
    importance = training.importance if training is not None else {}
    tests = {c.column: c for c in compared.evidently.columns} if compared.evidently is not None else {}
    nan, columns = float("nan"), []
    for feature, shift in zip(compared.measured.features, compared.measured.shifts.columns, strict=True):
        loss, test = compared.measured.losses.get(shift.name), tests.get(shift.name)
        columns.append(DriftColumn(
            column=shift.name,
            is_drifted=shift.is_moved,
            movement=movement(feature, shift, minimum_group) if shift.is_moved else "",
            distance=shift.distance,
            p_value=shift.p_value,
            importance=importance.get(shift.name, nan),
            log_loss=loss.log_loss if loss is not None else nan,
            score_change=loss.score_change if loss is not None else nan,
            evidently_method=test.method if test is not None else "",
            evidently_value=test.value if test is not None else nan,
            evidently_threshold=test.threshold if test is not None else nan,
        ))  # fmt: skip
    return columns


def _promises(compared: Compared) -> list[PromiseRecord]:
    """Return promised metrics beside the true ones: the labels of this store come with the rows."""
    promise, scores = compared.measured.promise, compared.measured.current_scores
    if promise is None or scores is None:
        return []
    labels = compared.current.frame[compared.schema.label].to_numpy(dtype=np.float64)
    return [
        PromiseRecord(name, promised.value, promised.low, promised.high, truth)
        for name, promised, truth in (
            ("AUC", promise.auc, 1 - one_minus_auc(labels, scores)),
            ("log loss", promise.log_loss, log_loss(labels, scores)),
            ("share of positives", promise.positive_share, float(labels.mean())),
        )
    ]
