"""The drift page: do the newest data still look like those the model was trained on?"""

import math

from reports.cycle_files import CycleFiles
from reports.page import Again, Block, Link, Note, Page, Plot, Section, Table, Text, Tone, drawing
from reports.records import DriftColumn, DriftRecord
from reports.wording import count, listed, moment, number, percent, plural


def drift_page(files: CycleFiles, evidently_is_there: bool = True) -> Page:
    """Return the page about a cycle's drift; `evidently_is_there` says whether Evidently's page lies beside it."""
    record = files.drift.record
    caveats = (Note(files.drift.problem, "bad"),) if files.drift.problem else ()
    sections: tuple[Section, ...] = ()
    tone: Tone = "open"
    if record is None:
        state = "cannot be read" if files.drift.problem else "has not happened yet"
        answer = f"The drift report {state}."
    else:
        drifted = by_importance([c for c in record.columns if c.is_drifted])
        answer = drift_words(record)
        tone = "plain" if drifted else "good"
        sections = (_columns_section(record), _evidently_section(record, evidently_is_there))
    return Page(
        name="drift",
        title=f"Drift · cycle {files.name}",
        question="Do the newest data still look like the training data?",
        answer=answer,
        tone=tone,
        caveats=caveats,
        sections=sections,
        again=_again(files),
    )


def drift_words(record: DriftRecord) -> str:
    """Return how many columns drifted and which matter most, as a sentence."""
    drifted = by_importance([c for c in record.columns if c.is_drifted])
    if not drifted:
        return f"Yes: none of {plural(len(record.columns), 'column')} drifted."
    first = listed([c.column for c in drifted[:3]])
    return (
        f"Not quite: {len(drifted)} of {plural(len(record.columns), 'column')} drifted; "
        f"most important to the model: {first}."
    )


def by_importance(columns: list[DriftColumn]) -> list[DriftColumn]:
    """Return the columns with what the model uses most first; unknown importance last, then by name."""
    return sorted(columns, key=lambda c: (-c.importance if math.isfinite(c.importance) else 1.0, c.column))


def _when(text: str) -> str:
    return moment(text) if "T" in text and ("+" in text or text.endswith("Z")) else text


def _columns_section(record: DriftRecord) -> Section:
    columns = by_importance(record.columns)
    rows = tuple(
        (
            c.column,
            percent(c.importance),
            "drifted" if c.is_drifted else "steady",
            number(c.value),
            number(c.threshold),
            c.method,
        )
        for c in columns
    )
    names = ("Column", "Importance", "Verdict", "Value", "Threshold", "Method")
    blocks: list[Block] = [
        Text(
            f"{plural(record.current_rows, 'row')} from {_when(record.current_from)} to {_when(record.current_until)} "
            f"against {plural(record.reference_rows, 'training row')} from {_when(record.reference_from)} to "
            f"{_when(record.reference_until)}; {percent(record.share_drifted)} of the columns drifted."
        ),
        Table(
            "Tests by Evidently, the columns that matter most to the model first. For a p-value, small means drift; "
            "for a distance, large.",
            names, rows, ("Importance", "Value", "Threshold"),
            tuple("open" if c.is_drifted else "plain" for c in columns),
        ),
    ]  # fmt: skip
    shares = {c.column: c.importance for c in columns if math.isfinite(c.importance)}
    if shares:
        marked = frozenset(c.column for c in columns if c.is_drifted)
        draw = drawing("importance", shares, "Importance of the columns; hatched: drifted · source: LightGBM", marked)
        blocks.append(Plot(draw, "How much each column matters to the model; those that drifted are hatched."))
    return Section("Column by column", tuple(blocks))


def _evidently_section(record: DriftRecord, is_there: bool) -> Section:
    if not is_there:
        text = f"Evidently's own page {record.evidently_page} does not lie beside this one; run the drift report again."
        return Section("Evidently's own page", (Note(text),))
    link = Link(record.evidently_page, f"The page that Evidently {record.evidently_version} made", is_embedded=True)
    return Section("Evidently's own page", (link,))


def _again(files: CycleFiles) -> Again:
    record = files.drift.record
    facts: list[tuple[str, str]] = []
    if record is not None:
        facts = [
            ("Evidently", record.evidently_version),
            ("reference rows", count(record.reference_rows)),
            ("current rows", count(record.current_rows)),
        ]
    return Again(("lull demo --home DIR   # a fresh directory begins with the first month",), tuple(facts))
