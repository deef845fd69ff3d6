"""Retrain: inside its window, on the rows before the newest month, and register what comes out as challenger."""

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed

from flows.challenger import Outcome, Steps, fit, make_challenger, open_window, register_model, skipped, take_snapshot
from flows.wiring import wire
from reports.publish import markdown_for


@flow(name="retrain", log_prints=True)
def retrain(cycle: str, simulated_now: str | None = None) -> Any:
    """Take a snapshot, train within the envelope, register a challenger; end as skipped outside the window."""
    wired = wire(cycle, simulated_now)
    cycle = wired.cycle.name
    decision = open_window(wired)
    if not decision.is_open:
        return _end(skipped(wired, decision.reason))
    if wired.registry.champion() is None:
        return Failed(
            message="there is no champion yet; register one with `lull demo` or by hand before the first cycle"
        )
    create_markdown_artifact(key="lull-plan", markdown=markdown_for(wired.settings.home, cycle, "plan"))
    outcome = make_challenger(wired, decision, _as_tasks())
    create_markdown_artifact(key="lull-cycle", markdown=markdown_for(wired.settings.home, cycle, "cycle"))
    return _end(outcome)


def _as_tasks() -> Steps:
    """Return the steps as Prefect tasks, with the training's progress as an artifact."""
    progress = create_progress_artifact(progress=0.0, key="lull-training", description="boosting rounds")
    again: Any = task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=5)
    once: Any = task(cache_policy=NO_CACHE)  # what ends a training once would end it twice; a later run goes on
    return Steps(
        take_snapshot=again(take_snapshot),
        fit=once(fit),
        register=again(register_model),
        on_segment=lambda done, of: _show(progress, 100 * done / of),
    )


def _end(outcome: Outcome) -> Any:
    """Return the flow's end: the version, skipped with its reason, or failed with its sentence."""
    if outcome.status == "skipped":
        return Completed(name="Skipped", message=outcome.reason)
    if outcome.status == "stopped":
        return Failed(message=outcome.reason)
    get_run_logger().info("registered challenger %s: %s", outcome.version, outcome.reason)
    return outcome.version


def _show(artifact: Any, percent: float) -> None:
    update_progress_artifact(artifact_id=artifact, progress=min(percent, 100.0))
