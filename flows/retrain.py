"""Retrain: inside its window, on the rows before the newest month, and register what comes out as challenger."""

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed

from flows.adapters.data_store import FrameStore, Snapshot, months_before
from flows.adapters.model_registry import RegisteredVersion
from flows.cycle import Cycle
from flows.domain.criteria import criteria_digest
from flows.domain.features import FeatureSchema, bank_marketing_schema
from flows.domain.window_in_force import window_in_force
from flows.gateway.model_package import canary_rows
from flows.training import TrainedModel, train
from flows.wiring import Wired, wire
from reports.publish import markdown_for
from reports.records import TrainingRecord, save_record


@flow(name="retrain", log_prints=True)
def retrain(cycle: str, simulated_now: str | None = None) -> Any:
    """Take a snapshot, train within the envelope, register a challenger; end as skipped outside the window."""
    wired = wire(cycle, simulated_now)
    cycle = wired.cycle.name
    decision = window_in_force(wired.cycle.plan, wired.cycle.now(), calendar=wired.calendar())
    if not decision.is_open:
        save_record(_not_run(wired, decision.reason), wired.cycle.path("training.json"))
        wired.audit.append("retrain skipped", at=wired.cycle.now(), cycle=cycle, reason=decision.reason)
        return Completed(name="Skipped", message=decision.reason)
    if wired.registry.champion() is None:
        return Failed(
            message="there is no champion yet; register one with `lull demo` or by hand before the first cycle"
        )
    create_markdown_artifact(key="lull-plan", markdown=markdown_for(wired.settings.home, cycle, "plan"))
    snapshot, schema = take_snapshot(wired)
    wired.audit.append("retrain started", at=wired.cycle.now(), cycle=cycle, data_digest=snapshot.digest,
                       criteria_digest=criteria_digest(wired.cycle.plan), window=decision.reason,
                       clock=wired.cycle.clock_sentence())  # fmt: skip
    model = fit(wired, snapshot, schema)
    registered = register(wired, model, snapshot, schema)
    record = training_record(wired, snapshot, model, registered, is_bootstrap=False, reason=decision.reason)
    save_record(record, wired.cycle.path("training.json"))
    wired.audit.append("challenger registered", at=wired.cycle.now(), cycle=cycle, version=registered.version,
                       model_digest=model.digest)  # fmt: skip
    create_markdown_artifact(key="lull-cycle", markdown=markdown_for(wired.settings.home, cycle, "cycle"))
    get_run_logger().info("registered challenger %s: %s", registered.version, model.digest[:12])
    return registered.version


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=5)
def take_snapshot(wired: Wired) -> tuple[Snapshot, FeatureSchema]:
    """Return the rows before the newest finished month, and the schema that the gateway serves."""
    store = wired.store()
    return training_snapshot(store, wired.cycle), bank_marketing_schema(store.frame)


@task(cache_policy=NO_CACHE)
def fit(wired: Wired, snapshot: Snapshot, schema: FeatureSchema) -> TrainedModel:
    """Train in segments and show the progress."""
    progress = create_progress_artifact(progress=0.0, key="lull-training", description="boosting rounds")
    return train(
        snapshot, schema, wired.cycle.plan.training,
        on_segment=lambda done, all_rounds: _show(progress, 100 * done / all_rounds),
    )  # fmt: skip


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=5)
def register(wired: Wired, model: TrainedModel, snapshot: Snapshot, schema: FeatureSchema) -> RegisteredVersion:
    """Package the model and register it; a repetition registers another version of the same digest, and no champion."""
    return register_model(wired, model, snapshot, schema)


def register_model(wired: Wired, model: TrainedModel, snapshot: Snapshot, schema: FeatureSchema) -> RegisteredVersion:
    """Register a model with the facts that make it reproducible."""
    facts = {
        "cycle": wired.cycle.name,
        "data": snapshot.name,
        "data_from": snapshot.since.isoformat(),
        "data_until": snapshot.until.isoformat(),
        "data_digest": snapshot.digest,
        "plan_digest": wired.cycle.plan.digest(),
        "rounds": str(wired.cycle.plan.training.rounds),
        "clock": wired.cycle.clock_sentence(),
    }
    return wired.registry.register(model, schema, canary_rows(snapshot.frame, schema), facts)


def training_snapshot(store: FrameStore, cycle: Cycle) -> Snapshot:
    """Return all rows before the newest month that had ended by the cycle's date."""
    months = months_before(store.months(), cycle.now())
    return store.snapshot(months[0], months[-1])


def training_record(
    wired: Wired,
    snapshot: Snapshot,
    model: TrainedModel,
    registered: RegisteredVersion,
    *,
    is_bootstrap: bool,
    reason: str,
) -> TrainingRecord:
    """Return what the report needs to know of a training run."""
    return TrainingRecord(
        cycle=wired.cycle.name,
        status="trained",
        reason=reason,
        model=wired.cycle.plan.training.model,
        version=registered.version,
        champion_version=wired.registry.champion(),
        is_bootstrap=is_bootstrap,
        data_name=snapshot.name,
        rows=model.n_rows,
        positive_ratio=float(snapshot.frame["label"].mean()),
        data_from=snapshot.since.isoformat(),
        data_until=snapshot.until.isoformat(),
        data_digest=snapshot.digest,
        model_digest=model.digest,
        rounds=wired.cycle.plan.training.rounds,
        seconds_per_step=model.seconds,
        importance=model.importance,
        envelope=model.envelope,
        clock=wired.cycle.clock_sentence(),
        run_id=registered.run_id,
    )


def _not_run(wired: Wired, reason: str) -> TrainingRecord:
    plan = wired.cycle.plan
    return TrainingRecord(
        cycle=wired.cycle.name, status="skipped", reason=reason, model=plan.training.model, version=None,
        champion_version=None, is_bootstrap=False, data_name=plan.training.data, rows=0, positive_ratio=float("nan"),
        data_from="", data_until="", data_digest="", model_digest="", rounds=0, seconds_per_step={}, importance={},
        envelope={}, clock=wired.cycle.clock_sentence(), run_id="",
    )  # fmt: skip


def _show(artifact: Any, percent: float) -> None:
    update_progress_artifact(artifact_id=artifact, progress=min(percent, 100.0))
