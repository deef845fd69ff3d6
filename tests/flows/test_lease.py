"""One holder per model; a lease dies with its holder, and a late holder notices that it is late."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.lease import LeaseHeld, LeaseLost, check_fence, take_lease

_HOLD = "import sys,time; from pathlib import Path; from flows.lease import take_lease\n"


def holder(path: Path, then: str) -> "subprocess.Popen[str]":
    """Start a process that holds the lease, and return once it does."""
    code = f"{_HOLD}with take_lease(Path(sys.argv[1])) as lease:\n print(lease.number, flush=True)\n {then}"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip().isdigit()
    return process


def test_the_second_of_two_is_told_who_holds_the_lease(tmp_path: Path) -> None:
    path = tmp_path / "bank.lock"
    first = holder(path, "time.sleep(60)")
    try:
        with (
            pytest.raises(LeaseHeld, match=f"process {first.pid} trains this model already; this run ends as skipped"),
            take_lease(path, patience_s=0.1),
        ):
            pass
        with take_lease(tmp_path / "another.lock", patience_s=0.1):
            pass
    finally:
        first.kill()
        first.wait()


def test_a_killed_holder_leaves_nothing_held_and_the_next_number_is_higher(tmp_path: Path) -> None:
    path = tmp_path / "bank.lock"
    first = holder(path, "time.sleep(60)")
    first.send_signal(signal.SIGKILL)
    first.wait()
    with take_lease(path) as lease:
        assert lease.number == 2
        lease.check()


def test_a_lease_is_held_until_the_process_that_inherited_it_has_ended_too(tmp_path: Path) -> None:
    path = tmp_path / "bank.lock"
    child = "import time; time.sleep(1.5)"
    then = f"import subprocess; subprocess.Popen([sys.executable, '-c', '{child}'], pass_fds=[lease.handle])"
    holder(path, then).wait()
    began = time.monotonic()
    with pytest.raises(LeaseHeld), take_lease(path, patience_s=0.1):
        pass
    with take_lease(path, patience_s=10.0):
        assert time.monotonic() - began < 10.0


def test_a_holder_whose_lock_file_was_removed_notices_that_another_took_over(tmp_path: Path) -> None:
    path = tmp_path / "bank.lock"
    with take_lease(path) as first:
        first.check()
        path.unlink()
        with take_lease(path) as second:
            second.check()
            with pytest.raises(LeaseLost, match="holder 2 has taken over from holder 1; this run writes no more"):
                first.check()


def test_a_spoilt_number_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bank.number").write_text("twelve")
    with pytest.raises(LeaseLost, match=r"bank\.number: is no lease number; remove it when nothing trains"):
        check_fence(tmp_path / "bank.lock", 1)
