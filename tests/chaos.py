"""
Chaos: kill −9 the training or its flow at seeded random instants, run it again, and check that nothing is lost.

    python tests/chaos.py --kills 100 --seed 1        (`make chaos`)

A night is a home of its own. It is killed a few times, then left alone; after each kill, and at the end, `checked`
says what must hold. The nights run the retrain flow's own steps, on MLflow's SQLite registry, without Prefect.
Start at `campaign`.
"""

import argparse
import datetime as dt
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from flows.adapters.audit import AuditFile
from flows.lease import take_lease
from simulation.plan_file import read_plan, window_rule

ROOT = Path(__file__).parents[1]
CYCLE = "2009-05"
_OPENS_AT = window_rule(read_plan(ROOT / "examples" / "plan.yaml")).next_opening(
    dt.datetime(2009, 6, 13, tzinfo=dt.UTC)
)
NOW = (_OPENS_AT + dt.timedelta(minutes=1)).isoformat()  # within the example plan's window
MODEL = "bank-marketing"
_LONGEST_S = {"any": 10.0, "training": 0.6, "registering": 6.0}  # phase -> the longest wait before the blow
_GONE_S = 3.0


@dataclass
class Tally:
    """What a campaign saw: kills by phase and victim, nights, and the one digest."""

    kills: Counter[str] = field(default_factory=Counter)
    nights: int = 0
    resumed: int = 0
    corrupt: int = 0
    digests: set[str] = field(default_factory=set)
    seconds: float = 0.0

    @property
    def n_kills(self) -> int:
        return sum(self.kills.values())


def campaign(directory: Path, *, kills: int, seed: int, kills_per_night: int = 4) -> Tally:
    """Kill as often as told, over as many nights as it takes; raise `AssertionError` on the first broken promise."""
    rng, tally, began = random.Random(seed), Tally(), time.monotonic()
    template = make_home(directory / "template")
    run_to_the_end(template)
    tally.digests.add(model_digest(template))
    fresh = make_home(directory / "fresh", registry=template)
    while tally.n_kills < kills:
        print(f"{tally.n_kills} kills, {tally.nights} nights, {time.monotonic() - began:.0f} s", flush=True)
        home = Path(shutil.copytree(fresh, directory / f"night-{tally.nights}"))
        for _ in range(min(kills_per_night, kills - tally.n_kills)):
            if not kill_once(home, rng, tally):
                break  # it was done before the blow
            checked(home)
        run_to_the_end(home)
        checked(home, is_done=True)
        tally.digests.add(model_digest(home))
        assert len(tally.digests) == 1, f"{home}: another model came out"
        _count_events(home, tally)
        tally.nights += 1
        shutil.rmtree(home)
    tally.seconds = time.monotonic() - began
    return tally


def make_home(home: Path, *, registry: Path | None = None) -> Path:
    """Make a home with a plan of many short segments, and an empty registry made from another home's if told."""
    from simulation.plan_file import write_plan

    plan = read_plan(ROOT / "examples" / "plan.yaml")
    envelope = plan.training.envelope.model_copy(update={"cpus": 0.25, "nice": 0})  # rests, so that blows fall between
    training = plan.training.model_copy(update={"rounds": 40, "segment_rounds": 3, "envelope": envelope})
    write_plan(plan.model_copy(update={"training": training, "triggers": ()}), home / "cycles" / CYCLE / "plan.yaml")
    if registry is not None:
        shutil.copy(registry / "mlflow.db", home / "mlflow.db")
        with sqlite3.connect(home / "mlflow.db") as database:
            for table in ("model_version_tags", "model_versions", "registered_models"):
                database.execute(f"DELETE FROM {table}")
    return home


def start(home: Path) -> "subprocess.Popen[bytes]":
    """Start the steps of the retrain flow in a process of their own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LULL_", "MLFLOW_", "PREFECT_"))}
    with (home / "flow.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, __file__, "--night", str(home)], cwd=ROOT, stdout=log, stderr=log,
            env=clean | {"LULL_HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": str(ROOT)},
        )  # fmt: skip


def run_to_the_end(home: Path) -> None:
    """Run the steps undisturbed."""
    code = start(home).wait(timeout=300)
    assert code == 0, (home / "flow.log").read_text()[-3000:]


def kill_once(home: Path, rng: random.Random, tally: Tally) -> bool:
    """Start, wait for a random instant of a random phase, and kill the flow or its training; False if it was over."""
    phase, victim = rng.choice(tuple(_LONGEST_S)), rng.choice(("flow", "training"))
    process = start(home)
    _wait_for(_begins(home, phase), process)
    time.sleep(rng.uniform(0.0, _LONGEST_S[phase]))
    training = _training(process)
    is_running = process.poll() is None
    if is_running:
        if victim == "training" and training is not None:
            with suppress(psutil.NoSuchProcess):
                training.kill()
            code = process.wait(timeout=60)  # 0: the model was written before the blow
            assert code in (0, 1), f"{home}: a killed training ends its flow in words, not with code {code}"
        else:
            victim = "flow"
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=60)
        tally.kills[f"{victim}, {phase}"] += 1
        if rng.random() < 0.15:
            _spoil_newest(home)
    return is_running


def checked(home: Path, *, is_done: bool = False, versions: int = 1) -> None:
    """Assert what must hold at any moment: no orphan, no lease held, an audit chain that fits, few enough versions."""
    _wait_until(lambda: not orphans(home), f"{home}: left behind {orphans(home)}")
    # A dying process loses its command line before its files: the lock may outlive it by an instant.
    with take_lease(home / "leases" / f"{MODEL}.lock", patience_s=_GONE_S):
        pass
    AuditFile(home / "audit.jsonl").verify()
    with sqlite3.connect(home / "mlflow.db") as database:
        (found,) = database.execute("SELECT count(*) FROM model_versions").fetchone()
    assert found <= versions, f"{home}: {found} versions"
    if is_done:
        entries = AuditFile(home / "audit.jsonl").entries()
        assert found == versions
        assert sum(e["event"] == "challenger registered" for e in entries) == 1, "said once"
        from flows.gateway.model_package import load_package

        load_package(home / "models" / MODEL / "1")
        left = [p.name for p in (home / "training" / MODEL / CYCLE).glob(".*")]
        assert not left, f"{home}: half-written files are left: {left}"


def orphans(home: Path) -> list[int]:
    """Return the processes that work for this home."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(str(home) in word for word in words) and process.pid != os.getpid():
            found.append(process.pid)
    return found


def model_digest(home: Path) -> str:
    """Return the digest of the model that a finished night registered."""
    record = json.loads((home / "cycles" / CYCLE / "training.json").read_text(encoding="utf-8"))
    assert record["status"] == "trained", record["reason"]
    return str(record["model_digest"])


def night(home: Path) -> int:
    """Do the steps of the retrain flow; the body of the killed process."""
    from flows.challenger import Steps, make_challenger, open_window
    from flows.wiring import wire

    wired = wire(CYCLE, NOW)
    outcome = make_challenger(wired, open_window(wired), Steps())
    print(outcome, flush=True)
    return 0 if outcome.status == "trained" else 1


def _begins(home: Path, phase: str) -> Callable[[], bool]:
    """Return the question whether a phase has begun."""
    place = home / "training" / MODEL / CYCLE
    before = set(place.glob("rounds-*.ckpt"))
    model = place / "model.json"
    model.unlink(missing_ok=True)
    if phase == "training":
        return lambda: bool(set(place.glob("rounds-*.ckpt")) - before)
    return model.is_file if phase == "registering" else lambda: True


def _wait_for(question: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    while not question() and process.poll() is None:
        time.sleep(0.01)


def _wait_until(question: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _GONE_S
    while not question():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


def _training(flow: "subprocess.Popen[bytes]") -> psutil.Process | None:
    """Return the training process of a flow, while there is one."""
    try:
        children = psutil.Process(flow.pid).children()
        return next((child for child in children if "flows.training_process" in child.cmdline()), None)
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return None


def _spoil_newest(home: Path) -> None:
    """Cut the newest checkpoint short, as a disk may."""
    files = sorted((home / "training" / MODEL / CYCLE).glob("rounds-*.ckpt"))
    if files:
        files[-1].write_bytes(files[-1].read_bytes()[: files[-1].stat().st_size // 2])


def _count_events(home: Path, tally: Tally) -> None:
    events = Counter(entry["event"] for entry in AuditFile(home / "audit.jsonl").entries())
    tally.resumed += events["training resumed"]
    tally.corrupt += events["training set aside"]


def main() -> int:
    """Run a campaign and print what it saw; or one night, as its own child."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--night", type=Path)
    told = parser.parse_args()
    if told.night is not None:
        return night(told.night)
    with tempfile.TemporaryDirectory(prefix="lull-chaos-") as directory:
        tally = campaign(Path(directory), kills=told.kills, seed=told.seed)
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(tally.kills.items()))
    print(f"{tally.n_kills} kills ({kinds}) over {tally.nights} nights in {tally.seconds:.0f} s")
    print(f"{tally.resumed} runs went on from a checkpoint, {tally.corrupt} spoilt checkpoints were set aside")
    print(f"one model digest: {tally.digests.pop()[:16]}; no orphan, no lease held, every audit chain valid")
    return 0


if __name__ == "__main__":
    sys.exit(main())
