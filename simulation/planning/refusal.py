"""Why no candidate is recommended: what binds for how many, the nearest miss, and what would make it fit."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from simulation.errors import InvalidPlan, InvalidScenario
from simulation.plan import Plan
from simulation.planning.candidates import DURATION, MINUTES, REPLICAS, Candidate, NoPlan
from simulation.planning.recommendation import Counts, Judged, Refusal
from simulation.planning.variation import changed
from simulation.verdict import Answer, ScenarioVerdict

_TRIES = 4  # of a remedy, each half as large again
_OTHERWISE = "make the work smaller, or take another window"
_BINDS = {
    "work": "the window is too short for the work",
    "memory": "a stage wants more memory than its envelope has",
    "envelope": "the envelope keeps training from ending in time",
    "utilisation": "the pool is too small at its busiest",
    "latency": "too many answers would be late",
}

Tried = Callable[[Candidate, Plan, set[str]], bool]


def what_failed(judged: Judged, plan: Plan) -> tuple[bool, bool]:
    """Return whether its worst scenario misses the SLO, and whether it is late there: what kept it from holding."""
    _, found, is_slo = worst_of(judged, plan)
    limits = plan.acceptance
    slo = is_slo or found.breach.low > limits.max_breach_probability
    return slo, not is_slo or found.finish.high < limits.min_finish_probability


def is_open(judged: Judged, plan: Plan) -> bool:
    """Say whether more nights could show that one holds: none of its scenarios has more bad nights than allowed."""
    return judged.verdict.answer is Answer.UNDECIDED and worst_of(judged, plan)[0][0] <= 0.0


def nearest_miss(judged: Sequence[Judged], plan: Plan) -> Judged:
    """Return the one that is nearest to holding: those that more nights could settle first, then by their worst."""
    return min(judged, key=lambda one: (not is_open(one, plan), worst_of(one, plan)[0]))


def screened_miss(found: Sequence[Candidate], no_plans: Sequence[NoPlan], counts: Counts) -> Refusal:
    """Return the refusal when arithmetic leaves none a chance."""
    nearest = min(found, key=lambda c: c.screen.binding.excess)
    binding = nearest.screen.binding
    return Refusal(Answer.FAILS, _binds([*found, *no_plans]), nearest, binding.sentence, binding.remedy, counts)


def refuse(nearest: Judged, judged: Sequence[Judged], rest: Sequence[Candidate | NoPlan], counts: Counts,
           try_it: Tried) -> Refusal:  # fmt: skip
    """Return the refusal when some were simulated and none holds; `try_it` plays the pilot nights of a remedy."""
    plan = nearest.candidate.plan
    binds = _binds(rest)
    for one in judged:
        _, scenario, is_slo = worst_of(one, plan)
        how = "not settled" if is_open(one, plan) else "broken"
        binds[f"{_requirement(is_slo)} under {scenario.scenario} ({how})"] += 1
    _, scenario, is_slo = worst_of(nearest, plan)
    reason = next(r for r in scenario.reasons if r.startswith("P(the night misses the SLO)") == is_slo)
    if is_open(nearest, plan):
        remedy = f"play more nights than {scenario.n_trials} per scenario: they may show that it holds"
    else:
        remedy = _remedy(nearest.candidate, is_slo, {scenario.scenario}, try_it)
    told = f"under {scenario.scenario}, {reason[0]}{reason[1:].removesuffix('.')}"
    answer = Answer.UNDECIDED if any(is_open(one, plan) for one in judged) else Answer.FAILS
    return Refusal(answer, binds, nearest.candidate, told, remedy, counts)


def _remedy(candidate: Candidate, is_slo: bool, names: set[str], try_it: Tried) -> str:
    """Return by how much more replicas or minutes the scenario is withstood in the pilot nights, as far as tried."""
    plan = candidate.plan
    value: float = plan.serving.replicas if is_slo else plan.window.duration_min
    for _ in range(_TRIES):
        value = math.ceil(1.5 * value)
        # A longer window helps nobody whose envelope ends before it does.
        ways: list[dict[str, Any]] = (
            [{REPLICAS: value}] if is_slo else [{DURATION: value}, {DURATION: value, MINUTES: value}]
        )
        for changes in ways:
            told = " and ".join(f"{name} of {value:g}" for name in changes)
            try:
                if try_it(candidate, changed(plan, changes), names):
                    return f"{told}, which kept it in every one of the few nights that were tried"
            except (InvalidPlan, InvalidScenario) as problem:
                return f"nothing up to {told}, which is not possible ({problem}): {_OTHERWISE}"
    return f"not even {told}: {_OTHERWISE}"


def worst_of(judged: Judged, plan: Plan) -> tuple[tuple[float, float], ScenarioVerdict, bool]:
    """Return how far the worst scenario is from its limit, as observed and as bounded, which, and if for the SLO."""
    limits = plan.acceptance
    gaps: list[tuple[tuple[float, float], int, bool]] = []
    for i, found in enumerate(judged.verdict.scenarios):
        most, least = limits.max_breach_probability, limits.min_finish_probability
        gaps.append(((found.breach.value - most, found.breach.high - most), i, True))
        gaps.append(((least - found.finish.value, least - found.finish.low), i, False))
    gap, i, is_slo = max(gaps, key=lambda item: (item[0], -item[1], item[2]))
    return gap, judged.verdict.scenarios[i], is_slo


def _requirement(is_slo: bool) -> str:
    return "the promise to users" if is_slo else "training inside the window"


def _binds(rest: Sequence[Candidate | NoPlan]) -> Counter[str]:
    """Return what binds, for those that were not simulated."""
    told: list[Any] = [one.reason if isinstance(one, NoPlan) else _BINDS[one.screen.binding.name] for one in rest]
    return Counter(told)
