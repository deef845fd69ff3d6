"""
Lull's simulator: SimPy decides what changes, compiled kernels compute what happens in between.

Names are loaded when they are first used, so that importing one room does not pay for the others.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulation.data_plane.fcfs import serve_queue
    from simulation.experiment import simulate
    from simulation.experiment_until import simulate_until
    from simulation.plan import Plan
    from simulation.planning.recommend import recommend
    from simulation.planning.sweep import sweep
    from simulation.planning.windows import find_windows
    from simulation.scenario import Scenario
    from simulation.selection import select_best
    from simulation.traffic.day_bootstrap import draw_days
    from simulation.traffic.forecast import forecast
    from simulation.traffic.read_history import read_history
    from simulation.verdict import judge

__all__ = [
    "Plan",
    "Scenario",
    "draw_days",
    "find_windows",
    "forecast",
    "judge",
    "read_history",
    "recommend",
    "select_best",
    "serve_queue",
    "simulate",
    "simulate_until",
    "sweep",
]

_HOMES = {
    "Plan": "simulation.plan",
    "Scenario": "simulation.scenario",
    "draw_days": "simulation.traffic.day_bootstrap",
    "find_windows": "simulation.planning.windows",
    "forecast": "simulation.traffic.forecast",
    "judge": "simulation.verdict",
    "read_history": "simulation.traffic.read_history",
    "recommend": "simulation.planning.recommend",
    "select_best": "simulation.selection",
    "serve_queue": "simulation.data_plane.fcfs",
    "simulate": "simulation.experiment",
    "simulate_until": "simulation.experiment_until",
    "sweep": "simulation.planning.sweep",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'simulation' has no attribute {name!r}")
    # A submodule of the same name (simulation.forecast would be one) must not hide the function.
    return getattr(import_module(_HOMES[name]), name)
