"""The retraining page: what was trained on which rows, how it compares with the champion, and what the gate said."""

from reports.cycle_files import CycleFiles
from reports.page import Again, Block, Bullets, Note, Page, Plot, Section, Table, Text, Tone, drawing
from reports.records import EvaluationRecord, TrainingRecord
from reports.wording import UNKNOWN, count, moment, number, percent, plural, short, signed, spread

TONES: dict[str, Tone] = {"promote": "good", "hold for data": "open", "needs a person": "open", "roll back": "bad"}
METRICS = {
    "auc": "1 − AUC (ranking error)",
    "log_loss": "log loss",
    "brier": "Brier score",
    "calibration_error": "calibration error",
    "score_shift": "shift of the scores",
    "group_log_loss": "log loss of the worst group",
    "latency_ms": "latency (ms)",
    "failed_ratio": "failed requests (share)",
}
ROLES = {
    "success": "success: must be better for sure",
    "guardrail": "guardrail: must not be worse by more than the margin",
    "quality": "quality: bounds the challenger itself",
}


def cycle_page(files: CycleFiles) -> Page:
    """Return the page about a cycle's training and evaluation."""
    training, evaluation = files.training.record, files.evaluation.record
    caveats = [Note(p, "bad") for p in (files.training.problem, files.evaluation.problem) if p]
    if training is not None and training.is_bootstrap:
        caveats.append(
            Note("This is the bootstrap champion: the first model, registered without one to compare it with.")
        )
    sections = []
    if training is None:
        sections.append(Section("Training", (Note(files.training.problem or "Training has not happened yet."),)))
    else:
        sections += [_training_section(training), _limits_section(training)]
    if evaluation is None:
        text = files.evaluation.problem or "The evaluation has not happened yet."
        sections.append(Section("Evaluation", (Note(text),)))
    else:
        sections += [_gate_section(evaluation), _curves_section(evaluation), _groups_section(evaluation)]
    return Page(
        name="cycle",
        title=f"Retraining · cycle {files.name}",
        question="What was trained, and is it better than what is live?",
        answer=f"{_trained(files)} {_judged(files)}",
        tone=TONES[evaluation.verdict] if evaluation is not None else "open",
        caveats=tuple(caveats),
        sections=tuple(sections),
        again=_again(files),
    )


def version(text: str | None) -> str:
    """Return a model version with the word before it, unless the record already writes it so."""
    if text is None:
        return "no version"
    return text if not text.isdigit() else f"version {text}"


def _trained(files: CycleFiles) -> str:
    training = files.training.record
    if training is None:
        return "The training record cannot be read." if files.training.problem else "Training has not happened yet."
    if training.status != "trained":
        return f"Training was {training.status}: {training.reason}"
    return (
        f"{training.model} {version(training.version)} was trained on {plural(training.rows, 'row')} of "
        f"{training.data_name}, {_span(training.data_from, training.data_until)}."
    )


def _judged(files: CycleFiles) -> str:
    evaluation = files.evaluation.record
    if evaluation is None:
        return "The evaluation cannot be read." if files.evaluation.problem else "Its evaluation has not happened yet."
    return f"The gate's verdict on {plural(evaluation.rows, 'row')} that neither model has seen: {evaluation.verdict}."


def _span(since: str, until: str) -> str:
    """Return a span of data as it is recorded: dates stay dates."""
    words = [moment(t) if "T" in t and ("+" in t or t.endswith("Z")) else t for t in (since, until)]
    return f"from {words[0]} to {words[1]}"


def _training_section(training: TrainingRecord) -> Section:
    facts = (
        ("outcome", f"{training.status}: {training.reason}" if training.reason else training.status),
        ("model", f"{training.model}, {version(training.version)}"),
        ("champion before", version(training.champion_version)),
        ("data", f"{training.data_name}, {_span(training.data_from, training.data_until)}"),
        ("rows", f"{count(training.rows)}, of which {percent(training.positive_ratio)} said yes"),
        ("boosting rounds", count(training.rounds)),
        ("clock", training.clock),
    )
    seconds = tuple((step, number(s)) for step, s in training.seconds_per_step.items())
    blocks: list[Block] = [Table("What was trained", ("What", "Value"), facts)]
    if seconds:
        blocks.append(Table("How long each step took", ("Step", "Seconds"), seconds, ("Seconds",)))
    if training.importance:
        best = max(training.importance, key=lambda name: training.importance[name])
        draw = drawing("importance", training.importance, f"What the model looks at · {training.data_name}")
        words = f"Share of the total gain per feature; the largest is {best} with {percent(training.importance[best])}."
        blocks.append(Plot(draw, words))
    return Section("Training", tuple(blocks))


def _limits_section(training: TrainingRecord) -> Section:
    rows = tuple(training.envelope.items())
    if not rows:
        return Section("Limits of the training process", (Note("No limits were recorded for this run."),))
    table = Table("As the training process itself read them back", ("Limit", "In force"), rows)
    return Section("Limits of the training process", (table,))


def _gate_section(evaluation: EvaluationRecord) -> Section:
    tones: dict[str, Tone] = {"passes": "good", "fails": "bad", "undecided": "open"}
    rows = tuple(
        (
            METRICS.get(m.metric, m.metric),
            m.role,
            number(m.champion, 4),
            number(m.challenger, 4),
            f"{signed(m.difference)} ({spread(signed(m.low), signed(m.high))})",
            number(m.margin),
            m.verdict,
        )
        for m in evaluation.metrics
    )
    columns = ("Metric", "Role", "Champion", "Challenger", "Difference (interval)", "Margin", "Gate")
    roles = dict.fromkeys(m.role for m in evaluation.metrics)
    return Section(
        "Evaluation",
        (
            Text(
                f"Champion {version(evaluation.champion_version)} against challenger "
                f"{version(evaluation.challenger_version)} on {plural(evaluation.rows, 'distinct labelled row')} "
                f"({count(evaluation.positives)} said yes), {_span(evaluation.data_from, evaluation.data_until)}. "
                f"Verdict: {evaluation.verdict}."
            ),
            *_other_reasons(evaluation),
            Table(
                f"Challenger minus champion, turned so that larger is worse (AUC is shown as 1 − AUC); intervals at "
                f"{percent(evaluation.confidence)} confidence.",
                columns, rows, columns[2:6], tuple(tones[m.verdict] for m in evaluation.metrics),
            ),
            Bullets(tuple(ROLES[role] for role in roles)),
        ),
    )  # fmt: skip


def _other_reasons(evaluation: EvaluationRecord) -> list[Block]:
    """Return the reasons that are not a row of the table below them."""
    told = {m.reason for m in evaluation.metrics}
    others = tuple(reason for reason in evaluation.reasons if reason not in told)
    return [Bullets(others)] if others else []


def _curves_section(evaluation: EvaluationRecord) -> Section:
    source = f"{count(evaluation.rows)} rows"
    calibration = drawing("calibration", evaluation.calibration_champion, evaluation.calibration_challenger, source)
    scores = drawing("scores", evaluation.score_edges, evaluation.score_champion, evaluation.score_challenger, source)
    return Section(
        "Calibration and scores",
        (
            Plot(calibration, "On the dashed line a prediction of 20 % comes true for 20 of 100 rows."),
            Plot(scores, "How many rows each model gives which probability."),
        ),
    )


def _groups_section(evaluation: EvaluationRecord) -> Section:
    blocks: list[Block] = []
    if evaluation.groups:
        rows = tuple(
            (
                g.group,
                count(g.rows),
                number(g.champion, 4),
                number(g.challenger, 4),
                f"{signed(g.difference)} ({spread(signed(g.low), signed(g.high))})",
            )
            for g in evaluation.groups
        )
        columns = ("Group", "Rows", "Champion", "Challenger", "Difference (interval)")
        blocks.append(Table("Log loss per group; a positive difference is worse", columns, rows, columns[1:]))
    else:
        blocks.append(Text("No group is large enough to be shown."))
    if evaluation.hidden_groups:
        hidden = plural(evaluation.hidden_groups, "group is", "groups are")
        blocks.append(Text(f"{hidden} smaller than the plan's minimum and not shown."))
    return Section("Groups", tuple(blocks))


def _again(files: CycleFiles) -> Again:
    training = files.training.record
    facts: list[tuple[str, str]] = []
    if training is not None:
        facts = [
            ("data digest", short(training.data_digest)),
            ("model digest", short(training.model_digest)),
            ("MLflow run", training.run_id or UNKNOWN),
            ("clock", training.clock),
        ]
    if files.plan.record is not None:
        facts.append(("plan digest", short(files.plan.record.plan_digest)))
    return Again(("lull demo --home DIR   # a fresh directory begins with the first month",), tuple(facts))
