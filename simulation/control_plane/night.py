"""
One night under SimPy: traffic, the training jobs, faults, the controller, the autoscaler, a rollout at the end.

Start at `simulate_trial`. SimPy decides what changes and when; between two changes the data plane plays every request.
What comes first at one instant is written in `simulation.control_plane.world`.
"""

import datetime as dt
import math

import numpy as np
from numpy.typing import NDArray

from simulation.control_plane.autoscaler import autoscale
from simulation.control_plane.controller import control
from simulation.control_plane.faults import start_faults
from simulation.control_plane.rollout import RolloutState, roll_out
from simulation.control_plane.serving import pool_settings
from simulation.control_plane.traffic import Load, Trace, night_arrivals
from simulation.control_plane.training_jobs import TrainingJobs
from simulation.control_plane.world import World
from simulation.data_plane.histogram import LatencyHistogram
from simulation.data_plane.pool import Overloaded
from simulation.data_plane.pool_settings import PoolSettings
from simulation.plan import Plan
from simulation.result import Trial
from simulation.rules import Rules, StepRule, promote_after_enough
from simulation.scenario import PriceSpike, Scenario, Surge
from simulation.traffic.forecast import Forecast

IntArray = NDArray[np.int64]

# Played before the window opens, with the night's own traffic, so that the opening finds the pool in its true state: a
# pool forgets an empty start within minutes, unless it is overloaded, and then the half hour is part of the story.
LEAD_S = 1800.0
TAIL_S = 1800.0  # judged after it closes: a night that leaves a backlog has not ended well


def simulate_trial(
    plan: Plan,
    scenario: Scenario,
    load: Forecast | Trace | Load,
    opens_at: dt.datetime,
    seed: int,
    rules: Rules,
    step_rule: StepRule = promote_after_enough,
) -> Trial:
    """
    Play one night of `plan` under `scenario` with one seed.

    Parameters
    ----------
    load : forecast, trace or days of a history, requests per second of what the pool serves; it must cover the night
    opens_at : UTC, when the window opens
    seed : 0 or more; the same seed gives the same bytes, and the same traffic to every plan
    rules : what the controller decides, see `simulation.rules`
    step_rule : what a step of the rollout decides

    Raises
    ------
    InvalidScenario
        If the scenario names a part that the plan lacks, or the load does not cover the night.
    ConservationError
        If a request was lost or invented: checked at the end of every night.
    """
    scenario.check_against(plan)
    return _Night(plan, scenario, load, opens_at, seed, rules, step_rule).run()


class _Night:
    """The parts of one trial; `run` plays it and returns the `Trial`."""

    def __init__(
        self,
        plan: Plan,
        scenario: Scenario,
        load: Forecast | Trace | Load,
        opens_at: dt.datetime,
        seed: int,
        rules: Rules,
        step_rule: StepRule,
    ):
        self.plan, self.scenario = plan, scenario
        self.window_s = plan.window.duration_min * 60
        self.end_s = LEAD_S + self.window_s + TAIL_S
        surges = [event for event in scenario.events if isinstance(event, Surge)]
        arrivals = night_arrivals(load, opens_at, (-LEAD_S, self.window_s + TAIL_S), seed, surges)
        settings: PoolSettings = pool_settings(plan, scenario)
        self.world = World(settings, seed, arrivals, LEAD_S)
        self.jobs = TrainingJobs(self.world, plan, scenario.events, self.window_s)
        self.rollout = RolloutState()
        self._at_open = LatencyHistogram.empty()
        self.jobs.start()
        start_faults(self.world, plan, scenario, self.jobs)
        if plan.serving.autoscaler is not None:
            self.world.env.process(autoscale(self.world, plan.serving.autoscaler))
        self.world.env.process(roll_out(self.world, plan, scenario, self.jobs.main, step_rule, self.rollout))
        self.world.env.process(control(self.world, self.jobs, rules, LEAD_S + self.window_s))

    def run(self) -> Trial:
        """Play the night to its end."""
        overloaded = False
        try:
            self.world.env.run(until=LEAD_S)
            self.world.play(LEAD_S)
            self._at_open = self.world.pool.result().latency
            self.world.env.run(until=self.end_s)
            self.world.play(self.end_s)
        except Overloaded as problem:
            overloaded = True
            self.world.note(str(problem))
        self.world.pool.check_conservation()
        return self._trial(overloaded)

    def _trial(self, overloaded: bool) -> Trial:
        result = self.world.pool.result()
        minutes, opening = result.minutes, int(LEAD_S // 60)
        n_minutes = int(self.end_s // 60) + 1
        bad, good = minutes.counts("bad"), minutes.counts("good")
        n_bad = int(bad[opening:].sum())
        n = n_bad + int(good[opening:].sum())
        latency = result.latency - self._at_open
        limit = (1 - self.plan.serving.slo.good_ratio) * n
        return Trial(
            scenario=self.scenario.name,
            seed=self.world.seed,
            n_requests=n,
            n_bad=n_bad,
            n_retries=int(minutes.counts("retries")[opening:].sum()),
            is_breach=overloaded or n_bad > limit,
            good_ratio=1 - n_bad / n if n else math.nan,
            p50_ms=1000 * latency.quantile(0.5),
            p95_ms=1000 * latency.quantile(0.95),
            p99_ms=1000 * latency.quantile(0.99),
            p999_ms=1000 * latency.quantile(0.999),
            has_finished=self.jobs.have_finished,
            finish_min=_minute(self.jobs.finished_s),
            paused_min=self.jobs.paused_s / 60,
            promoted_min=_minute(self.rollout.promoted_s),
            rolled_back_min=_minute(self.rollout.rolled_back_s),
            longest_bad_min=self._longest_bad_min(bad[opening:], good[opening:], minutes.counts("queue_max")[opening:]),
            cost=self._cost(),
            max_queue=int(minutes.counts("queue_max").max(initial=0)),
            is_overloaded=overloaded,
            in_flight=result.counters["in_flight"],
            offered_per_min=_padded(minutes.counts("offered"), n_minutes),
            bad_per_min=_padded(bad, n_minutes),
            queue_per_min=_padded(minutes.counts("queue_max"), n_minutes),
            capacity_steps=tuple(self.world.capacity_steps),
            steps=tuple(((a - LEAD_S) / 60, (b - LEAD_S) / 60, name) for a, b, name in self.jobs.steps()),
            events=tuple(self.world.notes),
            fingerprint=self.world.pool.fingerprint(),
            jobs=self.jobs.outcomes(),
        )

    def _longest_bad_min(self, bad: IntArray, good: IntArray, queue: IntArray) -> int:
        """Return the longest run of minutes in which the SLO was missed, or some waited and nobody was answered."""
        ended = bad + good
        misses = (bad > (1 - self.plan.serving.slo.good_ratio) * ended) | ((ended == 0) & (queue > 0))
        longest = run = 0
        for miss in misses.tolist():
            run = run + 1 if miss else 0
            longest = max(longest, run)
        return longest

    def _cost(self) -> float:
        """Return what the window cost: open replicas by the hour, and the CPU hours of training, at their prices."""
        costs, world = self.plan.costs, self.world
        spikes = [event for event in self.scenario.events if isinstance(event, PriceSpike)]
        hours = 0.0
        for begin_min, end_min, replicas in world.replica_spans(self.window_s / 60):
            hours += replicas * (end_min - begin_min) / 60
            for spike in spikes:
                inside = min(end_min, spike.at_min + spike.minutes) - max(begin_min, spike.at_min)
                hours += replicas * max(0.0, inside) / 60 * (spike.factor - 1)
        return hours * costs.replica_hour + self.jobs.cpu_s / 3600 * costs.training_cpu_hour


def _minute(at_s: float) -> float:
    """Return minutes since the opening; the one NaN object for never, so that equal nights compare equal."""
    return math.nan if math.isnan(at_s) else (at_s - LEAD_S) / 60


def _padded(counts: IntArray, n: int) -> tuple[int, ...]:
    """Return one count per minute of the night; what was not played, because the pool was overloaded, is 0."""
    played = counts[:n].astype(int).tolist()
    return tuple(played + [0] * (n - len(played)))
