"""Every page as data: the four pages of a cycle, and the index over all cycles. Start at `page_of` and `index_page`."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from reports.cycle_files import CycleFiles, Saved
from reports.cycle_page import cycle_page
from reports.drift_page import drift_cell, drift_page, drift_words
from reports.page import Again, Block, Bullets, Cell, Link, Note, Page, Section, Table, Tone
from reports.plan_page import plan_page, verdict_words
from reports.promotion_page import failed_words, promotion_page, replay_words
from reports.promotion_page import verdict_words as promotion_words
from reports.wording import moment, plural
from simulation.errors import LullError

PAGES = {"plan": "Plan", "cycle": "Retraining", "promotion": "Promotion", "drift": "Drift"}


class UnknownPage(LullError):
    """A page that does not exist; the sentence names those that do."""


def page_of(files: CycleFiles, name: str, *, evidently_is_there: bool = True) -> Page:
    """
    Return one page of a cycle as data.

    Raises
    ------
    UnknownPage
        If `name` is none of plan, cycle, promotion, drift.
    """
    builders: dict[str, Callable[[CycleFiles], Page]] = {
        "plan": plan_page,
        "cycle": cycle_page,
        "promotion": promotion_page,
        "drift": lambda files: drift_page(files, evidently_is_there),
    }
    if name not in builders:
        raise UnknownPage(f"no page is called {name!r}; the pages are {', '.join(builders)} and index")
    return builders[name](files)


def index_page(cycles: list[CycleFiles]) -> Page:
    """Return the page over all cycles, newest first."""
    if not cycles:
        return Page(
            name="index", title="Lull", question="What was retrained, when, and did anybody notice?",
            answer="No cycle has happened yet; `lull demo` runs the first one.", tone="open", caveats=(), sections=(),
            again=Again(("lull demo",)),
        )  # fmt: skip
    newest = cycles[0]
    rows = tuple(_row(files) for files in cycles)
    columns = ("Cycle", "Window", "Simulator", "Training", "Gate", "Promotion", "Drift", "Pages")
    sections = [
        Section("All cycles", (Table("One row per cycle, newest first", columns, rows, (), _tones(cycles)),)),
        *(Section(f"Cycle {files.name}", _cycle_blocks(files)) for files in cycles),
    ]
    return Page(
        name="index",
        title="Lull",
        question="What was retrained, when, and did anybody notice?",
        answer=_lead(newest),
        tone=_tone(newest),
        caveats=tuple(_broken(newest)),
        sections=tuple(sections),
        again=Again(("lull demo", "lull report"), (("cycles", str(len(cycles))),)),
    )


def _lead(files: CycleFiles) -> str:
    """Return what came of a cycle in a line or two."""
    record, replay = files.promotion.record, files.replay.record
    if record is None:
        state = "its promotion cannot be read" if files.promotion.problem else "under way or stopped"
        return f"Cycle {files.name}: {state}; what is known stands below."
    counted = replay_words(replay) if replay is not None else failed_words(record)
    return f"Cycle {files.name}: {promotion_words(record)} {counted}"


def summary(files: CycleFiles) -> tuple[str, ...]:
    """Return a cycle in sentences that need no knowledge of Lull."""
    sentences: list[str] = []
    plan, certificate = files.plan.record, files.certificate.record
    if plan is not None and plan.windows:
        first = plan.windows[0]
        sentences.append(
            f"From the request history {plan.history_name}, Lull expected the quietest stretch of the coming week to "
            f"open {moment(first.opens_at, plan.time_zone)} ({plan.time_zone}) and put the retraining there."
        )
    if certificate is not None:
        nights = plural(sum(s["n_trials"] for s in certificate["scenarios"]), "time")
        kinds = plural(len(certificate["scenarios"]), "scenario")
        sentences.append(
            f"It replayed that night {nights}, under {kinds}; the verdict on keeping the promise to users and "
            f"finishing in time: {verdict_words(certificate)}."
        )
    training, evaluation = files.training.record, files.evaluation.record
    if training is not None:
        done = f"trained on {plural(training.rows, 'row')}" if training.status == "trained" else training.status
        sentences.append(f"The new model {training.model} was {done}.")
    if evaluation is not None:
        sentences.append(
            f"On {plural(evaluation.rows, 'row')} that neither model had seen, the gate said: {evaluation.verdict}."
        )
    if files.promotion.record is not None:
        sentences += [promotion_words(files.promotion.record), failed_words(files.promotion.record)]
    if files.replay.record is not None:
        sentences.append(replay_words(files.replay.record))
    if files.drift.record is not None:
        sentences.append(f"Drift: {drift_words(files.drift.record)}")
    waiting = [word for word, saved in _steps(files) if saved.record is None and saved.problem is None]
    if waiting:
        sentences.append(f"Not happened yet: {', '.join(waiting)}.")
    if plan is not None and plan.is_clock_simulated:
        sentences.append("The clock was simulated.")
    return tuple(sentences)


def _steps(files: CycleFiles) -> list[tuple[str, Saved[Any]]]:
    return [
        ("planning", files.plan),
        ("simulation", files.certificate),
        ("training", files.training),
        ("evaluation", files.evaluation),
        ("promotion", files.promotion),
        ("drift report", files.drift),
    ]


def _cycle_blocks(files: CycleFiles) -> tuple[Block, ...]:
    return (Bullets(summary(files)), *_broken(files))


def _broken(files: CycleFiles) -> list[Note]:
    return [Note(saved.problem, "bad") for _, saved in _steps(files) if saved.problem]


def _row(files: CycleFiles) -> tuple[Cell, ...]:
    plan, drift = files.plan.record, files.drift.record
    window = moment(plan.windows[0].opens_at, plan.time_zone) if plan is not None and plan.windows else None
    cells = (
        (files.plan, window),
        (files.certificate, verdict_words(files.certificate.record) if files.certificate.record else None),
        (files.training, files.training.record.status if files.training.record else None),
        (files.evaluation, files.evaluation.record.verdict if files.evaluation.record else None),
        (files.promotion, files.promotion.record.verdict if files.promotion.record else None),
        (files.drift, drift_cell(drift) if drift else None),
    )
    words = [text or ("cannot be read" if saved.problem else "not yet") for saved, text in cells]
    return (files.name, *words, links_of(files.name))


def _tone(files: CycleFiles) -> Tone:
    record = files.promotion.record
    if record is None:
        return "open"
    return (
        "bad"
        if record.failed or record.verdict == "rolled back"
        else "good"
        if record.verdict == "promoted"
        else "open"
    )


def _tones(cycles: list[CycleFiles]) -> tuple[Tone, ...]:
    return tuple(_tone(files) for files in cycles)


def links_of(cycle: str) -> tuple[Link, ...]:
    """Return the links from the index to a cycle's pages."""
    return tuple(Link(f"{quote(cycle)}/{name}.html", word) for name, word in PAGES.items())
