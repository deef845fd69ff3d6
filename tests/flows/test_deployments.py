"""What is deployed fits the flows it starts, names no machine, and is refused without a certificate that holds."""

import datetime as dt
import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from flows.adapters.orchestrator import OrchestratorUnreachable
from flows.commands import deploy
from flows.deployments import FLOWS, deployments_of, write_prefect_yaml
from flows.settings import Settings
from simulation.experiment import code_digest
from simulation.plan import Plan
from simulation.plan_file import read_plan
from simulation.verdict import certificate_digest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "plan.yaml"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return read_plan(EXAMPLE)


def deployment(plan: Plan, name: str) -> dict[str, Any]:
    """Return the deployment of one flow."""
    found = deployments_of(plan)["deployments"]
    return next(item for item in found if item["entrypoint"] == FLOWS[name])


@pytest.mark.parametrize("name", list(FLOWS))
def test_every_entrypoint_imports_and_its_parameters_bind(plan: Plan, name: str) -> None:
    from prefect import Flow

    found = deployment(plan, name)
    module, attribute = found["entrypoint"].rsplit(".", 1)
    flow = getattr(importlib.import_module(module), attribute)
    assert isinstance(flow, Flow)
    assert flow.name == name
    given = found["parameters"] | ({} if name == "top-up" else {"simulated_now": None})
    assert flow.validate_parameters(found["parameters"]) == given


@pytest.mark.parametrize("name", list(FLOWS))
def test_the_heavy_flow_has_no_clock_of_its_own_and_the_light_ones_keep_to_utc(plan: Plan, name: str) -> None:
    schedules = deployment(plan, name)["schedules"]
    crons = {"report-drift": "0 5 * * *", "top-up": "17 */6 * * *"}
    assert schedules == ([{"cron": crons[name], "timezone": "UTC", "active": True}] if name in crons else [])


def test_no_deployment_runs_beside_itself(plan: Plan) -> None:
    limits = [item["concurrency_limit"]["limit"] for item in deployments_of(plan)["deployments"]]
    assert limits == [1] * 5


def test_no_text_names_a_place_on_this_machine(plan: Plan, tmp_path: Path) -> None:
    write_prefect_yaml(plan, tmp_path / "prefect.yaml")
    text = (tmp_path / "prefect.yaml").read_text(encoding="utf-8")
    assert not re.search(r"(?m)(?:^|[\s'\":])/[A-Za-z]", text)
    assert str(tmp_path) not in text
    assert YAML(typ="safe").load(text) == json.loads(json.dumps(deployments_of(plan)))


def test_the_repository_s_own_prefect_yaml_is_what_its_example_plan_gives(plan: Plan, tmp_path: Path) -> None:
    write_prefect_yaml(plan, tmp_path / "prefect.yaml")
    assert (ROOT / "prefect.yaml").read_bytes() == (tmp_path / "prefect.yaml").read_bytes()


def certificate(plan: Plan, **changes: Any) -> dict[str, Any]:
    """Return a certificate that holds but for `changes`, digested after them."""
    now = dt.datetime.now(dt.UTC)
    content = {
        "format": 1,
        "answer": "holds",
        "reasons": ["every scenario holds"],
        "provenance": {"plan_digest": plan.digest(), "code_digest": code_digest()},
        "issued_at": now.isoformat(),
        "expires_at": (now + dt.timedelta(hours=1)).isoformat(),
        **changes,
    }
    return {**content, "digest": certificate_digest(content)}


def broken_certificates(plan: Plan) -> dict[str, tuple[str | None, str]]:
    """Return file contents that must be refused, and why."""
    good = certificate(plan)
    other_plan = {**good["provenance"], "plan_digest": "0" * 64}
    other_code = {**good["provenance"], "code_digest": "0" * 64}
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC).isoformat()
    failing = certificate(plan, answer="fails", reasons=["P(breach) is 90%"])
    return {
        "missing": (None, "there is no certificate; run `lull simulate`"),
        "no json": ("holds", "is not a certificate"),
        "a list": ("[]", "is not a certificate"),
        "half": ('{"answer": "holds"}', "is not a certificate"),
        "changed": (json.dumps({**failing, "answer": "holds"}), "was changed after it was issued"),
        "expired": (json.dumps(certificate(plan, expires_at=past)), "expired at 2020-01-01"),
        "failing": (json.dumps(failing), "says 'fails': P(breach) is 90%"),
        "undecided": (json.dumps(certificate(plan, answer="not enough evidence", reasons=[])), "not enough evidence"),
        "another plan": (json.dumps(certificate(plan, provenance=other_plan)), "another version of plan"),
        "another simulator": (json.dumps(certificate(plan, provenance=other_code)), "another version of the simulator"),
    }


CASES = ["missing", "no json", "a list", "half", "changed", "expired", "failing", "undecided", "another plan",
         "another simulator"]  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return a home whose Prefect must not be asked: whoever asks fails the test."""

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("Prefect was asked")

    for name in ("is_up", "wait_until_up", "ensure_pool", "deploy", "start", "planned_runs", "_request"):
        monkeypatch.setattr(f"flows.adapters.orchestrator.Orchestrator.{name}", asked)
    return Settings.from_environment({"LULL_HOME": str(tmp_path / "home")})


@pytest.mark.parametrize("case", CASES)
def test_a_bad_certificate_ends_with_1_before_prefect_is_asked(
    plan: Plan, settings: Settings, case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, sentence = broken_certificates(plan)[case]
    file = tmp_path / "certificate.json"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    assert deploy.run(settings, EXAMPLE, file) == 1
    said = capsys.readouterr().out
    assert said.startswith("lull: not deployed: ")
    assert sentence in said
    assert said.count("\n") == 1
    assert not (settings.home / "prefect.yaml").exists()


def test_a_good_certificate_gets_as_far_as_prefect(
    plan: Plan, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.adapters.orchestrator.Orchestrator.is_up", lambda _: False)
    file = tmp_path / "certificate.json"
    file.write_text(json.dumps(certificate(plan)), encoding="utf-8")
    with pytest.raises(OrchestratorUnreachable, match="Prefect does not answer; start it with `lull up`"):
        deploy.run(settings, EXAMPLE, file)
