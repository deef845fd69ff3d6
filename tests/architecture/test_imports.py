"""Who may import whom, what the command line must not load, and how large the shipped data may be."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("pandas", "numpy", "prefect", "mlflow", "lightgbm", "matplotlib", "numba", "scipy", "sklearn", "evidently")
DATA = sorted(path for package in ("simulation", "flows") for path in (ROOT / package / "datasets").glob("*/"))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_import_contracts_are_kept() -> None:
    found = run(str(Path(sys.executable).parent / "lint-imports"), "--no-cache")
    assert found.returncode == 0, found.stdout + found.stderr
    assert " 0 broken" in found.stdout


def test_the_command_line_starts_without_anything_heavy() -> None:
    code = "import sys, flows.cli; print(' '.join(sorted({name.partition('.')[0] for name in sys.modules})))"
    found = run(sys.executable, "-c", code)
    assert found.returncode == 0, found.stderr
    loaded = set(found.stdout.split())
    assert "flows" in loaded
    assert loaded.isdisjoint(HEAVY), sorted(loaded.intersection(HEAVY))


def test_a_plan_is_read_without_the_kernels() -> None:
    code = "import sys, simulation.plan_file; print('numba' in sys.modules, 'simpy' in sys.modules)"
    assert run(sys.executable, "-c", code).stdout.split() == ["False", "False"]


def test_the_shipped_data_stay_under_two_megabytes() -> None:
    tracked = run("git", "ls-files", "-z", "--", "simulation/datasets", "flows/datasets").stdout.split("\0")
    sizes = {name: (ROOT / name).stat().st_size for name in tracked if name and not name.endswith(".py")}
    assert len(sizes) >= 4
    assert sum(sizes.values()) < 2_000_000, sizes


def test_each_data_set_says_where_it_is_from_and_under_which_terms() -> None:
    sets = [folder for folder in DATA if folder.is_dir() and folder.name != "__pycache__"]
    assert len(sets) >= 2
    for folder in sets:
        source = (folder / "SOURCE.md").read_text(encoding="utf-8")
        words = source.lower()
        assert "licence" in words or "license" in words or list(folder.glob("*COPYRIGHT*")), folder.name
        assert "origin:" in words or "http" in words, f"{folder.name}/SOURCE.md names no origin"
        for data in folder.glob("*.parquet"):
            assert data.name in source or data.stem in source, f"{folder.name}/SOURCE.md does not speak of {data.name}"


@pytest.mark.parametrize("name", ["LICENSE", "NOTICE"])
def test_the_licence_files_are_there(name: str) -> None:
    assert (ROOT / name).stat().st_size > 100
