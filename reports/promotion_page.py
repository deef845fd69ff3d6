"""The promotion page: how traffic moved to the new model or back, and what the gateway answered meanwhile."""

from functools import partial

from reports import plots
from reports.cycle_files import CycleFiles
from reports.cycle_page import version
from reports.page import Again, Block, Bullets, Note, Page, Plot, Section, Table, Text, Tone
from reports.records import PromotionRecord
from reports.wording import count, number, plural, utc

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
        answer = f"{verdict_words(record)} {failed_words(record)}"
        sections = (_reasons_section(record), _steps_section(record), _served_section(record))
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
        return "No request was sent meanwhile, so nothing is shown about lost requests."
    if not record.failed:
        return f"None of the {plural(record.sent, 'request')} sent meanwhile failed."
    return f"{count(record.failed)} of the {plural(record.sent, 'request')} sent meanwhile failed."


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
        seconds = number(record.rollback_drill_s)
        blocks.append(Text(f"Rollback drill: traffic was back on the old slot {seconds} s after the order."))
    if record.verdict == "promoted":
        blocks.append(Text(f"To go back: `lull rollback` gives traffic to {version(record.version_before)} again."))
    return Section("Why", tuple(blocks))


def _steps_section(record: PromotionRecord) -> Section:
    rows = tuple(
        (f"{utc(s.at):%Y-%m-%d %H:%M:%S}", s.name, s.outcome, number(s.seconds), count(s.requests), count(s.failed))
        for s in record.steps
    )
    columns = ("At (UTC)", "Step", "What was seen", "Seconds", "Requests", "Failed")
    if not rows:
        return Section("Step by step", (Note("No step was taken."),))
    tones: tuple[Tone, ...] = tuple("bad" if s.failed else "plain" for s in record.steps)
    table = Table("The rollout, in order", columns, rows, columns[3:], tones)
    return Section("Step by step", (table,))


def _served_section(record: PromotionRecord) -> Section:
    rows = tuple((f"slot {slot}", count(n)) for slot, n in record.answered_by_slot.items())
    rows += tuple((version(v), count(n)) for v, n in record.answered_by_version.items())
    rows += (("failed", count(record.failed)), ("sent", count(record.sent)))
    return Section(
        "Who answered",
        (
            Plot(partial(plots.answered, record.answered_by_slot), "Requests answered by each slot."),
            Table("Requests during the promotion", ("By", "Requests"), rows, ("Requests",)),
        ),
    )


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
