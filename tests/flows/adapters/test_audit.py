"""The audit log notices every way of changing it, and its in-memory twin writes the very same entries."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.adapters.audit import GENESIS, Audit, AuditFile, BrokenAudit, InMemoryAudit, verify_chain

AT = dt.datetime(2009, 6, 1, 2, 0, tzinfo=dt.UTC)


@pytest.fixture
def log(tmp_path: Path) -> AuditFile:
    """Return a log of four entries."""
    found = AuditFile(tmp_path / "deep" / "audit.jsonl")
    for number in range(4):
        found.append("traffic", at=AT + dt.timedelta(minutes=number), change=f"step {number}", ratio=0.1 * number)
    return found


def rewrite(log: AuditFile, change: Callable[[list[str]], list[str]]) -> None:
    """Put other lines in the file's place."""
    lines = change(log.path.read_text(encoding="utf-8").splitlines())
    log.path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def test_a_log_left_alone_is_whole(log: AuditFile) -> None:
    assert log.verify() == 4
    assert [entry["number"] for entry in log.entries()] == [1, 2, 3, 4]
    assert log.entries()[0]["previous"] == GENESIS


def test_no_log_yet_is_whole_and_empty(tmp_path: Path) -> None:
    assert AuditFile(tmp_path / "audit.jsonl").verify() == 0


TAMPERINGS: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "edit": (lambda lines: [lines[0], lines[1].replace("step 1", "step 9"), *lines[2:]], "line 2 was changed"),
    "delete the first": (lambda lines: lines[1:], "line 1 does not follow"),
    "delete from the middle": (lambda lines: [lines[0], *lines[2:]], "line 2 does not follow line 1"),
    "reorder": (lambda lines: [lines[0], lines[2], lines[1], lines[3]], "line 2 does not follow line 1"),
    "repeat": (lambda lines: [*lines, lines[-1]], "line 5 does not follow line 4"),
    "truncate": (lambda lines: lines[:-2], "the end was cut off"),
    "truncate one": (lambda lines: lines[:-1], "the end was cut off"),
    "truncate all": (lambda lines: [], "the end was cut off"),
    "half a line": (lambda lines: [*lines[:-1], lines[-1][:20]], "line 4 is not JSON"),
    "another kind of line": (lambda lines: [*lines[:-1], "5"], "line 4 is no entry"),
}


@pytest.mark.parametrize("name", list(TAMPERINGS))
def test_every_tampering_is_named_by_its_place(log: AuditFile, name: str) -> None:
    change, sentence = TAMPERINGS[name]
    rewrite(log, change)
    with pytest.raises(BrokenAudit, match=sentence):
        log.verify()


@pytest.mark.parametrize("name", list(TAMPERINGS))
def test_nothing_is_appended_to_a_log_that_was_tampered_with(log: AuditFile, name: str) -> None:
    """Otherwise the next honest entry would anchor the forgery."""
    rewrite(log, TAMPERINGS[name][0])
    before = log.path.read_bytes()
    with pytest.raises(BrokenAudit):
        log.append("champion", at=AT, version="2")
    assert log.path.read_bytes() == before


def test_an_entry_rewritten_with_a_right_digest_of_its_own_still_breaks_the_next(log: AuditFile) -> None:
    from flows.adapters.audit import entry_digest

    forged = log.entries()
    forged[1]["details"]["change"] = "nothing to see"
    forged[1]["digest"] = entry_digest(forged[1])
    rewrite(log, lambda _: [json.dumps(entry) for entry in forged])
    with pytest.raises(BrokenAudit, match="line 3 does not follow line 2"):
        log.verify()


def test_a_lost_anchor_is_noticed(log: AuditFile) -> None:
    log.path.with_name("audit.jsonl.head").unlink()
    with pytest.raises(BrokenAudit, match="missing"):
        log.verify()


def test_a_crash_between_the_entry_and_its_anchor_does_not_stop_the_log(log: AuditFile) -> None:
    """The entry is on disk first: an anchor one entry behind is what a power cut leaves."""
    head = log.path.with_name("audit.jsonl.head")
    head.write_text(log.entries()[2]["digest"], encoding="utf-8")
    assert log.verify() == 4
    log.append("traffic", at=AT, change="goes on")
    assert log.verify() == 5
    head.write_text(log.entries()[2]["digest"], encoding="utf-8")
    with pytest.raises(BrokenAudit):
        log.verify()


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_both_twins_keep_one_contract(kind: str, tmp_path: Path) -> None:
    audit: Audit = AuditFile(tmp_path / "audit.jsonl") if kind == "file" else InMemoryAudit()
    assert audit.entries() == []
    first = audit.append("held", at=AT, reasons=["too few rows"], rows=7)
    second = audit.append("champion", at=AT, version="3")
    entries = audit.entries()
    assert [entry["digest"] for entry in entries] == [first, second]
    assert entries[0]["details"] == {"reasons": ["too few rows"], "rows": 7}
    assert (entries[0]["at"], entries[1]["previous"]) == ("2009-06-01T02:00:00+00:00", first)
    verify_chain(entries, place=kind, head=second)


def test_both_twins_give_equal_digests(tmp_path: Path) -> None:
    twins: list[Audit] = [AuditFile(tmp_path / "audit.jsonl"), InMemoryAudit()]
    assert len({twin.append("held", at=AT, reason="zu früh", ratio=0.1) for twin in twins}) == 1
    assert twins[0].entries() == twins[1].entries()


def test_a_reader_s_changes_do_not_reach_the_memory_twin() -> None:
    audit = InMemoryAudit()
    audit.append("held", at=AT)
    audit.entries().clear()
    assert len(audit.entries()) == 1
