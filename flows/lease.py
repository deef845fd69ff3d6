"""
One training per model: a lock that dies with its holder, and a number that lets a late one notice that it is late.

The lock is the system's (`flock`): no lease is ever left held. The training process inherits it, so that a second
run waits for the end of both. Start at `take_lease`.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from simulation.errors import LullError
from simulation.plan_file import write_whole

_PATIENCE_S = 2.0  # a process killed a moment ago may still be dying
_TICK_S = 0.05


class LeaseHeld(LullError):
    """Another run trains this model; the message names its process."""


class LeaseLost(LullError):
    """Another run has taken over; the message names both numbers."""


@dataclass(frozen=True)
class Lease:
    """The right to train one model: the lock file, its open handle, and the number of this holder."""

    path: Path
    handle: int
    number: int

    def check(self) -> None:
        """Raise `LeaseLost` unless this holder is still the last one."""
        check_fence(self.path, self.number)


def check_fence(path: Path, number: int) -> None:
    """
    Raise `LeaseLost` unless `number` is the last one handed out: asked before each write that counts.

    The lock alone does not do on a file system that may lose it (a network share), or when its file was removed.
    """
    last = _last_number(path)
    if last != number:
        raise LeaseLost(f"{path}: holder {last} has taken over from holder {number}; this run writes no more")


@contextmanager
def take_lease(path: Path, *, patience_s: float = _PATIENCE_S) -> Iterator[Lease]:
    """
    Hold the lease of a model, whose number is one more than the last holder's.

    Raises
    ------
    LeaseHeld
        If another run holds it for longer than `patience_s`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as stream:
        deadline = time.monotonic() + patience_s
        while not _try_lock(stream.fileno()):
            if time.monotonic() > deadline:
                raise LeaseHeld(f"{path}: {_holder(path)} trains this model already; this run ends as skipped")
            time.sleep(_TICK_S)
        number = _last_number(path) + 1
        write_whole(_fence_file(path), json.dumps({"number": number}) + "\n")
        stream.truncate(0)
        stream.write(f"process {os.getpid()}\n")
        stream.flush()
        yield Lease(path, stream.fileno(), number)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() or "another run"


def _fence_file(path: Path) -> Path:
    return path.with_suffix(".number")


def _last_number(path: Path) -> int:
    """Return the number of the last holder, 0 before the first."""
    try:
        return int(json.loads(_fence_file(path).read_text(encoding="utf-8"))["number"])
    except FileNotFoundError:
        return 0
    except (ValueError, KeyError, TypeError):
        raise LeaseLost(f"{_fence_file(path)}: is no lease number; remove it when nothing trains") from None
