"""
A training seen from its flow: started in a process of its own, watched, told to pause or stop, and ended for sure.

Start at `train_apart`. Whatever ends it early is one sentence and one state, and its finished segments are kept.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from flows.adapters.data_store import Snapshot
from flows.checkpoints import tidy
from flows.envelope import GIB
from flows.gateway.predictor import Calibration
from flows.lease import Lease
from flows.training import TrainedModel
from flows.training_process import CONTROL_FILE, MODEL_FILE, Order
from simulation.errors import LullError
from simulation.plan import Training
from simulation.plan_file import write_whole
from simulation.rules import Action, Decision

_TICK_S = 0.1
_LOOK_S = 10.0
_STATES = {
    "MemoryLimitHit": "memory", "CheckpointNotWritten": "disk", "OtherInputs": "data", "OtherData": "data",
    "InvalidData": "data", "LeaseLost": "lease", "StoppedTooEarly": "stopped",
}  # fmt: skip

Look = Callable[[float, bool], Decision | None]  # (seconds since the start, is paused) -> what the rules say


class TrainingEnded(LullError):
    """A training that ended without a model; `state` is memory, minutes, disk, data, lease, stopped, lost or error."""

    def __init__(self, sentence: str, state: str) -> None:
        super().__init__(sentence)
        self.state = state


@dataclass(frozen=True)
class Job:
    """What to train, on which rows, where to keep it, and by which right."""

    training: Training
    snapshot: Snapshot
    directory: Path
    lease: Lease
    max_file_bytes: int | None = None


@dataclass(frozen=True)
class Watch:
    """
    How a training is watched.

    Attributes
    ----------
    look : asked every `look_s` seconds; its decision is obeyed; none: nobody looks
    stop_after_s : seconds after which training ends with the trees so far, as the window ends; none: never
    on_segment : called with (rounds done, rounds in all)
    note : told each event by name, with its details: what the audit log and the run's log keep
    """

    look: Look | None = None
    look_s: float = _LOOK_S
    stop_after_s: float | None = None
    on_segment: Callable[[int, int], None] = lambda done, of: None
    note: Callable[..., None] = lambda event, **details: None


def train_apart(job: Job, watch: Watch) -> TrainedModel:
    """
    Train in a process of its own and return the model; the process has ended when this returns or raises.

    Raises
    ------
    TrainingEnded
        If there is no model: memory or minutes used up, disk full, other data, lease lost, process killed.
    """
    job.directory.mkdir(parents=True, exist_ok=True)
    tidy(job.directory)
    command(job.directory, "continue", "a run begins")
    with _process(job) as (process, stream):
        return _Watched(job, watch, process, stream).to_the_end()


def command(directory: Path, word: str, reason: str) -> None:
    """Tell the training in a directory to `pause`, `continue` or `stop`; it obeys within one round."""
    # Whole for its reader, but not flushed to the disk: a busy one takes seconds, and a lost word is told anew.
    draft = directory / f".{CONTROL_FILE}"
    draft.write_text(f"{word} {reason}\n", encoding="utf-8")
    draft.replace(directory / CONTROL_FILE)


@contextmanager
def _process(job: Job) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Start the training process; kill it on the way out, however we leave."""
    order = Order(
        training=job.training.model_dump_json(), since=job.snapshot.since.isoformat(),
        until=job.snapshot.until.isoformat(), data_digest=job.snapshot.digest, directory=str(job.directory),
        lease_file=str(job.lease.path), lease_number=job.lease.number, parent=os.getpid(),
        max_file_bytes=job.max_file_bytes,
    )  # fmt: skip
    file = job.directory / "order.json"
    write_whole(file, json.dumps(asdict(order)))
    threads = str(job.training.envelope.threads)
    environment = os.environ | {
        "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads,
        "ARROW_DEFAULT_MEMORY_POOL": "system",  # its own pool reserves a gigabyte, which a limit would count
    }  # fmt: skip
    ours, theirs = os.pipe()
    try:
        with (job.directory / "process.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows.training_process", str(file), str(theirs)], env=environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                pass_fds=(theirs, job.lease.handle),  # the lease is held until this process has ended too
            )  # fmt: skip
        os.close(theirs)
        try:
            yield process, ours
        finally:
            process.kill()
            process.wait()
    finally:
        os.close(ours)


@dataclass
class _Watched:
    """A running training, and what is known of it."""

    job: Job
    watch: Watch
    process: "subprocess.Popen[bytes]"
    stream: int
    rounds: int = 0
    is_paused: bool = False
    word: str = "continue"
    is_trained: bool = False
    failure: dict[str, Any] | None = None
    cgroup: str = ""
    began_s: float = field(default_factory=time.monotonic)
    paused_s: float = 0.0
    _tail: bytes = b""

    def to_the_end(self) -> TrainedModel:
        """Watch until the process has ended, and return its model or say why there is none."""
        next_look_s = self.began_s
        ticked_s = self.began_s
        while self._hear():
            now_s = time.monotonic()
            self.paused_s += now_s - ticked_s if self.is_paused else 0.0
            ticked_s = now_s
            self._check_limits(now_s)
            if now_s >= next_look_s:
                self._look(now_s - self.began_s)
                next_look_s += self.watch.look_s
        self.process.wait()
        if self.cgroup:
            self._check_cgroup(Path(self.cgroup))
        if self.is_trained:
            return read_model(self.job.directory / MODEL_FILE)
        raise self._why()

    def _hear(self) -> bool:
        """Take in what the process said within a tick; False once it has closed its end."""
        if not select.select([self.stream], [], [], _TICK_S)[0]:
            return True
        got = os.read(self.stream, 1 << 16)
        *lines, self._tail = (self._tail + got).split(b"\n")
        for line in lines:
            self._take(json.loads(line))
        return bool(got)

    def _take(self, said: dict[str, Any]) -> None:
        event = said.pop("event")
        if event == "segment":
            self.rounds = said["done"]
            self.watch.on_segment(said["done"], said["of"])
            return
        if event == "resumed":
            self.rounds = said["rounds"]
        if event in ("paused", "continued"):
            self.is_paused = event == "paused"
        if event == "envelope":
            self.cgroup = said.pop("cgroup")
        if event == "failed":
            self.failure = said
        self.is_trained = self.is_trained or event == "trained"
        if event not in ("failed", "trained"):
            self.watch.note(event, **said)

    def _check_limits(self, now_s: float) -> None:
        """End a training that is over its memory or its minutes: what it finished is kept."""
        envelope = self.job.training.envelope
        worked_min = (now_s - self.began_s - self.paused_s) / 60
        if worked_min > envelope.minutes:
            raise self._ended(f"the envelope's {envelope.minutes:g} minutes are used up", "minutes")
        with suppress(psutil.Error):  # it may have ended a moment ago: `_hear` will see
            used = psutil.Process(self.process.pid).memory_info().rss
            if used > envelope.memory_gib * GIB:
                raise self._ended(self._too_large(f"took {used / GIB:.2f} GiB"), "memory")
        stop_after_s = self.watch.stop_after_s
        if stop_after_s is not None and now_s - self.began_s > stop_after_s:
            self._obey(Decision(Action.STOP, "the time for training in this window is over"))

    def _look(self, at_s: float) -> None:
        decision = self.watch.look(at_s, self.word == "pause") if self.watch.look is not None else None
        if decision is not None:
            self._obey(decision)

    def _obey(self, decision: Decision) -> None:
        """Pass a decision on once; a stop is never taken back. It is noted before it takes effect."""
        if decision.action.value == self.word or self.word == "stop":
            return
        self.word = decision.action.value
        self.watch.note(f"told to {self.word}", reason=decision.reason, rounds=self.rounds)
        command(self.job.directory, self.word, decision.reason)

    def _check_cgroup(self, group: Path) -> None:
        """Remove the empty cgroup; say so if the kernel killed the process for its memory."""
        with suppress(OSError):
            killed = "oom_kill 0" not in (group / "memory.events").read_text()
            group.rmdir()
            if killed and not self.is_trained:
                raise self._ended(self._too_large("was ended by the kernel"), "memory")

    def _why(self) -> TrainingEnded:
        """Return why the process ended without a model."""
        if self.failure is not None:
            state = _STATES.get(self.failure["kind"], "error")
            sentence = self.failure["sentence"]
            is_named = state != "memory" or "envelope" in sentence
            return self._ended(sentence if is_named else self._too_large(f"was refused memory ({sentence})"), state)
        code, log = self.process.returncode, self.job.directory / "process.log"
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        if "bad_alloc" in log.read_text(encoding="utf-8", errors="replace")[-2000:]:
            return self._ended(self._too_large(f"{how} for want of memory"), "memory")  # C++ did not wait for us
        return self._ended(f"the training process {how}; its own words are in {log}", "lost" if code < 0 else "error")

    def _too_large(self, what: str) -> str:
        gib = self.job.training.envelope.memory_gib
        return (
            f"training {what} and its envelope has {gib:g} GiB; raise training.envelope.memory_gib, or train on fewer "
            "rows"
        )

    def _ended(self, sentence: str, state: str) -> TrainingEnded:
        kept = f"{self.rounds} of {self.job.training.rounds} rounds are kept, and the next run goes on from them"
        return TrainingEnded(f"{sentence}; {kept if self.rounds else 'no round is kept yet'}", state)


def read_model(path: Path) -> TrainedModel:
    """Return the model that a training process wrote."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return TrainedModel(**{**found, "calibration": Calibration(**found["calibration"])})
