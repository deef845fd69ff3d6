"""Report drift: the newest month against the rows that the model was trained on."""

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows.adapters.data_store import Snapshot, months_before, next_month
from flows.adapters.drift import DriftResult, measure_drift
from flows.challenger import training_snapshot
from flows.domain.features import bank_marketing_schema
from flows.wiring import Wired, wire
from reports.publish import markdown_for
from reports.records import DriftColumn, DriftRecord, TrainingRecord, load_record, save_record

_PAGE = "evidently.html"


@flow(name="report-drift", log_prints=True)
def report_drift(cycle: str, simulated_now: str | None = None) -> Any:
    """Compare the newest month with the training data and save what moved."""
    wired = wire(cycle, simulated_now)
    cycle = wired.cycle.name
    reference, current, result = compare_months(wired)
    record = _record(wired, reference, current, result)
    save_record(record, wired.cycle.path("drift.json"))
    wired.audit.append("drift reported", at=wired.cycle.now(), cycle=cycle, share_drifted=result.share_drifted)
    create_markdown_artifact(key="lull-drift", markdown=markdown_for(wired.settings.home, cycle, "drift"))
    get_run_logger().info("%.0f %% of the columns drifted", 100 * result.share_drifted)
    return result.share_drifted


@task(cache_policy=NO_CACHE, retries=1)
def compare_months(wired: Wired) -> tuple[Snapshot, Snapshot, DriftResult]:
    """Run Evidently's tests on every feature."""
    store = wired.store()
    month = months_before(store.months(), wired.cycle.now())[-1]
    reference, current = training_snapshot(store, wired.cycle), store.snapshot(month, next_month(month))
    schema = bank_marketing_schema(store.frame)
    page = wired.settings.reports / wired.cycle.name / _PAGE
    return reference, current, measure_drift(reference.frame, current.frame, schema, page)


def _record(wired: Wired, reference: Snapshot, current: Snapshot, result: DriftResult) -> DriftRecord:
    training = load_record(TrainingRecord, wired.cycle.path("training.json"))
    importance = training.importance if training is not None else {}
    columns = [
        DriftColumn(c.column, c.method, c.value, c.threshold, c.is_drifted, importance.get(c.column, float("nan")))
        for c in result.columns
    ]
    return DriftRecord(
        cycle=wired.cycle.name,
        reference_rows=len(reference.frame),
        current_rows=len(current.frame),
        reference_from=reference.since.isoformat(),
        reference_until=reference.until.isoformat(),
        current_from=current.since.isoformat(),
        current_until=current.until.isoformat(),
        columns=columns,
        share_drifted=result.share_drifted,
        evidently_page=_PAGE,
        evidently_version=result.version,
    )
