"""A flow asks whether its window is open: the instants that decide, in Paris and over the change of clocks."""

import datetime as dt
from pathlib import Path

import pytest

from flows.domain.window_in_force import window_in_force
from simulation.errors import LullError
from simulation.plan import Plan
from simulation.plan_file import read_plan

EXAMPLE = Path(__file__).parents[3] / "examples" / "plan.yaml"
# Tuesday 13 January 2026, 02:00 to 04:00 in Paris; 40 minutes of work and 10 of reserve leave a cutoff at 03:10.
OPENS = dt.datetime(2026, 1, 13, 1, 0, tzinfo=dt.UTC)
CLOSES = OPENS + dt.timedelta(minutes=120)
CUTOFF = CLOSES - dt.timedelta(minutes=50)
TICK = dt.timedelta(microseconds=1)


@pytest.fixture(scope="module")
def plan() -> Plan:
    found = read_plan(EXAMPLE)
    window = found.window.model_copy(
        update={"time_zone": "Europe/Paris", "starts_at_local": "02:00", "duration_min": 120.0, "weekdays": ("tue",),
                "rollback_reserve_min": 10.0}
    )  # fmt: skip
    stage = found.training.stages[0]
    stages = tuple(
        stage.model_copy(update={"name": name, "minutes_p50": 1.0, "minutes_p95": minutes})
        for name, minutes in (("snapshot", 5.0), ("train", 30.0), ("register", 5.0))
    )
    training = found.training.model_copy(update={"stages": stages})
    return found.model_copy(update={"window": window, "training": training})


@pytest.mark.parametrize(
    ("now", "is_open"),
    [
        (OPENS - TICK, False),
        (OPENS, True),
        (CUTOFF - TICK, True),
        (CUTOFF, True),
        (CUTOFF + TICK, False),
        (CLOSES - TICK, False),
        (CLOSES, False),
        (OPENS + dt.timedelta(days=25), False),
    ],
)
def test_work_may_start_from_the_opening_up_to_the_cutoff_itself(plan: Plan, now: dt.datetime, is_open: bool) -> None:
    assert window_in_force(plan, now).is_open is is_open


def test_a_start_too_late_says_by_how_much_and_when_to_come_again(plan: Plan) -> None:
    decision = window_in_force(plan, CUTOFF + dt.timedelta(minutes=3))
    assert decision.reason == (
        "snapshot would start 3.0 minutes after its cutoff 03:10 CET; the next window opens Tue 2026-01-20 02:00 CET"
    )
    assert decision.next_opening == OPENS + dt.timedelta(weeks=1)


def test_outside_every_window_there_is_no_cutoff_and_the_next_opening_is_told(plan: Plan) -> None:
    decision = window_in_force(plan, CLOSES)
    assert (decision.opens_at, decision.closes_at, decision.cutoff) == (None, None, None)
    assert decision.reason == "no window is open; the next window opens Tue 2026-01-20 02:00 CET"


def test_a_run_that_comes_25_days_late_is_refused_by_the_calendar_not_by_luck(plan: Plan) -> None:
    decision = window_in_force(plan, OPENS + dt.timedelta(days=25))
    assert not decision.is_open
    assert decision.next_opening == OPENS + dt.timedelta(days=28)


@pytest.mark.parametrize(("stage", "left_min"), [(0, 40), (1, 35), (2, 5), (3, 0)])
def test_the_cutoff_moves_with_the_work_that_is_left(plan: Plan, stage: int, left_min: int) -> None:
    last = CLOSES - dt.timedelta(minutes=left_min + 10)
    assert window_in_force(plan, last, next_stage=stage).is_open
    late = window_in_force(plan, last + dt.timedelta(minutes=1), next_stage=stage)
    assert not late.is_open
    assert late.reason.startswith((["snapshot", "train", "register", "promotion"])[stage])


def test_the_window_keeps_its_local_hour_after_the_clocks_changed(plan: Plan) -> None:
    summer = dt.datetime(2026, 7, 14, 0, 0, tzinfo=dt.UTC)
    assert window_in_force(plan, summer).opens_at == summer
    assert not window_in_force(plan, summer - TICK).is_open


def test_an_unknown_zone_is_an_error_and_never_a_silent_yes(plan: Plan) -> None:
    lost = plan.model_copy(update={"window": plan.window.model_copy(update={"time_zone": "Europe/Atlantis"})})
    with pytest.raises(LullError, match="Europe/Atlantis"):
        window_in_force(lost, OPENS)


def test_a_window_too_short_for_the_work_is_never_open(plan: Plan) -> None:
    short = plan.model_copy(update={"window": plan.window.model_copy(update={"duration_min": 45.0})})
    assert not any(window_in_force(short, OPENS + dt.timedelta(minutes=m)).is_open for m in range(-5, 50))
