"""The audit log: one JSON line per decision, each holding the digest of the line before it."""

import datetime as dt
import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Protocol

from simulation.errors import LullError
from simulation.plan_file import write_whole

GENESIS = "0" * 64


class BrokenAudit(LullError):
    """An audit log that was edited, cut, reordered or shortened; the message names the line."""


class Audit(Protocol):
    """Where decisions are written before they take effect."""

    def append(self, event: str, *, at: dt.datetime, **details: Any) -> str:
        """Write one entry and return its digest."""
        ...

    def entries(self) -> list[dict[str, Any]]:
        """Return all entries in order."""
        ...


def entry_digest(entry: dict[str, Any]) -> str:
    """Return the SHA-256 over an entry without its own digest."""
    body = {key: value for key, value in entry.items() if key != "digest"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def verify_chain(entries: list[dict[str, Any]], *, place: str, head: str | None = None) -> None:
    """Raise `BrokenAudit` unless every entry follows the one before it, and the last one is `head` if that is given."""
    previous = GENESIS
    for i, entry in enumerate(entries, start=1):
        if entry.get("previous") != previous or entry.get("number") != i:
            raise BrokenAudit(f"{place}: line {i} does not follow line {i - 1}: something was removed or reordered")
        if entry.get("digest") != entry_digest(entry):
            raise BrokenAudit(f"{place}: line {i} was changed after it was written")
        previous = entry["digest"]
    if head is not None and previous != head:
        raise BrokenAudit(f"{place}: ends at {previous[:12]}, the anchored head is {head[:12]}: the end was cut off")


class AuditFile:
    """The log in a file; appends are locked, flushed to disk, and anchored in `<file>.head`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, event: str, *, at: dt.datetime, **details: Any) -> str:
        """Write one entry and return its digest; raise `BrokenAudit` if the log was tampered with before."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+", encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            entries = self._verified()
            entry = _entry(entries, event, at, details)
            stream.write(json.dumps(entry, sort_keys=True) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
            # Whole or not at all: a head emptied by a kill between truncating and writing would look like tampering.
            write_whole(self._head, entry["digest"])
        return str(entry["digest"])

    def entries(self) -> list[dict[str, Any]]:
        """Return all entries in order; an unreadable line raises `BrokenAudit`."""
        if not self.path.is_file():
            return []
        found = []
        for i, line in enumerate(self.path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                entry = json.loads(line)
            except ValueError:
                raise BrokenAudit(f"{self.path}: line {i} is not JSON: it was cut or changed") from None
            if not isinstance(entry, dict):
                raise BrokenAudit(f"{self.path}: line {i} is no entry: it was changed after it was written")
            found.append(entry)
        return found

    def verify(self) -> int:
        """Check the whole chain against its anchored head, offline, and return the number of entries."""
        return len(self._verified())

    def _verified(self) -> list[dict[str, Any]]:
        """Return the entries once chain and anchor fit; checked before each append, which would anchor a forgery."""
        entries = self.entries()
        anchored = self._head.is_file()
        head = self._head.read_text(encoding="utf-8") if anchored else ("missing" if len(entries) > 1 else GENESIS)
        # The anchor is written after the entry: a crash in between leaves it one entry behind, and no further.
        is_behind = bool(entries) and head == entries[-1].get("previous")
        verify_chain(entries, place=str(self.path), head=None if is_behind else head)
        return entries

    @property
    def _head(self) -> Path:
        return self.path.with_name(self.path.name + ".head")


class InMemoryAudit:
    """The twin without a file."""

    def __init__(self) -> None:
        self._entries: list[dict[str, Any]] = []

    def append(self, event: str, *, at: dt.datetime, **details: Any) -> str:
        """Keep one entry and return its digest."""
        entry = _entry(self._entries, event, at, details)
        self._entries.append(entry)
        return str(entry["digest"])

    def entries(self) -> list[dict[str, Any]]:
        """Return all entries in order."""
        return list(self._entries)


def _entry(entries: list[dict[str, Any]], event: str, at: dt.datetime, details: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "number": len(entries) + 1,
        "at": at.isoformat(),
        "event": event,
        "details": details,
        "previous": entries[-1]["digest"] if entries else GENESIS,
    }
    return {**entry, "digest": entry_digest(entry)}
