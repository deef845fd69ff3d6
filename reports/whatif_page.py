"""The page of a what-if: which of the plans that were tried hold, what they cost, and one night of the best."""

import math
from collections.abc import Sequence
from functools import partial

from reports import plots, whatif_plots
from reports.night_records import nights_to_show
from reports.page import Again, Block, Note, Page, Plot, Section, Table, Text
from reports.wording import number, percent
from simulation.plan import Plan
from simulation.planning.sweep import Sweep, Tried
from simulation.result import Experiment
from simulation.verdict import Answer, ScenarioVerdict


def whatif_page(sweep: Sweep, plan: Plan, commands: Sequence[str]) -> Page:
    """Return the page of a sweep over `plan`; `commands` make it again."""
    best = best_of(sweep)
    judged = [one for one in sweep.tried if one.verdict is not None]
    names = ", ".join(variation.name for variation in sweep.variations) or "nothing"
    blocks: list[Block] = [_table(sweep)]
    priced = any(cost_of(one) > 0 for one in judged)
    if priced:
        blocks.append(Plot(partial(whatif_plots.cost_front, _points(judged), plan.costs.currency), _FRONT))
    if 1 <= len(sweep.variations) <= 2:
        blocks.insert(0, _heat_map(sweep))
    sections = [Section("What was tried", tuple(blocks))]
    shown = best or next(iter(judged), None)
    if shown is not None and shown.experiment is not None and shown.plan is not None:
        sections.append(_nights(shown, shown.plan, shown.experiment))
    return Page(
        name="whatif",
        title=f"What-if · plan {plan.name}",
        question=f"What if {names} were different?",
        answer=_answer(sweep, best),
        tone="good" if best else "bad",
        caveats=() if priced else (Note(_UNPRICED),),
        sections=tuple(sections),
        again=Again(tuple(commands), (("plan digest", plan.digest()),)),
    )


_UNPRICED = (
    "The plan sets no prices, so every plan costs 0 and none is cheaper than another: "
    "set costs.replica_hour and costs.training_cpu_hour."
)
_FRONT = "Each mark is one plan: further left is cheaper, further down is faster. Bars are the interval of the p99."


def best_of(sweep: Sweep) -> Tried | None:
    """Return the plan that holds at the least cost, the first of equals; None if none holds."""
    held = [one for one in sweep.tried if one.verdict is not None and one.verdict.answer is Answer.HOLDS]
    return min(held, key=cost_of, default=None)


def cost_of(one: Tried) -> float:
    """Return what the dearest scenario of a plan costs, in the plan's currency; NaN if it was not played."""
    return max((found.cost.value for found in one.verdict.scenarios), default=math.nan) if one.verdict else math.nan


def worst_of(one: Tried) -> ScenarioVerdict:
    """Return the scenario of a plan whose SLO is most likely missed, the slowest of equals."""
    assert one.verdict is not None  # asked of plans that were played
    return max(one.verdict.scenarios, key=lambda v: (v.breach.value, v.p99_ms.value))


def _answer(sweep: Sweep, best: Tried | None) -> str:
    n = len(sweep.tried)
    held = sum(one.verdict is not None and one.verdict.answer is Answer.HOLDS for one in sweep.tried)
    if best is None:
        return f"None of the {n} plans that were tried holds."
    cost = number(cost_of(best))
    return f"{held} of the {n} plans that were tried hold; {best.label} does at the least cost, {cost}."


def _table(sweep: Sweep) -> Table:
    names = tuple(variation.name for variation in sweep.variations)
    rows = []
    for one in sweep.tried:
        changes = tuple(str(one.changes[name]) for name in names)
        if one.verdict is None:
            rows.append((*changes, "refused", "", "", "", "", one.refusal or ""))
            continue
        worst = worst_of(one)
        rows.append(
            (
                *changes,
                one.verdict.answer.value,
                percent(worst.breach.value),
                percent(min(v.finish.value for v in one.verdict.scenarios)),
                number(worst.p99_ms.value),
                number(cost_of(one)),
                "" if one.verdict.answer is Answer.HOLDS else f"{worst.scenario}: {worst.reasons[0]}",
            )
        )
    numeric = ("P(SLO missed)", "P(done in time)", "p99 (ms)", "Cost")
    columns = (*names, "Answer", *numeric, "Why not")
    return Table("Every plan on the same nights; of its scenarios the worst is shown.", columns, tuple(rows), numeric)


def _heat_map(sweep: Sweep) -> Plot:
    *above, last = sweep.variations
    rows = [str(value) for value in above[0].values] if above else [""]
    columns = [str(value) for value in last.values]
    answers = [["refused"] * len(columns) for _ in rows]
    cells = [[""] * len(columns) for _ in rows]
    for k, one in enumerate(sweep.tried):
        i, j = divmod(k, len(columns))
        if one.verdict is not None:
            answers[i][j] = one.verdict.answer.value
            cells[i][j] = f"{max(v.breach.value for v in one.verdict.scenarios):.0%}"
    row_name = above[0].name if above else ""
    draw = partial(whatif_plots.heat_map, rows, columns, answers, cells, row_name=row_name, column_name=last.name)
    return Plot(
        draw, "Each cell is one plan: its answer, and the chance that a night misses the SLO in its worst scenario."
    )


def _points(judged: Sequence[Tried]) -> list[tuple[str, str, float, float, float, float]]:
    points = []
    for one in judged:
        assert one.verdict is not None  # `judged` holds no refusals
        worst = max(one.verdict.scenarios, key=lambda v: v.p99_ms.value)
        cost = max(v.cost.value for v in one.verdict.scenarios)
        points.append(
            (one.label, one.verdict.answer.value, cost, worst.p99_ms.value, worst.p99_ms.low, worst.p99_ms.high)
        )
    return points


def _nights(one: Tried, plan: Plan, experiment: Experiment) -> Section:
    blocks: list[Block] = [Text(f"The middling night of each scenario under {one.label}.")]
    for scenario in experiment.scenarios():
        record = nights_to_show(plan, experiment, scenario)[0]
        words = f"{scenario}, seed {record.seed}: load, queue, bad requests and training, minute by minute."
        blocks.append(Plot(partial(plots.night, record), words))
    return Section("One night", tuple(blocks))
