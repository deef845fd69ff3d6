"""The drift page: do the newest data still look like those the model was trained on, and does it matter if not?"""

import math

from reports.cycle_files import CycleFiles
from reports.page import Again, Block, Bullets, Link, Note, Page, Plot, Section, Table, Text, Tone, drawing
from reports.records import DriftColumn, DriftRecord
from reports.wording import UNKNOWN, count, listed, moment, number, percent, plural, signed, spread


def drift_page(files: CycleFiles, evidently_is_there: bool = True) -> Page:
    """Return the page about a cycle's drift; `evidently_is_there` says whether Evidently's page lies beside it."""
    record = files.drift.record
    caveats = (Note(files.drift.problem, "bad"),) if files.drift.problem else ()
    sections: tuple[Section, ...] = ()
    tone: Tone = "open"
    if record is None:
        state = "cannot be read" if files.drift.problem else "has not happened yet"
        answer = f"The drift report {state}."
    elif record.problem:
        answer = f"Nobody can tell: {record.problem[0].lower()}{record.problem[1:]}"
    else:
        answer = drift_words(record)
        tone = "plain" if _moved(record) else "good"
        caveats = tuple(Note(check.sentence) for check in record.quality if not check.is_met)
        sections = (
            _columns_section(record), *_promise_sections(record), _quality_section(record), _rate_section(record),
            _evidently_section(record, evidently_is_there),
        )  # fmt: skip
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


def drift_cell(record: DriftRecord) -> str:
    """Return how many columns moved, for a cell of the index."""
    return UNKNOWN if record.problem else f"{len(_moved(record))} of {plural(_n_features(record), 'column')}"


def drift_words(record: DriftRecord) -> str:
    """Return how many columns moved, which matter most, and how sure that is, as a sentence."""
    if record.problem:
        return record.problem
    moved, n_features = _moved(record), _n_features(record)
    score = next((c for c in record.columns if c.column == record.score_name), None)
    told = "" if score is None else f" The model's scores {'moved too' if score.is_drifted else 'did not'}."
    if not moved:
        moved_score = " The model's scores did." if score is not None and score.is_drifted else ""
        return f"Yes: none of {plural(n_features, 'column')} is shown to have moved.{moved_score}"
    first = listed([c.column for c in moved[:3]])
    return (
        f"Not quite: {len(moved)} of {plural(n_features, 'column')} moved; those that may cost most: {first}.{told} "
        f"Without any drift, at most {percent(record.false_alarm_rate)} of such reports would name a column."
    )


def by_cost(columns: list[DriftColumn]) -> list[DriftColumn]:
    """Return the columns with the largest estimated loss first, then by importance, what is not known last."""
    return sorted(columns, key=lambda c: (_falling(c.log_loss), _falling(c.importance), c.column))


def _falling(value: float) -> float:
    return -value if math.isfinite(value) else 1.0


def _moved(record: DriftRecord) -> list[DriftColumn]:
    return by_cost([c for c in record.columns if c.is_drifted and c.column != record.score_name])


def _n_features(record: DriftRecord) -> int:
    return sum(c.column != record.score_name for c in record.columns)


def _when(text: str) -> str:
    return moment(text) if "T" in text and ("+" in text or text.endswith("Z")) else text


def _sure(record: DriftRecord, column: DriftColumn) -> str:
    """Say how rarely a report without drift shows as much."""
    if column.p_value <= 1.5 / (record.dealings + 1):
        return f"fewer than 1 in {record.dealings + 1:,}"
    return percent(column.p_value)


def _columns_section(record: DriftRecord) -> Section:
    score = [c for c in record.columns if c.column == record.score_name]
    columns = score + by_cost([c for c in record.columns if c.column != record.score_name])
    rows = tuple(
        (
            c.column,
            c.movement if c.is_drifted else "not shown to have moved",
            number(c.distance, 2),
            percent(c.importance) if c not in score else "-",
            number(c.log_loss, 2) if c.is_drifted and c not in score else "-",
            signed(c.score_change) if c.is_drifted and c not in score else "-",
            _sure(record, c),
        )
        for c in columns
    )
    names = ("Column", "What moved", "Distance", "Importance", "Loss", "Score", "Without drift")
    blocks: list[Block] = [
        Text(
            f"{plural(record.current_rows, 'row')} from {_when(record.current_from)} to {_when(record.current_until)} "
            f"against {plural(record.reference_rows, 'row')} from {_when(record.reference_from)} to "
            f"{_when(record.reference_until)}{_held_out(record)}; {percent(record.share_drifted)} of the columns moved."
        ),
        Table(
            "What moved, does it matter, how sure. Loss: nats per row that the model loses if this column moved alone "
            "and the outcomes stayed, as with a broken feed; less if the outcomes followed. Score: change of the mean "
            "score by this column alone. Without drift: share of reports that show any column as far.",
            names, rows, names[2:6],
            tuple("open" if c.is_drifted else "plain" for c in columns),
        ),
    ]  # fmt: skip
    shares = {c.column: c.importance for c in columns if math.isfinite(c.importance)}
    if shares:
        marked = frozenset(c.column for c in columns if c.is_drifted)
        draw = drawing("importance", shares, "Importance of the columns; hatched: moved · source: LightGBM", marked)
        blocks.append(Plot(draw, "How much each column matters to the model; those that moved are hatched."))
    return Section("Column by column", tuple(blocks))


def _held_out(record: DriftRecord) -> str:
    """Say that the trees have not seen the reference, which a report without a model cannot."""
    return " that were held out of the trees" if any(c.column == record.score_name for c in record.columns) else ""


def _promise_sections(record: DriftRecord) -> tuple[Section, ...]:
    if not record.promises:
        return ()
    rows = tuple(
        (
            p.metric,
            number(p.promised),
            spread(number(p.low), number(p.high)),
            number(p.truth),
            _kept(p.low, p.high, p.truth),
        )
        for p in record.promises
    )
    text = Text(
        f"Before any label has come, the scores themselves promise a performance. This assumes that "
        f"{record.promise_assumption}. The intervals hold for the chance in the labels only, not for a wrong model."
    )
    names = ("Metric", "Promised", "95 % of months", "By the labels", "Kept")
    table = Table(
        "Promised without labels, and what the labels said later.", names, rows, ("Promised", "By the labels")
    )
    return (Section("How well the model probably does", (text, table)),)


def _kept(low: float, high: float, truth: float) -> str:
    if not all(map(math.isfinite, (low, high, truth))):
        return UNKNOWN
    return "yes" if low <= truth <= high else "no: the assumption does not hold here"


def _quality_section(record: DriftRecord) -> Section:
    if not record.quality:
        return Section("The rows themselves", (Text("Nothing was checked."),))
    return Section("The rows themselves", (Bullets(tuple(check.sentence for check in record.quality)),))


def _rate_section(record: DriftRecord) -> Section:
    n = f"{record.current_rows:,} current and {record.reference_rows:,} reference"
    text = (
        f"If nothing drifts, this report names a column in at most {percent(record.false_alarm_rate)} of cases: the "
        f"rate belongs to the whole report, whatever the number of columns. It was calibrated on these very {n} rows: "
        f"they were dealt out anew between the two sets {record.dealings:,} times, whole rows, so that columns keep "
        "hanging together, and a column counts as moved only if so few dealings move any column as far. The rate holds "
        "for rows that come independently of each other; rows that hang together, such as a value that is the same for "
        "a whole month, alarm more often. `make drift-honesty` counts the rate, beside other tools'."
    )
    return Section("How often this report is wrong", (Text(text),))


def _evidently_section(record: DriftRecord, is_there: bool) -> Section:
    heading = "Evidently's own page"
    if not record.evidently_page:
        return Section(heading, (Note("Evidently's page was left out of this report; the reason is above."),))
    text = Text(
        "Evidently's tests are shown, not acted on: each column is tested by itself, so that with many columns some "
        "are flagged without drift. For a p-value, small means drift; for a distance, large."
    )
    rows = tuple(
        (c.column, c.evidently_method, number(c.evidently_value), number(c.evidently_threshold))
        for c in by_cost(record.columns)
        if c.evidently_method
    )
    table = Table("Tests by Evidently.", ("Column", "Method", "Value", "Threshold"), rows, ("Value", "Threshold"))
    if not is_there:
        missing = (
            f"Evidently's own page {record.evidently_page} does not lie beside this one; run the drift report again."
        )
        return Section(heading, (text, table, Note(missing)))
    link = Link(record.evidently_page, f"The page that Evidently {record.evidently_version} made", is_embedded=True)
    return Section(heading, (text, table, link))


def _again(files: CycleFiles) -> Again:
    record = files.drift.record
    facts: list[tuple[str, str]] = []
    if record is not None and not record.problem:
        facts = [
            ("Evidently", record.evidently_version or "not run"),
            ("reference rows", count(record.reference_rows)),
            ("current rows", count(record.current_rows)),
            ("dealings", count(record.dealings)),
        ]
    return Again(("lull demo --home DIR   # a fresh directory begins with the first month",), tuple(facts))
