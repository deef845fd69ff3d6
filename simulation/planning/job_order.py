"""
Who trains when, if several models share a window: by priority, no more at a time than allowed, staggered.

Start at `order_jobs`. The order is fixed beforehand, so that it can be shown, simulated and held against the window.
"""

from dataclasses import dataclass

from simulation.plan import Job, Training


@dataclass(frozen=True)
class JobSlot:
    """A job's place: minutes after the opening at which it begins and ends when every stage takes as long as told."""

    job: Job
    begins_min: float
    ends_min: float


def order_jobs(training: Training, *, at_p95: bool = True) -> tuple[JobSlot, ...]:
    """
    Return when each job begins and ends, in the order in which they begin.

    A job begins when one of `max_concurrent` places is free and its `start_after_min` has passed; of those that
    could begin at one instant the highest priority goes first, then the order of the plan. Nothing overtakes a job
    that could begin, and no place waits for a job that may not yet.
    """
    waiting = sorted(enumerate(training.all_jobs()), key=lambda item: (-item[1].priority, item[0]))
    free_at = [0.0] * training.max_concurrent
    slots: list[JobSlot] = []
    while waiting:
        place = min(range(len(free_at)), key=free_at.__getitem__)
        begins = max(free_at[place], min(job.start_after_min for _, job in waiting))
        chosen = next(item for item in waiting if item[1].start_after_min <= begins)
        waiting.remove(chosen)
        ends = begins + _minutes(chosen[1], at_p95=at_p95)
        free_at[place] = ends
        slots.append(JobSlot(chosen[1], begins, ends))
    return tuple(slots)


def work_p95_min(training: Training) -> float:
    """Return the minutes after the opening by which every job has ended, all stages taken at their p95."""
    return max(slot.ends_min for slot in order_jobs(training))


def together(slots: tuple[JobSlot, ...]) -> list[tuple[float, tuple[Job, ...]]]:
    """Return, for each minute at which a job begins, which jobs run from then on side by side."""
    return [
        (slot.begins_min, tuple(s.job for s in slots if s.begins_min <= slot.begins_min < s.ends_min)) for slot in slots
    ]


def _minutes(job: Job, *, at_p95: bool) -> float:
    """Return how long a job takes; the sum of p95s lies over the p95 of the sum, which is on the safe side."""
    return sum(stage.minutes_p95 if at_p95 else stage.minutes_p50 for stage in job.stages)
