"""Which simulated nights a page shows, and what of them; start at `nights_to_show`."""

from reports.records import NightRecord
from simulation.plan import Plan
from simulation.result import Experiment, Trial


def nights_to_show(plan: Plan, experiment: Experiment, scenario: str) -> list[NightRecord]:
    """Return the nights to show: the one with the middling count of bad requests, and the worst if it broke the SLO."""
    trials = sorted(experiment.of(scenario), key=lambda trial: (trial.n_bad, trial.seed))
    middling, worst = trials[len(trials) // 2], trials[-1]
    shown = [("middling", middling)]
    if worst.is_breach and worst is not middling:
        shown.append(("worst", worst))
    return [_night(plan, choice, trial, worst) for choice, trial in shown]


def _night(plan: Plan, choice: str, trial: Trial, worst: Trial) -> NightRecord:
    return NightRecord(
        scenario=trial.scenario,
        seed=trial.seed,
        lead_min=30.0,
        window_min=plan.window.duration_min,
        offered_per_min=list(trial.offered_per_min),
        bad_per_min=list(trial.bad_per_min),
        queue_per_min=list(trial.queue_per_min),
        steps=list(trial.steps),
        events=list(trial.events),
        choice=choice,
        capacity_steps=list(trial.capacity_steps),
        promoted_min=trial.promoted_min,
        rolled_back_min=trial.rolled_back_min,
        worst_seed=worst.seed,
        worst_bad=worst.n_bad,
    )
