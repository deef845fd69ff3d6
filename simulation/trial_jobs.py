"""A trial as a job: its parameters in, its `Trial` out, in threads of this machine. On a cluster: `dask_jobs.py`."""

import datetime as dt
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from simulation.control_plane.night import simulate_trial
from simulation.control_plane.traffic import Load, Trace
from simulation.plan import Plan
from simulation.result import Trial
from simulation.rules import Rules, StepRule
from simulation.scenario import Scenario
from simulation.traffic.forecast import Forecast


@dataclass(frozen=True)
class TrialJob:
    """What differs from trial to trial."""

    scenario: Scenario
    seed: int


@dataclass(frozen=True)
class Setting:
    """What all trials of an experiment share; it must survive pickling to be sent to a cluster."""

    plan: Plan
    load: Forecast | Trace | Load
    opens_at: dt.datetime
    rules: Rules
    step_rule: StepRule

    def play(self, job: TrialJob) -> Trial:
        """Play one night; the same job gives the same bytes, wherever it runs."""
        return simulate_trial(self.plan, job.scenario, self.load, self.opens_at, job.seed, self.rules, self.step_rule)


def play_in_threads(setting: Setting, jobs: Sequence[TrialJob], threads: int) -> Iterator[Trial]:
    """Yield the trials in the order of the jobs; the kernels release the interpreter lock."""
    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        yield from pool.map(setting.play, jobs)
