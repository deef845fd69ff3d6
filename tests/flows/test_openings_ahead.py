"""Runs for the next openings: one each, in UTC, made once, taken back when the calendar changes its mind."""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flows.cycle import NEXT, _begin_next, deploy_to
from flows.openings_ahead import next_openings, plan_ahead, plan_calendar
from simulation.errors import InvalidPlan
from simulation.plan import Plan
from simulation.plan_file import write_plan
from tests.simulation.plans import small_plan

UTC = dt.UTC
NOW = dt.datetime(2026, 3, 6, 12, tzinfo=UTC)
NEW_YORK: dict[str, Any] = {"window__time_zone": "America/New_York", "window__starts_at_local": "02:30"}


class FakeRuns:
    """Runs in memory, as Prefect keeps them: one for each instant, gone when taken back."""

    def __init__(self) -> None:
        self.runs: dict[dt.datetime, str] = {}
        self.parameters: list[Mapping[str, object]] = []
        self.n_started = 0

    def start(
        self, flow: str, deployment: str, parameters: Mapping[str, object], *, at: dt.datetime | None = None
    ) -> str:
        assert (flow, deployment) == ("retrain", "small-night")
        assert at is not None
        assert at.utcoffset() == dt.timedelta()
        self.n_started += 1
        self.parameters.append(parameters)
        return self.runs.setdefault(at, f"run-{self.n_started}")

    def planned_runs(self, flow: str, deployment: str) -> dict[dt.datetime, str]:
        return dict(self.runs)

    def withdraw(self, run_id: str) -> None:
        self.runs = {at: found for at, found in self.runs.items() if found != run_id}


def ahead(runs: FakeRuns, plan: Plan, now: dt.datetime = NOW, folder: Path = Path()) -> Any:
    return plan_ahead(runs, plan, plan_calendar(plan, folder, now), now)


def denial(**changes: Any) -> dict[str, Any]:
    return {"rule": "freeze", "reason": "the year is closed", "time_zone": "America/New_York", **changes}


def test_the_next_twelve_openings_have_a_run_each_at_their_utc_instants_over_the_change_of_clocks() -> None:
    runs = FakeRuns()
    told = ahead(runs, small_plan(**NEW_YORK))
    assert sorted(runs.runs) == [opening.opens_at for opening in told.openings]
    assert len(runs.runs) == 12
    assert [f"{at:%m-%d %H:%M}" for at in sorted(runs.runs)[:3]] == ["03-07 07:30", "03-08 07:00", "03-09 06:30"]
    assert all(parameters == {"cycle": NEXT} for parameters in runs.parameters)
    assert told.sentence() == ("12 openings have a run, 12 new, 0 taken back; the first at 2026-03-07 07:30 UTC")


def test_again_nothing_is_made_and_a_day_later_one_is_added() -> None:
    runs, plan = FakeRuns(), small_plan(**NEW_YORK)
    ahead(runs, plan)
    again = ahead(runs, plan)
    assert (again.n_created, again.n_withdrawn) == (0, 0)
    later = ahead(runs, plan, NOW + dt.timedelta(days=1))
    assert (later.n_created, later.n_withdrawn, len(runs.runs)) == (1, 0, 13)  # the one that has come stays


def test_a_new_denial_takes_runs_back_and_others_take_their_place() -> None:
    runs = FakeRuns()
    ahead(runs, small_plan(**NEW_YORK))
    freeze = {"calendar": {"denials": [denial(first_day="2026-03-09", last_day="2026-03-10")]}}
    told = ahead(runs, small_plan(**NEW_YORK, **freeze))
    assert (told.n_created, told.n_withdrawn, len(runs.runs)) == (2, 2, 12)
    assert not {9, 10} & {at.day for at in runs.runs if at.month == 3 and at < NOW + dt.timedelta(days=7)}


def test_a_changed_window_leaves_no_run_of_the_old_one_behind() -> None:
    runs = FakeRuns()
    ahead(runs, small_plan(**NEW_YORK))
    ahead(runs, small_plan(**{**NEW_YORK, "window__starts_at_local": "04:00"}))
    assert {f"{at:%M}" for at in runs.runs} == {"00"}
    assert len(runs.runs) == 12


def test_a_calendar_that_denies_every_opening_is_refused_by_rule() -> None:
    plan = small_plan(**NEW_YORK, calendar={"denials": [denial()], "horizon_days": 30})
    with pytest.raises(InvalidPlan, match=r"no window opens before 2026-04-05; all are denied by freeze \(the year is"):
        next_openings(plan, plan_calendar(plan, Path(), NOW), NOW)


@pytest.mark.parametrize(
    ("main", "other", "is_denied"),
    [(None, None, True), ([], [], False), (["us"], ["eu"], True), (["us"], None, True), (["us"], ["us"], False)],
)
def test_a_rule_on_personal_data_binds_if_any_job_reads_them_or_does_not_say(
    main: Any, other: Any, is_denied: bool
) -> None:
    job = {"model": "b", "data": "d", "storage_path": "b", "personal_data_regions": other,
           "stages": [{"name": "train", "minutes_p50": 1, "minutes_p95": 2}]}  # fmt: skip
    plan = small_plan(
        training__personal_data_regions=main, training__jobs=[job], calendar={"denials": [denial(regions=["eu"])]}
    )
    calendar = plan_calendar(plan, Path(), NOW)
    assert bool(calendar.denials(NOW, NOW + dt.timedelta(days=1))) is is_denied


def test_the_files_of_a_calendar_go_with_the_deployed_plan_and_each_night_takes_the_newest(tmp_path: Path) -> None:
    source, home = tmp_path / "plans", tmp_path / "home"
    write_plan(small_plan(calendar={"files": [{"path": "cal/x.ics", "kind": "release"}]}), source / "plan.yaml")
    (source / "certificate.json").write_text("{}", encoding="utf-8")
    (source / "cal").mkdir()
    (source / "cal" / "x.ics").write_text("first", encoding="utf-8")
    deploy_to(home, source / "plan.yaml", source / "certificate.json")
    name = _begin_next(home)
    assert (home / "cycles" / name / "cal" / "x.ics").read_text(encoding="utf-8") == "first"
    (home / "deployed" / "cal" / "x.ics").write_text("second", encoding="utf-8")
    _begin_next(home)
    assert (home / "cycles" / name / "cal" / "x.ics").read_text(encoding="utf-8") == "second"
