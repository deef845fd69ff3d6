"""Several models in one window: who trains when, who is deferred and why, and the night that plays it."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.experiment import simulate
from simulation.plan import Plan
from simulation.planning.packing import STAGGER_MIN, finish_by_job, pack
from simulation.result import Trial
from simulation.rules import Action
from tests.simulation.nights import on_load, play, scenario
from tests.simulation.plans import OPENS_AT, flat_forecast, small_plan


def job(model: str, minutes: float, **changes: Any) -> dict[str, Any]:
    stages = [{"name": "train", "minutes_p50": minutes, "minutes_p95": minutes, "pausable": True}]
    return {"model": model, "data": "d", "stages": stages, "storage_path": f"training/{model}", **changes}


def plan_of(*jobs: dict[str, Any], main_min: float = 10, **changes: Any) -> Plan:
    main = [{"name": "train", "minutes_p50": main_min, "minutes_p95": main_min, "pausable": True}]
    return small_plan(training__model="main", training__stages=main, training__jobs=list(jobs), **changes)


def told(plan: Plan) -> list[tuple[str, float, float]]:
    return [(slot.job.model, slot.begins_min, slot.ends_min) for slot in pack(plan).slots]


# The packing. The window of the small plan has 60 minutes, 55 without its reserve.


def test_jobs_follow_each_other_by_priority() -> None:
    assert told(plan_of(job("high", 20, priority=90), job("low", 5, priority=1))) == [
        ("high", 0, 20), ("main", 20, 30), ("low", 30, 35),
    ]  # fmt: skip


def test_jobs_side_by_side_do_not_start_at_once_if_there_is_room() -> None:
    assert told(plan_of(job("b", 54), training__max_concurrent=2)) == [("main", 0, 10), ("b", 1, 55)]
    assert told(plan_of(job("b", 55), training__max_concurrent=2)) == [("main", 0, 10), ("b", 0, 55)]


def test_a_job_that_does_not_fit_is_deferred_with_a_sentence_that_says_what_would_help() -> None:
    found = pack(plan_of(job("big", 50, priority=10), job("small", 5, priority=5)))
    assert [slot.job.model for slot in found.slots] == ["main", "small"]
    (deferred,) = found.deferred
    assert deferred.job.model == "big"
    assert deferred.reason == (
        "big is deferred: its 50 minutes at p95 beside main, which go first, do not fit into the 55 minutes of the "
        "window less its reserve; lengthen the window by 5 minutes, raise training.max_concurrent or shorten the work"
    )
    longer = pack(plan_of(job("big", 50, priority=10), window__duration_min=65))
    assert not longer.deferred  # the remedy is one


def test_a_lower_job_does_not_take_the_lane_from_a_higher_one_that_may_only_start_later() -> None:
    found = pack(plan_of(job("late", 30, priority=100, start_after_min=20), main_min=40))
    assert [slot.job.model for slot in found.slots] == ["late"]
    assert [deferred.job.model for deferred in found.deferred] == ["main"]
    gap = told(plan_of(job("late", 30, priority=100, start_after_min=20), job("short", 20, priority=1), main_min=50))
    assert gap == [("short", 0, 20), ("late", 20, 50)]


JOBS = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3), st.integers(0, 50)), max_size=6)


@settings(deadline=None, max_examples=200)
@given(JOBS, st.integers(1, 3))
def test_a_packing_obeys_its_definition(parts: list[tuple[int, int, int]], lanes: int) -> None:
    jobs = [job(f"m{i}", m, priority=p, start_after_min=s) for i, (m, p, s) in enumerate(parts)]
    plan = plan_of(*jobs, training__max_concurrent=lanes, training__priority=2)
    found = pack(plan)
    everybody = sorted(j.model for j in plan.training.all_jobs())
    assert sorted([s.job.model for s in found.slots] + [d.job.model for d in found.deferred]) == everybody
    for slot in found.slots:
        assert slot.begins_min >= slot.job.start_after_min
        assert slot.ends_min == slot.begins_min + slot.job.stages[0].minutes_p95 <= found.room_min == 55
        assert 0 <= slot.lane < lanes
    for one, other in itertools.combinations(found.slots, 2):
        if one.lane == other.lane:
            assert one.ends_min <= other.begins_min or other.ends_min <= one.begins_min
    for deferred in found.deferred:
        # Whoever goes first does so whether the lower ones are there or not: without them it is deferred still.
        order = sorted(plan.training.all_jobs(), key=lambda j: -j.priority)
        first = order[: order.index(deferred.job) + 1]
        if any(j.model == "main" for j in first):
            rest = [j.model_dump(mode="json") for j in first if j.model != "main"]
            again = pack(plan_of(*rest, training__max_concurrent=lanes, training__priority=2))
            assert deferred.job.model in [d.job.model for d in again.deferred]
    needed = math.ceil(found.needed_min)
    if needed + 5 <= 1440:
        assert not pack(plan_of(*jobs, training__max_concurrent=lanes, training__priority=2,
                                window__duration_min=needed + 5)).deferred  # fmt: skip


# The night


def lanes_busy(trial: Trial) -> list[int]:
    moments = [begin + 1e-6 for begin, _, _ in trial.steps]
    return [sum(begin <= at < end for begin, end, _ in trial.steps) for at in moments]


def test_a_night_plays_the_packing() -> None:
    trial = play(plan=plan_of(job("high", 20, priority=90), job("low", 5, priority=1)))
    steps = [(name, round(begin, 6), round(end, 6)) for begin, end, name in trial.steps]
    assert steps == [("high: train", 0, 20), ("train", 20, 30), ("low: train", 30, 35)]
    assert [(o.model, round(o.finish_min, 6), o.has_finished, o.is_deferred) for o in trial.jobs] == [
        ("main", 30, True, False), ("high", 20, True, False), ("low", 35, True, False),
    ]  # fmt: skip
    assert trial.has_finished
    assert trial.finish_min == pytest.approx(30)


def test_slowdowns_of_jobs_side_by_side_multiply() -> None:
    slow = [{"name": "train", "minutes_p50": 20, "minutes_p95": 20, "serving_slowdown": 1.5}]
    other = {**job("other", 20), "stages": [{**slow[0], "serving_slowdown": 1.2}]}
    plan = small_plan(training__stages=slow, training__jobs=[other], training__max_concurrent=2)
    steps = dict(play(plan=plan).capacity_steps)
    assert steps[0.0] == pytest.approx(80 / 1.5)
    assert steps[STAGGER_MIN] == pytest.approx(80 / (1.5 * 1.2))


def test_a_deferred_job_is_told_and_does_not_count_as_late() -> None:
    trial = play(plan=plan_of(job("big", 50, priority=10)))
    assert trial.has_finished
    outcome = trial.jobs[1]
    assert (outcome.is_deferred, outcome.has_finished) == (True, False)
    assert any(text.startswith("big is deferred") for _, text in trial.events)


def test_without_the_main_model_nothing_is_promoted() -> None:
    trial = play(plan=plan_of(job("first", 50, priority=90)))
    assert not trial.has_finished
    assert math.isnan(trial.finish_min)
    assert math.isnan(trial.promoted_min)
    assert [name for _, _, name in trial.steps] == ["first: train"]


def test_a_job_waits_for_the_one_before_it_and_is_not_started_after_its_cutoff() -> None:
    two = plan_of(job("second", 20, priority=1), main_min=20)
    trial = play({"kind": "more_data", "factor": 1.5}, plan=two)
    assert [(n, round(b, 6), round(e, 6)) for b, e, n in trial.steps] == [("train", 0, 30), ("second: train", 30, 60)]
    assert not trial.has_finished  # it ran into the reserve
    late = play({"kind": "more_data", "factor": 2}, plan=two)
    assert [name for _, _, name in late.steps] == ["train"]
    assert any(text.startswith("second: train not started") for _, text in late.events)


def test_a_pause_a_stop_and_a_killed_worker_reach_every_job() -> None:
    two = plan_of(job("second", 20), main_min=20, training__max_concurrent=2)
    surge = {"kind": "surge", "at_min": 5, "minutes": 5, "factor": 2}
    paused = play(surge, plan=two, rules=on_load(Action.PAUSE, 30.0))
    assert paused.paused_min > 2
    assert {o.model: o.finish_min > 22 for o in paused.jobs} == {"main": True, "second": True}
    assert not any(o.has_finished for o in play(surge, plan=two, rules=on_load(Action.STOP, 30.0)).jobs)
    killed = play({"kind": "worker_killed", "at_min": 10, "restart_after_min": 2}, plan=two)
    assert [round(o.finish_min) for o in killed.jobs] == [32, 32]


def test_jobs_take_their_time_independently_and_never_more_at_once_than_allowed() -> None:
    stages = [{"name": "train", "minutes_p50": 4, "minutes_p95": 12}]
    jobs = [{**job(f"m{i}", 1), "stages": stages} for i in range(4)]
    plan = small_plan(training__stages=stages, training__jobs=jobs, training__max_concurrent=2)
    took = []
    for seed in range(4):
        trial = play(plan=plan, seed=seed)
        assert max(lanes_busy(trial)) <= 2
        took.append([end - begin for begin, end, _ in trial.steps])
    assert all(len({round(minutes, 6) for minutes in night}) == 5 for night in took)


def test_the_chance_to_finish_is_told_for_each_job() -> None:
    plan = plan_of(job("big", 50, priority=10), job("low", 44, priority=60))
    found = simulate(plan, [scenario()], load=flat_forecast(), opens_at=OPENS_AT, replications=3)
    chances = finish_by_job(found, 0.95)["tried"]
    assert {model: chance.value for model, chance in chances.items()} == {"main": 1.0, "big": 0.0, "low": 1.0}
    assert chances["main"].low == pytest.approx(0.05 ** (1 / 3))
    assert np.isfinite(chances["big"].high)
