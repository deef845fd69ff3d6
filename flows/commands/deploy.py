"""`lull deploy`: write prefect.yaml from a plan whose certificate holds, deploy it, and create the next runs in UTC."""

import datetime as dt
from pathlib import Path

from flows.adapters.orchestrator import Orchestrator, OrchestratorUnreachable
from flows.certificate_file import read_certificate
from flows.cycle import deploy_to
from flows.deployments import DeploymentDrift, read_prefect_yaml, write_prefect_yaml
from flows.domain.deployment_drift import drift
from flows.openings_ahead import next_openings, plan_ahead, plan_calendar
from flows.services import Services
from flows.settings import Settings
from simulation.plan_file import read_plan
from simulation.verdict import InvalidCertificate, check_certificate


def run(settings: Settings, plan: Path, certificate: Path | None, overwrite: bool = False) -> int:
    """Deploy; return 0, or 1 with a sentence when certificate or server do not allow it."""
    services = Services(settings)
    plan_file, certificate_file = plan, certificate or plan.parent / "certificate.json"
    try:
        known = read_plan(plan_file)
        check_certificate(read_certificate(certificate_file), known, dt.datetime.now(dt.UTC))
    except InvalidCertificate as problem:
        print(f"lull: not deployed: {problem}")
        return 1
    if not services.orchestrator.is_up():
        raise OrchestratorUnreachable(f"{settings.prefect_api_url}: Prefect does not answer; start it with `lull up`")
    with services:
        if not overwrite:
            try:
                check_drift(settings, services.orchestrator, known.name)
            except DeploymentDrift as problem:
                print(f"lull: not deployed: {problem}")
                return 1
        n = deploy_plan(settings, services.orchestrator, plan_file, certificate_file)
    print(f"deployed {plan}: {n} runs scheduled; see `lull status`")
    return 0


def deploy_plan(
    settings: Settings, orchestrator: Orchestrator, plan_file: Path, certificate_file: Path,
    certified_now: dt.datetime | None = None,
) -> int:  # fmt: skip
    """
    Deploy a plan and return how many runs are scheduled.

    Parameters
    ----------
    certified_now : UTC, by which clock the certificate is in date; the wall clock unless a demo cycle has its own

    Raises
    ------
    InvalidCertificate
        If it is missing, changed, expired, does not hold, or covers another plan or another simulator.
    InvalidPlan
        If the calendar cannot be read, or denies every opening to come.
    """
    plan = read_plan(plan_file)
    check_certificate(read_certificate(certificate_file), plan, certified_now or dt.datetime.now(dt.UTC))
    now = dt.datetime.now(dt.UTC)
    calendar = plan_calendar(plan, plan_file.parent, now)
    next_openings(plan, calendar, now)  # a plan that the calendar denies for good is refused before Prefect is asked
    deploy_to(settings.home, plan_file, certificate_file)
    prefect_yaml = settings.home / "prefect.yaml"
    write_prefect_yaml(plan, prefect_yaml)
    orchestrator.ensure_pool()
    orchestrator.deploy(prefect_yaml)
    plan_ahead(orchestrator, plan, calendar, now)
    return orchestrator.check_scheduled(plan.name)


def check_drift(settings: Settings, orchestrator: Orchestrator, name: str) -> None:
    """
    Raise `DeploymentDrift` unless the server runs a plan's deployments as this home wrote them, or has none.

    A deployment that somebody changed on the server would be lost without a word; one that another home made, too.
    """
    served = orchestrator.deployed(name)
    if not served:
        return
    file = settings.home / "prefect.yaml"
    written = [one for one in read_prefect_yaml(file) if one.get("name") == name]
    found = (
        drift(written, served) if written else (f"plan {name} was deployed from elsewhere, not from {settings.home}",)
    )
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise DeploymentDrift(
            f"{orchestrator.api_url} has drifted from {file}: {found[0]}{more}; "
            "look at it, then deploy with --overwrite"
        )
