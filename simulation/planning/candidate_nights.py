"""
Playing candidates one by one: the same seeds for all, no night more than is needed; start at `Search`.

Dropping early costs no confidence: a candidate goes when its bad nights already exceed what all its nights may spare.
"""

import datetime as dt
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simulation.experiment import simulate
from simulation.plan import Plan
from simulation.planning.candidates import CONCURRENT, Candidate
from simulation.planning.objective import Objective
from simulation.planning.recommendation import Judged
from simulation.planning.refusal import what_failed
from simulation.result import Experiment, Trial
from simulation.rules import RulesOf, StepRule
from simulation.scenario import Scenario
from simulation.statistics import mean_interval, probability_interval
from simulation.traffic.forecast import Forecast
from simulation.verdict import Answer, judge

_PILOT = 5  # nights per scenario in which a remedy is tried
_LOOKS = (5, 15)  # nights per scenario after which a candidate that can hold no more is dropped


@dataclass
class Search:
    """Plays candidates one by one and keeps what became of them."""

    plan: Plan
    load: Forecast
    scenarios: Sequence[Scenario]
    aim: Objective
    confidence: float
    n: int
    rules_of: RulesOf
    step_rule: StepRule
    threads: int
    first_seed: int
    on_trial: Callable[[Trial], None] | None
    judged: list[Judged] = field(default_factory=list)
    n_dominated: int = 0

    def __post_init__(self) -> None:
        self._order = list(self.scenarios)

    @property
    def holding(self) -> list[Judged]:
        """Those that hold, in the order in which they were played."""
        return [one for one in self.judged if one.verdict.answer is Answer.HOLDS]

    def play(self, chosen: Sequence[Candidate], keep: int) -> None:
        """Judge candidates in order until `keep` hold."""
        for candidate in chosen:
            if len(self.holding) == keep:
                return
            if any(_dominates(failed, candidate, self.plan) for failed in self.judged):
                self.n_dominated += 1
            else:
                self.judged.append(self._judge(candidate))

    def answers_when_changed(self, candidate: Candidate, variant: Plan, names: set[str]) -> bool:
        """Say whether a changed plan keeps its promises in every pilot night of the named scenarios."""
        scenarios = [scenario for scenario in self.scenarios if scenario.name in names]
        trials = self._nights(variant, candidate.opens_at, scenarios, 0, min(_PILOT, self.n)).trials
        return all(trial.has_finished and not trial.is_breach for trial in trials)

    def _judge(self, candidate: Candidate) -> Judged:
        """Play a candidate's nights, the scenario that ruled out the last one first, until it can hold no more."""
        played = self._as_judged(candidate.plan)
        trials: dict[str, list[Trial]] = {scenario.name: [] for scenario in self.scenarios}
        provenance: dict[str, Any] = {}
        begun = 0
        for last in sorted({min(self.n, look) for look in (*_LOOKS, self.n)}):
            for scenario in self._order:
                part = self._nights(candidate.plan, candidate.opens_at, [scenario], begun, last - begun)
                trials[scenario.name] += part.trials
                provenance = {**part.provenance, "first_seed": self.first_seed, "replications": last}
                if self._is_lost(trials[scenario.name]):
                    self._order = [scenario, *(other for other in self._order if other is not scenario)]
                    return self._judged(candidate, played, trials, provenance)
            begun = last
        return self._judged(candidate, played, trials, provenance)

    def _judged(
        self, candidate: Candidate, played: Plan, trials: dict[str, list[Trial]], provenance: dict[str, Any]
    ) -> Judged:
        experiment = Experiment(tuple(trial for nights in trials.values() for trial in nights), provenance)
        n = min(map(len, trials.values()))
        rows = [
            [self.aim.value(played, candidate.opens_at, trial) for trial in nights[:n]] for nights in trials.values()
        ]
        values = np.asarray(np.mean(rows, axis=0), dtype=np.float64)
        verdict = judge(played, experiment)
        return Judged(candidate, experiment, verdict, values, mean_interval(values, self.plan.acceptance.confidence))

    def _is_lost(self, nights: Sequence[Trial]) -> bool:
        """Say whether a scenario has so many bad nights that good ones alone would not show any more that it holds."""
        limits = self.plan.acceptance
        spared_slo = nights_spared(self.n, self.confidence, 1 - limits.max_breach_probability)
        spared_window = nights_spared(self.n, self.confidence, limits.min_finish_probability)
        slo, window = sum(t.is_breach for t in nights), sum(not t.has_finished for t in nights)
        return slo > spared_slo or window > spared_window

    def _as_judged(self, plan: Plan) -> Plan:
        """Return the plan with the prices that are counted and the confidence that all candidates together ask for."""
        names = tuple(scenario.name for scenario in self.scenarios)
        acceptance = plan.acceptance.model_copy(update={"confidence": self.confidence, "scenarios": names})
        return plan.model_copy(update={"acceptance": acceptance, "costs": self.aim.costs(plan)})

    def _nights(
        self, plan: Plan, opens_at: dt.datetime, scenarios: Sequence[Scenario], first: int, n: int
    ) -> Experiment:
        return simulate(
            self._as_judged(plan), scenarios, load=self.load, opens_at=opens_at, rules=self.rules_of(plan),
            step_rule=self.step_rule, replications=n, first_seed=self.first_seed + first, threads=self.threads,
            on_trial=self.on_trial,
        )  # fmt: skip


@functools.cache
def nights_spared(n: int, confidence: float, good_ratio: float) -> int:
    """Return how many of n nights may be bad and still show that the good ones are that share; -1 if none may."""
    bad = 0
    while bad <= n and probability_interval(n - bad, n, confidence).low >= good_ratio:
        bad += 1
    return bad - 1


def _dominates(failed: Judged, candidate: Candidate, plan: Plan) -> bool:
    """
    Say whether a candidate is worse in every way than one that did not hold.

    What kept that from it must be as bad here: for the SLO no more replicas, no quieter, no fewer CPUs or jobs at a
    time; for the window no longer, no more CPUs or jobs, and no more room in the pool that would spare it pauses.
    """
    if failed.verdict.answer is Answer.HOLDS:
        return False
    a, b = failed.candidate.plan, candidate.plan
    if b.serving.replicas > a.serving.replicas or candidate.utilisation < failed.candidate.utilisation:
        return False
    cpus = b.training.envelope.cpus - a.training.envelope.cpus
    jobs = (b.training.max_concurrent - a.training.max_concurrent) if CONCURRENT in candidate.changes else 0
    slo, window = what_failed(failed, plan)
    longer = b.window.duration_min > a.window.duration_min
    return bool((slo and cpus >= 0 and jobs >= 0) or (window and not longer and cpus <= 0 and jobs <= 0))
