"""One command at a time runs a home's servers: `hold_home` is a lock that ends with its process, however that ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simulation.errors import LullError


class HomeInUse(LullError):
    """A home in which another `lull` is at work; the message names it and its process."""


@contextmanager
def hold_home(home: Path, command: str) -> Iterator[None]:
    """
    Hold `home` for `command` (as the user typed it) while the block runs.

    Raises
    ------
    HomeInUse
        If another process holds it; nothing is waited for.

    Notes
    -----
    An advisory lock of the operating system on `home/lull.lock`. Children do not inherit it, and a killed process
    leaves no lock behind. The file itself stays: removing it would let two processes lock two files of one name.
    """
    home.mkdir(parents=True, exist_ok=True)
    path = home / "lull.lock"
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another `lull`"
            raise HomeInUse(
                f"{home}: {holder} is at work there; wait for it, stop it, or choose another home"
            ) from None
        file.truncate(0)
        file.write(f"`{command}` (process {os.getpid()})")
        file.flush()
        yield
