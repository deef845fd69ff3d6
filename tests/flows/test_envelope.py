"""Limits are applied, read back and verified, each in a process of its own; one that is not in force refuses."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows import envelope as module
from flows.envelope import GIB, EnvelopeNotInForce, MemoryLimitHit, apply_envelope, rest_between_rounds
from simulation.plan import Envelope

_APPLY = """
import json, os, pathlib, resource, sys
from flows.envelope import apply_envelope
from simulation.plan import Envelope
limits = apply_envelope(Envelope.model_validate_json(sys.argv[1]), cgroups=pathlib.Path("/nowhere"))
"""


def apart(envelope: Envelope, then: str, **environment: str) -> Any:
    """Apply an envelope in another process, run a line of code there, and return what it printed as JSON."""
    command = [sys.executable, "-c", _APPLY + then, envelope.model_dump_json()]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_limit_is_in_force_as_the_system_says_it() -> None:
    code = """
kinds = (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_DATA)
seen = [resource.getrlimit(kind) for kind in kinds]
print(json.dumps([limits.in_force, sorted(os.sched_getaffinity(0)), os.nice(0), *seen]))"""
    said, cpus, nice, file_size, core, data = apart(Envelope(nice=7, memory_gib=1.5), code)
    assert said["cpus"] == str(max(os.sched_getaffinity(0)))
    assert cpus == [max(os.sched_getaffinity(0))]
    assert (said["nice"], nice) == ("7", 7)
    assert (said["threads"], said["I/O class"]) == ("1", "idle")
    assert said["file size"] == "1.5 GiB"
    assert file_size == [int(1.5 * GIB)] * 2, "the hard limit too: nobody inside can lift it"
    assert core == [0, 0]
    assert said["memory"].startswith("1.5 GiB: by RLIMIT_DATA 1.4")
    assert data[0] == data[1] > 0


def test_memory_beyond_the_limit_is_refused_and_below_it_granted() -> None:
    code = """
import numpy as np
fine = len(np.ones(150 << 17)) * 8 >> 20
try: np.ones(400 << 17); refused = False
except MemoryError: refused = True
print(json.dumps([fine, refused]))"""
    assert apart(Envelope(nice=0, memory_gib=0.4), code) == [150, True]


def test_an_envelope_smaller_than_the_libraries_is_one_sentence() -> None:
    said = r"memory_gib is 0\.01, and Python with its libraries alone takes \d\.\d\d GiB; raise it"
    with pytest.raises(MemoryLimitHit, match=said):
        module._limit_memory(int(0.01 * GIB))


def test_threads_other_than_the_process_was_started_with_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    with pytest.raises(EnvelopeNotInForce, match="threads should be 2 and the system says 8; training does not begin"):
        module._check_threads(2)


def test_a_system_that_says_yes_and_does_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: None)
    with pytest.raises(EnvelopeNotInForce, match="file size should be"):
        module._set_limit("file size", resource.RLIMIT_FSIZE, 12345)
    monkeypatch.setattr(psutil.Process, "nice", lambda self, value=None: 0 if value is None else None)
    with pytest.raises(EnvelopeNotInForce, match="nice should be 19 and the system says 0"):
        module._limit_niceness(19)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cpus: None)
    if len(os.sched_getaffinity(0)) > 1:
        with pytest.raises(EnvelopeNotInForce, match="cpus should be"):
            module._limit_cpus(1)


def fake_cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, controllers: str) -> Path:
    """Make plain files where the kernel would show cgroup v2."""
    own = tmp_path / "user"
    own.mkdir()
    (tmp_path / "cgroup.controllers").write_text("cpu memory")
    (own / "cgroup.subtree_control").write_text(controllers)
    group = own / f"lull-training-{os.getpid()}"
    monkeypatch.setattr(module, "own_cgroup", lambda cgroups: group)
    return group


def test_where_cgroups_may_be_written_the_kernel_holds_memory_and_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = fake_cgroup(tmp_path, monkeypatch, "cpu memory pids")
    assert module._join_cgroup(Envelope(cpus=0.5, memory_gib=2), 2 * GIB, tmp_path) == group
    written = {p.name: p.read_text() for p in group.iterdir()}
    assert written == {"memory.max": str(2 * GIB), "cpu.max": "50000 100000", "cgroup.procs": str(os.getpid())}


def test_where_cgroups_may_not_be_written_the_other_means_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = fake_cgroup(tmp_path, monkeypatch, "pids")
    assert module._join_cgroup(Envelope(), GIB, tmp_path) is None
    assert not group.exists()


def test_a_machine_without_cgroup_v2_has_none_to_offer(tmp_path: Path) -> None:
    assert module.own_cgroup(tmp_path) is None


@pytest.mark.parametrize(("cpus", "rest_s"), [(1.0, 0.0), (2.0, 0.0), (0.5, 0.3), (0.25, 0.9), (1.5, 0.05)])
def test_a_part_of_a_cpu_is_kept_by_rests_as_long_as_the_work_calls_for(cpus: float, rest_s: float) -> None:
    clock, rests = iter([10.0, 10.3, 10.3, 10.3, 10.3]), []
    rest = rest_between_rounds(cpus, clock=lambda: next(clock), sleep=rests.append)
    rest()
    assert sum(rests) == pytest.approx(rest_s)
    rest()
    assert sum(rests) == pytest.approx(rest_s), "no work, no rest: a pause is not rested for"


def test_the_whole_envelope_is_applied_or_nothing_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: None)
    with pytest.raises(EnvelopeNotInForce):
        apply_envelope(Envelope(nice=0))
