"""`lull plan new | check | diff` and `lull windows --plan`: what they print, and the code they leave with."""

import datetime as dt
import json
import math
from pathlib import Path
from typing import Any

import pytest

from flows.commands import plan as plan_command
from flows.commands import windows
from simulation.errors import InvalidPlan
from simulation.plan_file import read_plan, write_plan
from simulation.planning.plan_lint import lint_plan
from tests.simulation.plans import PLAN_YAML, small_plan

DENIAL = {"rule": "gdpr", "reason": "no EU data at night", "time_zone": "UTC"}


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """Write 22 days of counts per ten minutes, quietest at 03:00 UTC."""
    start, rows = dt.datetime(2026, 3, 2), ["time_utc,requests"]
    for i in range(22 * 144):
        at = start + dt.timedelta(minutes=10 * i)
        rows.append(
            f"{at:%Y-%m-%d %H:%M},{round(6000 - 4500 * math.cos((at.hour * 60 + at.minute - 180) / 720 * math.pi))}"
        )
    path = tmp_path / "requests.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def given(history: Path) -> dict[str, Any]:
    """Return the flags of a complete `lull plan new`."""
    return {
        "name": "nightly", "history": str(history), "time_zone": "UTC", "duration_min": 90.0, "model": "scorer",
        "data": "bank_marketing_2008_2010", "replicas": 4, "service_ms": 30.0, "slo_ms": 500.0, "good_ratio": 0.99,
        "user_impact": "the page shows no offers",
    }  # fmt: skip


# new


def test_a_new_plan_opens_in_the_quiet_hours_has_no_problem_and_says_what_is_assumed(
    tmp_path: Path, given: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.yaml"
    assert plan_command.new(path, {**given, "country": "DE", "threshold_rps": None}, force=False) == 0
    assert "Assumed: how long stages take" in capsys.readouterr().out
    plan = read_plan(path)
    assert plan.window.starts_at_local == "02:20"  # 45 minutes either side of 03:00, on the ten minutes of the history
    assert lint_plan(plan) == []
    assert plan_command.check(path, False) == 0
    assert plan.calendar is not None
    assert plan.calendar.holidays[0].country == "DE"
    text = path.read_text(encoding="utf-8")
    assert "# what users were promised, and what they notice when it is broken" in text


def test_the_start_is_quiet_on_every_day_not_only_on_the_quietest(
    tmp_path: Path, given: dict[str, Any], history: Path
) -> None:
    rows = history.read_text(encoding="utf-8").splitlines()
    # Sundays are nearly empty at noon, which is a peak on every other day.
    emptied = [
        f"{row.split(',')[0]},10"
        if row[11:13] in ("11", "12", "13") and dt.date.fromisoformat(row[:10]).weekday() == 6
        else row
        for row in rows[1:]
    ]
    history.write_text("\n".join([rows[0], *emptied]) + "\n", encoding="utf-8")
    assert plan_command.new(tmp_path / "plan.yaml", given, force=False) == 0
    window = read_plan(tmp_path / "plan.yaml").window
    assert window.starts_at_local in ("02:10", "02:20")
    assert window.reason.startswith(f"{window.starts_at_local} UTC every day: about")
    assert ", against " in window.reason


def test_it_writes_over_nothing_without_force(tmp_path: Path, given: dict[str, Any]) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("# mine\nname: mine\n", encoding="utf-8")
    with pytest.raises(InvalidPlan, match="is there already; choose another name, or write over it with --force"):
        plan_command.new(path, given, force=False)
    assert path.read_text(encoding="utf-8") == "# mine\nname: mine\n"
    assert plan_command.new(path, given, force=True) == 0
    assert "# mine" not in path.read_text(encoding="utf-8")


def test_in_a_pipe_every_missing_flag_is_named_at_once(
    tmp_path: Path, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(InvalidPlan, match="--slo-ms, --user-impact are missing, and nobody can be asked"):
        plan_command.new(tmp_path / "p.yaml", {**given, "slo_ms": None, "user_impact": None}, force=False)
    assert not (tmp_path / "p.yaml").exists()


def test_on_a_terminal_only_what_is_missing_is_asked_again_until_it_is_a_number(
    tmp_path: Path, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, asked = iter(["soon", "", "400"]), []

    def answer(words: str) -> str:
        asked.append(words)
        return next(answers)

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", answer)
    assert plan_command.new(tmp_path / "p.yaml", {**given, "slo_ms": None}, force=False) == 0
    assert read_plan(tmp_path / "p.yaml").serving.slo.latency_ms == 400
    assert asked == ["Milliseconds within which users were promised an answer: "] * 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "My Plan"}, "name: String should match pattern"),
        ({"good_ratio": 1.0}, "serving.slo.good_ratio: Input should be less than 1"),
        ({"user_impact": "bad"}, "serving.slo.user_impact: String should have at least 10"),
        ({"service_ms": 600.0}, "service_ms: 600 must lie over 0 and below slo_ms"),
        ({"duration_min": 0.0}, "duration_min: 0 is not within a day"),
        ({"train_p95_min": 5.0}, "minutes_p95 5 is below minutes_p50 20"),
    ],
)
def test_an_answer_that_cannot_be_meant_is_refused_by_name(
    tmp_path: Path, given: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidPlan) as refusal:
        plan_command.new(tmp_path / "p.yaml", {**given, **changes}, force=False)
    assert said in str(refusal.value)
    assert not (tmp_path / "p.yaml").exists()


# check


def written(tmp_path: Path, name: str = "plan.yaml", **changes: Any) -> Path:
    path = tmp_path / name
    write_plan(small_plan(**changes), path)
    return path


def test_check_lists_every_problem_and_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(
        tmp_path, training__storage_path="serving/x", window__duration_min=20,
        calendar={"files": [{"path": "nowhere.ics", "kind": "release"}]},
    )  # fmt: skip
    assert plan_command.check(path, False) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path}: 3 problems:"
    assert [line.split(":")[0].strip() for line in lines[1:3]] == ["training.storage_path", "window.duration_min"]
    assert "nowhere.ics: there is no such calendar" in lines[3]
    assert plan_command.check(path, True) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["is_valid"], len(told["problems"])) == (False, 3)


def test_check_finds_a_plan_without_promise_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        PLAN_YAML.replace("    user_impact: the answer takes longer than a page view\n", ""), encoding="utf-8"
    )
    assert plan_command.check(path, False) == 1
    assert "serving.slo.user_impact: is missing; add it" in capsys.readouterr().out


def test_a_plan_whose_calendar_denies_every_night_has_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan_command.check(written(tmp_path, calendar={"denials": [DENIAL]}), False) == 1
    assert "all are denied by gdpr (no EU data at night)" in capsys.readouterr().out


def test_a_sound_plan_is_told_its_next_opening(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path)
    assert plan_command.check(path, False) == 0
    assert "is valid (digest" in capsys.readouterr().out
    assert plan_command.check(path, True) == 0
    told = json.loads(capsys.readouterr().out)
    opens = dt.datetime.fromisoformat(told["window"]["opens_at"])
    assert (opens.hour, opens > dt.datetime.now(dt.UTC)) == (2, True)


# diff


def test_diff_says_what_users_notice_first_and_always_ends_with_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = written(tmp_path, "a.yaml")
    b = written(tmp_path, "b.yaml", costs={"replica_hour": 2}, serving__slo__good_ratio=0.98, training__rounds=90)
    assert plan_command.diff(a, b, False) == 0
    titles = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("  ")]
    assert titles == ["What users may notice:", "What changes in the night:", "What reaches nobody by itself:"]
    assert plan_command.diff(a, a, False) == 0
    assert capsys.readouterr().out == "The plans say the same.\n"
    c = written(tmp_path, "c.yaml", training__rounds=90)
    assert plan_command.diff(a, c, False) == 0
    assert "Nothing changes for users" in capsys.readouterr().out
    assert plan_command.diff(a, b, True) == 0
    told = json.loads(capsys.readouterr().out)
    assert [d["kind"] for d in told["differences"]] == ["users", "night", "other"]


# windows --plan


def show(path: Path, since: str, *, as_json: bool = True) -> int:
    return windows.run(None, None, None, None, 5, None, None, "zone", None, None, as_json, plan=path, since=since)


def test_a_plan_s_windows_openings_and_clock_changes_are_told_with_who_denies_what(
    tmp_path: Path, history: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prices.csv").write_text("hour_utc,price\n2026-03-25 01:00,50\n2026-03-25 02:00,70\n", encoding="utf-8")
    path = written(
        tmp_path, traffic__history=str(history), window__time_zone="Europe/Paris", window__starts_at_local="02:30",
        calendar={
            "denials": [{**DENIAL, "first_day": "2026-03-26", "last_day": "2026-03-26"}],
            "holidays": [{"country": "FR"}], "prices": {"path": "prices.csv"}, "horizon_days": 300,
        },
    )  # fmt: skip
    assert show(path, "2026-03-24T12:00Z") == 0
    told = json.loads(capsys.readouterr().out)
    openings = told["openings"]
    assert len([o for o in openings if not o["is_denied"]]) == 12
    assert [o["opens_local"][:16] for o in openings if o["is_denied"]] == ["2026-03-26T02:30"]
    assert openings[1]["denied_by"] == ["gdpr (no EU data at night)"]
    assert openings[0]["price"] == pytest.approx(60.0)  # half an hour at 50, half an hour at 70
    assert openings[2]["price"] is None
    assert openings[0]["expected_requests"] > 0
    assert openings[-1]["expected_requests"] is None  # past the forecast
    gap = next(o for o in openings if o["opens_local"].startswith("2026-03-29"))
    assert (gap["opens_local"], gap["opens_at"]) == ("2026-03-29T03:00:00+02:00", "2026-03-29T01:00:00+00:00")
    monday = next(o for o in openings if o["opens_local"].startswith("2026-04-06"))
    assert monday["notes"] == ["holiday FR (Easter Monday)"]
    assert [c["at"][:10] for c in told["clock_changes"]] == ["2026-03-29", "2026-10-25"]
    assert told["plan_digest"] == read_plan(path).digest()
    assert [w["denied_by"] for w in told["denied_windows"]] == [["gdpr (no EU data at night)"]]
    assert all(not w["opens_local"].startswith("2026-03-26") for w in told["windows"])
    assert show(path, "2026-03-24T12:00Z", as_json=False) == 0
    said = capsys.readouterr().out
    assert said.count("DENIED by gdpr (no EU data at night)") == 2
    assert "clocks skip 02:30: it opens when the gap ends, at 03:00 CEST" in said


def test_a_plan_that_never_opens_ends_with_1_and_still_says_why(
    tmp_path: Path, history: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, traffic__history=str(history), calendar={"denials": [DENIAL], "horizon_days": 30})
    assert show(path, "2026-03-24T12:00Z", as_json=False) == 1
    said = capsys.readouterr().out
    assert "every start of the forecast is denied, by gdpr (no EU data at night)" in said
    assert "the calendar denies every window until" in said


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"plan": Path("p.yaml"), "time_zone": "UTC"}, "leave them out beside it"),
        ({}, "HISTORY and --timezone and --duration must be given, or --plan PLAN"),
        ({"since": "soon"}, "--from: 'soon' is no time"),
        ({"since": "2026-03-28T01:30"}, "--from: '2026-03-28T01:30' carries no zone"),
    ],
)
def test_a_call_that_cannot_be_meant_is_refused(call: dict[str, Any], said: str) -> None:
    asked: dict[str, Any] = {
        "history": None, "time_zone": None, "duration_min": None, "threshold_rps": None, "count": 5,
        "time_column": None, "count_column": None, "holidays": "zone", "by": None, "zone_column": None,
        "as_json": False,
    }  # fmt: skip
    with pytest.raises(InvalidPlan) as refusal:
        windows.run(**{**asked, **call})
    assert said in str(refusal.value)


# The example that README points at


def test_the_example_with_a_calendar_has_no_problem_and_shows_every_kind_of_denial(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = Path(__file__).parents[2] / "examples" / "calendar" / "plan.yaml"
    assert plan_command.check(path, False) == 0
    capsys.readouterr()
    assert show(path, "2026-03-20T00:00Z") == 0
    openings = {o["opens_local"][:10]: o for o in json.loads(capsys.readouterr().out)["openings"]}
    assert openings["2026-03-22"]["denied_by"] == ["price (up to 310 EUR/MWh, over the limit of 200)"]
    assert openings["2026-03-23"]["denied_by"][0].startswith("retention-eu (")
    assert openings["2026-03-31"]["denied_by"] == ["release: Release train (every second Tuesday)"]
    assert openings["2026-03-20"]["denied_by"] == []
    assert read_plan(path).under("one-replica-less").serving.replicas == 3


def test_the_schema_for_editors_knows_calendar_jobs_and_secondary_plans(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan_command.schema() == 0
    told = json.loads(capsys.readouterr().out)
    assert {"calendar", "secondary"} <= told["properties"].keys()
    assert {"CalendarFile", "DenialRule", "Holidays", "Job", "Prices", "Secondary"} <= told["$defs"].keys()
    assert "jobs" in told["$defs"]["Training"]["properties"]
