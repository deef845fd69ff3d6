"""`lull demo`: the whole loop once, on shipped data; run again, it takes the next month."""

import datetime as dt
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from flows.adapters.data_store import open_store
from flows.adapters.orchestrator import RunEnd
from flows.commands.deploy import deploy_plan
from flows.cycle import refuse_foreign_registry
from flows.demo_plan import BOOTSTRAP_UNTIL, COMMENTS, DATA, FIRST_MONTH, DemoPlan, make_demo_plan, plan_record
from flows.home_lock import hold_home
from flows.services import Services
from flows.settings import Settings
from simulation.errors import LullError
from simulation.plan_file import write_plan, write_whole

if TYPE_CHECKING:
    from reports.records import ReplayRecord

_REPLAY_RPS = 120.0
_STAGES = ("plan", "simulate", "start", "deploy", "retrain", "evaluate", "promote", "report")


class DemoEnded(LullError):
    """A demo that cannot go on; the message says why and what to do."""


class _Stages:
    """Each stage and how long it took: a bar on a terminal, elsewhere a line when it begins and when it ends."""

    def __init__(self, console: Console) -> None:
        self.seconds: dict[str, float] = {}
        self.progress = Progress(
            TextColumn("{task.description:<10}"), BarColumn(30), TextColumn("{task.fields[note]}"), TimeElapsedColumn(),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {
            name: self.progress.add_task(name, total=1, start=False, note="") for name in _STAGES
        }
        self._console = console
        self._started = time.monotonic()

    def begin(self, name: str, total: float = 1) -> None:
        """Start a stage's bar."""
        self._started = time.monotonic()
        self.progress.update(self._tasks[name], total=total)
        self.progress.start_task(self._tasks[name])
        self._say(f"{name:<10} begins")

    def step(self, name: str) -> None:
        """Move a stage's bar on."""
        self.progress.advance(self._tasks[name])

    def end(self, name: str, note: str) -> None:
        """Fill a stage's bar and say what came of it."""
        self.seconds[name] = time.monotonic() - self._started
        total = self.progress.tasks[self._tasks[name]].total
        self.progress.update(self._tasks[name], completed=total, note=note)
        self.progress.stop_task(self._tasks[name])
        self._say(f"{name:<10} {note} ({self.seconds[name]:.0f} s)")

    def _say(self, line: str) -> None:
        if not self._console.is_terminal:
            print(line, flush=True)


def run(settings: Settings, fast: bool) -> int:
    """Run one cycle and print a one-screen summary; return 0, or 1 when the plan does not hold."""
    console = Console()
    with hold_home(settings.home, "lull demo"):
        month = next_demo_month(settings.cycles)
        cycle = f"{month:%Y-%m}"
        # Whatever would stop the cycle later is looked for before a minute goes into simulating.
        refuse_foreign_registry(settings.home, settings.mlflow_uri)
        stages = _Stages(console)
        with Services(settings) as services, stages.progress:
            services.refuse_used_ports()
            services.start_prefect()
            services.start_gateway()
            demo = _plan(stages, settings, cycle, month, fast)
            bootstrap = _start_bootstrap(services, demo, cycle)
            certificate = _simulate(stages, services, demo, cycle)
            if certificate["answer"] != "holds":
                bootstrap.wait()
                _publish(stages, settings, cycle)
                console.print(f"The plan is not deployed: {certificate['reasons'][0]}")
                return 1
            _start(stages, services, bootstrap, settings)
            _deploy(stages, services, settings, cycle, demo)
            replay = _run_flows(stages, services, demo, cycle)
            index = _publish(stages, settings, cycle)
        _summary(console, settings, cycle, demo, certificate, replay, stages, index)
    return 0


def next_demo_month(cycles: Path) -> dt.datetime:
    """Return the first month of data that no finished cycle has taken yet; raise `DemoEnded` after the last one."""
    months = [month for month in open_store(DATA).months() if month >= FIRST_MONTH]
    for month in months:
        if not (cycles / f"{month:%Y-%m}" / "promotion.json").is_file():
            return month
    raise DemoEnded(f"{cycles}: every month of the shipped data has had its cycle; use another --home to begin anew")


def _plan(stages: _Stages, settings: Settings, cycle: str, month: dt.datetime, fast: bool) -> DemoPlan:
    stages.begin("plan")
    demo = make_demo_plan(month, replications=16 if fast else 30)
    write_plan(demo.plan, settings.cycles / cycle / "plan.yaml", comments=COMMENTS)
    stages.end("plan", f"window {demo.windows[0].opens_local:%a %Y-%m-%d %H:%M} local")
    return demo


def _simulate(stages: _Stages, services: Services, demo: DemoPlan, cycle: str) -> dict[str, Any]:
    # Imported late: the kernels load while the servers start.
    from flows.planning_run import validate_plan
    from reports.records import save_record

    trials = demo.plan.acceptance.replications * len(demo.plan.acceptance.scenarios)
    stages.begin("simulate", trials)
    valid = validate_plan(
        demo.plan, now=demo.now, opens_at=demo.opens_at, history=demo.history, load=demo.load,
        on_trial=lambda _: stages.step("simulate"),
    )  # fmt: skip
    services.look_around()
    directory = services.settings.cycles / cycle
    write_whole(directory / "certificate.json", json.dumps(valid.certificate, indent=1) + "\n")
    save_record(plan_record(demo, cycle, valid.experiment), directory / "plan.json")
    stages.end("simulate", f"{valid.verdict.answer.value} (uncalibrated), {trials} nights")
    return valid.certificate


def _start_bootstrap(services: Services, demo: DemoPlan, cycle: str) -> "subprocess.Popen[bytes]":
    """Train the bootstrap champion in a process of its own, beside the simulation."""
    arguments = ["-m", "flows.bootstrap", cycle, demo.now.isoformat(), BOOTSTRAP_UNTIL.isoformat()]
    with (services.settings.logs / "bootstrap.log").open("ab") as log:
        return subprocess.Popen([sys.executable, *arguments], env=services.environment, stdout=log, stderr=log)


def _start(stages: _Stages, services: Services, bootstrap: "subprocess.Popen[bytes]", settings: Settings) -> None:
    """Wait for the servers, and put the champion into the gateway if no slot is live yet."""
    from flows.wiring import registry

    stages.begin("start")
    services.start_worker()
    while bootstrap.poll() is None:
        services.look_around()
        time.sleep(0.1)
    if bootstrap.returncode != 0:
        log = settings.logs / "bootstrap.log"
        raise DemoEnded(f"the bootstrap champion could not be trained ({_last_line(log)}); see {log}")
    models = registry(settings, "bank-marketing")
    champion = models.champion()
    assert champion is not None  # bootstrap ended well
    with services.gateway() as gateway:
        if gateway.state().live is None:
            gateway.load("blue", champion, str(models.package(champion).resolve()))
            gateway.warm("blue")
            gateway.switch("blue", reason="day one")
    stages.end("start", f"champion is version {champion}")


def _deploy(stages: _Stages, services: Services, settings: Settings, cycle: str, demo: DemoPlan) -> None:
    stages.begin("deploy")
    directory = settings.cycles / cycle
    n = deploy_plan(settings, services.orchestrator, directory / "plan.yaml", directory / "certificate.json", demo.now)
    stages.end("deploy", f"{n} runs scheduled: the next windows' retraining, and drift reports every day")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _run_flows(stages: _Stages, services: Services, demo: DemoPlan, cycle: str) -> "ReplayRecord":
    """Run the four flows by the worker; the gateway serves the newest month's customers meanwhile."""
    from flows.adapters.data_store import next_month
    from flows.domain.features import bank_marketing_schema
    from flows.gateway.replay import Replay, rows_of
    from reports.records import ReplayRecord, save_record

    def start(flow: str) -> str:
        return services.orchestrator.start(flow, demo.plan.name, parameters)

    def must_end_well(flow: str, run_id: str) -> None:
        _must_end_well(services.orchestrator.wait(flow, run_id, look_around=services.look_around))

    in_window = (demo.opens_at + dt.timedelta(minutes=1)).isoformat()
    parameters = {"cycle": cycle, "simulated_now": in_window}
    stages.begin("retrain")
    must_end_well("retrain", start("retrain"))
    stages.end("retrain", "challenger registered")
    stages.begin("evaluate")
    evaluate, drift = start("evaluate"), start("report-drift")
    store = open_store(DATA)
    month = dt.datetime.fromisoformat(f"{cycle}-01T00:00:00+00:00")
    rows = rows_of(store.snapshot(month, next_month(month)).frame, bank_marketing_schema(store.frame), prefix=cycle)
    must_end_well("evaluate", evaluate)
    stages.end("evaluate", "the drift report is still being made")
    stages.begin("promote")
    promote = start("promote")
    # Not before: on a busy machine the rows would run out while the flow's process is still starting.
    services.orchestrator.wait_until_begun("promote", promote, look_around=services.look_around)
    replay = Replay(services.settings.gateway_url, rows, rate_rps=_REPLAY_RPS, seed=1).start()
    try:
        must_end_well("promote", promote)
    finally:
        counts = replay.stop()
    record = ReplayRecord(cycle, counts.n_sent, counts.n_answered, counts.n_failed, dict(counts.by_slot),
                          dict(counts.by_version))  # fmt: skip
    save_record(record, services.settings.cycles / cycle / "replay.json")
    with services.gateway() as gateway:
        gateway.flush()
    # Nothing waits for the drift report but the pages: it was made beside evaluation and promotion.
    must_end_well("report-drift", drift)
    stages.end("promote", f"client: {counts.n_sent:,} requests sent, {counts.n_failed} failed; drift report made")
    return record


def _must_end_well(end: RunEnd) -> None:
    if end.state != "Completed":
        raise DemoEnded(f"the {end.flow} flow ended {end.state}: {end.message or 'see the Prefect log'}")


def _publish(stages: _Stages, settings: Settings, cycle: str) -> Path:
    from reports.publish import publish

    stages.begin("report")
    index = publish(settings.home, cycle=cycle)
    stages.end("report", "pages written")
    return index


def _summary(
    console: Console, settings: Settings, cycle: str, demo: DemoPlan, certificate: dict[str, Any],
    replay: "ReplayRecord", stages: _Stages, index: Path,
) -> None:  # fmt: skip
    from reports.records import EvaluationRecord, PromotionRecord, load_record

    directory, home = settings.cycles / cycle, shlex.quote(str(settings.home))
    evaluation = load_record(EvaluationRecord, directory / "evaluation.json")
    promotion = load_record(PromotionRecord, directory / "promotion.json")
    assert evaluation is not None  # both flows ended well
    assert promotion is not None
    table = Table(title=f"Cycle {cycle}", show_header=False, title_justify="left", box=None)
    table.add_row("window", demo.windows[0].reason)
    uncalibrated = "" if certificate["is_calibrated"] else "; the service model is uncalibrated"
    table.add_row("simulated", f"{certificate['answer']}: {certificate['reasons'][-1].rstrip('.')}{uncalibrated}")
    table.add_row(
        "clock",
        f"simulated, {demo.opens_at:%Y-%m-%d %H:%M} UTC; traffic moved by {demo.plan.traffic.shift_weeks} weeks",
    )
    table.add_row("evaluated", f"{evaluation.verdict} on {evaluation.rows:,} rows: {evaluation.reasons[0]}")
    table.add_row("promotion", f"{promotion.verdict}: {promotion.reasons[0]}")
    table.add_row("requests", f"in the whole replay, counted by the client: {replay.sent:,} sent, "
                              f"{replay.failed} failed; by slot: {_by_slot(replay.answered_by_slot)}")  # fmt: skip
    table.add_row("", f"of these during the promote flow, counted by the gateway: {promotion.sent:,}, "
                      f"{promotion.failed} failed; by slot: {_by_slot(promotion.answered_by_slot)}")  # fmt: skip
    if promotion.rollback_drill_s is not None:
        table.add_row("rollback", f"drill took {1000 * promotion.rollback_drill_s:.0f} ms")
    table.add_row("seconds", ", ".join(f"{name} {s:.0f}" for name, s in stages.seconds.items()))
    table.add_row("reports", str(index))
    table.add_row("again", f"lull demo --home {home}   (takes the next month)")
    table.add_row("look", f"LULL_HOME={home} lull status   (the other commands too)")
    console.print(table)


def _by_slot(answered: dict[str, int]) -> str:
    return ", ".join(f"{slot} {n:,}" for slot, n in sorted(answered.items()) if n) or "none"
