"""A flow asks whether its window is open: the instants that decide, in Paris and over the change of clocks."""

import datetime as dt
from pathlib import Path

import pytest

from flows.domain.window_in_force import window_in_force
from simulation.errors import InvalidPlan, LullError
from simulation.plan import CalendarSection, Job, Plan
from simulation.plan_file import read_plan
from simulation.traffic.calendar import Calendar, CalendarEntry

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


# Denials: they win over the window, name their rule, and say when the next opening is. A rollback is exempt.


def denied(begin_min: float, end_min: float, rule: str = "retention") -> Calendar:
    """Return a calendar with one denial between two minutes after the opening, and a note beside it."""
    begin, end = (OPENS + dt.timedelta(minutes=minutes) for minutes in (begin_min, end_min))
    entry = CalendarEntry(begin, end, rule, "no EU data at night.", True)
    note = CalendarEntry(OPENS, CLOSES, "holiday FR", "a feast", False)
    return Calendar(OPENS - dt.timedelta(days=2), OPENS + dt.timedelta(days=60), (entry, note))


def test_inside_a_denial_nothing_starts_and_the_rule_the_reason_and_the_next_opening_are_told(plan: Plan) -> None:
    decision = window_in_force(plan, OPENS, calendar=denied(-30, 30))
    assert not decision.is_open
    assert decision.rule == "retention"
    assert decision.reason == (
        "retention (no EU data at night) denies it until Tue 02:30 CET; the next window opens Tue 2026-01-13 02:30 CET"
    )
    assert decision.next_opening == OPENS + dt.timedelta(minutes=30)


@pytest.mark.parametrize(
    ("minutes", "rule"),
    [
        (-1 / 60, "window"),
        (0, ""),
        (10, ""),  # the piece before the denial is 60 minutes long: 40 of work, 10 of reserve
        (10 + 1 / 60, "cutoff"),
        (59, "cutoff"),
        (60, "retention"),
        (69, "retention"),
        (70, ""),  # half-open: at its end the denial is over
        (70 + 1 / 60, "cutoff"),
        (120, "window"),
    ],
)
def test_the_cutoff_is_that_of_the_piece_that_denials_leave(plan: Plan, minutes: float, rule: str) -> None:
    decision = window_in_force(plan, OPENS + dt.timedelta(minutes=minutes), calendar=denied(60, 70))
    assert (decision.is_open, decision.rule) == (rule == "", rule)


def test_a_piece_that_ends_early_says_which_rule_begins_then(plan: Plan) -> None:
    decision = window_in_force(plan, OPENS, calendar=denied(60, 70))
    assert decision.closes_at == OPENS + dt.timedelta(minutes=60)
    assert "open until 03:00 CET, as retention (no EU data at night) begins then" in decision.reason
    late = window_in_force(plan, OPENS + dt.timedelta(minutes=30), calendar=denied(60, 70))
    assert "(it must end by 03:00 CET, as retention (no EU data at night) begins then)" in late.reason


def test_outside_the_window_a_denial_that_holds_is_told_as_well(plan: Plan) -> None:
    decision = window_in_force(plan, OPENS - dt.timedelta(hours=2), calendar=denied(-180, 300))
    assert decision.reason == (
        "no window is open; retention (no EU data at night) says no as well; "
        "the next window opens Tue 2026-01-20 02:00 CET"
    )


def test_a_calendar_that_denies_everything_says_until_when_it_was_looked_at(plan: Plan) -> None:
    decision = window_in_force(plan, OPENS, calendar=denied(-3000, 100_000))
    assert decision.next_opening is None
    assert "the calendar denies every window until Sat 2026-03-14" in decision.reason


@pytest.mark.parametrize("moment", [OPENS, OPENS - dt.timedelta(hours=9), CUTOFF + dt.timedelta(minutes=30)])
def test_a_rollback_is_exempt_from_window_cutoff_and_denial(plan: Plan, moment: dt.datetime) -> None:
    lost = plan.model_copy(update={"window": plan.window.model_copy(update={"time_zone": "Europe/Atlantis"})})
    for found in (plan, lost):  # even a plan that cannot be understood does not stand in the way back
        decision = window_in_force(found, moment, calendar=denied(-3000, 100_000), purpose="rollback")
        assert decision.is_open
        assert decision.reason == "a rollback is exempt from windows, cutoffs and denials"


def test_the_way_back_asks_no_window() -> None:
    source = (Path(__file__).parents[3] / "flows" / "commands" / "rollback.py").read_text(encoding="utf-8")
    assert "window_in_force" not in source


def test_a_calendar_that_was_not_read_is_never_a_silent_yes(plan: Plan) -> None:
    with_calendar = plan.model_copy(update={"calendar": CalendarSection()})
    with pytest.raises(InvalidPlan, match="has a calendar that was not read; nothing may start without it"):
        window_in_force(with_calendar, OPENS)
    stale = Calendar(OPENS - dt.timedelta(days=9), OPENS - dt.timedelta(days=1))
    with pytest.raises(InvalidPlan, match="was not read for 2026-01-13 01:00 UTC"):
        window_in_force(with_calendar, OPENS, calendar=stale)
    ends = Calendar(OPENS - dt.timedelta(days=9), OPENS + dt.timedelta(minutes=20))
    with pytest.raises(InvalidPlan, match="ends before tonight's window does"):
        window_in_force(with_calendar, OPENS, calendar=ends)


def test_the_first_start_leaves_room_for_every_job_that_shares_the_window(plan: Plan) -> None:
    job = Job.model_validate(
        {"model": "other", "data": "d", "storage_path": "training/other",
         "stages": [{"name": "train", "minutes_p50": 10, "minutes_p95": 25}]}
    )  # fmt: skip
    shared = plan.model_copy(update={"training": plan.training.model_copy(update={"jobs": (job,)})})
    assert window_in_force(shared, OPENS).cutoff == CUTOFF - dt.timedelta(minutes=25)
