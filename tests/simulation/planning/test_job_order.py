"""Jobs that share a window: never more at a time than allowed, by priority, none before its time, none forgotten."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from simulation.plan import Training
from simulation.planning.job_order import order_jobs, together, work_p95_min
from tests.simulation.plans import small_plan


def job(model: str, minutes: float, **changes: Any) -> dict[str, Any]:
    stages = [{"name": "train", "minutes_p50": minutes / 2, "minutes_p95": minutes}]
    return {"model": model, "data": "d", "stages": stages, "storage_path": f"training/{model}", **changes}


def training(*jobs: dict[str, Any], main_min: float = 10, **changes: Any) -> Training:
    first = {**job("main", main_min), "storage_path": "training/main"}
    return Training.model_validate(first | {"jobs": list(jobs)} | changes)


def told(found: Training) -> list[tuple[str, float, float]]:
    return [(slot.job.model, slot.begins_min, slot.ends_min) for slot in order_jobs(found)]


def test_one_model_is_its_own_only_job() -> None:
    plan = small_plan()
    assert [j.model for j in plan.training.all_jobs()] == ["bank-marketing"]
    assert work_p95_min(plan.training) == 19.0


def test_one_after_the_other_by_priority_then_as_listed() -> None:
    found = training(job("low", 5, priority=10), job("high", 7, priority=90), job("equal", 3))
    assert told(found) == [("high", 0, 7), ("main", 7, 17), ("equal", 17, 20), ("low", 20, 25)]
    assert work_p95_min(found) == 25.0


def test_side_by_side_up_to_the_limit() -> None:
    found = training(job("b", 4), job("c", 4), max_concurrent=2)
    assert told(found) == [("main", 0, 10), ("b", 0, 4), ("c", 4, 8)]
    assert max(len(jobs) for _, jobs in together(order_jobs(found))) == 2


def test_a_staggered_job_waits_and_lower_ones_use_the_time() -> None:
    found = training(job("late", 5, priority=100, start_after_min=6), job("small", 2, priority=1), main_min=4)
    assert told(found) == [("main", 0, 4), ("small", 4, 6), ("late", 6, 11)]
    alone = training(start_after_min=8)
    assert told(alone) == [("main", 8, 18)]


def test_two_jobs_of_one_model_are_refused() -> None:
    with pytest.raises(ValidationError, match="two jobs train the same model"):
        training(job("main", 5))


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 100), st.integers(0, 40)), max_size=6), st.integers(1, 4))
def test_the_order_obeys_its_definition(parts: list[tuple[int, int, int]], places: int) -> None:
    jobs = [job(f"m{i}", m, priority=p, start_after_min=s) for i, (m, p, s) in enumerate(parts)]
    found = training(*jobs, max_concurrent=places)
    slots = order_jobs(found)
    assert sorted(slot.job.model for slot in slots) == sorted(j.model for j in found.all_jobs())
    for slot in slots:
        assert slot.begins_min >= slot.job.start_after_min
        assert slot.ends_min - slot.begins_min == pytest.approx(slot.job.stages[0].minutes_p95)
        running = [s for s in slots if s.begins_min <= slot.begins_min < s.ends_min]
        assert len(running) <= places
        # Never idle while one waits: who begins late found every place taken just before, or was not due.
        if slot.begins_min > slot.job.start_after_min:
            just_before = slot.begins_min - 1e-6
            assert sum(s.begins_min <= just_before < s.ends_min for s in slots) == places
            for other in slots:
                if other.begins_min == slot.begins_min and other.job.start_after_min <= slot.job.start_after_min:
                    continue
                overtook = other.begins_min < slot.begins_min and other.begins_min >= slot.job.start_after_min
                assert not (overtook and other.job.priority < slot.job.priority)
