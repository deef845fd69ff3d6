"""The demo's plan puts traffic of 1998 just past a month of 2009 and picks its window from the forecast."""

import dataclasses
import datetime as dt
import io
from itertools import islice

import pytest
from rich.console import Console

from flows.commands.demo import _Stages
from flows.demo_plan import COMMENTS, DURATION_MIN, FIRST_MONTH, DemoPlan, make_demo_plan
from reports.night_records import nights_to_show
from simulation.plan import Plan
from simulation.plan_file import window_rule
from simulation.result import Experiment, Trial

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


def test_the_worst_night_is_shown_beside_the_middling_one_where_it_missed_the_slo(demo: DemoPlan) -> None:
    trials = [quiet_trial(seed, n_bad) for seed, n_bad in ((1, 3), (2, 900), (3, 5))]
    quiet = nights_to_show(demo.plan, Experiment(tuple(trials), {}), "as-forecast")
    assert [(n.choice, n.seed, n.worst_seed, n.worst_bad) for n in quiet] == [("middling", 3, 2, 900)]
    trials[1] = dataclasses.replace(trials[1], is_breach=True)
    both = nights_to_show(demo.plan, Experiment(tuple(trials), {}), "as-forecast")
    assert [(n.choice, n.seed) for n in both] == [("middling", 3), ("worst", 2)]


def quiet_trial(seed: int, n_bad: int) -> Trial:
    """Return a night of one minute in which nothing happens but `n_bad` bad requests."""
    zero = dict.fromkeys((f.name for f in dataclasses.fields(Trial)), 0)
    told = {"scenario": "as-forecast", "seed": seed, "n_bad": n_bad, "is_breach": False, "fingerprint": ""}
    series = ("offered_per_min", "bad_per_min", "queue_per_min", "capacity_steps", "steps", "events")
    return Trial(**{**zero, **told, **dict.fromkeys(series, ())})  # type: ignore[arg-type]  # made of plain numbers


def test_a_stage_says_when_it_begins_and_ends_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    stages = _Stages(Console(file=io.StringIO()))
    with stages.progress:
        stages.begin("simulate", 3)
        assert capsys.readouterr().out == "simulate   begins\n"
        stages.end("simulate", "holds")
        assert capsys.readouterr().out == "simulate   holds (0 s)\n"


def test_on_a_terminal_the_bars_stand_alone(capsys: pytest.CaptureFixture[str]) -> None:
    stages = _Stages(Console(file=io.StringIO(), force_terminal=True))
    with stages.progress:
        stages.begin("plan")
        stages.end("plan", "made")
    assert capsys.readouterr().out == ""
