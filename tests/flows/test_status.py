"""`lull status` says what is up and what is not, reads the audit log, and ends with 1 when something is down."""

import datetime as dt
import json
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.adapters.audit import AuditFile
from flows.adapters.flags import FlagFile, Traffic
from flows.commands import status
from flows.gateway.slot_file import Filled, SlotFile
from flows.settings import Settings
from flows.wiring import gateway_settings
from reports.records import PromotionRecord, save_record
from simulation.plan_file import write_plan
from tests.simulation.plans import small_plan


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return a home whose ports nobody listens on."""
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as server:
            ports.append(str(server.getsockname()[1]))
    environment = {"LULL_HOME": str(tmp_path), "LULL_GATEWAY_PORT": ports[0], "LULL_PREFECT_PORT": ports[1]}
    return Settings.from_environment(environment)


def said(settings: Settings, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the status as JSON; with nothing up it ends with 1."""
    assert status.run(settings, json=True) == 1
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_home_where_nothing_ran_yet_is_told_what_to_start(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    found = said(settings, capsys)
    assert found["gateway"].startswith("down: ")
    assert found["prefect"].startswith("down: ")
    assert found["prefect"].endswith("start it with `lull up`")
    assert found["cycle"] == "none yet; `lull demo` runs the first one"
    assert found["audit"] == "0 entries, the chain is whole"


def test_the_text_says_the_same_a_line_each(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert status.run(settings, json=False) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["home", "gateway", "cycle", "prefect", "audit"]


def test_the_last_cycle_s_verdict_is_shown(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    for name, verdict in (("2009-06", "promoted"), ("2009-07", "held")):
        record = PromotionRecord(
            cycle=name, verdict=verdict, reasons=[f"{name} ended so"], slot_before="blue", slot_after="blue",
            version_before="1", version_after="1", steps=[], answered_by_slot={}, answered_by_version={}, failed=0,
            sent=0, rollback_drill_s=None,
        )  # fmt: skip
        save_record(record, settings.cycles / name / "promotion.json")
    assert said(settings, capsys)["cycle"] == "2009-07: held, 2009-07 ended so"
    (settings.cycles / "2009-08").mkdir()
    assert said(settings, capsys)["cycle"] == "2009-08: not finished"


def test_a_broken_audit_log_is_said_aloud(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    audit = AuditFile(settings.audit_file)
    audit.append("held", at=dt.datetime(2009, 6, 1, tzinfo=dt.UTC), reason="too few rows")
    assert said(settings, capsys)["audit"] == "1 entries, the chain is whole"
    settings.audit_file.write_text(settings.audit_file.read_text().replace("few", "many"), encoding="utf-8")
    assert said(settings, capsys)["audit"].startswith("BROKEN: ")


def test_a_gateway_that_is_down_still_has_its_slots_on_disk(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    place = gateway_settings(settings)
    for slot, version in (("blue", "1"), ("green", "2")):
        SlotFile(place.state_path).put(slot, Filled(version=version, path="m", digest="d", is_warm=True))  # type: ignore[arg-type]  # both are slots
    FlagFile(place.flag_path).write(Traffic("green", previous="blue"))
    found = said(settings, capsys)
    assert found["gateway"].startswith("down: ")
    assert found["slots"][:2] == ["blue: version 1", "green: version 2 (live)"]


def test_the_registry_s_champion_is_shown_beside_what_is_live(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "registry" not in said(settings, capsys)
    write_plan(small_plan(), settings.cycles / "2009-05" / "plan.yaml")
    (settings.home / "mlflow.db").touch()
    monkeypatch.setattr(status, "registry", lambda *_: SimpleNamespace(champion=lambda: "2"))
    assert said(settings, capsys)["registry"] == "champion is version 2"


def test_a_prefect_of_another_home_is_not_up_for_this_one(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status.Orchestrator, "is_up", lambda _: True)
    monkeypatch.setattr(status.Orchestrator, "server_home", lambda _: "/srv/other/prefect")
    assert said(settings, capsys)["prefect"].startswith("up, but it is the Prefect of /srv/other;")
