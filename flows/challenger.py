"""
From the rows to a registered challenger, once per cycle, whatever is killed on the way; start at `make_challenger`.

These are the retrain flow's steps without Prefect: each may be repeated, and repeating all of them registers nothing
twice.
"""

import datetime as dt
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

from flows.adapters.data_store import FrameStore, Snapshot, months_before
from flows.adapters.model_registry import RegisteredVersion
from flows.cycle import Cycle
from flows.domain.criteria import criteria_digest
from flows.domain.features import FeatureSchema, bank_marketing_schema
from flows.domain.window_in_force import WindowDecision, window_in_force
from flows.gateway.model_package import canary_rows
from flows.lease import Lease, LeaseHeld, LeaseLost, take_lease
from flows.pressure import LOOK_S, Pressure
from flows.training import TrainedModel
from flows.training_run import Job, Look, TrainingEnded, Watch, train_apart
from flows.wiring import Wired
from reports.records import TrainingRecord, save_record
from simulation.rules import Decision

REGISTERED = "challenger registered"
_METRICS_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `trained` with a version, `skipped` by a rule, or `stopped` without a model; and why."""

    status: str
    reason: str
    version: str | None = None


def take_snapshot(wired: Wired) -> tuple[Snapshot, FeatureSchema]:
    """Return the rows before the newest finished month, and the schema that the gateway serves."""
    store = wired.store()
    return training_snapshot(store, wired.cycle), bank_marketing_schema(store.frame)


def model_lease(wired: Wired) -> AbstractContextManager[Lease]:
    """Return the lease of the plan's model, to be held while it is trained and registered."""
    return take_lease(wired.settings.home / "leases" / f"{wired.cycle.plan.training.model}.lock")


def fit(wired: Wired, snapshot: Snapshot, lease: Lease, watch: Watch, *, name: str | None = None) -> TrainedModel:
    """Train within the envelope, or go on where a killed run of that name (the cycle's, if none) ended."""
    training = wired.cycle.plan.training
    directory = wired.settings.home / training.storage_path / training.model / (name or wired.cycle.name)
    return train_apart(Job(training, snapshot, directory, lease), watch)


def register_model(wired: Wired, model: TrainedModel, snapshot: Snapshot, schema: FeatureSchema) -> RegisteredVersion:
    """Register a model with the facts that make it reproducible."""
    facts = {
        "cycle": wired.cycle.name,
        "data": snapshot.name,
        "data_from": snapshot.since.isoformat(),
        "data_until": snapshot.until.isoformat(),
        "data_digest": snapshot.digest,
        "plan_digest": wired.cycle.plan.digest(),
        "rounds": str(model.rounds),
        "clock": wired.cycle.clock_sentence(),
    }
    return wired.registry.register(model, schema, canary_rows(snapshot.frame, schema), facts)


@dataclass(frozen=True)
class Steps:
    """The steps worth repeating; the flow hands over the same ones as Prefect tasks."""

    take_snapshot: Callable[[Wired], tuple[Snapshot, FeatureSchema]] = take_snapshot
    fit: Callable[[Wired, Snapshot, Lease, Watch], TrainedModel] = fit
    register: Callable[[Wired, TrainedModel, Snapshot, FeatureSchema], RegisteredVersion] = register_model
    on_segment: Callable[[int, int], None] = lambda done, of: None


def make_challenger(wired: Wired, decision: WindowDecision, steps: Steps) -> Outcome:
    """
    Train and register this cycle's challenger in a window that is open, alone.

    Every decision is in the audit log before it takes effect. A run that is killed at any instant may simply be run
    again: it goes on from the last checkpoint and registers the version that an undisturbed run would have.
    """
    audit = wired.audit
    try:
        with model_lease(wired) as lease:
            snapshot, schema = steps.take_snapshot(wired)
            audit.append("retrain started", at=wired.cycle.now(), cycle=wired.cycle.name, data_digest=snapshot.digest,
                         criteria_digest=criteria_digest(wired.cycle.plan), window=decision.reason,
                         clock=wired.cycle.clock_sentence())  # fmt: skip
            model = steps.fit(wired, snapshot, lease, watch(wired, decision, steps))
            lease.check()
            registered = steps.register(wired, model, snapshot, schema)
            _keep(wired, model, snapshot, registered, decision.reason)
    except LeaseHeld as problem:
        return skipped(wired, str(problem), keep=False)
    except LeaseLost as problem:
        return _stopped(wired, "lease", str(problem))
    except TrainingEnded as problem:
        return _stopped(wired, problem.state, str(problem))
    return Outcome("trained", _reason(decision.reason, model), registered.version)


def watch(wired: Wired, decision: WindowDecision, steps: Steps) -> Watch:
    """Return how the training is watched: by the plan's triggers, to the window's cutoff, into the audit log."""
    plan, began_at = wired.cycle.plan, wired.cycle.now()
    stop_after_s = _time_for_training_s(wired.cycle, decision, began_at)

    def note(event: str, **details: object) -> None:
        wired.audit.append(f"training {event}", at=wired.cycle.now(), cycle=wired.cycle.name, **details)

    return Watch(
        look=_look(wired, stop_after_s, note) if plan.triggers else None, look_s=LOOK_S, stop_after_s=stop_after_s,
        on_segment=steps.on_segment, note=note,
    )  # fmt: skip


def _look(wired: Wired, left_s: float, note: Callable[..., None]) -> Look:
    """Return the look at the gateway; that nobody answers there is noted once, and changes nothing."""
    gateway = wired.gateway(timeout_s=_METRICS_TIMEOUT_S)
    pressure = Pressure(wired.cycle.plan, gateway.metrics, timeout_s=_METRICS_TIMEOUT_S)
    told: set[str] = set()

    def look(at_s: float, is_paused: bool) -> Decision | None:
        decision = pressure.look(at_s, is_paused=is_paused, seconds_to_cutoff=left_s - at_s)
        if pressure.blind and pressure.blind not in told:
            told.add(pressure.blind)
            note("cannot see the gateway", reason=pressure.blind)
        return decision

    return look


def _time_for_training_s(cycle: Cycle, decision: WindowDecision, now: dt.datetime) -> float:
    """Return the seconds until training must hand over: the window's end less reserve and the later stages' p95."""
    plan = cycle.plan
    names = [stage.name for stage in plan.training.stages]
    later_min = sum(stage.minutes_p95 for stage in plan.training.stages[names.index("train") + 1 :])
    assert decision.closes_at is not None  # the window is open
    end = decision.closes_at - dt.timedelta(minutes=later_min + plan.window.rollback_reserve_min)
    return (end - now).total_seconds()


def open_window(wired: Wired) -> WindowDecision:
    """Return whether the window is open now, by the plan and its calendar."""
    return window_in_force(wired.cycle.plan, wired.cycle.now(), calendar=wired.calendar())


def skipped(wired: Wired, reason: str, *, keep: bool = True) -> Outcome:
    """Note that this run did not train; the cycle's record is left alone when another run is writing it."""
    if keep:
        save_record(_not_run(wired, "skipped", reason), wired.cycle.path("training.json"))
    wired.audit.append("retrain skipped", at=wired.cycle.now(), cycle=wired.cycle.name, reason=reason)
    return Outcome("skipped", reason)


def _stopped(wired: Wired, state: str, reason: str) -> Outcome:
    """Note that this run ended without a model; one that was overtaken leaves the record to its successor."""
    wired.audit.append("retrain ended without a model", at=wired.cycle.now(), cycle=wired.cycle.name, state=state,
                       reason=reason)  # fmt: skip
    if state != "lease":
        save_record(_not_run(wired, "stopped", reason), wired.cycle.path("training.json"))
    return Outcome("stopped", reason)


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
        rounds=model.rounds,
        seconds_per_step=model.seconds,
        importance=model.importance,
        envelope=model.envelope,
        clock=wired.cycle.clock_sentence(),
        run_id=registered.run_id,
    )


def _keep(wired: Wired, model: TrainedModel, snapshot: Snapshot, registered: RegisteredVersion, reason: str) -> None:
    """Save the record and note the registration, each once however often the run is repeated."""
    record = training_record(wired, snapshot, model, registered, is_bootstrap=False, reason=_reason(reason, model))
    save_record(record, wired.cycle.path("training.json"))
    facts = {"cycle": wired.cycle.name, "version": registered.version, "model_digest": model.digest}
    if all(entry["event"] != REGISTERED or entry["details"] != facts for entry in wired.audit.entries()):
        wired.audit.append(REGISTERED, at=wired.cycle.now(), **facts)


def _reason(reason: str, model: TrainedModel) -> str:
    """Add to a reason that a model has fewer rounds than planned."""
    return f"{reason}; stopped after {model.rounds} rounds: {model.stopped}" if model.stopped else reason


def _not_run(wired: Wired, status: Literal["skipped", "stopped"], reason: str) -> TrainingRecord:
    plan = wired.cycle.plan
    return TrainingRecord(
        cycle=wired.cycle.name, status=status, reason=reason, model=plan.training.model, version=None,
        champion_version=None, is_bootstrap=False, data_name=plan.training.data, rows=0, positive_ratio=float("nan"),
        data_from="", data_until="", data_digest="", model_digest="", rounds=0, seconds_per_step={}, importance={},
        envelope={}, clock=wired.cycle.clock_sentence(), run_id="",
    )  # fmt: skip
