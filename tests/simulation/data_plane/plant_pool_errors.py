"""
Run by test_pool_planted_errors.py in a process of its own: the pool as plain Python, with one error at a time.

Prints a JSON object: for each error whether the plain twin, over the same fixed cases, caught it.
"""

import importlib.util
import json
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings

import simulation.data_plane
from simulation.data_plane.pool_settings import Client, Distribution, PoolSettings
from tests.simulation.data_plane.pool_cases import Case, cases
from tests.simulation.data_plane.test_pool_against_its_twin import assert_same
from tests.simulation.data_plane.test_pool_planted_errors import PLANTED
from tests.simulation.reference_pool import ReferencePool

FOLDER = Path(simulation.data_plane.__file__).parent
RELOADED = ("pool_structures", "pool_kernel", "pool_changes", "pool_machine", "pool_capacity", "pool_report", "pool")


class _Planted(SourceFileLoader):
    """Loads a module from its source with one piece of text replaced."""

    old = new = ""

    def get_code(self, fullname: str) -> CodeType:
        text = Path(self.path).read_text(encoding="utf-8")
        return compile(text.replace(self.old, self.new), self.path, "exec")


class _Finder:
    """Finds the one module that holds the planted error."""

    def __init__(self, module: str, old: str, new: str) -> None:
        self.module = f"simulation.data_plane.{module}"
        self.loader = _Planted(self.module, str(FOLDER / f"{module}.py"))
        self.loader.old, self.loader.new = old, new

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != self.module:
            return None
        return importlib.util.spec_from_file_location(name, self.loader.path, loader=self.loader)


def fixed_cases(n: int) -> list[Case]:
    """Return the same random cases on every run."""
    found: list[Case] = []

    @settings(
        derandomize=True, max_examples=n, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), deadline=None,
    )  # fmt: skip
    @given(cases())
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    # Seldom drawn: work of drawn length that is evicted while it runs, and a turn that comes after the client left.
    drawn = PoolSettings.simple(2, Distribution("exponential", 2.0))
    evicting: list[tuple[float, str, dict[str, Any]]] = [
        (0.5, "set_capacity", {"replicas": 0, "running_work": "evict_and_requeue"}),
        (1.0, "set_capacity", {"replicas": 1}),
    ]
    leaving = Client(timeout_s=0.5, cancellation="at_start")
    slow = PoolSettings.simple(1, Distribution("deterministic", 1.0), client=leaving)
    return [
        *found,
        Case(drawn, 3, {"arrivals_s": [0.0, 0.0, 0.25, 0.25]}, evicting),
        Case(slow, 3, {"arrivals_s": [0.0, 0.0, 0.25, 0.75]}, []),
    ]


def is_caught(module: str, old: str, new: str, played: list[tuple[Case, ReferencePool]]) -> bool:
    """Play the cases on a pool with the error until one differs from its twin, or breaks a law of the pool's own."""
    for name in RELOADED:
        sys.modules.pop(f"simulation.data_plane.{name}", None)
        vars(simulation.data_plane).pop(name, None)  # `from package import module` looks here first
    finder = _Finder(module, old, new)
    sys.meta_path.insert(0, finder)  # type: ignore[arg-type]  # a finder by its shape
    try:
        from simulation.data_plane.pool import ServingPool

        for case, twin in played:
            try:
                pool = case.play(ServingPool(case.settings, case.seed, records=True))
                pool.check_conservation()
                assert_same(pool, twin)
            except (AssertionError, ValueError, IndexError):  # a law of conservation is a ValueError
                return True
        return False
    finally:
        sys.meta_path.remove(finder)  # type: ignore[arg-type]


def main() -> None:
    """Check the pool as it stands, then every error."""
    played = [(case, case.play(ReferencePool(case.settings, case.seed))) for case in fixed_cases(400)]
    verdicts = {"as it stands": is_caught("pool", "", "", played[:80])}
    for error, (module, old, new) in PLANTED.items():
        verdicts[error] = is_caught(module, old, new, played)
    print(json.dumps(verdicts))


if __name__ == "__main__":
    main()
