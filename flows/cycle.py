"""One cycle's place on disk and its clock: what every flow is told, and nothing else."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from simulation.errors import InvalidPlan, LullError
from simulation.plan import Plan
from simulation.plan_file import read_plan, write_whole

NEXT = "next"  # the cycle of the day, made from the deployed plan


class SimulatedClockRefused(LullError):
    """A simulated clock outside the demo profile."""


@dataclass(frozen=True)
class Cycle:
    """The files of one cycle under `<home>/cycles/<name>`, and the clock it runs by."""

    name: str
    directory: Path
    plan: Plan
    simulated_now: dt.datetime | None

    @property
    def is_clock_simulated(self) -> bool:
        """Whether this cycle runs by a date of its own."""
        return self.simulated_now is not None

    def now(self) -> dt.datetime:
        """Return the cycle's time in UTC: the wall clock, unless the demo gave a date."""
        return self.simulated_now or dt.datetime.now(dt.UTC)

    def clock_sentence(self) -> str:
        """Say which clock was used."""
        if self.simulated_now is None:
            return "the wall clock"
        return f"a simulated clock at {self.simulated_now:%Y-%m-%d %H:%M} UTC, allowed in the demo profile only"

    def path(self, name: str) -> Path:
        """Return the path of one of the cycle's files."""
        return self.directory / name


def open_cycle(home: Path, name: str, simulated_now: str | None, registry_uri: str) -> Cycle:
    """
    Return the cycle with its plan; the name "next" begins the cycle of today from the deployed plan.

    Raises
    ------
    SimulatedClockRefused
        If a date is given outside the demo profile, or against a registry that is not the home's own.
    InvalidPlan
        If the cycle's plan is missing or broken.
    """
    if name == NEXT:
        name = _begin_next(home)
    directory = home / "cycles" / name
    plan = read_plan(directory / "plan.yaml")
    now = None
    if simulated_now is not None:
        if plan.profile != "demo":
            raise SimulatedClockRefused(
                f"plan {plan.name}: a simulated clock is for the demo profile; leave the date out or set profile: demo"
            )
        refuse_foreign_registry(home, registry_uri)
        now = _moment(simulated_now)
    return Cycle(name, directory, plan, now)


def deploy_to(home: Path, plan_file: Path, certificate_file: Path) -> None:
    """Keep the plan and its certificate as the deployed ones, from which scheduled runs take theirs."""
    for source, name in ((plan_file, "plan.yaml"), (certificate_file, "certificate.json")):
        write_whole(home / "deployed" / name, source.read_text(encoding="utf-8"))
    _copy_calendar(plan_file, home / "deployed")


def _begin_next(home: Path) -> str:
    """Begin the cycle of today from the deployed plan, and return its name."""
    name = f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"
    deployed = home / "deployed"
    if not (deployed / "plan.yaml").is_file():
        raise InvalidPlan(f"{deployed / 'plan.yaml'}: no plan is deployed; run `lull deploy PLAN` first")
    for file in ("plan.yaml", "certificate.json"):
        target = home / "cycles" / name / file
        if not target.is_file():
            write_whole(target, (deployed / file).read_text(encoding="utf-8"))
    _copy_calendar(deployed / "plan.yaml", home / "cycles" / name)
    return name


def _copy_calendar(plan_file: Path, folder: Path) -> None:
    """Keep the calendar files that lie beside a plan with its copy; absolute ones are read where they are."""
    calendar = read_plan(plan_file).calendar
    for path in calendar.paths() if calendar is not None else ():
        if not Path(path).is_absolute():
            write_whole(folder / path, (plan_file.parent / path).read_text(encoding="utf-8"))


def _moment(text: str) -> dt.datetime:
    """Return an ISO date with its zone in UTC."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise SimulatedClockRefused(f"{text!r} is no date; write it like 2009-06-01T02:00:00+00:00") from None
    if moment.tzinfo is None:
        raise SimulatedClockRefused(f"{text!r} carries no zone; write it with +00:00")
    return moment.astimezone(dt.UTC)


def refuse_foreign_registry(home: Path, uri: str) -> None:
    """Raise `SimulatedClockRefused` if a registry lies outside `home`: others would take its dates for real ones."""
    if not _is_own_registry(home, uri):
        raise SimulatedClockRefused(
            f"{uri}: a simulated clock is refused against a registry outside {home}; leave the date out, or unset "
            "MLFLOW_TRACKING_URI for the demo"
        )


def _is_own_registry(home: Path, uri: str) -> bool:
    return uri.startswith("sqlite:///") and Path(uri.removeprefix("sqlite:///")).resolve().parent == home.resolve()
