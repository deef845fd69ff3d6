"""
What-if: the same nights under plans that differ in a few fields; start at `sweep`.

Seeds are the same for every plan, so two rows differ by their plans and not by their luck.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simulation.control_plane.traffic import Load, Trace
from simulation.errors import InvalidPlan, InvalidScenario
from simulation.experiment import simulate
from simulation.plan import Plan
from simulation.plan_file import window_rule
from simulation.planning.variation import Variation, changed, combinations
from simulation.result import Experiment, Trial
from simulation.rules import RulesOf, StepRule, no_rules, promote_after_enough
from simulation.scenario import Scenario
from simulation.traffic.forecast import Forecast
from simulation.verdict import Verdict, judge

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Tried:
    """One plan of a sweep: what was changed, when its window opened, and its verdict; or why it cannot be a plan."""

    changes: dict[str, Any]
    plan: Plan | None
    opens_at: dt.datetime | None
    experiment: Experiment | None
    verdict: Verdict | None
    refusal: str | None

    @property
    def label(self) -> str:
        """The changes in one line."""
        return ", ".join(f"{name}={value}" for name, value in self.changes.items()) or "as it is"


@dataclass(frozen=True)
class Sweep:
    """All plans that were tried, in the order of the variations."""

    variations: tuple[Variation, ...]
    tried: tuple[Tried, ...]

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per plan and scenario; a plan that was refused has one row that says why."""
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for one in self.tried:
            if one.verdict is None:
                rows.append({**one.changes, "answer": "refused", "reason": one.refusal})
                continue
            for found in one.verdict.scenarios:
                rows.append(
                    {
                        **one.changes,
                        "scenario": found.scenario,
                        "answer": found.answer.value,
                        "nights": found.n_trials,
                        **_columns("p_slo_missed", found.breach),
                        **_columns("p_done_in_time", found.finish),
                        **_columns("p99_ms", found.p99_ms),
                        **_columns("bad_requests", found.expected_bad_requests),
                        **_columns("cost", found.cost),
                        "reason": " ".join(found.reasons),
                    }
                )
        return pd.DataFrame(rows)


def sweep(
    plan: Plan,
    variations: Sequence[Variation],
    scenarios: Sequence[Scenario],
    *,
    load: Forecast | Trace | Load,
    after: dt.datetime,
    rules_of: RulesOf = no_rules,
    step_rule: StepRule = promote_after_enough,
    replications: int | None = None,
    first_seed: int = 1,
    threads: int = 2,
    on_trial: Callable[[Trial], None] | None = None,
) -> Sweep:
    """
    Play the next night of every combination of the variations.

    Parameters
    ----------
    load : covers the nights that are tried, requests per second
    after : UTC; each plan is played at its first opening after it
    rules_of : returns the triggers of a plan as rules, for triggers may be varied too
    on_trial : called as trials end, for progress bars

    Returns
    -------
    Sweep
        Answers count the given scenarios only. A combination that is no valid plan, or whose night is not covered, is
        kept with the reason.

    Raises
    ------
    InvalidPlan
        If a variation names a field that plans do not have, or every combination is refused.
    """
    tried = []
    for changes in combinations(variations):
        try:
            variant = changed(plan, changes)
            opens_at = window_rule(variant).next_opening(after)
            experiment = simulate(
                variant, scenarios, load=load, opens_at=opens_at, rules=rules_of(variant), step_rule=step_rule,
                replications=replications, first_seed=first_seed, threads=threads, on_trial=on_trial,
            )  # fmt: skip
        except (InvalidPlan, InvalidScenario) as problem:
            if str(problem).startswith("--vary"):  # no plan has such a field
                raise
            tried.append(Tried(changes, None, None, None, None, str(problem)))
            continue
        tried.append(Tried(changes, variant, opens_at, experiment, judge(variant, experiment, is_partial=True), None))
    if tried and all(one.refusal is not None for one in tried):
        raise InvalidPlan(f"--vary: none of {len(tried)} plans can be played; the first: {tried[0].refusal}")
    return Sweep(tuple(variations), tuple(tried))


def _columns(name: str, estimate: Any) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
