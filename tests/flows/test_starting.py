"""`lull up` and `lull demo` as processes: what would stop them later is said at once, and Ctrl-C is always heard."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.flows.test_services import used_port

__all__ = ["used_port"]  # a fixture


def lull(home: Path, *command: str, **variables: str) -> "subprocess.Popen[str]":
    """Start a command in a home of its own, on ports that nobody has."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "LULL_"))}
    environment = kept | {"LULL_HOME": str(home), "LULL_GATEWAY_PORT": "18641", "LULL_PREFECT_PORT": "14641"}
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *command], env=environment | variables, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def refusal(process: "subprocess.Popen[str]") -> str:
    """Return the one sentence with which a command left."""
    out, err = process.communicate(timeout=90)
    assert process.returncode == 2, out + err
    assert "begins" not in out, "a stage was begun before the check"
    return err.strip()


def test_a_registry_of_others_is_refused_before_anything_is_simulated(tmp_path: Path) -> None:
    said = refusal(lull(tmp_path, "demo", MLFLOW_TRACKING_URI="http://127.0.0.1:1"))
    assert said.startswith("lull: http://127.0.0.1:1: a simulated clock is refused against a registry outside")
    assert not (tmp_path / "logs").exists()


def test_a_port_in_use_is_refused_before_anything_is_simulated(tmp_path: Path, used_port: int) -> None:
    said = refusal(lull(tmp_path, "demo", LULL_GATEWAY_PORT=str(used_port)))
    assert said.startswith(f"lull: port {used_port} on 127.0.0.1 is in use;")
    assert list((tmp_path / "logs").iterdir()) == []


def test_up_names_a_configured_prefect_that_does_not_answer(tmp_path: Path) -> None:
    assert "PREFECT_API_URL is http://127.0.0.1:1/api" in refusal(
        lull(tmp_path, "up", PREFECT_API_URL="http://127.0.0.1:1/api")
    )


@pytest.mark.prefect
def test_up_hears_ctrl_c_while_it_is_still_starting(tmp_path: Path) -> None:
    process = lull(tmp_path, "up")
    while not (tmp_path / "logs" / "prefect-server.log").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out.strip(), err) == (0, "stopped", "")
