"""The training process seen from its flow: the same model as without one, and every early end in one sentence."""

import datetime as dt
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from flows.adapters.data_store import FrameStore, Snapshot, open_store
from flows.datasets import shipped_data_path
from flows.domain.features import bank_marketing_schema
from flows.lease import Lease, LeaseHeld, take_lease
from flows.training import TrainedModel, train
from flows.training_run import Job, TrainingEnded, Watch, _Watched, train_apart
from simulation.plan import Envelope, Training
from simulation.plan_file import read_plan
from simulation.rules import Action, Decision

pytestmark = pytest.mark.processes

EARLY = (dt.datetime(2008, 5, 1, tzinfo=dt.UTC), dt.datetime(2008, 7, 1, tzinfo=dt.UTC))


@pytest.fixture(scope="module")
def store() -> FrameStore:
    return open_store("bank_marketing_2008_2010")


@pytest.fixture(scope="module")
def snapshot(store: FrameStore) -> Snapshot:
    return store.snapshot(*EARLY)


@pytest.fixture(scope="module")
def training() -> Training:
    found = read_plan(Path(__file__).parents[2] / "examples" / "plan.yaml").training
    return found.model_copy(update={"rounds": 24, "segment_rounds": 5, "envelope": Envelope(nice=0)})


@pytest.fixture(scope="module")
def model(store: FrameStore, snapshot: Snapshot, training: Training) -> TrainedModel:
    return train(snapshot, bank_marketing_schema(store.frame), training)


@pytest.fixture
def lease(tmp_path: Path) -> Iterator[Lease]:
    with take_lease(tmp_path / "bank.lock") as held:
        yield held


def with_envelope(training: Training, **limits: float) -> Training:
    return training.model_copy(update={"envelope": training.envelope.model_copy(update=limits)})


def noted() -> tuple[list[tuple[str, dict[str, Any]]], Any]:
    events: list[tuple[str, dict[str, Any]]] = []
    return events, lambda event, **details: events.append((event, details))


def test_a_process_of_its_own_gives_the_same_model_within_verified_limits(
    training: Training, snapshot: Snapshot, model: TrainedModel, lease: Lease, tmp_path: Path
) -> None:
    events, note = noted()
    progress: list[tuple[int, int]] = []
    watch = Watch(note=note, on_segment=lambda done, of: progress.append((done, of)))
    found = train_apart(Job(training, snapshot, tmp_path / "work", lease), watch)
    assert (found.digest, found.rounds, found.stopped) == (model.digest, 24, "")
    assert progress == [(5, 24), (10, 24), (15, 24), (20, 24), (24, 24)]
    assert [event for event, _ in events] == ["envelope"]
    assert events[0][1]["in_force"] == found.envelope
    assert found.envelope["cpus"] == str(max(os.sched_getaffinity(0)))

    again = train_apart(Job(training, snapshot, tmp_path / "work", lease), Watch(note=note))
    assert again.digest == model.digest
    assert events[-1] == ("resumed", {"rounds": 24, "stopped": ""})


def test_a_pause_changes_nothing_in_the_model(
    training: Training, snapshot: Snapshot, model: TrainedModel, lease: Lease, tmp_path: Path
) -> None:
    events, note = noted()

    def look(at_s: float, is_paused: bool) -> Decision | None:
        names = [event for event, _ in events]
        if "paused" in names:
            return Decision(Action.CONTINUE, "users are served again")
        return Decision(Action.PAUSE, "users wait") if "envelope" in names else None

    watch = Watch(look=look, look_s=0.3, note=note)
    found = train_apart(Job(with_envelope(training, cpus=0.1), snapshot, tmp_path / "work", lease), watch)
    assert found.digest == model.digest
    assert [event for event, _ in events] == ["envelope", "told to pause", "paused", "told to continue", "continued"]
    assert events[2][1]["reason"] == "users wait"


def test_a_stop_gives_the_best_model_so_far_and_says_so(
    store: FrameStore, training: Training, snapshot: Snapshot, lease: Lease, tmp_path: Path
) -> None:
    def look(at_s: float, is_paused: bool) -> Decision:
        is_late = bool(list((tmp_path / "work").glob("rounds-*")))
        return Decision(Action.STOP if is_late else Action.CONTINUE, "users wait too long")

    slow = with_envelope(training, cpus=0.02)
    found = train_apart(Job(slow, snapshot, tmp_path / "work", lease), Watch(look=look, look_s=0.1))
    assert 5 <= found.rounds < 24
    assert found.stopped == "users wait too long"
    short = training.model_copy(update={"rounds": found.rounds})
    assert found.digest == train(snapshot, bank_marketing_schema(store.frame), short).digest


def test_the_end_of_the_time_for_training_is_a_stop(
    training: Training, snapshot: Snapshot, lease: Lease, tmp_path: Path
) -> None:
    with pytest.raises(TrainingEnded, match="before its first round: the time for training in this window is over"):
        train_apart(Job(training, snapshot, tmp_path / "work", lease), Watch(stop_after_s=0.0))


def ending(job: Job, watch: Watch | None = None) -> TrainingEnded:
    with pytest.raises(TrainingEnded) as caught:
        train_apart(job, watch or Watch())
    assert "\n" not in str(caught.value)
    return caught.value


def test_too_little_memory_is_one_sentence(
    training: Training, snapshot: Snapshot, lease: Lease, tmp_path: Path
) -> None:
    found = ending(Job(with_envelope(training, memory_gib=0.1), snapshot, tmp_path / "work", lease))
    assert found.state == "memory"
    assert "GiB and its envelope has 0.1 GiB; raise training.envelope.memory_gib" in str(found)
    assert str(found).endswith("no round is kept yet")


def test_a_process_over_its_memory_or_minutes_is_ended_by_its_flow(
    training: Training, snapshot: Snapshot, lease: Lease, tmp_path: Path
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        time.sleep(0.2)
        try:
            over = Job(with_envelope(training, memory_gib=0.001), snapshot, tmp_path, lease)
            with pytest.raises(TrainingEnded, match=r"took 0\.0\d GiB and its envelope has 0\.001 GiB; raise") as found:
                _Watched(over, Watch(), process, 0, rounds=10)._check_limits(time.monotonic())
            assert found.value.state == "memory"
            assert str(found.value).endswith("10 of 24 rounds are kept, and the next run goes on from them")
            watched = _Watched(Job(training, snapshot, tmp_path, lease), Watch(), process, 0, paused_s=30.0)
            watched._check_limits(watched.began_s + 60 * 60 + 29)
            with pytest.raises(TrainingEnded, match="the envelope's 60 minutes are used up") as late:
                watched._check_limits(watched.began_s + 60 * 60 + 31)
            assert late.value.state == "minutes"
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("failure", "code", "log", "words"),
    [({"kind": "MemoryLimitHit", "sentence": "std::bad_alloc"}, 1, "", r"was refused memory \(std::bad_alloc\)"),
     (None, -signal.SIGABRT, "terminate called: std::bad_alloc", "was ended by SIGABRT for want of memory")],
)  # fmt: skip
def test_memory_that_a_library_was_refused_is_told_as_the_envelope_s(
    training: Training, snapshot: Snapshot, lease: Lease, tmp_path: Path,
    failure: dict[str, str] | None, code: int, log: str, words: str,
) -> None:  # fmt: skip
    (tmp_path / "process.log").write_text(log)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    ended.returncode = code
    found = _Watched(Job(training, snapshot, tmp_path, lease), Watch(), ended, 0, failure=failure)._why()
    assert found.state == "memory"
    assert re.search(words + r" and its envelope has 2 GiB; raise training\.envelope\.memory_gib", str(found))


def test_minutes_that_are_used_up_end_the_process(
    training: Training, snapshot: Snapshot, lease: Lease, tmp_path: Path
) -> None:
    found = ending(Job(with_envelope(training, minutes=0.005), snapshot, tmp_path / "work", lease))
    assert found.state == "minutes"
    assert not [p for p in psutil.Process().children(recursive=True) if "flows.training_process" in p.cmdline()]


def test_a_full_disk_is_one_sentence(training: Training, snapshot: Snapshot, lease: Lease, tmp_path: Path) -> None:
    found = ending(Job(training, snapshot, tmp_path / "work", lease, max_file_bytes=3000))
    assert found.state == "disk"
    assert "rounds-000005.ckpt: could not be written (File too large); make room there and run again" in str(found)
    assert not list((tmp_path / "work").glob("rounds-*"))


def test_a_corrupt_or_changed_data_file_is_one_sentence(
    training: Training, store: FrameStore, lease: Lease, tmp_path: Path
) -> None:
    shipped = shipped_data_path("bank_marketing_2008_2010")
    assert shipped is not None
    file = tmp_path / "rows.parquet"
    file.write_bytes(shipped.read_bytes())
    snapshot = open_store(str(file)).snapshot(*EARLY)
    job = Job(training.model_copy(update={"data": str(file)}), snapshot, tmp_path / "work", lease)
    pd.read_parquet(file).iloc[1:].to_parquet(file)
    changed = ending(job)
    assert (changed.state, "the rows changed under the training" in str(changed)) == ("data", True)
    file.write_bytes(shipped.read_bytes()[:-2000])
    corrupt = ending(job)
    assert (corrupt.state, "is no Parquet file that can be read" in str(corrupt)) == ("data", True)


def test_a_killed_training_is_told_and_its_next_run_goes_on_past_a_corrupt_checkpoint(
    training: Training, snapshot: Snapshot, model: TrainedModel, lease: Lease, tmp_path: Path
) -> None:
    work = tmp_path / "work"

    def kill(done: int, of: int) -> None:
        if done == 10:
            children = psutil.Process().children(recursive=True)
            next(p for p in children if "flows.training_process" in p.cmdline()).send_signal(signal.SIGKILL)

    slow = with_envelope(training, cpus=0.05)
    found = ending(Job(slow, snapshot, work, lease), Watch(on_segment=kill))
    assert found.state == "lost"
    assert "was ended by SIGKILL" in str(found)
    assert "10 of 24 rounds are kept" in str(found)

    newest = sorted(work.glob("rounds-*.ckpt"))[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    events, note = noted()
    again = train_apart(Job(training, snapshot, work, lease), Watch(note=note))
    assert again.digest == model.digest
    assert [event for event, _ in events] == ["envelope", "set aside", "resumed"]
    assert events[2][1]["rounds"] >= 5


def test_a_run_with_other_data_is_refused_a_resume(
    training: Training, store: FrameStore, snapshot: Snapshot, lease: Lease, tmp_path: Path
) -> None:
    train_apart(Job(training, snapshot, tmp_path / "work", lease), Watch())
    other = store.snapshot(EARLY[0], EARLY[1] - dt.timedelta(days=20))
    found = ending(Job(training, other, tmp_path / "work", lease))
    assert found.state == "data"
    assert "was made from data" in str(found)


def test_a_late_holder_writes_no_more(training: Training, snapshot: Snapshot, lease: Lease, tmp_path: Path) -> None:
    lease.path.unlink()
    with take_lease(lease.path):
        found = ending(Job(training, snapshot, tmp_path / "work", lease))
    assert found.state == "lease"
    assert not list((tmp_path / "work").glob("rounds-*"))


def test_a_killed_flow_takes_its_training_along_and_frees_the_lease(tmp_path: Path) -> None:
    code = (
        "import datetime as dt, sys; from pathlib import Path\n"
        "from tests_support import go; go(Path(sys.argv[1]))"
    )  # fmt: skip
    support = tmp_path / "tests_support.py"
    support.write_text(_FLOW)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    flow = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment)
    work = tmp_path / "work"
    try:
        _wait(lambda: bool(list(work.glob("rounds-*.ckpt"))))
        (child,) = [p for p in psutil.Process(flow.pid).children() if "flows.training_process" in p.cmdline()]
        with pytest.raises(LeaseHeld), take_lease(tmp_path / "bank.lock", patience_s=0.0):
            pass
    finally:
        flow.kill()
        flow.wait()
    _wait(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    with take_lease(tmp_path / "bank.lock"):
        pass


_FLOW = f"""
from flows.adapters.data_store import open_store
from flows.lease import take_lease
from flows.training_run import Job, Watch, train_apart
from simulation.plan import Envelope
from simulation.plan_file import read_plan
import datetime as dt
from pathlib import Path

def go(directory):
    training = read_plan(Path({str(Path(__file__).parents[2] / "examples" / "plan.yaml")!r})).training
    slow = {{"rounds": 500, "segment_rounds": 2, "envelope": Envelope(nice=0, cpus=0.1)}}
    training = training.model_copy(update=slow)
    store = open_store(training.data)
    snapshot = store.snapshot(dt.datetime(2008, 5, 1, tzinfo=dt.UTC), dt.datetime(2008, 7, 1, tzinfo=dt.UTC))
    with take_lease(directory / "bank.lock") as lease:
        train_apart(Job(training, snapshot, directory / "work", lease), Watch())
"""


def _wait(question: Any) -> None:
    deadline = time.monotonic() + 60
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.05)
