"""
Secondary plans put to the test: each is played under the failure that it was declared for; start at `play_secondaries`.

A plan that names a failure and does not withstand it promises more than it keeps: it does not hold.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from simulation.control_plane.traffic import Load, Trace
from simulation.experiment import simulate
from simulation.plan import Plan
from simulation.plan_file import window_rule
from simulation.plan_secondary import Secondary
from simulation.result import Experiment, Trial
from simulation.rules import RulesOf, StepRule, no_rules, promote_after_enough
from simulation.scenario import Scenario
from simulation.traffic.forecast import Forecast
from simulation.verdict import Answer, ScenarioVerdict, Verdict, judge


@dataclass(frozen=True)
class SecondaryNights:
    """A secondary plan, the nights that it was played, and its verdict; without a scenario there are none."""

    secondary: Secondary
    experiment: Experiment | None
    verdict: Verdict | None


def play_secondaries(
    plan: Plan,
    read: Callable[[str], Scenario],
    *,
    load: Forecast | Trace | Load,
    opens_at: dt.datetime,
    rules_of: RulesOf = no_rules,
    step_rule: StepRule = promote_after_enough,
    replications: int | None = None,
    first_seed: int = 1,
    threads: int = 2,
    dask: Any = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> tuple[SecondaryNights, ...]:
    """
    Play the night of each secondary plan under the scenario that it names, with the seeds of the main plan.

    Parameters
    ----------
    read : returns the scenario of a name
    opens_at : UTC, the main plan's night; a secondary plan with another window is played at its opening nearest to it

    Raises
    ------
    InvalidScenario
        If a scenario cannot be read, does not fit, or the load does not cover the night.
    """
    return tuple(
        _play(
            secondary, plan.under(secondary.name), read, load=load,
            opens_at=_opening(plan, plan.under(secondary.name), opens_at), step_rule=step_rule,
            rules=rules_of(plan.under(secondary.name)), replications=replications, first_seed=first_seed,
            threads=threads, dask=dask, on_trial=on_trial,
        )
        for secondary in plan.secondary
    )  # fmt: skip


def _opening(plan: Plan, under: Plan, opens_at: dt.datetime) -> dt.datetime:
    """Return when a secondary plan's window opens on the main plan's night."""
    rule = window_rule(under)
    if rule == window_rule(plan):
        return opens_at
    return min(
        (rule.next_opening(opens_at - dt.timedelta(hours=hours)) for hours in (24, 12, 0)),
        key=lambda found: abs(found - opens_at),
    )


def _play(secondary: Secondary, plan: Plan, read: Callable[[str], Scenario], **how: Any) -> SecondaryNights:
    if secondary.scenario is None:
        return SecondaryNights(secondary, None, None)
    scenario = read(secondary.scenario)
    experiment = simulate(plan, [scenario], **how)
    # It answers for its own failure; the plan's other scenarios are the main plan's matter.
    alone = plan.acceptance.model_copy(update={"scenarios": (scenario.name,)})
    return SecondaryNights(secondary, experiment, judge(plan.model_copy(update={"acceptance": alone}), experiment))


def with_secondaries(verdict: Verdict, played: Sequence[SecondaryNights]) -> Verdict:
    """Return the verdict of the plan with its secondary plans: the worst of all, each named in its reasons."""
    answers, reasons, scenarios = [verdict.answer], list(verdict.reasons), list(verdict.scenarios)
    for nights in played:
        answer, said, found = _told(nights, verdict.reasons)
        answers.append(answer)
        scenarios += found
        if answer is not Answer.HOLDS:
            reasons += said
    worst = next(a for a in (Answer.FAILS, Answer.UNDECIDED, Answer.HOLDS) if a in answers)
    if worst is not verdict.answer and verdict.answer is Answer.HOLDS:
        reasons = reasons[len(verdict.reasons) :]  # they say that all is well, which it is not
    elif worst is Answer.HOLDS and played:
        names = ", ".join(nights.secondary.name for nights in played)
        reasons.append(f"So do its secondary plans under what they were declared for: {names}.")
    return replace(verdict, answer=worst, reasons=tuple(reasons), scenarios=tuple(scenarios))


def _told(nights: SecondaryNights, known: Sequence[str]) -> tuple[Answer, list[str], list[ScenarioVerdict]]:
    """Return answer, reasons and scenario verdicts of one secondary plan, under its own name."""
    name = f"secondary plan {nights.secondary.name}"
    if nights.verdict is None:
        told = f"{name} names no scenario, so nothing shows that it withstands what it is for; add one."
        return Answer.UNDECIDED, [told], []
    found = [replace(v, scenario=f"{nights.secondary.name}: {v.scenario}") for v in nights.verdict.scenarios]
    return (
        nights.verdict.answer,
        [f"{name}: {reason}" for reason in nights.verdict.reasons if reason not in known],
        found,
    )
