"""A compiled kernel is never stale: its key in numba's cache covers every file that it is made of."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import config

import simulation
from simulation.data_plane import arrivals, pool_changes
from simulation.data_plane.compiled_sources import digest_of

ROOT = Path(simulation.__file__).parent.parent
# Imported by those files and never compiled: what they raise, and what makes the key.
NOT_COMPILED = {"simulation/errors.py", "simulation/data_plane/compiled_sources.py"}
FIRST_ARRIVALS = """
from simulation.data_plane.arrivals import PoissonArrivals
print(PoissonArrivals([0.0, 100.0], [1.0], seed=7).take(3).tolist())
"""


def project_imports(file: Path) -> set[str]:
    """Return the files of the project that a file imports from, named from the root."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    paths = {f"{name.replace('.', '/')}.py" for name in names}
    return {path for path in paths if (ROOT / path).is_file()}


@pytest.mark.parametrize("module", [arrivals, pool_changes])
def test_the_key_covers_every_file_that_the_kernels_are_made_of(module):
    covered = {Path(str(part.__file__)) for part in module.SOURCES} | {Path(str(module.__file__))}
    imported = set().union(*(project_imports(file) for file in covered)) - NOT_COMPILED
    assert imported
    assert {ROOT / path for path in imported} <= covered


def test_a_change_of_any_file_changes_the_key(tmp_path):
    files = [str(tmp_path / name) for name in ("a.py", "b.py")]
    for file in files:
        Path(file).write_text("x = 1\n")
    before = digest_of(*files)
    for file in files:
        Path(file).write_text("x = 2\n")
        assert digest_of(*files) != before
        Path(file).write_text("x = 1\n")
    assert digest_of(*files) == before


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is cached without the compiler")
def test_an_edit_of_a_helper_in_another_file_reaches_a_kernel_that_is_cached(tmp_path):
    shutil.copytree(ROOT / "simulation", tmp_path / "simulation", ignore=shutil.ignore_patterns("__pycache__"))
    helper = tmp_path / "simulation" / "randomness.py"

    def first_arrivals() -> list[float]:
        run = subprocess.run(
            [sys.executable, "-c", FIRST_ARRIVALS], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return ast.literal_eval(run.stdout)

    before = first_arrivals()
    assert list(tmp_path.rglob("arrivals*.nbc"))
    text = helper.read_text()
    assert text.count("return -portable_log(") == 1
    helper.write_text(text.replace("return -portable_log(", "return -2.0 * portable_log("))
    np.testing.assert_array_equal(first_arrivals(), 2.0 * np.array(before))
