"""The demo's plan puts traffic of 1998 just past a month of 2009 and picks its window from the forecast."""

import datetime as dt
from itertools import islice

import pytest

from flows.demo_plan import COMMENTS, DURATION_MIN, FIRST_MONTH, DemoPlan, make_demo_plan
from simulation.plan import Plan
from simulation.plan_file import window_rule

MONTH_ENDS = dt.datetime(2009, 6, 1, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def demo() -> DemoPlan:
    return make_demo_plan(FIRST_MONTH, replications=7)


def test_the_history_is_moved_past_the_month_and_by_no_week_too_many(demo: DemoPlan) -> None:
    assert MONTH_ENDS <= demo.now < MONTH_ENDS + dt.timedelta(weeks=1)
    assert demo.now == demo.history.end


def test_the_plan_is_whole_and_bound_to_its_history(demo: DemoPlan) -> None:
    assert Plan.model_validate(demo.plan.to_dict()).digest() == demo.plan.digest()
    assert demo.plan.traffic.history_digest == demo.history.digest()
    assert (demo.plan.profile, demo.plan.acceptance.replications) == ("demo", 7)
    assert COMMENTS.keys() <= demo.plan.to_dict().keys()


def test_the_chosen_window_is_the_best_one_and_an_occurrence_of_the_plan_s_rule(demo: DemoPlan) -> None:
    best = demo.windows[0]
    assert demo.opens_at == best.opens_at
    assert best.closes_at - best.opens_at == dt.timedelta(minutes=DURATION_MIN)
    assert window_rule(demo.plan).occurrence_at(demo.opens_at) == (best.opens_at, best.closes_at)
    assert demo.plan.window.reason == best.reason


def test_every_window_lies_inside_the_forecast_with_half_an_hour_to_spare(demo: DemoPlan) -> None:
    lead = dt.timedelta(minutes=30)
    assert all(demo.now + lead <= w.opens_at and w.closes_at + lead <= demo.load.end for w in demo.windows)


def test_the_stages_fit_into_the_window_even_when_slow(demo: DemoPlan) -> None:
    p95 = sum(stage.minutes_p95 for stage in demo.plan.training.stages)
    assert p95 + demo.plan.window.rollback_reserve_min < DURATION_MIN


def test_openings_repeat_weekly_on_the_chosen_day(demo: DemoPlan) -> None:
    openings = [opens for opens, _ in islice(window_rule(demo.plan).occurrences(demo.now), 3)]
    assert openings == [demo.opens_at + dt.timedelta(weeks=week) for week in range(3)]
