"""The controller of a night: what it sees, when, and that the job obeys at the end of its round."""

import math

import numpy as np
import pytest

from simulation.control_plane.controller import LOOK_S
from simulation.rules import Action, Decision, Observation
from tests.simulation.nights import EXACT_STAGES, ROUND_MIN, on_load, play, times_of
from tests.simulation.plans import small_plan

LOOK_MIN = LOOK_S / 60


def test_a_pausing_rule_pauses_within_two_looks_and_resumes() -> None:
    trial = play({"kind": "surge", "at_min": 10, "minutes": 10, "factor": 3}, rules=on_load(Action.PAUSE, 40.0))
    (paused,), (resumed,) = times_of(trial, "pause"), times_of(trial, "continue")
    # Seen at once it would be a look into the future: the first look that can show the surge is judged one look later.
    assert paused == pytest.approx(10 + 2 * LOOK_MIN)
    assert resumed == pytest.approx(20 + 2 * LOOK_MIN)
    assert trial.paused_min == pytest.approx(10, abs=2 * LOOK_MIN + ROUND_MIN)
    assert trial.finish_min == pytest.approx(32 + trial.paused_min)


def test_a_stage_that_cannot_pause_goes_on() -> None:
    stages = [EXACT_STAGES[0], EXACT_STAGES[1] | {"pausable": False}]
    trial = play(
        {"kind": "surge", "at_min": 10, "minutes": 10, "factor": 3},
        plan=small_plan(training__stages=stages),
        rules=on_load(Action.PAUSE, 40.0),
    )
    assert trial.paused_min == 0
    assert trial.finish_min == pytest.approx(32.0)


def test_a_pause_gives_the_pool_its_speed_back() -> None:
    slow = [EXACT_STAGES[0], EXACT_STAGES[1] | {"serving_slowdown": 2.5}]
    plan = small_plan(training__stages=slow)
    surge = {"kind": "surge", "at_min": 10, "minutes": 10, "factor": 2.5}  # 50 per second: over 32, under 80
    stubborn = play(surge, plan=plan)
    yielding = play(surge, plan=plan, rules=on_load(Action.PAUSE, 40.0))
    assert stubborn.n_bad > 1000
    assert yielding.n_bad < stubborn.n_bad / 10


def test_a_stopping_rule_ends_the_training_for_good() -> None:
    trial = play({"kind": "surge", "at_min": 1, "minutes": 2, "factor": 3}, rules=on_load(Action.STOP, 40.0))
    (stopped,) = times_of(trial, "stop")
    assert stopped == pytest.approx(1 + 2 * LOOK_MIN)
    assert not trial.has_finished
    assert math.isnan(trial.finish_min)
    assert all(begin <= stopped for begin, _, _ in trial.steps)
    assert all(end == stopped for _, end, _ in trial.steps)  # loading has no rounds: it ends at once


def test_the_controller_sees_what_a_real_one_could() -> None:
    seen: list[Observation] = []

    def watch(observation: Observation, memory: int | None) -> tuple[Decision, int]:
        seen.append(observation)
        assert memory == (None if len(seen) == 1 else len(seen) - 1)
        return Decision(Action.CONTINUE, "watching"), len(seen)

    play(rules=watch)
    assert [o.at_s for o in seen[:3]] == [LOOK_S, 2 * LOOK_S, 3 * LOOK_S]
    assert all(o.span_s == LOOK_S for o in seen)
    assert np.mean([o.load_rps for o in seen]) == pytest.approx(20.0, abs=0.5)
    assert sum(o.is_training for o in seen) == pytest.approx(32 * 60 / LOOK_S, abs=1)
    assert not any(o.is_paused or o.error_ratio or o.bad_ratio for o in seen)


def test_a_pause_waits_for_the_end_of_the_round() -> None:
    surge = {"kind": "surge", "at_min": 10, "minutes": 10, "factor": 3}
    trial = play(surge, rules=on_load(Action.PAUSE, 40.0))
    (paused,), (resumed,) = times_of(trial, "pause"), times_of(trial, "continue")
    slow = [minute for minute, rps in trial.capacity_steps if rps < 70]
    free = [minute for minute, rps in trial.capacity_steps if rps == 80 and 0 < minute < 30]
    stood = free[-1]
    assert 0 <= stood - paused <= ROUND_MIN + 1e-9
    assert (stood - 2.0) / ROUND_MIN == pytest.approx(round((stood - 2.0) / ROUND_MIN), abs=1e-6)
    assert slow[-1] == pytest.approx(resumed)
    assert trial.paused_min == pytest.approx(resumed - stood)


def test_errors_rejections_and_hang_ups_are_seen_as_bad() -> None:
    seen: list[Observation] = []

    def watch(observation: Observation, memory: None) -> tuple[Decision, None]:
        seen.append(observation)
        return Decision(Action.CONTINUE, "watching"), memory

    client = {"timeout_ms": 250, "retries": 0}
    stall = {"kind": "slow_serving", "at_min": 5, "minutes": 3, "factor": 8}
    play(stall, plan=small_plan(serving__client=client, serving__queue_limit=50), rules=watch)
    during = [o for o in seen if 330 <= o.at_s <= 480]
    after = [o for o in seen if 600 <= o.at_s <= 900]
    assert min(o.bad_ratio for o in during) > 0.5
    assert min(o.error_ratio for o in during) > 0.2
    assert max(o.bad_ratio for o in during) <= 1.0
    assert max(o.bad_ratio for o in after) < 0.05
    assert max(o.queue_length for o in during) == 50
    assert not math.isnan(during[-1].p99_ms)
