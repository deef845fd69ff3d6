"""An autoscaler that looks with a delay, whose machines take time to come and are closed one by one."""

from itertools import pairwise

import pytest
from pydantic import ValidationError

from tests.simulation.nights import EXACT_STAGES, play, times_of
from tests.simulation.plans import small_plan

SCALER = {
    "min_replicas": 2,
    "max_replicas": 6,
    "target_utilisation": 0.5,
    "look_s": 30,
    "boot_s": 90,
    "cooldown_s": 300,
}
SURGE = {"kind": "surge", "at_min": 5, "minutes": 12, "factor": 3}


def test_replicas_come_after_their_boot_and_go_one_by_one() -> None:
    plan = small_plan(training__stages=EXACT_STAGES, serving__autoscaler=SCALER, rollout__green_replicas=1)
    trial = play(SURGE, plan=plan)
    ordered, opened = times_of(trial, "autoscaler: "), [at for at, text in trial.events if text.endswith("open")]
    assert 5.0 < ordered[0] <= 6.5
    assert opened[0] == pytest.approx(ordered[0] + 1.5)
    closed = [at for at, text in trial.events if "one replica closed" in text and at < 32]
    assert all(later - earlier >= 5.0 - 1e-9 for earlier, later in pairwise(closed))
    assert len(closed) >= 1
    assert closed[0] > 17.0


def test_more_replicas_mean_fewer_late_answers() -> None:
    fixed = play(SURGE | {"factor": 5}, plan=small_plan(training__stages=EXACT_STAGES))
    scaled = play(SURGE | {"factor": 5}, plan=small_plan(training__stages=EXACT_STAGES, serving__autoscaler=SCALER))
    assert scaled.n_bad < fixed.n_bad
    assert scaled.offered_per_min == fixed.offered_per_min


def test_its_limits_are_kept() -> None:
    plan = small_plan(training__stages=EXACT_STAGES, serving__autoscaler=SCALER | {"max_replicas": 3})
    trial = play(SURGE | {"factor": 8}, plan=plan)
    assert max(rps for minute, rps in trial.capacity_steps if minute < 17) <= 3 * 40 + 1e-9


@pytest.mark.parametrize(
    ("scaler", "sentence"),
    [
        (SCALER | {"max_replicas": 1}, "max_replicas 1 is below min_replicas 2"),
        (SCALER | {"min_replicas": 3}, "replicas 2 lies outside of the autoscaler's 3 to 6"),
    ],
)
def test_limits_that_contradict_are_refused(scaler: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        small_plan(serving__autoscaler=scaler)
