"""Which package lies in which slot, on disk: what a restarted gateway or a second worker fills itself from."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from flows.adapters.flags import Slot, file_lock, file_version, replace_file
from simulation.errors import LullError


class InvalidSlotFile(LullError):
    """A slot file that cannot be read; the message names it."""


class Filled(BaseModel):
    """The package in one slot; `path` is relative to the model root."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: str
    path: str
    digest: str
    is_warm: bool


class SlotFile:
    """One small JSON file, replaced by a rename; writers of other processes are kept out by a lock file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[Slot, Filled]:
        """Return the filled slots; raises `InvalidSlotFile` if the file is no slot file."""
        try:
            return _Document.model_validate_json(self.path.read_bytes()).slots
        except FileNotFoundError:
            return {}
        except ValidationError as error:
            raise InvalidSlotFile(f"{self.path} is no slot file; remove it and load the slots again") from error

    def put(self, slot: Slot, filled: Filled | None) -> None:
        """Set or clear one slot and leave the other as it is."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(self.path.with_suffix(".lock")):
            try:
                slots = self.read()
            except InvalidSlotFile:
                slots = {}
            slots.pop(slot, None)
            if filled is not None:
                slots[slot] = filled
            document: dict[str, Any] = {"format": 1, "slots": {name: f.model_dump() for name, f in slots.items()}}
            replace_file(self.path, json.dumps(document, indent=1).encode())

    def version(self) -> object:
        """Return a value that differs after every write."""
        return file_version(self.path)


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")
    format: int
    slots: dict[Slot, Filled]
