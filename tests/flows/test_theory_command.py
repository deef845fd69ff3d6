"""`lull simulate --check-theory`: the table, its JSON, its exit codes, and what it refuses."""

import json
import sys
from pathlib import Path

import pytest

from flows import cli
from flows.commands import theory
from simulation.errors import InvalidPlan
from simulation.theory_check import TheoryRow

ROWS = [
    TheoryRow("coin: mean", 0.5, 0.5004, 0.001, 1.25),
    TheoryRow("hand: waits as worked out", 8.0, 8.0, 0.0, 0.01),
]
WRONG = TheoryRow("coin: sd", 0.5, 0.51, 0.001, 1.25)


def call(*arguments: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["lull", "simulate", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    said = capsys.readouterr()
    return int(left.value.code or 0), said.out, said.err


def test_the_exact_cases_agree_and_are_printed_in_full(capsys):
    assert theory.run(None, 1, False, names="worked out") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["value", "theory", "observed", "std.", "error", "z", "seconds"]
    assert "pool: servers 0, 1, 0, 1: departures as worked out" in lines[-5]
    assert lines[-5].split()[-5:-1] == ["3", "3", "0", "+0.00"]
    assert lines[-1] == "All 8 rows agree."


def test_rows_that_disagree_are_named_and_the_exit_code_is_1(capsys, monkeypatch):
    monkeypatch.setattr(theory, "check_theory", lambda seed, names: [*ROWS, WRONG])
    code, out, _ = call("--check-theory", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 1
    assert out.splitlines()[-1] == "1 of 3 rows disagree: coin: sd"
    assert out.count("<- disagrees") == 1
    assert "+10.00" in out


def test_json_says_the_same(capsys, monkeypatch):
    seeds = []
    monkeypatch.setattr(theory, "check_theory", lambda seed, names: seeds.append(seed) or ROWS)
    code, out, _ = call("--check-theory", "--seed", "7", "--json", capsys=capsys, monkeypatch=monkeypatch)
    told = json.loads(out)
    assert (code, told["agrees"], told["seed"], seeds) == (0, True, 7, [7])
    assert set(told["rows"][0]) == {"name", "theory", "observed", "standard_error", "z", "seconds", "agrees"}
    assert told["rows"][0]["z"] == pytest.approx(0.4)


def test_a_plan_beside_check_theory_and_no_plan_without_it_are_refused(capsys, monkeypatch):
    code, _, err = call("plan.yaml", "--check-theory", capsys=capsys, monkeypatch=monkeypatch)
    assert (code, err) == (
        2,
        "lull: --check-theory tests the simulator itself and takes no plan; leave plan.yaml out\n",
    )
    code, _, err = call(capsys=capsys, monkeypatch=monkeypatch)
    assert (code, err) == (
        2,
        "lull: simulate needs a PLAN, such as `lull simulate plan.yaml`, or --check-theory\n",
    )
    with pytest.raises(InvalidPlan, match="takes no plan"):
        theory.run(Path("plan.yaml"), 1, False)
