"""
The hard limits of a training process, by the best means that the machine offers; start at `apply_envelope`.

Memory: cgroup v2 where it may be written, else a limit on the private memory that the process may add. CPUs: affinity;
a part of a CPU by rests between rounds. Each limit is read back from the system, and one that is not in force refuses.
"""

import math
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from simulation.errors import LullError
from simulation.plan import Envelope

GIB = 1 << 30
_CGROUPS = Path("/sys/fs/cgroup")


class EnvelopeNotInForce(LullError):
    """A limit that the system did not take; the message names it, what was asked and what was read back."""


class MemoryLimitHit(LullError):
    """Training that needs more memory than its envelope has."""


@dataclass(frozen=True)
class Limits:
    """What is in force: a sentence per limit for the record, and the cgroup if there is one."""

    in_force: dict[str, str]
    cgroup: Path | None = None


def apply_envelope(envelope: Envelope, *, max_file_bytes: int | None = None, cgroups: Path = _CGROUPS) -> Limits:
    """
    Put this process within its limits and return them as the system reads them back.

    Call it after the imports: the memory limit of machines without cgroups counts what the process adds to them.

    Parameters
    ----------
    max_file_bytes : no file may grow beyond this; none: the size of the memory limit
    cgroups : where cgroup v2 is mounted

    Raises
    ------
    EnvelopeNotInForce
        If the system says another value than was asked for.
    MemoryLimitHit
        If Python and its libraries alone take more than the limit.
    """
    memory_bytes = int(envelope.memory_gib * GIB)
    cgroup = _join_cgroup(envelope, memory_bytes, cgroups)
    memory = f"{envelope.memory_gib:g} GiB by cgroup v2" if cgroup is not None else _limit_memory(memory_bytes)
    _set_limit("file size", resource.RLIMIT_FSIZE, max_file_bytes or memory_bytes)
    _set_limit("core dumps", resource.RLIMIT_CORE, 0)  # a dump would hold raw rows
    in_force = {
        "cpus": _limit_cpus(envelope.cpus),
        "threads": _check_threads(envelope.threads),
        "nice": _limit_niceness(envelope.nice),
        "I/O class": _idle_io(),
        "memory": memory,
        "file size": f"{resource.getrlimit(resource.RLIMIT_FSIZE)[0] / GIB:g} GiB",
        "minutes": f"{envelope.minutes:g}, watched by the flow",
    }
    return Limits(in_force, cgroup)


def rest_between_rounds(
    cpus: float, *, clock: Callable[[], float] = time.process_time, sleep: Callable[[float], None] = time.sleep
) -> Callable[[], None]:
    """
    Return a function to call after each round, which rests so long that a part of a CPU is used on average.

    Half a CPU: as long as the round worked. It keeps the processor free and changes nothing in the model.
    `clock` counts seconds of work, so that neither a rest nor a pause is rested for.
    """
    whole = math.ceil(cpus)
    since = clock()

    def rest() -> None:
        nonlocal since
        worked_s = (clock() - since) / whole
        if whole > cpus and worked_s > 0:
            sleep(worked_s * (whole / cpus - 1.0))
        since = clock()

    return rest


def _limit_cpus(cpus: float) -> str:
    """Bind the process to the last CPUs, as the first ones take interrupts."""
    available = sorted(os.sched_getaffinity(0))
    wanted = set(available[-max(1, min(len(available), math.ceil(cpus))) :])
    os.sched_setaffinity(0, wanted)
    found = os.sched_getaffinity(0)
    _must_be("cpus", sorted(wanted), sorted(found))
    share = "" if cpus == math.ceil(cpus) else f", {cpus / math.ceil(cpus):.0%} of the time, by rests between rounds"
    return ", ".join(map(str, sorted(found))) + share


def _check_threads(threads: int) -> str:
    """Compare what the process was started with; OpenMP reads it once, before anything here runs."""
    _must_be("threads", str(threads), os.environ.get("OMP_NUM_THREADS", str(threads)))
    return str(threads)


def _limit_niceness(nice: int) -> str:
    process = psutil.Process()
    if process.nice() < nice:
        process.nice(nice)
    if process.nice() < nice:
        _must_be("nice", nice, process.nice())
    return str(process.nice())


def _idle_io() -> str:
    """Let everybody else's reads and writes go first; how much a schedule makes of it is the disk's affair."""
    process = psutil.Process()
    process.ionice(psutil.IOPRIO_CLASS_IDLE)
    found = process.ionice().ioclass
    _must_be("I/O class", psutil.IOPRIO_CLASS_IDLE, found)
    return "idle"


def _limit_memory(memory_bytes: int) -> str:
    """
    Limit the private memory that the process may add to what it holds.

    RLIMIT_AS would count a gigabyte that libraries reserve and never touch; the flow watches resident memory besides.
    """
    memory = psutil.Process().memory_info()
    room = memory_bytes - memory.rss
    if room <= 0:
        raise MemoryLimitHit(
            f"training.envelope.memory_gib is {memory_bytes / GIB:g}, and Python with its libraries alone takes "
            f"{memory.rss / GIB:.2f} GiB; raise it"
        )
    limit = memory.data + room
    found = _set_limit("memory", resource.RLIMIT_DATA, limit)
    return (
        f"{memory_bytes / GIB:g} GiB: by RLIMIT_DATA {room / GIB:.2f} more than the libraries hold "
        f"({found / GIB:.2f} in all, reserved memory included)"
    )


def _set_limit(name: str, which: int, value: int) -> int:
    """Set a soft and hard limit, and return it as read back; a lower one that is in force already stays."""
    hard = resource.getrlimit(which)[1]
    wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (wanted, wanted))
    _must_be(name, (wanted, wanted), resource.getrlimit(which))
    return wanted


def _must_be(name: str, asked: object, found: object) -> None:
    if asked != found:
        raise EnvelopeNotInForce(
            f"training.envelope: {name} should be {asked} and the system says {found}; training does not begin"
        )


def _join_cgroup(envelope: Envelope, memory_bytes: int, cgroups: Path) -> Path | None:
    """Move this process into a cgroup of its own with the limits; None where the machine does not let us."""
    group = own_cgroup(cgroups)
    if group is None:
        return None
    limits = {
        "memory.max": str(memory_bytes),
        "cpu.max": f"{round(100_000 * envelope.cpus)} 100000",
    }
    try:
        if not {"memory", "cpu"} <= set((group.parent / "cgroup.subtree_control").read_text().split()):
            return None
        group.mkdir(exist_ok=True)
        for name, value in limits.items():
            (group / name).write_text(value)
            _must_be(name, value, (group / name).read_text().strip())
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        return None  # not ours to write: the other means follow, and the record says which
    return group


def own_cgroup(cgroups: Path = _CGROUPS) -> Path | None:
    """Return where a training cgroup of this process would lie, or None without cgroup v2."""
    own = next((line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")), "")
    if not own or not (cgroups / "cgroup.controllers").is_file():
        return None
    return cgroups / own.strip("/") / f"lull-training-{os.getpid()}"
