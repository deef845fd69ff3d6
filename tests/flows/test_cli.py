"""The command line: what it prints, its exit codes, and one sentence for every kind of bad input."""

import csv
import datetime as dt
import json
import math
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from flows import cli
from flows.certificate_file import read_certificate
from flows.commands.simulate import EXIT_CODES
from flows.planning_run import choose_opening, plan_scenarios, plan_traffic, validate_plan
from flows.settings import TELEMETRY_OFF
from simulation.errors import InvalidPlan, LullError
from simulation.plan_file import read_plan
from simulation.scenario import read_scenario, ready_scenarios
from simulation.traffic.read_history import read_history
from simulation.verdict import Answer, InvalidCertificate, certificate_digest, check_certificate
from tests.simulation.plans import PLAN_YAML

COMMANDS = ["windows", "backtest", "plan new", "plan schema", "plan check", "plan diff", "simulate", "whatif",
            "recommend", "demo", "deploy", "up", "serve", "status", "rollback", "report", "doctor"]  # fmt: skip


class Outcome(NamedTuple):
    """What a call of `lull` left behind."""

    code: int
    out: str
    err: str


Lull = Callable[..., Outcome]


@pytest.fixture
def lull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lull:
    """Return a function that calls `lull` in this process, in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LULL_HOME", str(tmp_path / "home"))
    for name, value in TELEMETRY_OFF.items():
        monkeypatch.setenv(name, value)

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["lull", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        return Outcome(int(left.value.code or 0), said.out, said.err)

    return call


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """Write 22 days of counts per ten minutes, quietest at 03:00 UTC, times without a zone."""
    start, rows = dt.datetime(2026, 3, 2), ["time,requests"]
    for i in range(22 * 144):
        at = start + dt.timedelta(minutes=10 * i)
        hour = at.hour + at.minute / 60
        rows.append(f"{at:%Y-%m-%d %H:%M},{round(6000 - 4500 * math.cos((hour - 15) / 24 * -2 * math.pi + math.pi))}")
    path = tmp_path / "requests.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def plan(tmp_path: Path, history: Path) -> Path:
    """Write a small plan on that history."""
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN_YAML.replace("history: worldcup98", f"history: {history}"))
    return path


def refusal(outcome: Outcome) -> str:
    """Return the one sentence of a refused call; fails if it was not refused as it should be."""
    assert outcome.code == 2
    assert outcome.out == ""
    lines = outcome.err.strip().splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("lull: ")
    assert "Traceback" not in outcome.err
    return lines[0]


# Help and the shape of the commands


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_shows_an_example_of_its_own_command(lull: Lull, command: str) -> None:
    outcome = lull(*command.split(), "--help")
    assert outcome.code == 0
    assert f"lull {command}" in outcome.out.split("Example:")[1]


@pytest.mark.parametrize(
    "command",
    ["windows", "backtest", "plan check", "plan diff", "simulate", "whatif", "recommend", "status", "report", "doctor"],
)
def test_commands_that_print_tables_can_print_json(lull: Lull, command: str) -> None:
    assert "--json" in lull(*command.split(), "--help").out


def test_all_commands_are_listed(lull: Lull) -> None:
    listed = lull("--help").out
    assert all(command.split()[0] in listed for command in COMMANDS)


def test_nothing_heavy_is_imported_for_the_help() -> None:
    heavy = ("numpy", "pandas", "scipy", "numba", "prefect", "mlflow", "evidently", "lightgbm", "sklearn", "pydantic",
             "matplotlib", "fastapi", "rich")  # fmt: skip
    code = f"import sys, flows.cli; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_runs_as_a_module_and_ends_with_its_code() -> None:
    call = [sys.executable, "-m", "flows.cli", "windows", "no-such-file.csv", "--timezone", "UTC", "--duration", "60"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("lull: no-such-file.csv: no such file")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "call",
    [[], ["no-such-command"], ["windows"], ["windows", "worldcup98", "--timezone", "UTC", "--duration", "2h"],
     ["rollback"], ["simulate", "plan.yaml", "--replications", "0"], ["serve", "--port", "70000"]],
    ids=lambda call: " ".join(call) or "nothing",
)  # fmt: skip
def test_a_wrong_call_exits_with_2(lull: Lull, call: list[str]) -> None:
    outcome = lull(*call)
    assert outcome.code == 2
    assert "Traceback" not in outcome.err


def test_a_duration_with_a_unit_is_answered_with_minutes(lull: Lull) -> None:
    outcome = lull("windows", "worldcup98", "--timezone", "UTC", "--duration", "2h")
    assert "'2h' is no plain number of minutes; two hours are 120" in outcome.err


# What main does with trouble


def _command_that(raises: BaseException | None, returns: int = 0) -> Any:
    def run(*_: object, **__: object) -> int:
        if raises is not None:
            raise raises
        return returns

    return SimpleNamespace(run=run)


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_the_code_of_a_command_is_the_code_of_the_call(lull: Lull, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(cli, "import_module", lambda _: _command_that(None, code))
    assert lull("status").code == code


@pytest.mark.parametrize(
    ("problem", "code", "sentence"),
    [
        (LullError("plan.yaml: window: no"), 2, "lull: plan.yaml: window: no"),
        (LullError("told on\n  two lines"), 2, "lull: told on two lines"),
        (PermissionError(13, "Permission denied", "/readonly/x"), 2, "lull: /readonly/x: permission denied; check"),
        (OSError(98, "Address already in use"), 2, "lull: the operating system refuses: address already in use;"),
        (KeyboardInterrupt(), 130, "lull: interrupted"),
    ],
)
def test_expected_trouble_is_one_sentence(
    lull: Lull, monkeypatch: pytest.MonkeyPatch, problem: BaseException, code: int, sentence: str
) -> None:
    monkeypatch.setattr(cli, "import_module", lambda _: _command_that(problem))
    outcome = lull("status")
    assert outcome.code == code
    assert outcome.err.startswith(sentence)
    assert outcome.err.count("\n") == 1


def test_a_mistake_of_ours_is_not_passed_off_as_the_caller_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "import_module", lambda _: _command_that(TypeError("a bug")))
    monkeypatch.setattr(sys, "argv", ["lull", "status"])
    with pytest.raises(TypeError, match="a bug"):
        cli.main()


def test_telemetry_is_off_before_a_command_is_imported(lull: Lull, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TELEMETRY_OFF:
        monkeypatch.delenv(name)
    seen: dict[str, str] = {}

    def look(_: str) -> Any:
        seen.update({name: os.environ.get(name, "") for name in TELEMETRY_OFF})
        return _command_that(None)

    monkeypatch.setattr(cli, "import_module", look)
    lull("status")
    assert seen == TELEMETRY_OFF


@pytest.mark.parametrize(
    ("call", "module", "given"),
    [
        (["demo", "--fast"], "flows.commands.demo", {"fast": True}),
        (
            ["deploy", "p.yaml"],
            "flows.commands.deploy",
            {"plan": Path("p.yaml"), "certificate": None, "overwrite": False},
        ),
        (["up"], "flows.commands.up", {}),
        (["serve", "--port", "8500"], "flows.commands.serve", {"host": None, "port": 8500}),
        (["status", "--json"], "flows.commands.status", {"json": True}),
        (["rollback", "--reason", "slow"], "flows.commands.rollback", {"reason": "slow"}),
    ],
)
def test_commands_hand_settings_and_options_on(
    lull: Lull, monkeypatch: pytest.MonkeyPatch, call: list[str], module: str, given: dict[str, object]
) -> None:
    seen: dict[str, Any] = {}

    def run(**keywords: object) -> int:
        seen.update(keywords)
        return 0

    monkeypatch.setattr(cli, "import_module", {module: SimpleNamespace(run=run)}.__getitem__)
    assert lull(*call).code == 0
    assert seen.pop("settings").home == Path(os.environ["LULL_HOME"])
    assert seen == given


# windows, backtest


def test_a_backtest_writes_choices_from_which_its_figure_can_be_recomputed(lull: Lull, tmp_path: Path) -> None:
    table = tmp_path / "choices.csv"
    call = ("backtest", "worldcup98", "--timezone", "UTC", "--last-days", 30, "--choices", table)
    told = json.loads(lull(*call, "--json").out)
    history = read_history("worldcup98").resampled(600)
    chosen = quietest = 0.0
    rows = list(csv.DictReader(table.open()))
    assert [row["day"] for row in rows] == [f"1998-{day:%m-%d}" for day in days_to(dt.date(1998, 7, 25), 30)]
    for row in rows:
        midnight = dt.datetime.fromisoformat(row["day"]).replace(tzinfo=dt.UTC)
        first = int((midnight - history.start).total_seconds()) // 600
        starts = [history.counts[first + i : first + i + 12].sum() for i in range(133)]
        chosen += starts[int((dt.datetime.fromisoformat(row["opens_at"]) - midnight).total_seconds()) // 600]
        quietest += min(starts)
    assert told["pooled_excess"]["forecast"] == pytest.approx(chosen / quietest - 1)
    assert [row["days_ahead"] for row in told["coverage"]] == list(range(1, 15))
    printed = lull(*call)
    assert printed.code == 0
    assert "10 steps are flagged as missing" in printed.out
    assert "hour-of-week mean" in printed.out


def days_to(last: dt.date, n: int) -> list[dt.date]:
    """Return the n days that end with `last`."""
    return [last - dt.timedelta(days=back) for back in range(n - 1, -1, -1)]


def test_bad_options_of_histories_are_refused(lull: Lull) -> None:
    call = ("backtest", "worldcup98", "--timezone", "UTC")
    assert "--since: 'May' is no date" in lull(*call, "--since", "May").err
    assert "'Narnia' is no country code" in lull(*call, "--holidays", "Narnia").err
    assert "--zone-column: tells the zone" in lull(*call, "--zone-column", "zone").err


def test_windows_finds_the_quiet_hours_and_says_what_it_found_in_the_file(lull: Lull, history: Path) -> None:
    outcome = lull("windows", history, "--timezone", "UTC", "--duration", 60, "--count", 3)
    assert outcome.code == 0
    assert "No gap, repeat or disorder was found." in outcome.out
    assert "02:30 to 03:30 UTC" in outcome.out.split("Best:")[1], "half an hour either side of the trough at 03:00"
    told = json.loads(lull("windows", history, "--timezone", "UTC", "--duration", 60, "--count", 3, "--json").out)
    assert len(told["windows"]) == 3
    first = told["windows"][0]
    opens, closes = (dt.datetime.fromisoformat(first[key]) for key in ("opens_at", "closes_at"))
    assert (opens.strftime("%H:%M"), closes - opens) == ("02:30", dt.timedelta(hours=1))
    assert 2.4 < first["mean_load_rps"] < 2.8


def test_windows_hears_threshold_and_columns(lull: Lull, history: Path) -> None:
    history.write_text(history.read_text().replace("time,requests", "when,how_many"))
    columns = ["--time-column", "when", "--count-column", "how_many"]
    outcome = lull("windows", history, "--timezone", "UTC", "--duration", 60, "--threshold", 7.5, "--json", *columns)
    assert {window["threshold_rps"] for window in json.loads(outcome.out)["windows"]} == {7.5}


# Bad input, one sentence each: the place, the trouble, the remedy


@pytest.mark.parametrize(
    ("content", "place", "trouble"),
    [
        ("time,requests\n2026-03-01T00:00Z,4\n2026-03-01T00:10Z,-4\n", "row 2, column requests", "is negative"),
        ("time,requests\n2026-03-01T00:00Z,4\n2026-03-01T00:10Z,many\n", "row 2, column requests", "is not a number"),
        ("time,requests\n2026-03-01T00:00Z,4\n2026-03-01T00:10,4\n", "column time", "zone"),
        ("", "requests.csv", "is empty"),
        ("time,requests\n", "requests.csv", "no rows"),
    ],
    ids=["negative counts", "text for numbers", "mixed zones", "empty file", "header only"],
)
def test_a_history_that_cannot_be_meant_is_refused(
    lull: Lull, tmp_path: Path, content: str, place: str, trouble: str
) -> None:
    path = tmp_path / "requests.csv"
    path.write_text(content)
    sentence = refusal(lull("windows", path, "--timezone", "UTC", "--duration", 60))
    assert str(path) in sentence
    assert place in sentence
    assert trouble in sentence
    assert ";" in sentence, "no remedy is named"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.csv", "--timezone", "UTC", "--duration", "60"], "nowhere.csv: no such file"),
        (["worldcup98", "--timezone", "Europe/Pari", "--duration", "60"], "did you mean Europe/Paris"),
        (["worldcup98", "--timezone", "UTC", "--duration", "1441"], "--duration: 1441 minutes is not within a day"),
        (["worldcup98", "--timezone", "UTC", "--duration", "0"], "--duration: 0 minutes is not within a day"),
        (["worldcup98", "--timezone", "UTC", "--duration", "nan"], "--duration: nan minutes is not within a day"),
        (["worldcup98", "--timezone", "UTC", "--duration", "60", "--threshold", "0"], "--threshold: 0 requests/s"),
        ([".", "--timezone", "UTC", "--duration", "60"], "is a folder"),
    ],
    ids=["missing file", "unknown zone", "longer than a day", "no length", "no number", "no threshold", "a folder"],
)
def test_a_call_of_windows_that_cannot_be_meant_is_refused(lull: Lull, arguments: list[str], said: str) -> None:
    assert said in refusal(lull("windows", *arguments))


def test_times_without_a_zone_are_refused_only_without_timezone(lull: Lull, history: Path) -> None:
    outcome = lull("windows", history, "--duration", 60)
    assert outcome.code == 2
    assert "--timezone" in outcome.err
    assert lull("windows", history, "--timezone", "Asia/Tokyo", "--duration", 60).code == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("duration_min: 60", "duraton_min: 60", "did you mean 'duration_min'?"),
        ("duration_min: 60", "duration_min: 2h", "write a plain number of minutes"),
        ("duration_min: 60", "duration_min: 1500", "less than or equal to 1440"),
        ("window:\n  time_zone: UTC", "window:\n  time_zone: Europe/Pari", "did you mean Europe/Paris"),
        ("replicas: 2", "replicas: [", "line"),
    ],
    ids=["typo", "wrong unit", "longer than a day", "unknown zone", "not YAML"],
)
@pytest.mark.parametrize("command", [["plan", "check"], ["simulate"]], ids=" ".join)
def test_a_plan_that_cannot_be_meant_is_refused(
    lull: Lull, plan: Path, command: list[str], old: str, new: str, said: str
) -> None:
    plan.write_text(plan.read_text().replace(old, new))
    outcome = lull(*command, plan)
    # A plan that can be read and breaks a rule is what `plan check` is for: a clear no, on stdout.
    is_judged = command == ["plan", "check"] and new != "replicas: ["
    sentence = outcome.out if is_judged else refusal(outcome)
    assert outcome.code == (1 if is_judged else 2)
    assert str(plan) in sentence
    assert said in sentence
    assert not plan.with_name("certificate.json").exists()


def test_a_missing_plan_is_refused(lull: Lull) -> None:
    assert "nowhere.yaml: there is no such file; `lull plan new` writes one" in refusal(
        lull("simulate", "nowhere.yaml")
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scenario", "earthquake"], "ready ones are as-forecast"),
        (["--scenario", "as-forecast", "--scenario", "as-forecast"], "differ in name"),
        (["--opens-at", "tomorrow"], "--opens-at: 'tomorrow' is no time"),
        (["--opens-at", "2026-03-25T02:00"], "carries no zone"),
        (["--opens-at", "2026-03-25T03:00Z"], "does not open at 2026-03-25 03:00 UTC"),
        (["--opens-at", "2027-03-25T02:00Z"], "does not cover the night"),
        (["--certificate", "."], "is a folder"),
        (["--dask", "nowhere"], "no Dask scheduler answers at 'nowhere'"),
    ],
    ids=[
        "unknown scenario",
        "twice the same",
        "no time",
        "no zone",
        "not an opening",
        "far away",
        "a folder",
        "no Dask",
    ],
)
def test_a_call_of_simulate_that_cannot_be_meant_is_refused(
    lull: Lull, plan: Path, arguments: list[str], said: str
) -> None:
    before = sorted(plan.parent.iterdir())
    assert said in refusal(lull("simulate", plan, "--replications", 2, *arguments))
    assert sorted(plan.parent.iterdir()) == before, "something was left behind"


def test_a_certificate_that_cannot_be_written_is_refused_before_the_simulation(
    lull: Lull, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.commands.simulate.validate_plan", lambda *_, **__: pytest.fail("it was simulated"))
    sentence = refusal(lull("simulate", plan, "--certificate", plan / "under-a-file" / "certificate.json"))
    assert f"{plan / 'under-a-file'}: no certificate can be written there" in sentence
    assert "--certificate" in sentence


def test_a_history_that_has_changed_since_the_plan_was_made_is_refused(lull: Lull, plan: Path) -> None:
    plan.write_text(plan.read_text().replace("  history: ", f"  history_digest: {'0' * 64}\n  history: "))
    assert "traffic.history_digest" in refusal(lull("simulate", plan, "--replications", 2))


def test_a_report_of_nothing_is_refused_and_leaves_nothing(lull: Lull, tmp_path: Path) -> None:
    assert "run `lull demo` first" in refusal(lull("report"))
    assert not (tmp_path / "home").exists()


def test_a_port_that_is_none_is_refused_by_every_command_that_needs_it(
    lull: Lull, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LULL_GATEWAY_PORT", "http")
    assert "LULL_GATEWAY_PORT is 'http'" in refusal(lull("doctor"))


# plan and simulate


def test_the_schema_is_that_of_the_plan(lull: Lull) -> None:
    schema = json.loads(lull("plan", "schema").out)
    assert {"serving", "traffic", "window", "training", "evaluation"} <= set(schema["required"])
    assert schema["additionalProperties"] is False


def test_a_valid_plan_is_called_valid_with_its_digest(lull: Lull, plan: Path) -> None:
    assert "is valid" in lull("plan", "check", plan).out
    assert json.loads(lull("plan", "check", plan, "--json").out)["digest"] == read_plan(plan).digest()


def test_too_few_nights_are_undecided_and_the_certificate_says_so(lull: Lull, plan: Path) -> None:
    outcome = lull("simulate", plan, "--scenario", "as-forecast", "--replications", 2)
    assert outcome.code == 3
    assert "Verdict: not enough evidence" in outcome.out
    certificate = read_certificate(plan.with_name("certificate.json"))
    assert certificate["answer"] == "not enough evidence"
    assert certificate["digest"] == certificate_digest(certificate)


def test_a_plan_that_holds_is_a_yes_and_its_certificate_covers_it(lull: Lull, plan: Path) -> None:
    outcome = lull("simulate", plan, "--scenario", "as-forecast", "--replications", 14, "--json")
    assert outcome.code == 0, outcome.out
    told = json.loads(outcome.out)
    certificate = read_certificate(Path(told.pop("certificate_file")))
    assert told == certificate
    check_certificate(certificate, read_plan(plan), dt.datetime.now(dt.UTC))


def test_a_plan_that_cannot_finish_is_a_no(lull: Lull, plan: Path) -> None:
    text = (
        plan.read_text().replace("minutes_p50: 10", "minutes_p50: 200").replace("minutes_p95: 15", "minutes_p95: 220")
    )
    plan.write_text(text)
    outcome = lull("simulate", plan, "--scenario", "as-forecast", "--replications", 6)
    assert outcome.code == 1
    assert "as-forecast: P(training finishes in the window, its reserve left free) is 0%" in outcome.out


def test_an_uncalibrated_service_model_is_marked_and_undecided_unless_allowed(lull: Lull, plan: Path) -> None:
    plan.write_text(plan.read_text().replace("calibrated: true", "calibrated: false"))
    outcome = lull("simulate", plan, "--scenario", "as-forecast", "--replications", 14)
    assert (outcome.code, "[uncalibrated]" in outcome.out) == (3, True)
    plan.write_text(plan.read_text().replace("acceptance:", "acceptance:\n  allow_uncalibrated: true"))
    outcome = lull("simulate", plan, "--scenario", "as-forecast", "--replications", 14)
    assert (outcome.code, "[uncalibrated]" in outcome.out) == (0, True)


def test_a_scenario_of_one_s_own_is_played(lull: Lull, plan: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("name: my-surge\nquestion: what if?\nevents:\n  - {kind: surge, at_min: 5, minutes: 5, factor: 2}\n")
    told = json.loads(lull("simulate", plan, "--scenario", own, "--replications", 2, "--json").out)
    assert [scenario["scenario"] for scenario in told["scenarios"]] == ["my-surge"]


def test_the_number_of_threads_changes_nothing_and_the_seed_does(plan: Path) -> None:
    read, scenarios = read_plan(plan), [read_scenario("as-forecast")]
    prints = [
        validate_plan(read, scenarios=scenarios, replications=2, threads=threads, first_seed=seed).certificate[
            "fingerprints"
        ]
        for threads, seed in ((1, 1), (2, 1), (2, 5))
    ]
    assert prints[0] == prints[1]
    assert prints[0] != prints[2]


def test_the_rules_that_run_at_night_are_the_ones_that_are_played(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr("flows.planning_run.make_rules", lambda triggers: ("the rules of", triggers))
    monkeypatch.setattr("flows.planning_run.simulate", lambda *_, rules, **__: seen.append(rules))
    monkeypatch.setattr("flows.planning_run.judge", lambda *_: None)
    monkeypatch.setattr("flows.planning_run.with_secondaries", lambda *_: None)
    monkeypatch.setattr("flows.planning_run.certify", lambda *_: {})
    read = read_plan(plan)
    validate_plan(read)
    assert seen == [("the rules of", read.triggers)]


def test_the_night_that_is_played_is_the_first_whose_lead_the_forecast_covers(plan: Path) -> None:
    read = read_plan(plan)
    known = plan_traffic(read)
    assert known.end == dt.datetime(2026, 3, 24, tzinfo=dt.UTC)
    assert choose_opening(read, known, None) == dt.datetime(2026, 3, 24, 2, tzinfo=dt.UTC)
    at = {
        "00:30": 24,
        "00:20": 25,
    }  # played from half an hour before the opening: 00:20 would begin before the forecast
    for start, day in at.items():
        moved = read.model_copy(update={"window": read.window.model_copy(update={"starts_at_local": start})})
        assert choose_opening(moved, known, None).day == day


def test_the_plan_moves_and_thins_its_history(plan: Path) -> None:
    read = read_plan(plan)
    plain = plan_traffic(read)
    traffic = read.traffic.model_copy(update={"shift_weeks": 3, "keep_ratio": 0.5})
    moved = plan_traffic(read.model_copy(update={"traffic": traffic}))
    assert moved.start - plain.start == dt.timedelta(weeks=3)
    assert moved.counts.sum() == pytest.approx(plain.counts.sum() / 2)


def test_a_plan_that_names_no_scenarios_gets_all_ready_ones(plan: Path) -> None:
    read = read_plan(plan)
    assert tuple(scenario.name for scenario in plan_scenarios(read)) == ready_scenarios()


def test_the_certificate_is_issued_by_the_clock_that_is_handed_in(plan: Path) -> None:
    now = dt.datetime(2009, 5, 3, 1, tzinfo=dt.UTC)
    result = validate_plan(read_plan(plan), now=now, scenarios=[read_scenario("as-forecast")], replications=2)
    assert result.certificate["issued_at"] == now.isoformat()
    assert result.certificate["history_digest"] == result.history.digest()


def test_every_answer_has_its_exit_code() -> None:
    assert EXIT_CODES == {Answer.HOLDS: 0, Answer.FAILS: 1, Answer.UNDECIDED: 3}


@pytest.mark.parametrize("content", [None, "not json", "[]", '{"answer": "holds"}'])
def test_what_is_no_certificate_is_refused_with_the_remedy(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "certificate.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidCertificate, match=r"certificate\.json: .*run `lull simulate`"):
        read_certificate(path)


def test_doctor_prints_findings_as_json(lull: Lull) -> None:
    outcome = lull("doctor", "--json")
    told = json.loads(outcome.out)
    assert outcome.code == (0 if told["is_well"] else 1)
    assert all(set(finding) == {"check", "is_well", "sentence"} for finding in told["findings"])


def test_an_invalid_plan_is_a_lull_error() -> None:
    assert issubclass(InvalidPlan, LullError)


# what-if


def test_a_what_if_prints_a_table_and_writes_it_and_a_page(lull: Lull, plan: Path, tmp_path: Path) -> None:
    plan.write_text(plan.read_text() + "costs:\n  replica_hour: 1.0\n")
    csv, page = tmp_path / "whatif.csv", tmp_path / "whatif.html"
    arguments = ["whatif", plan, "--vary", "serving.replicas=2..3", "--vary", "serving.queue_limit=10,50"]
    outcome = lull(*arguments, "--scenario", "as-forecast", "--replications", 14, "--csv", csv, "--page", page)
    assert outcome.code == 0, outcome.out
    assert "Holds at the least cost: serving.replicas=2, serving.queue_limit=10." in outcome.out
    assert csv.read_text().startswith("serving.replicas,serving.queue_limit,scenario,answer,")
    assert len(csv.read_text().splitlines()) == 5
    text = page.read_text()
    assert text.count("<svg") == 3  # which hold, cost against latency, the night
    assert "4 of the 4 plans that were tried hold" in text
    assert "sets no prices" not in text


def test_a_what_if_of_which_nothing_holds_is_a_no(lull: Lull, plan: Path) -> None:
    arguments = ["whatif", plan, "--vary", "window.duration_min=6,16", "--scenario", "as-forecast", "--json"]
    outcome = lull(*arguments, "--replications", 3)
    assert outcome.code == 1
    assert [row["answer"] for row in json.loads(outcome.out)] == ["fails", "fails"]


@pytest.mark.parametrize(
    ("vary", "sentence"),
    [
        ("serving.replicas", "--vary: 'serving.replicas' is no variation"),
        ("serving.replica=1,2", "did you mean 'replicas'?"),
        ("serving.replicas=0", "none of 1 plans can be played"),
    ],
)
def test_a_what_if_of_nonsense_is_refused(lull: Lull, plan: Path, vary: str, sentence: str) -> None:
    assert sentence in refusal(lull("whatif", plan, "--vary", vary, "--scenario", "as-forecast", "--replications", 2))


def test_a_gateway_that_cannot_listen_does_not_first_say_that_it_does(lull: Lull) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        said = refusal(lull("serve", "--port", port))
    assert said == f"lull: port {port} on 127.0.0.1 is in use; stop what listens there, or choose another with --port"


def test_a_page_in_markdown_and_the_wiring_load_nothing_heavy() -> None:
    heavy = ("numba", "matplotlib", "lightgbm", "sklearn", "mlflow", "evidently")
    code = f"import sys, flows.wiring, reports.publish; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", "each flow's process waits for it"
