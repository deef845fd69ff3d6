"""Promote: blue-green in the running gateway, if the evaluation says so; every decision is in the audit log first."""

import datetime as dt
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Failed

from flows.adapters.audit import Audit
from flows.adapters.flags import Slot
from flows.adapters.request_log import first_slots
from flows.domain.criteria import criteria_problem
from flows.domain.gates import GateVerdict
from flows.gateway.model_package import load_package
from flows.rollout import Refused, RolloutResult, roll_out
from flows.wiring import Wired, gateway_settings, wire
from reports.publish import markdown_for
from reports.records import EvaluationRecord, PromotionRecord, load_record, save_record


@flow(name="promote", log_prints=True)
def promote(cycle: str, simulated_now: str | None = None) -> Any:
    """Roll the challenger out if its gates say promote; leave traffic where it is otherwise."""
    wired = wire(cycle, simulated_now)
    cycle = wired.cycle.name
    evaluation = load_record(EvaluationRecord, wired.cycle.path("evaluation.json"))
    if evaluation is None:
        return Failed(message=f"cycle {cycle} was not evaluated; run the evaluate flow first")
    with wired.gateway() as gateway:
        before = gateway.state()
        problem = criteria_problem(fixed_criteria(wired.audit, cycle), wired.cycle.plan)
        if evaluation.verdict != GateVerdict.PROMOTE.value:
            result = _held(wired, before.live, [f"the gates say {evaluation.verdict}", *evaluation.reasons])
        elif problem is not None:
            result = _held(wired, before.live, [f"{GateVerdict.PERSON.value}: {problem}"])
        else:
            result = move_traffic(wired, evaluation)
        if result.verdict == "promoted":
            set_champion(wired, evaluation.challenger_version)
        after = gateway.state()
    record = _record(wired, evaluation, result, before, after)
    save_record(record, wired.cycle.path("promotion.json"))
    create_markdown_artifact(key="lull-promotion", markdown=markdown_for(wired.settings.home, cycle, "promotion"))
    create_markdown_artifact(key="lull-index", markdown=markdown_for(wired.settings.home, cycle, "index"))
    get_run_logger().info("%s: %s", record.verdict, "; ".join(record.reasons))
    return record.verdict


@task(cache_policy=NO_CACHE)
def move_traffic(wired: Wired, evaluation: EvaluationRecord) -> RolloutResult:
    """Load, warm, shadow, canary, switch; not retried: a second try must start from what the gateway then is."""
    version = evaluation.challenger_version
    package = wired.registry.package(version)

    def note(sentence: str) -> None:
        wired.audit.append("traffic", at=wired.cycle.now(), cycle=wired.cycle.name, change=sentence)

    with wired.gateway() as gateway:
        live = gateway.state().live

        def asked_first(since: dt.datetime) -> dict[str, tuple[dt.datetime, Slot]]:
            gateway.flush()
            return first_slots(gateway_settings(wired.settings).directory / "requests", since)

        try:
            return roll_out(
                gateway, version=version, package=package.resolve(), digest=load_package(package).digest,
                rollout=wired.cycle.plan.rollout, before_switch=note,
                gates=wired.cycle.plan.evaluation.gates, first_slots=asked_first,
            )  # fmt: skip
        except Refused as refusal:
            note(f"held: {refusal}")
            return RolloutResult("held", [str(refusal)], live or "blue", live or "blue")


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=2)
def set_champion(wired: Wired, version: str) -> None:
    """Point the registry's alias at the version that traffic already uses."""
    wired.audit.append("champion", at=wired.cycle.now(), cycle=wired.cycle.name, version=version)
    wired.registry.set_champion(version)


def fixed_criteria(audit: Audit, cycle: str) -> str | None:
    """Return the digest of the criteria that were written down when the cycle's training began, None without one."""
    started = [entry["details"] for entry in audit.entries() if entry["event"] == "retrain started"]
    digests = [details.get("criteria_digest") for details in started if details.get("cycle") == cycle]
    return digests[-1] if digests else None


def _held(wired: Wired, live: Any, reasons: list[str]) -> RolloutResult:
    wired.audit.append("held", at=wired.cycle.now(), cycle=wired.cycle.name, reasons=reasons)
    return RolloutResult("held", reasons, live, live)


def _record(
    wired: Wired, evaluation: EvaluationRecord, result: RolloutResult, before: Any, after: Any
) -> PromotionRecord:
    served: dict[str, int] = {}
    versions: dict[str, int] = {}
    for slot, view in after.slots.items():
        old = before.slots[slot]
        same = old.version == view.version
        n = view.n_served - (old.n_served if same else 0)
        served[slot] = n
        if view.version is not None:
            versions[view.version] = n
    return PromotionRecord(
        cycle=wired.cycle.name,
        verdict=result.verdict,  # type: ignore[arg-type]  # one of the three words by construction
        reasons=result.reasons,
        slot_before=result.slot_before,
        slot_after=result.slot_after,
        version_before=evaluation.champion_version,
        version_after=evaluation.challenger_version if result.verdict == "promoted" else evaluation.champion_version,
        steps=result.steps,
        answered_by_slot=served,
        answered_by_version=versions,
        failed=after.n_failed - before.n_failed,
        sent=after.n_served - before.n_served + after.n_failed - before.n_failed,
        rollback_drill_s=result.drill_s,
    )
