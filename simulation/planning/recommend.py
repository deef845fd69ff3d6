"""
The best plan that holds: screened by formulas, simulated on the same nights, chosen with a guarantee.

Start at `recommend`. Everything is deterministic: the same search gives the same answer, byte for byte.
"""

import datetime as dt
import math
from collections.abc import Callable, Sequence

import numpy as np

from simulation.errors import InvalidPlan
from simulation.plan import Plan
from simulation.planning.candidate_nights import Search
from simulation.planning.candidates import Candidate, NoPlan, SearchSpace, candidates
from simulation.planning.objective import Kind, Objective
from simulation.planning.recommendation import Counts, Judged, Recommendation, Refusal
from simulation.planning.refusal import is_open, nearest_miss, refuse, screened_miss
from simulation.result import Trial
from simulation.rules import RulesOf, StepRule, no_rules, promote_after_enough
from simulation.scenario import Scenario
from simulation.selection import select_best
from simulation.statistics import Estimate, mean_interval
from simulation.traffic.calendar import Calendar
from simulation.traffic.forecast import Forecast
from simulation.verdict import Answer

_FIRST_N = 20  # nights from which the choice learns how much two candidates differ
_LEAST_FIRST_N = 3
_MORE = 2  # times the fewest nights: those show a limit only if not one of them is bad
_INDIFFERENCE_RATIO, _INDIFFERENCE_H = 0.01, 0.25


def recommend(
    plan: Plan,
    load: Forecast,
    *,
    after: dt.datetime,
    search: SearchSpace,
    scenarios: Sequence[Scenario],
    objective: Kind = "cost",
    calendar: Calendar | None = None,
    rules_of: RulesOf = no_rules,
    step_rule: StepRule = promote_after_enough,
    replications: int | None = None,
    keep: int = 3,
    threads: int = 2,
    first_seed: int = 1,
    on_trial: Callable[[Trial], None] | None = None,
) -> Recommendation | Refusal:
    """
    Return the plan of least cost or least staleness that holds in its next night, or why there is none.

    Parameters
    ----------
    load : requests per second, with the levels 0.5 and 0.95; half an hour of it lies before every night
    after : UTC; nights open after it, and staleness counts from it
    search : what may be chosen; see `SearchSpace`
    calendar : denials that no night may touch; without one there are none
    rules_of, step_rule : the triggers of a plan as rules, and the rule for steps of the rollout
    replications : nights per scenario; without a number the plan's, or as many as the confidence asks for
    keep : stop when so many hold; those after them are expected to be worse, 1 or more
    on_trial : called as trials end, for progress bars

    Raises
    ------
    InvalidPlan
        If `search` names no plan at all, or more than can be looked at.

    Notes
    -----
    Candidates that the screen leaves are simulated in the order that their medians promise. Picking one of m that hold
    would find a lucky one, so each is judged at 1 − α / m (Bonferroni), m counted before anything is simulated: P(any
    that is said to hold in a scenario does not) is α at most. A candidate is dropped once its bad nights are so many
    that it can hold no more, which costs no confidence, and takes with it those over which it has every
    advantage. Those that hold are compared by `select_best` on the same seeds.
    """
    if keep < 1:
        raise InvalidPlan(f"keep: {keep} leaves nothing to recommend; use 1 or more")
    aim = Objective.of(plan, objective, after)
    found, no_plans = candidates(plan, load, search, scenarios, aim, calendar)
    if not found:
        first = no_plans[0].reason if no_plans else "the search is empty"
        raise InvalidPlan(f"recommend: none of {len(no_plans)} combinations is a plan that can be played; {first}")
    chosen, left_out = _screened(found)
    confidence = 1 - (1 - plan.acceptance.confidence) / max(1, len(chosen))
    needed = _nights_needed(plan, confidence)
    n = replications or max(plan.acceptance.replications, math.ceil(_MORE * needed) if math.isfinite(needed) else 0)
    run = Search(plan, load, scenarios, aim, confidence, n, rules_of, step_rule, threads, first_seed, on_trial)
    obstacle = _obstacle(plan, chosen, n, needed, confidence)
    if obstacle is None:
        run.play(chosen, keep)
    counts = _counts(found, no_plans, chosen, run)
    if run.holding:
        return _choose(run, counts)
    if not chosen:
        return screened_miss(found, no_plans, counts)
    if obstacle is not None:
        return Refusal(Answer.UNDECIDED, {obstacle[0]: len(chosen)}, chosen[0], obstacle[1], obstacle[2], counts)
    return refuse(nearest_miss(run.judged, plan), run.judged, [*left_out, *no_plans], counts, run.answers_when_changed)


def _screened(found: list[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
    """Return whom to simulate and whom not: those that fit by formula, or if none does, those that might."""
    possible = [c for c in found if not c.screen.is_ruled_out]
    fitting = [c for c in possible if c.screen.fits]
    chosen = fitting or possible
    return chosen, [c for c in found if c not in chosen]


def _nights_needed(plan: Plan, confidence: float) -> float:
    """Return how many nights, none of them bad, just show both limits of the plan at a confidence."""
    limits = plan.acceptance
    alpha, needed = 1 - confidence, 1.0
    for ratio in (1 - limits.max_breach_probability, limits.min_finish_probability):
        if ratio >= 1.0:
            return math.inf
        needed = max(needed, math.ceil(math.log(alpha) / math.log(ratio)) if ratio > 0 else 1.0)
    return needed


def _obstacle(
    plan: Plan, chosen: list[Candidate], n: int, needed: float, confidence: float
) -> tuple[str, str, str] | None:
    """Return why simulating could show nothing (what binds, reason, remedy), or None."""
    if not chosen:
        return None
    if not plan.serving.service_time.calibrated and not plan.acceptance.allow_uncalibrated:
        return (
            "the service model is not calibrated",
            "the service model was never calibrated on the real pool, so no plan can be said to hold",
            "calibrate it, or set acceptance.allow_uncalibrated",
        )
    if n < needed:
        told = f"{needed:.0f} nights" if math.isfinite(needed) else "no number of nights"
        remedy = f"play {needed:.0f} nights per scenario, or search fewer" if math.isfinite(needed) else (
            "ask for less than certainty: max_breach_probability over 0, min_finish_probability under 1"
        )  # fmt: skip
        return (
            "too few nights",
            f"with {len(chosen)} candidates each is judged at {confidence:.2%}, which {told}, none of them bad, would "
            f"show, and {n} are played",
            remedy,
        )
    return None


def _counts(found: list[Candidate], no_plans: list[NoPlan], chosen: list[Candidate], run: Search) -> Counts:
    n_open = sum(is_open(one, run.plan) for one in run.judged)
    ruled_out = sum(c.screen.is_ruled_out for c in found)
    return Counts(
        combinations=len(found) + len(no_plans),
        no_plan=len(no_plans),
        ruled_out=ruled_out,
        by_formula=len(found) - ruled_out - len(chosen),
        dominated=run.n_dominated,
        holding=len(run.holding),
        failing=len(run.judged) - len(run.holding) - n_open,
        undecided=n_open,
        not_reached=len(chosen) - run.n_dominated - len(run.judged),
    )


def _choose(run: Search, counts: Counts) -> Recommendation:
    """Return the best of those that hold, by their values on the same seeds."""
    held, confidence = run.holding, run.plan.acceptance.confidence
    lowest = min(float(one.values.mean()) for one in held)
    delta = _INDIFFERENCE_H if run.aim.kind == "staleness" else max(1e-9, _INDIFFERENCE_RATIO * lowest)
    order, lead, sure = list(range(len(held))), None, float("nan")
    if len(held) > 1 and run.n >= _LEAST_FIRST_N:
        rows = np.array([one.values for one in held])
        selection = select_best(
            lambda systems, first, last: rows[list(systems), first:last], len(held), indifference=delta,
            cap=run.n, confidence=confidence, first_n=min(_FIRST_N, run.n),
        )  # fmt: skip
        order = [selection.best, selection.runner_up]
        order += [i for i in range(len(held)) if i not in order]
        # The interval stands over all nights that were played, not only over those that the choice needed.
        lead, sure = _lead(held[order[1]], held[order[0]], confidence), selection.confidence
    elif len(held) > 1:
        order.sort(key=lambda i: float(held[i].values.mean()))
        lead = _lead(held[order[1]], held[order[0]], confidence)
    best, *others = (held[i] for i in order)
    return Recommendation(
        best=best, runner_up=others[0] if others else None, others=tuple(others[1:]), lead=lead,
        selection_confidence=sure, indifference=delta, objective=run.aim, confidence=confidence,
        confidence_each=run.confidence, replications=run.n, counts=counts,
    )  # fmt: skip


def _lead(worse: Judged, better: Judged, confidence: float) -> Estimate:
    return mean_interval(worse.values - better.values, confidence)
