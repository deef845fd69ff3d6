"""
Checkpoints of a training: one file per finished segment, which a later run may go on from, or refuses in a sentence.

A file is a line of JSON and the trees behind it; it appears whole or not at all, and says itself whether it is whole.
Start at `Checkpoints`.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from simulation.errors import LullError
from simulation.plan_file import write_whole

_KEPT = 3  # the newest may be broken, and so may the one before
_FORMAT = 1


class OtherInputs(LullError):
    """A checkpoint made from other data or other settings; the message names both and the remedy."""


class CheckpointNotWritten(LullError):
    """A disk that takes no more; the message names the file and the reason."""


class CorruptCheckpoint(LullError):
    """A checkpoint that is not what was written; the message names the file."""


@dataclass(frozen=True)
class Inputs:
    """What a model is made of: SHA-256 of the rows, and of the settings that shape the trees."""

    data_digest: str
    settings_digest: str


@dataclass(frozen=True)
class Checkpoint:
    """The trees after some segments; `stopped` is why no more are to come, or empty."""

    segment: int
    rounds: int
    text: str
    stopped: str = ""


class Checkpoints:
    """
    The checkpoints of one training, in a directory of its own.

    Parameters
    ----------
    directory : made when the first checkpoint is written
    inputs : what the trees must have been made of
    may_write : called before each write; raises when this run has lost its lease
    say : told each sentence about a checkpoint that was set aside
    """

    def __init__(
        self,
        directory: Path,
        inputs: Inputs,
        *,
        may_write: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.directory, self.inputs = directory, inputs
        self._may_write, self._say = may_write, say

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint whole and to the disk; raise `CheckpointNotWritten` when it takes no more."""
        self._may_write()
        path = self.directory / f"rounds-{checkpoint.rounds:06d}.ckpt"
        header = {"format": _FORMAT, **asdict(self.inputs), **asdict(checkpoint)}
        del header["text"]
        header["digest"] = _digest(header, checkpoint.text)
        try:
            write_whole(path, json.dumps(header, sort_keys=True) + "\n" + checkpoint.text)
            _sync_directory(self.directory)
        except OSError as problem:
            raise CheckpointNotWritten(
                f"{path}: could not be written ({problem.strerror}); make room there and run again: "
                "training goes on from the checkpoint before"
            ) from None
        for old in self._files()[:-_KEPT]:
            old.unlink(missing_ok=True)
        return path

    def latest(self) -> Checkpoint | None:
        """
        Return the newest good checkpoint, or None; broken ones are set aside as `….corrupt` with a sentence.

        Raises
        ------
        OtherInputs
            If the newest good one was made from other data or settings: a resumed run never mixes them.
        """
        for path in reversed(self._files()):
            try:
                inputs, checkpoint = read_checkpoint(path)
            except CorruptCheckpoint as problem:
                path.replace(path.with_suffix(".corrupt"))
                self._say(f"{problem}; it was set aside, and the one before is used")
                continue
            self._must_be_of(path, inputs)
            return checkpoint
        return None

    def _files(self) -> list[Path]:
        return sorted(self.directory.glob("rounds-*.ckpt"))

    def _must_be_of(self, path: Path, found: Inputs) -> None:
        for what, name in (("data", "data_digest"), ("settings", "settings_digest")):
            was, now = getattr(found, name), getattr(self.inputs, name)
            if was != now:
                raise OtherInputs(
                    f"{path}: was made from {what} {was[:12]}, and now they are {now[:12]}; bring the {what} back, "
                    f"or remove {self.directory} to begin anew"
                )


def tidy(directory: Path) -> None:
    """Remove what a killed writer left half done; only for who holds the lease, before it starts to write."""
    for path in directory.glob(".*"):
        path.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> tuple[Inputs, Checkpoint]:
    """Return what a file holds, checked against its own digest; raise `CorruptCheckpoint` in one sentence."""
    try:
        first, _, text = path.read_bytes().decode().partition("\n")
        header = json.loads(first)
        digest = header.pop("digest")
        is_whole = digest == _digest(header, text) and header.pop("format") == _FORMAT
    except (ValueError, KeyError, AttributeError):
        is_whole = False
    if not is_whole:
        raise CorruptCheckpoint(f"{path}: is not the checkpoint that was written (its digest does not fit)")
    inputs = Inputs(**{field.name: header.pop(field.name) for field in fields(Inputs)})
    return inputs, Checkpoint(text=text, **header)


def _digest(header: dict[str, object], text: str) -> str:
    """Return the SHA-256 over header and trees."""
    return hashlib.sha256(f"{json.dumps(header, sort_keys=True)}\n{text}".encode()).hexdigest()


def _sync_directory(directory: Path) -> None:
    """Bring a rename to the disk: without it, a machine that loses power may forget the newest file."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
