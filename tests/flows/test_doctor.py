"""`lull doctor`: each check says what is well and what is wrong, and leaves nothing behind."""

import datetime as dt
import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from flows.commands import doctor
from flows.settings import TELEMETRY_OFF, Settings


def test_a_package_outside_its_pin_is_named_with_its_version_and_the_command_that_mends_it() -> None:
    findings = list(doctor.check_versions([Requirement("sqlalchemy<2.1")], lambda name: "2.1.9"))
    assert [finding.is_well for finding in findings] == [False]
    assert findings[0].sentence == "sqlalchemy 2.1.9 is outside <2.1; run `pip install 'sqlalchemy<2.1'`."


def test_a_package_that_is_not_there_is_named() -> None:
    findings = list(doctor.check_versions([Requirement("prefect==3.8.8")], lambda name: None))
    assert "prefect is not installed" in findings[0].sentence
    assert not findings[0].is_well


def test_the_pins_hold_at_their_limits() -> None:
    pins, installed = [Requirement("pandas>=3,<3.1")], {"3.0": True, "3.0.6": True, "3.1.0": False, "2.3.3": False}
    for version, is_well in installed.items():
        assert all(f.is_well for f in doctor.check_versions(pins, {"pandas": version}.get)) is is_well


def test_the_pins_are_read_from_the_project_itself() -> None:
    requirements, python = doctor.declared()
    assert {"prefect", "mlflow", "evidently", "simpy"} <= {r.name for r in requirements}
    assert "distributed" not in {r.name for r in requirements}, "an optional extra is not asked for"
    assert python.replace(" ", "") in (">=3.11,<3.14", "<3.14,>=3.11")


@pytest.mark.parametrize(
    ("version", "is_well"), [("3.10.14", False), ("3.11.0", True), ("3.13.9", True), ("3.14.0", False)]
)
def test_a_python_outside_the_range_is_wrong(version: str, is_well: bool) -> None:
    assert doctor.check_python(">=3.11,<3.14", version).is_well is is_well


def test_a_home_that_is_not_there_yet_is_well_and_is_not_made(tmp_path: Path) -> None:
    finding = doctor.check_home(tmp_path / "a" / "b")
    assert finding.is_well
    assert list(tmp_path.iterdir()) == []


def test_a_home_under_a_file_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finding = doctor.check_home(tmp_path / "file" / "home")
    assert not finding.is_well
    assert str(tmp_path / "file") in finding.sentence
    assert "LULL_HOME" in finding.sentence


def test_a_home_that_refuses_files_is_wrong() -> None:
    finding = doctor.check_home(Path("/proc"))
    assert not finding.is_well
    assert "/proc cannot be written to" in finding.sentence


def test_a_full_disk_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MIN_FREE_GIB", 1e9)
    assert not doctor.check_space(tmp_path).is_well


def test_a_free_port_is_well() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    assert doctor.check_port("gateway port", "127.0.0.1", port, "/healthz", "LULL_GATEWAY_PORT").is_well


class _Answering(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def answering_port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answering) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_a_port_on_which_our_own_server_answers_is_well(answering_port: int) -> None:
    finding = doctor.check_port("gateway port", "127.0.0.1", answering_port, "/healthz", "LULL_GATEWAY_PORT")
    assert finding.is_well
    assert "running already" in finding.sentence


def test_a_port_on_which_another_program_answers_is_wrong(answering_port: int) -> None:
    finding = doctor.check_port("Prefect port", "127.0.0.1", answering_port, "/api/health", "LULL_PREFECT_PORT")
    assert not finding.is_well
    assert "answers 404" in finding.sentence
    assert "set LULL_PREFECT_PORT" in finding.sentence


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"])
def test_a_port_held_by_something_that_speaks_no_http_is_wrong(greeting: bytes) -> None:
    def greet(server: socket.socket) -> None:
        with server.accept()[0] as client:
            client.recv(4096)
            client.sendall(greeting)

    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        threading.Thread(target=greet, args=(server,), daemon=True).start()
        port = server.getsockname()[1]
        finding = doctor.check_port("gateway port", "127.0.0.1", port, "/healthz", "LULL_GATEWAY_PORT")
    assert not finding.is_well
    assert "does not answer as ours would" in finding.sentence


def test_a_machine_without_zones_is_wrong() -> None:
    assert not doctor.check_zones(set()).is_well


@pytest.mark.parametrize(("zone", "is_well"), [("Europe/Paris", True), (":Europe/Paris", True), ("Europe/Pari", False)])
def test_a_local_zone_that_nobody_knows_is_wrong(zone: str, is_well: bool) -> None:
    finding = doctor.check_local_zone({"TZ": zone})
    assert finding.is_well is is_well
    assert is_well or "Europe/Pari" in finding.sentence


def test_a_clock_from_before_lull_is_wrong() -> None:
    assert not doctor.check_clock(dt.datetime(1970, 1, 1, tzinfo=dt.UTC)).is_well
    assert doctor.check_clock(dt.datetime(2026, 1, 1, tzinfo=dt.UTC)).is_well


def test_telemetry_that_is_not_off_is_wrong_by_its_variable() -> None:
    assert [f.is_well for f in doctor.check_telemetry(TELEMETRY_OFF)] == [True]
    findings = list(doctor.check_telemetry({**TELEMETRY_OFF, "DO_NOT_TRACK": "1"}))
    assert [f.is_well for f in findings] == [False]
    assert "DO_NOT_TRACK is '1'" in findings[0].sentence


def test_one_wrong_thing_makes_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings.from_environment({}, home=tmp_path)
    well, wrong = doctor.Finding("a", True, "is well."), doctor.Finding("b", False, "is broken; mend it.")
    for findings, code in (([well], 0), ([well, wrong], 1)):
        monkeypatch.setattr(doctor, "examine", lambda *_, found=findings: found)
        assert doctor.run(settings, as_json=False) == code
    assert "WRONG b: is broken; mend it." in capsys.readouterr().out


def test_all_checks_run_on_this_machine(tmp_path: Path) -> None:
    settings = Settings.from_environment({"LULL_GATEWAY_PORT": "8931", "LULL_PREFECT_PORT": "8932"}, home=tmp_path)
    checks = {finding.check for finding in doctor.examine(settings, TELEMETRY_OFF)}
    assert {"Python", "versions", "home", "gateway port", "Prefect port", "time zones", "clock", "telemetry"} <= checks


def test_addresses_that_variables_name_are_asked(tmp_path: Path, answering_port: int) -> None:
    nobody = "http://127.0.0.1:1"
    well = doctor.check_address("Prefect", f"http://127.0.0.1:{answering_port}/healthz", "PREFECT_API_URL")
    assert well.is_well
    for uri, is_well in (
        (f"sqlite:///{tmp_path}/mlflow.db", True),
        ("sqlite:////no/such/folder/mlflow.db", False),
        (nobody, False),
        ("postgresql://lull:secret@127.0.0.1:1/mlflow", False),
    ):
        environment = {"MLFLOW_TRACKING_URI": uri, "PREFECT_API_URL": f"{nobody}/api"}
        settings = Settings.from_environment(environment, home=tmp_path)
        finding = doctor.check_registry(settings)
        assert finding.is_well is is_well, finding
        assert is_well or finding.sentence.startswith("MLFLOW_TRACKING_URI: "), finding
        assert "secret" not in finding.sentence
    prefect = next(f for f in doctor.examine(settings, TELEMETRY_OFF) if f.check == "Prefect")
    assert not prefect.is_well
    assert prefect.sentence.startswith(f"PREFECT_API_URL: {nobody}/api/health cannot be reached")
