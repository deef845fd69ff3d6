"""What breaks during a night, and that it ends when it says."""

import math
from typing import Any

import numpy as np
import pytest

from simulation.errors import InvalidScenario
from tests.simulation.nights import EXACT_STAGES, calm_night, play, times_of
from tests.simulation.plans import small_plan


def test_training_beside_serving_slows_it() -> None:
    slow = [EXACT_STAGES[0], EXACT_STAGES[1] | {"serving_slowdown": 3.0}]
    assert play(plan=small_plan(training__stages=slow)).p95_ms > 1.3 * calm_night().p95_ms


@pytest.mark.parametrize("running_work", ["drain", "evict_and_requeue", "hand_over"])
def test_lost_replicas_slow_the_night_and_come_back(running_work: str) -> None:
    lost = {"kind": "replica_lost", "at_min": 40, "minutes": 3, "replicas": 2, "running_work": running_work}
    trial = play(lost)
    # Three minutes without any server: 3,600 requests wait, and the backlog is gone well before the end.
    assert trial.max_queue == pytest.approx(3600, rel=0.1)
    assert max(trial.queue_per_min[:70]) < 100
    assert max(trial.queue_per_min[80:]) < 100
    assert [round(at) for at in times_of(trial, "2 replicas")] == [40, 43]
    assert trial.in_flight < 20


@pytest.mark.parametrize("running_work", ["drain", "evict_and_requeue", "hand_over"])
def test_a_loss_is_told_in_words_that_a_reader_of_the_page_knows(running_work: str) -> None:
    lost = {"kind": "replica_lost", "at_min": 40, "minutes": 3, "running_work": running_work}
    notes = [text for _, text in play(lost).events]
    assert [text.split(",")[0] for text in notes if "replica" in text] == ["1 replica lost", "1 replica back"]
    assert not any("_" in text or "(s)" in text for text in notes)


def test_two_losses_at_once_add_up() -> None:
    one = {"kind": "replica_lost", "at_min": 40, "minutes": 3}
    assert play(one, one).max_queue == pytest.approx(3600, rel=0.1)


def test_a_fault_that_ended_before_the_night_is_not_played() -> None:
    trial = play({"kind": "replica_lost", "at_min": -90, "minutes": 30, "replicas": 2})
    assert trial.fingerprint == calm_night().fingerprint


@pytest.mark.parametrize(
    "event",
    [
        {"kind": "replica_lost", "at_min": -60, "minutes": 50},
        {"kind": "slow_serving", "at_min": -60, "minutes": 50, "factor": 2},
    ],
)
def test_a_fault_that_began_before_the_night_ends_when_it_says(event: dict[str, Any]) -> None:
    ends = times_of(play(event), "1 replica back") + times_of(play(event), "serving recovers")
    assert ends == [pytest.approx(-10.0)]


def test_slow_serving_slows_and_recovers() -> None:
    trial = play({"kind": "slow_serving", "at_min": 40, "minutes": 5, "factor": 6})
    assert trial.n_bad > 1000
    assert sum(trial.bad_per_min[:69]) == 0
    assert sum(trial.bad_per_min[90:]) == 0


def test_impatient_clients_turn_a_stall_into_lost_requests() -> None:
    stall = {"kind": "slow_serving", "at_min": 40, "minutes": 2, "factor": 8}
    retry = {"kind": "clients_retry", "timeout_ms": 250, "retries": 3}
    assert play(stall, retry).n_bad > play(stall).n_bad


def zoned(replicas: int = 4, zones: int = 2) -> Any:
    return small_plan(
        serving__replicas=replicas, serving__servers_per_replica=1, serving__zones=zones,
        training__stages=EXACT_STAGES, training__stages__1__serving_slowdown=1.0,
    )  # fmt: skip


def test_a_lost_zone_takes_its_replicas_and_no_others() -> None:
    trial = play({"kind": "zone_lost", "at_min": 5, "minutes": 10, "zone": 1}, plan=zoned(replicas=5, zones=3))
    steps = [(round(minute), round(rps)) for minute, rps in trial.capacity_steps if 4 <= minute <= 16]
    assert steps == [(5, 60), (15, 100)]  # replicas 1 and 4 of 0 to 4, each 20 requests per second
    assert times_of(trial, "zone 1 lost with 2 replicas") == [pytest.approx(5.0)]


def test_two_causes_hold_a_replica_down_until_both_are_over() -> None:
    both = play(
        {"kind": "zone_lost", "at_min": 5, "minutes": 10, "zone": 1},
        {"kind": "zone_lost", "at_min": 8, "minutes": 12, "zone": 1},
        plan=zoned(),
    )
    steps = [(round(minute), round(rps)) for minute, rps in both.capacity_steps if 4 <= minute <= 21]
    assert steps == [(5, 40), (20, 80)]


def test_requests_on_a_lost_zone_fail_and_are_tried_again_if_callers_do() -> None:
    zone = {"kind": "zone_lost", "at_min": 40, "minutes": 1}
    busy = zoned()
    once = play(zone, plan=busy)
    again = play(zone, {"kind": "clients_retry", "timeout_ms": 60_000, "retries": 3}, plan=busy)
    assert once.n_bad > 0
    assert once.n_retries == 0
    assert again.n_retries > 0
    assert again.n_bad < once.n_bad


def test_maintenance_takes_one_replica_at_a_time() -> None:
    trial = play({"kind": "maintenance", "at_min": 5, "minutes_each": 3, "replicas": 3}, plan=zoned())
    capacities = {round(rps) for minute, rps in trial.capacity_steps if 5 <= minute < 14}
    assert capacities <= {60, 80}
    assert times_of(trial, "maintenance of 3 replicas done") == [pytest.approx(14.0)]
    assert trial.n_bad == 0


def test_a_slow_replica_hurts_queues_of_their_own_more_than_a_shared_one() -> None:
    slow = {"kind": "slow_replica", "at_min": 5, "minutes": 20, "factor": 10}
    shared, apart = (
        play(slow, plan=small_plan(training__stages=EXACT_STAGES, serving__routing=routing, serving__replicas=4))
        for routing in ("shared", "round_robin")
    )
    assert apart.n_bad > 10 * max(1, shared.n_bad)
    assert calm_night().n_bad == 0


def test_replicas_fail_and_are_repaired_as_often_as_they_should() -> None:
    often = {"kind": "replicas_fail", "mean_hours_between": 0.5, "repair_min_p50": 5, "repair_min_p95": 5}
    plan = zoned(replicas=20, zones=1)
    nights = [play(often, plan=plan, seed=seed) for seed in range(1, 11)]
    failed = [len([1 for _, text in night.events if "failed, repaired" in text]) for night in nights]
    # 20 replicas over 120 minutes, each cycle 30 + 5 minutes; renewal counts vary less than Poisson.
    expected = 20 * 120 / 35
    assert np.mean(failed) == pytest.approx(expected, abs=4 * math.sqrt(expected / 10) + 20 * 0.5)
    assert nights[0].events != nights[1].events
    assert play(often, plan=plan, seed=3).events == nights[2].events


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        ({"kind": "zone_lost", "at_min": 1, "minutes": 1, "zone": 2}, r"events\[0\]\.zone: the plan has no zone 2"),
        ({"kind": "slow_replica", "at_min": 1, "minutes": 1, "replica": 4, "factor": 2}, "has no replica 4"),
        ({"kind": "maintenance", "at_min": 1, "minutes_each": 1, "replicas": 5}, "5 replicas cannot be lost of 4"),
    ],
)
def test_a_fault_of_a_part_that_is_not_there_is_refused(event: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidScenario, match=sentence):
        play(event, plan=zoned())
