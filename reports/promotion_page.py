"""The promotion page: how traffic moved to the new model or back, and what the gateway answered meanwhile."""

from reports.cycle_files import CycleFiles
from reports.cycle_page import version
from reports.page import Again, Block, Bullets, Note, Page, Plot, Section, Table, Text, Tone, drawing
from reports.records import PromotionRecord, ReplayRecord
from reports.wording import count, plural, took, utc

TONES: dict[str, Tone] = {"promoted": "good", "held": "open", "rolled back": "bad"}


def promotion_page(files: CycleFiles) -> Page:
    """Return the page about a cycle's promotion."""
    record = files.promotion.record
    caveats = [Note(files.promotion.problem, "bad")] if files.promotion.problem else []
    sections: tuple[Section, ...] = ()
    if record is None:
        state = "cannot be read" if files.promotion.problem else "has not happened yet"
        answer = f"The promotion {state}."
    else:
        caveats += _account(record)
        caveats += _clock(files)
        replay = files.replay.record
        counted = [failed_words(record)] if record.sent or replay is None else []
        answer = " ".join([verdict_words(record), *counted, *([replay_words(replay)] if replay else [])])
        sections = (_reasons_section(record), _steps_section(record), *_served_sections(record, replay))
    return Page(
        name="promotion",
        title=f"Promotion · cycle {files.name}",
        question="Which model is live now, and did anybody lose a request?",
        answer=answer,
        tone="open" if record is None else "bad" if record.failed else TONES[record.verdict],
        caveats=tuple(caveats),
        sections=sections,
        again=_again(files),
    )


def verdict_words(record: PromotionRecord) -> str:
    """Return what became of the challenger, as a sentence."""
    if record.verdict == "promoted":
        return (
            f"The challenger was promoted: {version(record.version_after)} in slot {record.slot_after} took over from "
            f"{version(record.version_before)} in slot {record.slot_before}."
        )
    if record.verdict == "rolled back":
        return f"The rollout was rolled back: {version(record.version_after)} in slot {record.slot_after} is live."
    return f"The challenger was held back: {version(record.version_after)} in slot {record.slot_after} stays live."


def failed_words(record: PromotionRecord) -> str:
    """Return how many requests failed, as a sentence."""
    if not record.sent:
        return "The gateway counted no request during the promote flow, which says nothing about lost ones."
    lost = count(record.failed) if record.failed else "none"
    return f"Of the {plural(record.sent, 'request')} that the gateway counted during the promote flow, {lost} failed."


def replay_words(replay: ReplayRecord) -> str:
    """Return what the client counted over the whole replay, as a sentence."""
    lost = count(replay.failed) if replay.failed else "none"
    return f"Of the {plural(replay.sent, 'request')} that the client sent in the whole replay, {lost} failed."


def _clock(files: CycleFiles) -> list[Note]:
    """Say which times are real on a page of a cycle whose clock is simulated."""
    plan = files.plan.record
    if plan is None or not plan.is_clock_simulated:
        return []
    return [Note("The cycle's clock is simulated; the times on this page are the real ones at which the steps ran.",
                 "plain")]  # fmt: skip


def _account(record: PromotionRecord) -> list[Note]:
    """Say it when the counts do not add up: every request sent was answered by a slot or failed."""
    notes = []
    for word, counts in (("slot", record.answered_by_slot), ("version", record.answered_by_version)):
        told = sum(counts.values()) + record.failed
        if told != record.sent:
            notes.append(
                Note(f"The counts do not add up: {count(record.sent)} requests were sent, {count(told)} are "
                     f"accounted for by {word} or as failed.", "bad")
            )  # fmt: skip
    return notes


def _reasons_section(record: PromotionRecord) -> Section:
    blocks: list[Block] = [Bullets(tuple(record.reasons))] if record.reasons else [Text("No reason was recorded.")]
    if record.rollback_drill_s is not None:
        blocks.append(
            Text(f"Rollback drill: traffic was back on the old slot {took(record.rollback_drill_s)} after the order.")
        )
    if record.verdict == "promoted":
        blocks.append(Text(f"To go back: `lull rollback` gives traffic to {version(record.version_before)} again."))
    return Section("Why", tuple(blocks))


def _steps_section(record: PromotionRecord) -> Section:
    rows = tuple(
        (f"{utc(s.at):%Y-%m-%d %H:%M:%S}", s.name, s.outcome, took(s.seconds), count(s.requests), count(s.failed))
        for s in record.steps
    )
    columns = ("At (UTC)", "Step", "What was seen", "Took", "Requests", "Failed")
    if not rows:
        return Section("Step by step", (Note("No step was taken."),))
    tones: tuple[Tone, ...] = tuple("bad" if s.failed else "plain" for s in record.steps)
    table = Table("The rollout, in order", columns, rows, columns[3:], tones)
    return Section("Step by step", (table,))


def _served_sections(record: PromotionRecord, replay: ReplayRecord | None) -> tuple[Section, ...]:
    """Return who answered, in the two spans that are counted; a span without requests has nothing to show."""
    blocks: list[Block] = []
    if record.sent:
        if all(record.answered_by_slot.values()):  # one bar alone compares nothing
            drawn = drawing("answered", record.answered_by_slot)
            blocks.append(Plot(drawn, "Requests answered by each slot during the promote flow."))
        blocks += [
            _counts("During the promote flow, counted by the gateway", record.answered_by_slot,
                    record.answered_by_version, record.failed, record.sent),
        ]  # fmt: skip
    if replay is not None and replay.sent:
        blocks.append(
            _counts("In the whole replay, which outlasts the promote flow, counted by the client",
                    replay.answered_by_slot, replay.answered_by_version, replay.failed, replay.sent)
        )  # fmt: skip
    return (Section("Who answered", tuple(blocks)),) if blocks else ()


def _counts(caption: str, by_slot: dict[str, int], by_version: dict[str, int], failed: int, sent: int) -> Table:
    rows = tuple((f"slot {slot}", count(n)) for slot, n in sorted(by_slot.items()) if n)
    rows += tuple((version(v), count(n)) for v, n in sorted(by_version.items()) if n)
    rows += (("failed", count(failed)), ("sent", count(sent)))
    return Table(caption, ("By", "Requests"), rows, ("Requests",))


def _again(files: CycleFiles) -> Again:
    commands = ("lull demo --home DIR   # a fresh directory begins with the first month", "lull up", "lull status")
    facts: list[tuple[str, str]] = []
    if files.promotion.record is not None:
        record = files.promotion.record
        facts = [
            ("before", f"{version(record.version_before)}, slot {record.slot_before}"),
            ("after", f"{version(record.version_after)}, slot {record.slot_after}"),
        ]
    return Again(commands, tuple(facts))
