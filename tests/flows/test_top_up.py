"""Deploy, top-up and status against a real Prefect server: runs exist, in UTC, and for openings only."""

import datetime as dt
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from flows.commands import status
from flows.commands.deploy import check_drift, deploy_plan
from flows.deployments import DeploymentDrift
from flows.openings_ahead import plan_calendar
from flows.services import Services
from flows.settings import Settings
from simulation.experiment import code_digest
from simulation.plan import Plan
from simulation.plan_file import read_plan, write_plan
from simulation.planning.openings import openings
from simulation.verdict import certificate_digest
from tests.simulation.plans import small_plan

pytestmark = pytest.mark.prefect


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def certify(plan: Plan, path: Path) -> Path:
    """Write a certificate that holds for a plan."""
    now = dt.datetime.now(dt.UTC)
    content = {
        "format": 1, "answer": "holds", "reasons": [],
        "provenance": {"plan_digest": plan.digest(), "code_digest": code_digest()},
        "issued_at": now.isoformat(), "expires_at": (now + dt.timedelta(hours=1)).isoformat(),
    }  # fmt: skip
    path.write_text(json.dumps({**content, "digest": certificate_digest(content)}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A home with a Prefect server and a worker of its own."""
    variables = {
        "LULL_HOME": str(tmp_path_factory.mktemp("top-up") / "home"),
        "LULL_GATEWAY_PORT": str(free_port()),
        "LULL_PREFECT_PORT": str(free_port()),
    }
    inherited = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PREFECT_")}
    try:
        with Services(Settings.from_environment(variables)) as running:
            running.start_prefect()
            running.start_worker()
            yield running
    finally:
        os.environ.update(inherited)


def expected(plan: Plan, folder: Path) -> list[dt.datetime]:
    """Return the next openings that the calendar leaves."""
    now = dt.datetime.now(dt.UTC)
    free = (o.opens_at for o in openings(plan, plan_calendar(plan, folder, now), now) if not o.is_denied)
    return [opens_at for opens_at, _ in zip(free, range(12), strict=False)]


def test_openings_have_their_runs_and_keep_them_when_the_calendar_changes(
    services: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, runs = services.settings.home, services.orchestrator
    section = {"files": [{"path": "events.ics", "kind": "maintenance"}]}
    plan_file = tmp_path / "plan.yaml"
    write_plan(small_plan(window__time_zone="America/New_York", calendar=section), plan_file)
    calendar_file = tmp_path / "events.ics"
    calendar_file.write_text("BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:t\nEND:VCALENDAR\n", encoding="utf-8")
    plan = read_plan(plan_file)
    assert deploy_plan(services.settings, runs, plan_file, certify(plan, tmp_path / "certificate.json")) > 12
    first = expected(plan, tmp_path)
    assert sorted(runs.planned_runs("retrain", plan.name)) == first

    # Maintenance is entered for the third opening, and someone took the fifth run away by hand.
    day = first[2]
    event = f"BEGIN:VEVENT\nUID:1\nSUMMARY:Move\nDTSTART:{day:%Y%m%dT%H%M%SZ}\nDURATION:PT1H\nEND:VEVENT\n"
    (home / "deployed" / "events.ics").write_text(
        calendar_file.read_text(encoding="utf-8").replace("END:VCALENDAR", event + "END:VCALENDAR"), encoding="utf-8"
    )
    runs.withdraw(runs.planned_runs("retrain", plan.name)[first[4]])
    ended = runs.wait("top-up", runs.start("top-up", plan.name, {}), timeout_s=120)
    assert ended.state == "Completed", ended.message
    assert ended.message.startswith("12 openings have a run, 2 new, 1 taken back")
    after = expected(plan, home / "deployed")
    assert day not in after
    assert sorted(runs.planned_runs("retrain", plan.name)) == after

    assert status.run(services.settings, json=True) == 1  # no gateway runs here
    told = json.loads(capsys.readouterr().out)
    assert len(told["openings"]) == 13
    assert "denied by maintenance: Move (events.ics)" in told["openings"][2]
    assert all("scheduled" in line for i, line in enumerate(told["openings"]) if i != 2)
    runs.withdraw(runs.planned_runs("retrain", plan.name)[after[0]])
    runs.withdraw("00000000-0000-0000-0000-000000000000")  # gone already: no trouble
    status.run(services.settings, json=True)
    assert "NO RUN; `lull deploy` or the top-up makes one" in json.loads(capsys.readouterr().out)["openings"][0]


def test_a_deployment_that_was_changed_on_the_server_is_not_written_over(services: Services, tmp_path: Path) -> None:
    plan = small_plan(name="drifting")
    write_plan(plan, tmp_path / "plan.yaml")
    certificate = certify(plan, tmp_path / "certificate.json")
    settings, orchestrator = services.settings, services.orchestrator
    deploy_plan(settings, orchestrator, tmp_path / "plan.yaml", certificate)
    check_drift(settings, orchestrator, plan.name)
    found = next(one for one in orchestrator.deployed(plan.name) if one["entrypoint"].endswith("retrain"))
    answer = httpx.patch(f"{orchestrator.api_url}/deployments/{found['id']}", json={"paused": True}, timeout=20)
    assert answer.status_code == 204
    with pytest.raises(DeploymentDrift, match="paused was deployed as False and is True; look at it, then deploy with"):
        check_drift(settings, orchestrator, plan.name)
    (settings.home / "prefect.yaml").write_text("deployments: 3\n")
    with pytest.raises(DeploymentDrift, match="is not as Lull wrote it"):
        check_drift(settings, orchestrator, plan.name)
    (settings.home / "prefect.yaml").unlink()
    with pytest.raises(DeploymentDrift, match="was deployed from elsewhere"):
        check_drift(settings, orchestrator, plan.name)
