"""Experiments that add nights until every scenario's measure is known well enough. Start at `simulate_until`."""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulation.control_plane.traffic import Load, Trace
from simulation.errors import InvalidSample
from simulation.experiment import checked_scenarios, play, provenance
from simulation.plan import Plan
from simulation.result import Experiment, Trial
from simulation.rules import Rules, StepRule, never_intervene, promote_after_enough
from simulation.scenario import Scenario
from simulation.statistics import FloatArray, mean_interval, share_interval
from simulation.stopping import LEAST_N, Interval, Stopped, run_until
from simulation.traffic.forecast import Forecast
from simulation.trial_jobs import Setting, TrialJob


@dataclass(frozen=True)
class Measure:
    """A number per night, and how nights become an interval."""

    of: Callable[[Trial], float]
    interval: Interval


MEASURES: dict[str, Measure] = {
    "p_breach": Measure(lambda trial: float(trial.is_breach), share_interval),
    "p_finish": Measure(lambda trial: float(trial.has_finished), share_interval),
    "p99_ms": Measure(lambda trial: trial.p99_ms, mean_interval),
    "bad_ratio": Measure(lambda trial: 1.0 - trial.good_ratio, mean_interval),
}


@dataclass(frozen=True)
class ExperimentUntil:
    """
    An experiment whose numbers of nights follow from what they showed.

    Attributes
    ----------
    experiment : its trials ordered by scenario and seed; `provenance["replications"]` counts per scenario
    measure : one of `MEASURES`
    stopped : per scenario, its interval and whether the width or the cap was reached
    """

    experiment: Experiment
    measure: str
    stopped: dict[str, Stopped]

    @property
    def has_reached(self) -> bool:
        """Whether every scenario reached the wanted width before the cap."""
        return all(stopped.has_reached for stopped in self.stopped.values())


def simulate_until(
    plan: Plan,
    scenarios: Sequence[Scenario],
    *,
    load: Forecast | Trace | Load,
    opens_at: dt.datetime,
    half_width: float,
    cap: int,
    measure: str = "p_breach",
    is_relative: bool = False,
    confidence: float | None = None,
    least_n: int = LEAST_N,
    rules: Rules = never_intervene,
    step_rule: StepRule = promote_after_enough,
    first_seed: int = 1,
    threads: int = 2,
    dask: Any = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> ExperimentUntil:
    """
    Add nights, scenario by scenario, until the interval of a measure is as narrow as wanted or `cap` nights are there.

    Parameters
    ----------
    half_width : > 0, in the unit of the measure, or with `is_relative` as a share of the estimate
    cap : >= 2, the most nights per scenario
    measure : "p_breach" and "p_finish" (exact intervals of a chance), "p99_ms" (mean of the nights' p99, ms) or
        "bad_ratio" (mean of the nights' share of bad requests)
    confidence : of the two-sided interval; default: the plan's
    least_n : nights before the first look; with fewer than 50, skewed nights are covered less often than said
    others : as for `simulate`

    Raises
    ------
    InvalidSample
        If the measure is not known, or a setting is outside of what is said above.
    InvalidScenario, DaskUnavailable
        As for `simulate`.

    Notes
    -----
    A scenario that has reached the width plays no further nights. Seeds run on from `first_seed` in each, so the
    trials are the first ones of `simulate` with more replications. How the loop keeps its coverage: `stopping.py`.
    """
    if measure not in MEASURES:
        raise InvalidSample(f"measure: {measure!r} is not known; use one of {', '.join(MEASURES)}")
    checked_scenarios(plan, scenarios)
    chosen, setting = MEASURES[measure], Setting(plan, load, opens_at, rules, step_rule)
    trials: dict[str, list[Trial]] = {scenario.name: [] for scenario in scenarios}
    stopped: dict[str, Stopped] = {}
    for scenario in scenarios:
        known = trials[scenario.name]

        def run(n: int, scenario: Scenario = scenario, known: list[Trial] = known) -> FloatArray:
            first = first_seed + len(known)
            for trial in play(setting, [TrialJob(scenario, first + i) for i in range(n)], threads, dask):
                known.append(trial)
                if on_trial is not None:
                    on_trial(trial)
            return np.array([chosen.of(trial) for trial in known[-n:]])

        stopped[scenario.name] = run_until(
            run,
            half_width=half_width,
            cap=cap,
            is_relative=is_relative,
            confidence=plan.acceptance.confidence if confidence is None else confidence,
            least_n=least_n,
            interval=chosen.interval,
        )
    counts = {name: len(known) for name, known in trials.items()}
    all_trials = tuple(trial for known in trials.values() for trial in known)
    return ExperimentUntil(Experiment(all_trials, provenance(plan, opens_at, first_seed, counts)), measure, stopped)
