"""Experiments: every scenario with every seed, in threads, the same bytes whatever their number."""

import datetime as dt
import hashlib
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata, resources
from typing import Any

from simulation.control_plane.night import simulate_trial
from simulation.errors import InvalidScenario
from simulation.plan import Plan
from simulation.result import Experiment, Trial
from simulation.rules import Rules, never_intervene
from simulation.scenario import Scenario
from simulation.traffic.forecast import Forecast


def simulate(
    plan: Plan,
    scenarios: Sequence[Scenario],
    *,
    load: Forecast,
    opens_at: dt.datetime,
    rules: Rules = never_intervene,
    replications: int | None = None,
    first_seed: int = 1,
    threads: int = 2,
    on_trial: Callable[[Trial], None] | None = None,
) -> Experiment:
    """
    Replay one night of `plan` under each scenario, `replications` times (the plan's number by default).

    Parameters
    ----------
    load : forecast of the pool's traffic, requests per second
    opens_at : UTC, the opening that is simulated
    rules : the triggers that run at night, see `simulation.rules`
    on_trial : called in the calling thread's order as trials end, for progress bars

    Returns
    -------
    Experiment
        Trials ordered by scenario and seed; seed i meets the same traffic under every plan.

    Raises
    ------
    InvalidScenario
        If no scenario is given, two share a name, or one does not fit the plan.
    """
    names = [scenario.name for scenario in scenarios]
    if not names or len(set(names)) != len(names):
        raise InvalidScenario(f"scenarios must be at least one and differ in name, got {names or 'none'}")
    for scenario in scenarios:
        scenario.check_against(plan)
    n = plan.acceptance.replications if replications is None else replications
    jobs = [(scenario, first_seed + i) for scenario in scenarios for i in range(n)]
    trials: list[Trial] = []
    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        for trial in pool.map(lambda job: simulate_trial(plan, job[0], load, opens_at, job[1], rules), jobs):
            trials.append(trial)
            if on_trial is not None:
                on_trial(trial)
    return Experiment(tuple(trials), provenance(plan, opens_at, first_seed, n))


def provenance(plan: Plan, opens_at: dt.datetime, first_seed: int, replications: int) -> dict[str, Any]:
    """Return what is needed to make the same experiment again."""
    return {
        "plan_digest": plan.digest(),
        "opens_at": opens_at.isoformat(),
        "first_seed": first_seed,
        "replications": replications,
        "code_digest": code_digest(),
        "versions": {name: metadata.version(name) for name in ("numpy", "numba", "simpy", "scipy")},
        "python": platform.python_version(),
    }


def code_digest() -> str:
    """Return the SHA-256 over the simulator's own source files, by name."""
    root = resources.files("simulation")
    digest = hashlib.sha256()
    pending = [("simulation", root)]
    files = []
    while pending:
        name, folder = pending.pop()
        for entry in folder.iterdir():
            if entry.is_dir() and entry.name != "__pycache__":
                pending.append((f"{name}/{entry.name}", entry))
            elif entry.name.endswith((".py", ".yaml")):
                files.append((f"{name}/{entry.name}", entry))
    for name, entry in sorted(files, key=lambda item: item[0]):
        digest.update(name.encode() + b"\0" + entry.read_bytes())
    return digest.hexdigest()
