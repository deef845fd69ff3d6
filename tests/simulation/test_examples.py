"""The examples: each prints exactly what stands beside it, stays short, and is told apart from a machine."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from numba import config as numba_config

FOLDER = Path(__file__).parents[2] / "simulation" / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))


def test_there_are_examples_and_each_has_its_output_beside_it():
    assert len(EXAMPLES) >= 6
    assert {path.stem for path in EXAMPLES} == {path.stem for path in FOLDER.glob("*.txt")}


@pytest.mark.skipif(bool(numba_config.DISABLE_JIT), reason="millions of requests need the compiler")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_what_stands_beside_it(path, capsys):
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out == path.with_suffix(".txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_first_what_it_shows(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 60
    assert lines[0].startswith('"""')
    assert lines[-1] == "    main()"


@pytest.mark.skipif(bool(numba_config.DISABLE_JIT), reason="millions of requests need the compiler")
def test_an_example_runs_as_a_program_from_anywhere(tmp_path):
    path = FOLDER / "rollout_and_rollback.py"
    ran = subprocess.run([sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == path.with_suffix(".txt").read_text(encoding="utf-8")
