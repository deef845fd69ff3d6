"""
What a recommendation makes small: the cost of a day, or the hours until a new model is live; start at `Objective`.

A night's own cost ends with its window, and so would call a short window cheap though the pool runs all day. The cost
here is that of 24 hours from the opening: replicas that stay open, those beside them during a rollout, and training.
"""

import datetime as dt
import math
from dataclasses import dataclass
from typing import Literal

from simulation.plan import Costs, Plan
from simulation.plan_file import window_rule
from simulation.result import Trial

Kind = Literal["cost", "staleness"]


@dataclass(frozen=True)
class Objective:
    """
    What is to be small.

    Attributes
    ----------
    kind : "cost": of a day from the opening on; "staleness": hours from `after` until the new model is live
    after : UTC, since when the model grows stale
    has_prices : whether the plan has prices; without any, machine hours are counted
    unit : of the values
    """

    kind: Kind
    after: dt.datetime
    has_prices: bool
    unit: str

    @staticmethod
    def of(plan: Plan, kind: Kind, after: dt.datetime) -> "Objective":
        """Return the objective of that kind for a plan."""
        has_prices = plan.costs.replica_hour > 0 or plan.costs.training_cpu_hour > 0
        money = f"{plan.costs.currency} per day" if has_prices else "machine hours per day"
        return Objective(kind, after, has_prices, "hours" if kind == "staleness" else money)

    def costs(self, plan: Plan) -> Costs:
        """Return the prices to count with."""
        return plan.costs if self.has_prices else Costs(currency="machine hours", replica_hour=1, training_cpu_hour=1)

    def predicted(self, plan: Plan, opens_at: dt.datetime) -> float:
        """Return the value that the plan's medians give, before anything is simulated; it only orders candidates."""
        if self.kind == "staleness":
            work_min = sum(stage.minutes_p50 * plan.training.envelope.stretch(stage) for stage in plan.training.stages)
            return (opens_at - self.after).total_seconds() / 3600 + work_min / 60
        costs, serving = self.costs(plan), plan.serving
        cpu_h = sum(
            stage.minutes_p50 * job.envelope.stretch(stage) * min(stage.cpus, job.envelope.cpus) / 60
            for job in plan.training.all_jobs()
            for stage in job.stages
        )
        replica_h = serving.replicas * 24 + (plan.rollout.green_replicas or serving.replicas) * _warm_h(plan)
        return replica_h * costs.replica_hour + cpu_h * costs.training_cpu_hour

    def value(self, plan: Plan, opens_at: dt.datetime, trial: Trial) -> float:
        """Return the value of one simulated night; `plan` has the prices of `costs`, as the trial had."""
        if self.kind == "staleness":
            return self._staleness_h(plan, opens_at, trial)
        window_h, price = plan.window.duration_min / 60, plan.costs.replica_hour
        still_warm_h = 0.0
        if math.isfinite(trial.promoted_min) and not math.isfinite(trial.rolled_back_min):
            still_warm_h = max(0.0, trial.promoted_min / 60 + _warm_h(plan) - window_h)
        return trial.cost + price * plan.serving.replicas * (24 - window_h + still_warm_h)

    def _staleness_h(self, plan: Plan, opens_at: dt.datetime, trial: Trial) -> float:
        """Return hours until the model is live; a night without one waits for the close of the next window."""
        if math.isfinite(trial.promoted_min) and not math.isfinite(trial.rolled_back_min):
            return (opens_at - self.after).total_seconds() / 3600 + trial.promoted_min / 60
        later = window_rule(plan).next_opening(opens_at)
        return (later - self.after).total_seconds() / 3600 + plan.window.duration_min / 60


def _warm_h(plan: Plan) -> float:
    return plan.rollout.keep_warm_min / 60
