"""Experiments: every scenario with every seed, in threads or on Dask, the same bytes wherever they run."""

import datetime as dt
import platform
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from simulation.code_version import code_commit, code_digest, package_versions
from simulation.control_plane.traffic import Load, Trace
from simulation.errors import InvalidScenario
from simulation.plan import Plan
from simulation.result import Experiment, Trial
from simulation.rules import Rules, StepRule, never_intervene, promote_after_enough
from simulation.scenario import Scenario
from simulation.traffic.forecast import Forecast
from simulation.trial_jobs import Setting, TrialJob, play_in_threads

__all__ = ["checked_scenarios", "code_digest", "play", "provenance", "simulate"]


def simulate(
    plan: Plan,
    scenarios: Sequence[Scenario],
    *,
    load: Forecast | Trace | Load,
    opens_at: dt.datetime,
    rules: Rules = never_intervene,
    step_rule: StepRule = promote_after_enough,
    replications: int | None = None,
    first_seed: int = 1,
    threads: int = 2,
    dask: Any = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> Experiment:
    """
    Replay one night of `plan` under each scenario, `replications` times (the plan's number by default).

    Parameters
    ----------
    load : the pool's traffic, requests per second: a forecast, a `Trace` that is replayed, or a `DayLoad`
    opens_at : UTC, the opening that is simulated
    rules, step_rule : the triggers, and the rule for steps of the rollout, that run at night, see `simulation.rules`;
        for Dask something that can be pickled
    threads : of this machine, where `dask` is not given
    dask : address of a Dask scheduler, or a `distributed.Client`: its workers play the trials
    on_trial : called in the calling thread's order as trials end, for progress bars

    Returns
    -------
    Experiment
        Trials ordered by scenario and seed, whatever played them; seed i meets the same traffic under every plan.

    Raises
    ------
    InvalidScenario
        If no scenario is given, two share a name, or one does not fit the plan.
    DaskUnavailable
        If the cluster cannot play the trials; see `simulation.dask_jobs`.
    """
    checked_scenarios(plan, scenarios)
    n = plan.acceptance.replications if replications is None else replications
    jobs = [TrialJob(scenario, first_seed + i) for scenario in scenarios for i in range(n)]
    trials: list[Trial] = []
    for trial in play(Setting(plan, load, opens_at, rules, step_rule), jobs, threads, dask):
        trials.append(trial)
        if on_trial is not None:
            on_trial(trial)
    return Experiment(tuple(trials), provenance(plan, opens_at, first_seed, n))


def play(setting: Setting, jobs: Sequence[TrialJob], threads: int, dask: Any) -> Iterator[Trial]:
    """Yield the trials in the order of the jobs, from threads or, if `dask` is given, from its workers."""
    if dask is None:
        return play_in_threads(setting, jobs, threads)
    from simulation.dask_jobs import play_on_dask  # only who asks for a cluster pays for it

    return play_on_dask(setting, jobs, dask)


def checked_scenarios(plan: Plan, scenarios: Sequence[Scenario]) -> None:
    """Raise `InvalidScenario` unless there are scenarios, their names differ, and all fit the plan."""
    names = [scenario.name for scenario in scenarios]
    if not names or len(set(names)) != len(names):
        raise InvalidScenario(f"scenarios must be at least one and differ in name, got {names or 'none'}")
    for scenario in scenarios:
        scenario.check_against(plan)


def provenance(
    plan: Plan, opens_at: dt.datetime, first_seed: int, replications: int | dict[str, int]
) -> dict[str, Any]:
    """Return what is needed to make the same experiment again; `replications` per scenario where they differ."""
    return {
        "plan_digest": plan.digest(),
        "opens_at": opens_at.isoformat(),
        "first_seed": first_seed,
        "replications": replications,
        "code_digest": code_digest(),
        "code_commit": code_commit() or f"no commit, files {code_digest()}",
        "versions": package_versions(),
        "python": platform.python_version(),
    }
