"""`lull status`: which model serves, what the last cycle decided, and which runs come next."""

import datetime as dt
import json as json_module
import os
from pathlib import Path
from typing import Any

from flows.adapters.audit import AuditFile, BrokenAudit
from flows.adapters.flags import FlagFile, InvalidFlags
from flows.adapters.gateway_client import GatewayUnreachable
from flows.adapters.orchestrator import Orchestrator
from flows.gateway.settings import InvalidGatewaySettings
from flows.gateway.slot_file import InvalidSlotFile, SlotFile
from flows.openings_ahead import FLOW, Runs, plan_calendar
from flows.services import prefect_of_another_home
from flows.settings import Settings, quiet_environment
from flows.wiring import gateway_client, gateway_settings, registry
from simulation.errors import LullError
from simulation.plan import Plan
from simulation.plan_file import read_plan
from simulation.planning.openings import N_OPENINGS, openings
from simulation.planning.window_rule import load_zone
from simulation.traffic.calendar import Calendar


def run(settings: Settings, json: bool) -> int:
    """Print the status; return 0 when everything answers, 1 when something does not."""
    status = {
        "home": str(settings.home),
        **_gateway(settings),
        **_registry(settings),
        **_cycles(settings),
        **_prefect(settings),
        **_audit(settings),
    }
    if json:
        print(json_module.dumps(status, indent=1))
    else:
        for key, value in status.items():
            print(f"{key:<10} {value if not isinstance(value, list) else _lines(value)}")
    return 0 if status["gateway"] == "up" and status["prefect"] == "up" else 1


def _lines(values: list[Any]) -> str:
    """Return several values below each other, in the column of the values."""
    return ("\n" + " " * 11).join(map(str, values)) or "none"


def _gateway(settings: Settings) -> dict[str, Any]:
    try:
        with gateway_client(settings) as gateway:
            state = gateway.state()
    except (GatewayUnreachable, InvalidGatewaySettings) as problem:
        return {"gateway": f"down: {problem}", **_slots_on_disk(settings)}
    slots = [
        f"{slot}: version {view.version or 'none'}{' (live)' if slot == state.live else ''}, "
        f"{view.n_served:,} served, {view.n_failed} failed"
        for slot, view in sorted(state.slots.items())
    ]
    return {"gateway": "up", "slots": slots}


def _slots_on_disk(settings: Settings) -> dict[str, Any]:
    """Say what a gateway would start with: its own files tell while it is down."""
    place = gateway_settings(settings)
    try:
        filled, traffic = SlotFile(place.state_path).read(), FlagFile(place.flag_path).read()
    except (InvalidSlotFile, InvalidFlags) as problem:
        return {"slots": [f"not known: {problem}"]}
    if not filled:
        return {}
    slots = [
        f"{slot}: version {slot_filled.version}{' (live)' if traffic and slot == traffic.live else ''}"
        for slot, slot_filled in sorted(filled.items())
    ]
    return {"slots": [*slots, "on disk: served again once the gateway is up"]}


def _registry(settings: Settings) -> dict[str, Any]:
    """Say which version is champion in the registry; after a rollback that is not the one that serves."""
    plans = sorted(settings.cycles.glob("*/plan.yaml")) if settings.cycles.is_dir() else []
    own = settings.mlflow_uri.removeprefix("sqlite:///")
    if not plans or (own != settings.mlflow_uri and not Path(own).is_file()):
        return {}
    try:
        champion = registry(settings, read_plan(plans[-1]).training.model).champion()
    except LullError as problem:
        return {"registry": f"not known: {problem}"}
    return {"registry": f"champion is version {champion}" if champion else "no champion yet"}


def _cycles(settings: Settings) -> dict[str, Any]:
    from reports.records import PromotionRecord, load_record

    names = sorted(p.name for p in settings.cycles.iterdir()) if settings.cycles.is_dir() else []
    if not names:
        return {"cycle": "none yet; `lull demo` runs the first one"}
    record = load_record(PromotionRecord, settings.cycles / names[-1] / "promotion.json")
    return {"cycle": f"{names[-1]}: {record.verdict}, {record.reasons[0]}" if record else f"{names[-1]}: not finished"}


def _prefect(settings: Settings) -> dict[str, Any]:
    orchestrator = Orchestrator(settings.prefect_api_url, {**os.environ, **quiet_environment(settings)}, settings.logs)
    if not orchestrator.is_up():
        return {"prefect": f"down: {settings.prefect_api_url} does not answer; start it with `lull up`"}
    other = prefect_of_another_home(settings, orchestrator) if settings.has_own_prefect else None
    if other is not None:
        return {"prefect": f"up, but it is the Prefect of {other}; set LULL_PREFECT_PORT to a port of this home's own"}
    plan_file = settings.home / "deployed" / "plan.yaml"
    if not plan_file.is_file():
        return {"prefect": "up", "openings": "no plan is deployed; run `lull deploy PLAN`", "next runs": []}
    try:
        plan = read_plan(plan_file)
        shown = _openings(plan, orchestrator, plan_calendar(plan, plan_file.parent, dt.datetime.now(dt.UTC)))
    except LullError as problem:
        return {"prefect": "up", "openings": f"unknown: {problem}"}
    runs = [(flow, at) for flow, at in orchestrator.scheduled_runs(plan.name) if flow != FLOW]
    return {"prefect": "up", "openings": shown, "next runs": [f"{at} {flow}" for flow, at in runs[:4]]}


def _openings(plan: Plan, runs: Runs, calendar: Calendar) -> list[str]:
    """Return the next openings, denied ones between them, each with the run that stands for it or without one."""
    planned, zone = runs.planned_runs(FLOW, plan.name), load_zone(plan.window.time_zone)
    lines: list[str] = []
    n_free = 0
    for opening in openings(plan, calendar, dt.datetime.now(dt.UTC)):
        at = opening.opens_at
        said = f"{at.astimezone(zone):%a %Y-%m-%d %H:%M %Z} ({at:%m-%d %H:%M} UTC)"
        if opening.is_denied:
            said += f": denied by {' and '.join(opening.denied_by)}"
        else:
            run_id = planned.get(at)
            said += f": run {run_id[:8]} scheduled" if run_id else ": NO RUN; `lull deploy` or the top-up makes one"
            n_free += 1
        lines.append(said)
        if n_free == N_OPENINGS or len(lines) == 4 * N_OPENINGS:
            break
    return lines


def _audit(settings: Settings) -> dict[str, Any]:
    try:
        return {"audit": f"{AuditFile(settings.audit_file).verify()} entries, the chain is whole"}
    except BrokenAudit as problem:
        return {"audit": f"BROKEN: {problem}"}
