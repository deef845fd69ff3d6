"""`lull recommend`: what it prints, writes and returns; and the night that a plan is judged by."""

import datetime as dt
import json
import math
from pathlib import Path
from typing import Any

import pytest

from flows.commands import recommend
from flows.commands import simulate as simulate_command
from flows.planning_run import choose_opening, plan_traffic, validate_plan
from simulation.errors import InvalidPlan
from simulation.plan_file import read_plan
from simulation.scenario import read_scenario
from simulation.verdict import Answer
from tests.simulation.plans import PLAN_YAML

QUICK = "acceptance:\n  confidence: 0.6\n  max_breach_probability: 0.5\n  min_finish_probability: 0.5"


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """Write the small plan on 22 days of traffic, quietest at 03:00 UTC, with limits that few nights can show."""
    start, rows = dt.datetime(2026, 3, 2), ["time,requests"]
    for i in range(22 * 144):
        at = start + dt.timedelta(minutes=10 * i)
        day = (at.hour + at.minute / 60 - 3) / 24
        rows.append(f"{at:%Y-%m-%d %H:%M},{round(8000 - 4500 * math.cos(2 * math.pi * day))}")
    (tmp_path / "requests.csv").write_text("\n".join(rows) + "\n")
    text = PLAN_YAML.replace("history: worldcup98", f"history: {tmp_path / 'requests.csv'}")
    path = tmp_path / "plan.yaml"
    path.write_text(text.replace("acceptance:", QUICK))
    return path


def run(path: Path, *, objective: str = "cost", as_json: bool = False, write: Path | None = None,
        replications: int | None = None, **given: str) -> int:  # fmt: skip
    return recommend.run(path, dict(given), objective, ["as-forecast"], replications, 1, 2, write, as_json)


def added(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def test_a_recommendation_is_printed_written_and_holds(plan: Path, capsys: Any, tmp_path: Path) -> None:
    target = tmp_path / "next.yaml"
    assert run(plan, replicas="2..3", start="02:00", write=target) == 0
    said = capsys.readouterr()
    assert said.out.startswith("Recommended: 02:00 for 60 min, 2 replicas; cost ")
    assert "machine hours per day" in said.out  # the plan has no prices
    assert "Runner-up: 02:00 for 60 min, 3 replicas" in said.out
    assert said.err == ""
    written = read_plan(target)
    assert written.serving.replicas == 2
    assert written.window.reason.startswith("Recommended: ")
    assert written.costs == read_plan(plan).costs
    assert validate_plan(written, scenarios=[read_scenario("as-forecast")]).verdict.answer is Answer.HOLDS


def test_the_same_call_prints_the_same_json_twice(plan: Path, capsys: Any) -> None:
    texts = []
    for _ in range(2):
        assert run(plan, replicas="2..3", start="02:00,03:00", as_json=True) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    told = json.loads(texts[0])
    assert told["answer"] == "recommended"
    assert told["best"]["changes"]["serving.replicas"] == 2
    assert told["counts"]["combinations"] == 4
    assert told["written"] is None


def test_without_starts_the_quietest_hours_are_searched_and_staleness_is_counted(plan: Path, capsys: Any) -> None:
    assert run(plan, objective="staleness", as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["unit"] == "hours"
    assert "02:00" <= told["best"]["changes"]["window.starts_at_local"] <= "04:00"


def test_a_refusal_ends_with_1_and_says_what_binds(plan: Path, capsys: Any, tmp_path: Path) -> None:
    target = tmp_path / "next.yaml"
    assert run(plan, duration="10..20/10", start="02:00", write=target) == 1
    said = capsys.readouterr().out
    assert "2 × the window is too short for the work" in said
    assert "What would make it fit: lengthen the window to 24 minutes, or shorten the work by 4." in said
    assert not target.exists()
    assert run(plan, duration="10..20/10", start="02:00", as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["answer"] == "refused"


def test_too_few_nights_end_with_3(plan: Path, capsys: Any) -> None:
    assert run(plan, replicas="2..9", start="02:00", replications=2) == 3
    assert "can be said to hold" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"replicas": "2.5"}, "--replicas: 2.5 is no whole number"),
        ({"replicas": "many"}, "--replicas: 'many' is no whole number"),
        ({"duration": "60..180/0"}, "--duration: .*holds 0 values"),
        ({"start": "00:00..05:00"}, "--start: .*needs a step such as /30m"),
        ({"objective": "speed"}, "--objective: 'speed' is none; use cost or staleness"),
    ],
)
def test_a_wrong_option_is_named(plan: Path, given: dict[str, str], sentence: str) -> None:
    with pytest.raises(InvalidPlan, match=sentence):
        run(plan, **given)


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_played(plan: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidPlan, match="--write: no plan can be written"):
        run(plan, write=tmp_path / "no" / "next.yaml")


# The night that is judged


def denied(rule: str, span: str) -> str:
    return f"calendar:\n  denials:\n    - {{rule: {rule}, reason: the year is closed, time_zone: UTC, {span}}}\n"


def test_a_denied_night_is_never_the_one_that_is_played(plan: Path) -> None:
    added(plan, denied("freeze", "first_day: 2026-03-23, last_day: 2026-03-24"))
    read = read_plan(plan)
    known = plan_traffic(read)
    assert choose_opening(read, known, None, folder=plan.parent).day == 25
    with pytest.raises(InvalidPlan, match=r"--opens-at: the night of 2026-03-24 02:00 UTC is denied by freeze \(the y"):
        choose_opening(read, known, dt.datetime(2026, 3, 24, 2, tzinfo=dt.UTC), folder=plan.parent)


def test_a_night_that_a_denial_shortens_is_another_night_than_the_plan_s(plan: Path) -> None:
    added(plan, denied("freeze", "last_day: 2026-03-24, ends_at_local: '02:10'"))
    read = read_plan(plan)
    assert choose_opening(read, plan_traffic(read), None, folder=plan.parent).day == 25


@pytest.mark.parametrize(
    ("ends", "sentence"),
    [("00:00", "all are denied by never"), ("02:10", "the calendar takes a part of every opening")],
)
def test_a_calendar_that_spares_no_night_is_refused(plan: Path, ends: str, sentence: str) -> None:
    added(plan, denied("never", f"ends_at_local: '{ends}'"))
    read = read_plan(plan)
    with pytest.raises(InvalidPlan, match=sentence):
        choose_opening(read, plan_traffic(read), None, folder=plan.parent)


# Secondary plans and several models in `lull simulate`


def simulated(path: Path, capsys: Any) -> tuple[int, str, dict[str, Any]]:
    target = path.parent / "certificate.json"
    code = simulate_command.run(path, ["as-forecast"], 2, 1, 2, None, target, None, False)
    return code, capsys.readouterr().out, json.loads(target.read_text())


def test_a_secondary_plan_that_fails_makes_the_plan_fail_by_name(plan: Path, capsys: Any) -> None:
    added(
        plan,
        "secondary:\n  - name: late-data\n    when: data_surge\n    reason: the rows come late, so fewer of them\n"
        "    scenario: late-data\n    changes: {training.stages.train.minutes_p95: 50}\n",
    )
    code, out, certificate = simulated(plan, capsys)
    assert code == 1
    assert "late-data: late-data" in out
    assert any(reason.startswith("secondary plan late-data: ") for reason in certificate["reasons"])
    assert [found["scenario"] for found in certificate["scenarios"]] == ["as-forecast", "late-data: late-data"]


def test_each_model_of_a_window_is_told_with_its_chance(plan: Path, capsys: Any) -> None:
    job = ("  max_concurrent: 2\n  jobs:\n    - {model: churn, data: d, storage_path: training/churn, priority: 9,\n"
           "       stages: [{name: train, minutes_p50: 60, minutes_p95: 70}]}\n")  # fmt: skip
    plan.write_text(plan.read_text().replace("evaluation:", f"{job}evaluation:"))
    code, out, _ = simulated(plan, capsys)
    assert code == 0
    assert "bank-marketing  0 to 19 min" in out
    assert "churn is deferred: its 70 minutes at p95 beside bank-marketing" in out
