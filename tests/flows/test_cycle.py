"""A cycle's clock: the wall's, or a simulated one for the demo against its own registry and nowhere else."""

import datetime as dt
from pathlib import Path

import pytest

from flows.cycle import NEXT, SimulatedClockRefused, deploy_to, open_cycle
from simulation.errors import InvalidPlan
from simulation.plan_file import read_plan, write_plan

EXAMPLE = Path(__file__).parents[2] / "examples" / "plan.yaml"
DATE = "2009-06-01T02:00:00+00:00"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home with a demo cycle and a production cycle."""
    plan = read_plan(EXAMPLE)
    for profile in ("demo", "production"):
        write_plan(plan.model_copy(update={"profile": profile}), tmp_path / "cycles" / profile / "plan.yaml")
    return tmp_path


def own_registry(home: Path) -> str:
    """Return the registry that a home starts with."""
    return f"sqlite:///{home / 'mlflow.db'}"


def test_the_demo_may_name_its_date_against_its_own_registry(home: Path) -> None:
    cycle = open_cycle(home, "demo", DATE, own_registry(home))
    assert cycle.now() == dt.datetime(2009, 6, 1, 2, 0, tzinfo=dt.UTC)
    assert cycle.clock_sentence() == "a simulated clock at 2009-06-01 02:00 UTC, allowed in the demo profile only"
    assert cycle.path("plan.yaml").is_file()


def test_without_a_date_every_profile_runs_by_the_wall_clock(home: Path) -> None:
    for name in ("demo", "production"):
        before = dt.datetime.now(dt.UTC)
        cycle = open_cycle(home, name, None, "https://registry.example")
        assert before <= cycle.now() <= dt.datetime.now(dt.UTC)
        assert (cycle.is_clock_simulated, cycle.clock_sentence()) == (False, "the wall clock")


def test_a_production_plan_refuses_a_simulated_clock(home: Path) -> None:
    with pytest.raises(SimulatedClockRefused, match="a simulated clock is for the demo profile; leave the date out"):
        open_cycle(home, "production", DATE, own_registry(home))


@pytest.mark.parametrize(
    "uri",
    ["https://registry.example", "sqlite:////elsewhere/mlflow.db", "postgresql://registry.example/mlflow", "",
     "sqlite:///{home}/../mlflow.db", "sqlite:///{home}/deeper/mlflow.db"],
)  # fmt: skip
def test_another_registry_refuses_a_simulated_clock(home: Path, uri: str) -> None:
    with pytest.raises(SimulatedClockRefused, match="refused against a registry outside"):
        open_cycle(home, "demo", DATE, uri.format(home=home))


def test_a_date_without_a_zone_is_refused(home: Path) -> None:
    with pytest.raises(SimulatedClockRefused, match=r"carries no zone; write it with \+00:00"):
        open_cycle(home, "demo", "2009-06-01T02:00:00", own_registry(home))


def test_a_date_that_is_none_is_one_sentence(home: Path) -> None:
    with pytest.raises(
        SimulatedClockRefused, match=r"'last June' is no date; write it like 2009-06-01T02:00:00\+00:00"
    ):
        open_cycle(home, "demo", "last June", own_registry(home))


def test_a_date_of_another_zone_is_kept_and_told_in_utc(home: Path) -> None:
    cycle = open_cycle(home, "demo", "2009-06-01T04:00:00+02:00", own_registry(home))
    assert cycle.now().utcoffset() == dt.timedelta(0)
    assert "2009-06-01 02:00 UTC" in cycle.clock_sentence()


def test_a_cycle_without_a_plan_is_named_by_its_file(home: Path) -> None:
    with pytest.raises(InvalidPlan, match=r"cycles/none/plan.yaml: there is no such file"):
        open_cycle(home, "none", None, own_registry(home))


def test_the_next_cycle_begins_from_what_was_deployed_and_is_named_by_its_day(home: Path) -> None:
    with pytest.raises(InvalidPlan, match="no plan is deployed; run `lull deploy PLAN` first"):
        open_cycle(home, NEXT, None, own_registry(home))
    certificate = home / "certificate.json"
    certificate.write_text("{}", encoding="utf-8")
    deploy_to(home, EXAMPLE, certificate)
    cycle = open_cycle(home, NEXT, None, own_registry(home))
    assert dt.date.fromisoformat(cycle.name) <= dt.datetime.now(dt.UTC).date()
    assert cycle.plan.digest() == read_plan(EXAMPLE).digest()
    assert cycle.path("certificate.json").read_text(encoding="utf-8") == "{}"
