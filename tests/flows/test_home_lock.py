"""The home's lock: a second command is refused at once, and a killed one leaves nothing behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from flows.home_lock import HomeInUse, hold_home

HOLD = """
import sys, time
from pathlib import Path
from flows.home_lock import hold_home
with hold_home(Path(sys.argv[1]), "lull demo"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_and_a_killed_first_one_leaves_no_lock(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        try:
            with pytest.raises(HomeInUse) as refusal, hold_home(tmp_path, "lull up"):
                pass
        finally:
            first.kill()
    assert str(refusal.value) == (
        f"{tmp_path}: `lull demo` (process {first.pid}) is at work there; wait for it, stop it, or choose another home"
    )
    with hold_home(tmp_path, "lull up"):
        pass


@pytest.mark.parametrize("command", [["demo", "--fast"], ["up"]])
def test_demo_and_up_are_refused_in_a_home_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("LULL_HOME", str(tmp_path))
    with hold_home(tmp_path, "lull demo"):
        call = [sys.executable, "-m", "flows.cli", *command]
        done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith(f"lull: {tmp_path}: `lull demo` (process ")
    assert not (tmp_path / "logs").exists()


def test_a_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    with hold_home(tmp_path, "lull up"):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with hold_home(tmp_path, "lull demo"):
            pass
    finally:
        child.kill()
        child.wait()
