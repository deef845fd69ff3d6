"""The training job of a night: stages, cutoffs, retries, checkpoints, and the limits of its envelope."""

import math

import numpy as np
import pytest

from simulation.control_plane.training import stage_seconds
from tests.simulation.nights import EXACT_STAGES, play, times_of
from tests.simulation.plans import small_plan


def test_a_stage_takes_its_p50_and_p95() -> None:
    plan = small_plan()
    stage = plan.stage("train")
    minutes = np.array([stage_seconds(stage, 1, seed) / 60 for seed in range(3000)])
    assert np.mean(minutes <= stage.minutes_p50) == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / 3000))
    assert np.mean(minutes <= stage.minutes_p95) == pytest.approx(0.95, abs=4 * math.sqrt(0.0475 / 3000))


def test_nothing_starts_after_its_cutoff() -> None:
    plan = small_plan()
    cutoffs = {"load": 60 - 5 - 4 - 15, "train": 60 - 5 - 15}
    refused = 0
    for seed in range(6):
        trial = play({"kind": "late_data", "minutes": 35}, {"kind": "more_data", "factor": 2}, plan=plan, seed=seed)
        assert all(begin <= cutoffs[name] for begin, _, name in trial.steps)
        notes = [text for _, text in trial.events if "not started" in text]
        refused += len(notes)
        assert (len(trial.steps) == 2) == (not notes)
        assert not (notes and trial.has_finished)
    assert refused > 0  # else the test says nothing


@pytest.mark.parametrize(("minutes", "n_steps"), [(23.0, 2), (23.01, 0)])
def test_a_start_at_the_very_cutoff_is_allowed(minutes: float, n_steps: int) -> None:
    assert len(play({"kind": "late_data", "minutes": minutes}).steps) == n_steps  # 60 - 5 - 32 = 23


def test_a_late_start_says_how_late_it_was() -> None:
    trial = play({"kind": "late_data", "minutes": 24})
    assert times_of(trial, "load not started: 60 s after its cutoff") == [pytest.approx(24.0)]


def test_a_failed_stage_is_tried_again() -> None:
    trial = play({"kind": "stage_fails", "stage": "train", "after_ratio": 0.5, "retry_after_min": 1})
    steps = [(name, round(begin, 6), round(end, 6)) for begin, end, name in trial.steps]
    assert steps == [("load", 0, 2), ("train", 2, 17), ("train", 18, 48)]
    assert times_of(trial, "train failed at 50%") == [pytest.approx(17.0)]
    assert trial.has_finished


def test_a_stage_that_fails_more_often_than_it_may_is_given_up() -> None:
    trial = play({"kind": "stage_fails", "stage": "train", "after_ratio": 0.1, "times": 3})
    assert [name for _, _, name in trial.steps] == ["load", "train", "train"]
    assert times_of(trial, "train given up after 2 attempt(s)")
    assert not trial.has_finished


def test_a_failed_stage_is_not_tried_again_after_its_cutoff() -> None:
    trial = play({"kind": "stage_fails", "stage": "train", "after_ratio": 0.8, "retry_after_min": 1})
    # Two minutes of loading, 24 of training, one of waiting: 27 minutes; train must start by 60 - 5 - 30 = 25.
    assert [name for _, _, name in trial.steps] == ["load", "train"]
    assert times_of(trial, "train not started: 120 s after its cutoff") == [pytest.approx(27.0)]
    assert not trial.has_finished


def test_more_data_takes_longer() -> None:
    assert play({"kind": "more_data", "factor": 1.5}).finish_min == pytest.approx(48.0)


def spans(*events: dict[str, object], **changes: object) -> list[tuple[str, float, float]]:
    """Return the stretches of work of a night: stage, begin and end in minutes."""
    trial = play(*events, plan=small_plan(training__stages=EXACT_STAGES, **changes))
    return [(name, round(begin, 6), round(end, 6)) for begin, end, name in trial.steps]


def test_a_checkpoint_saves_all_but_the_work_since_it() -> None:
    fails = {"kind": "stage_fails", "stage": "train", "after_ratio": 0.5, "retry_after_min": 1}
    saved = spans(fails, training__stages__1__checkpoint_every_min=4)
    # 15 minutes were done, 12 are kept: 18 are left.
    assert saved == [("load", 0, 2), ("train", 2, 17), ("train", 18, 36)]


def test_a_killed_worker_goes_on_from_its_checkpoint_and_counts_as_no_retry() -> None:
    kills = [{"kind": "worker_killed", "at_min": at, "restart_after_min": 2} for at in (9, 18)]
    saved = spans(*kills, training__stages__1__checkpoint_every_min=5, training__stages__1__retries=0)
    # Killed after 7 minutes (5 kept), again after 5 + 7 (10 kept): 20 are left.
    assert saved == [("load", 0, 2), ("train", 2, 9), ("train", 11, 18), ("train", 20, 40)]


def test_a_kill_between_stages_harms_nobody() -> None:
    trial = play({"kind": "worker_killed", "at_min": 40})
    assert trial.has_finished
    assert times_of(trial, "training worker killed, nothing ran") == [40.0]


def test_a_narrow_envelope_stretches_the_work_and_a_small_one_kills_it() -> None:
    half_cpu = spans(training__envelope__cpus=0.5, training__envelope__threads=1, training__envelope__minutes=100)
    assert half_cpu[-1] == ("train", 4, 64)
    slow_disk = {"training__stages__1__io_mib_s": 30.0, "training__envelope__io_mib_s": 20.0}
    assert spans(**slow_disk)[-1] == ("train", 2, 47)
    trial = play(plan=small_plan(training__stages=EXACT_STAGES, training__stages__1__memory_gib=3.0))
    assert times_of(trial, "train killed: 3 GiB wanted, the envelope has 2") == [pytest.approx(2.0)]
    assert not trial.has_finished


def test_the_minutes_of_the_envelope_end_the_job() -> None:
    trial = play(plan=small_plan(training__stages=EXACT_STAGES, training__envelope__minutes=20.0))
    assert times_of(trial, "train stopped: the envelope's 20 min are used up") == [pytest.approx(20.0)]
    assert [round(end) for _, end, _ in trial.steps] == [2, 20]
    assert math.isnan(trial.finish_min)


def test_serving_slows_by_the_interference_curve_where_it_says_more_than_the_stage() -> None:
    curve = [{"training_cpus": 1.0, "slowdown": 1.6}, {"training_cpus": 2.0, "slowdown": 2.0}]
    plan = small_plan(training__stages=EXACT_STAGES, serving__interference=curve)
    steps = [(round(minute, 6), rps) for minute, rps in play(plan=plan).capacity_steps]
    assert (0.0, pytest.approx(80 / 1.6)) in steps
    assert plan.serving.slowdown_beside(1.5) == pytest.approx(1.8)
    assert plan.serving.slowdown_beside(0.5) == pytest.approx(1.3)
    assert plan.serving.slowdown_beside(9.0) == 2.0
    assert plan.serving.slowdown_beside(0.0) == 1.0
