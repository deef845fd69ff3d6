"""
The training process: its envelope first, then the rows, then the trees; it obeys its control file between rounds.

Run by `flows/training_run.py` as `python -m flows.training_process ORDER.json HANDLE`; what it has to say goes to the
handle, a pipe, one JSON object a line. Heavy imports come late: the process must die with its parent from the start.
"""

import ctypes
import datetime as dt
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from simulation.errors import LullError

_TICK_S = 0.05
_PR_SET_PDEATHSIG = 1
MODEL_FILE, CONTROL_FILE = "model.json", "control"


class OtherData(LullError):
    """Rows that are not those that the flow took its snapshot of."""


@dataclass(frozen=True)
class Order:
    """
    What to train, on which rows, where to keep it; times in ISO 8601, paths as text, so that it goes through a file.

    `training` is the plan's section as JSON; `lease_file` and `lease_number` fence the writes of a late process.
    """

    training: str
    since: str
    until: str
    data_digest: str
    directory: str
    lease_file: str
    lease_number: int
    parent: int
    max_file_bytes: int | None = None


def main(order_file: str, handle: str) -> int:
    """Train as ordered; say how it went, and return 0 if there is a model."""
    order = Order(**json.loads(Path(order_file).read_text(encoding="utf-8")))
    die_with_parent(order.parent)
    stream = os.fdopen(int(handle), "w", encoding="utf-8", buffering=1)

    def say(event: str, **details: Any) -> None:
        stream.write(json.dumps({"event": event, **details}) + "\n")

    try:
        _train(order, say)
    except LullError as problem:
        say("failed", kind=type(problem).__name__, sentence=str(problem))
        return 1
    except Exception as problem:
        if not is_out_of_memory(problem):
            raise
        say("failed", kind="MemoryLimitHit", sentence=str(problem).splitlines()[0] if str(problem) else "")
        return 1
    say("trained")
    return 0


def die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process when its parent ends, kill −9 included: no training outlives its flow."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        sys.exit("the flow that started this training has ended")


def is_out_of_memory(problem: BaseException) -> bool:
    """Tell whether an exception is a library's way to say that memory ran out."""
    words = ("bad_alloc", "malloc of size", "realloc of size", "nable to allocate", "annot allocate memory")
    return isinstance(problem, MemoryError) or any(said in str(problem) for said in words)


class Control:
    """What is called between rounds: it reads the control file, waits while it says pause, and passes a stop on."""

    def __init__(self, file: Path, say: Callable[..., None], rest: Callable[[], None] = lambda: None) -> None:
        self._file, self._say, self._rest = file, say, rest

    def __call__(self, rounds: int) -> str:
        """Return why to stop, or "" to go on; it returns when no pause is in force."""
        stopped = self._obey(rounds)
        if stopped:
            return stopped
        self._rest()  # after the word: a rest may be long, and a pause must not wait for it
        return self._obey(rounds)

    def _obey(self, rounds: int) -> str:
        word, reason = read_control(self._file)
        if word == "pause":
            self._say("paused", rounds=rounds, reason=reason)
            while word == "pause":
                time.sleep(_TICK_S)
                word, reason = read_control(self._file)
            self._say("continued", rounds=rounds, reason=reason)
        if word == "stop":
            self._say("stopped", rounds=rounds, reason=reason)
            return reason or "told to stop"
        return ""


def read_control(file: Path) -> tuple[str, str]:
    """Return the word and the reason of a control file; without one, and on a word nobody knows, training goes on."""
    try:
        word, _, reason = file.read_text(encoding="utf-8").strip().partition(" ")
    except FileNotFoundError:
        return "continue", ""
    return (word, reason) if word in ("pause", "stop") else ("continue", reason)


def _train(order: Order, say: Callable[..., None]) -> None:
    """Do the work of `main`; every step says what came of it."""
    from flows.adapters.data_store import open_store
    from flows.checkpoints import Checkpoints
    from flows.domain.features import bank_marketing_schema
    from flows.envelope import apply_envelope, rest_between_rounds
    from flows.lease import check_fence
    from flows.training import inputs_of, train
    from simulation.plan import Training

    training = Training.model_validate_json(order.training)
    limits = apply_envelope(training.envelope, max_file_bytes=order.max_file_bytes)
    say("envelope", in_force=limits.in_force, cgroup=str(limits.cgroup or ""))
    store = open_store(training.data)
    snapshot = store.snapshot(dt.datetime.fromisoformat(order.since), dt.datetime.fromisoformat(order.until))
    if snapshot.digest != order.data_digest:
        raise OtherData(
            f"{training.data}: the rows changed under the training, from {order.data_digest[:12]} to "
            f"{snapshot.digest[:12]}; run again when nobody writes to them"
        )
    schema = bank_marketing_schema(store.frame)
    directory = Path(order.directory)

    def may_write() -> None:
        check_fence(Path(order.lease_file), order.lease_number)

    checkpoints = Checkpoints(
        directory, inputs_of(snapshot.digest, schema, training), may_write=may_write,
        say=lambda sentence: say("set aside", sentence=sentence),
    )  # fmt: skip
    last = checkpoints.latest()
    if last is not None:
        say("resumed", rounds=last.rounds, stopped=last.stopped)
    rest = (lambda: None) if limits.cgroup is not None else rest_between_rounds(training.envelope.cpus)
    model = train(
        snapshot, schema, training, checkpoints=checkpoints, between=Control(directory / CONTROL_FILE, say, rest),
        on_segment=lambda done, of: say("segment", done=done, of=of), envelope=limits.in_force,
    )  # fmt: skip
    may_write()
    _write_model(directory / MODEL_FILE, asdict(model))


def _write_model(path: Path, model: dict[str, Any]) -> None:
    from flows.checkpoints import CheckpointNotWritten
    from simulation.plan_file import write_whole

    try:
        write_whole(path, json.dumps(model))
    except OSError as problem:
        raise CheckpointNotWritten(
            f"{path}: the model could not be written ({problem.strerror}); make room there and run again: "
            "its trees are kept"
        ) from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
