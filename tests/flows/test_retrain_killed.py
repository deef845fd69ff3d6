"""A real flow run of retrain, killed −9 in the middle of its training: the next run goes on to one challenger."""

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import chaos

pytestmark = [pytest.mark.prefect, pytest.mark.processes]

_FLOW = f"from flows.retrain import retrain; retrain({chaos.CYCLE!r}, {chaos.NOW!r})"


def test_a_flow_run_killed_in_its_training_is_finished_by_the_next_one(tmp_path: Path) -> None:
    home = chaos.make_home(tmp_path / "home")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LULL_", "MLFLOW_", "PREFECT_"))} | {
        "LULL_HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true", "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PYTHONPATH": str(chaos.ROOT),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }  # fmt: skip
    first = [sys.executable, "-m", "flows.bootstrap", chaos.CYCLE, chaos.NOW, "2008-07-01T00:00:00+00:00"]
    subprocess.run(first, env=environment, check=True, timeout=300)
    with (tmp_path / "flow.log").open("wb") as log:
        flow = subprocess.Popen([sys.executable, "-c", _FLOW], env=environment, stdout=log, stderr=log)
        place = home / "training" / chaos.MODEL / chaos.CYCLE
        while not list(place.glob("rounds-*.ckpt")) and flow.poll() is None:
            time.sleep(0.02)
        assert flow.poll() is None, (tmp_path / "flow.log").read_text()[-2000:]
        flow.kill()
        flow.wait()
    chaos.checked(home, versions=1)
    done = subprocess.run(
        [sys.executable, "-c", _FLOW], env=environment, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    chaos.checked(home, versions=2)
    events = [entry["event"] for entry in chaos.AuditFile(home / "audit.jsonl").entries()]
    assert events.count("training resumed") == 1
    assert events.count("challenger registered") == 1
    with sqlite3.connect(home / "mlflow.db") as database:
        aliases = database.execute("SELECT alias, version FROM registered_model_aliases").fetchall()
    assert aliases == [("champion", 1)], "the bootstrap stays champion"
