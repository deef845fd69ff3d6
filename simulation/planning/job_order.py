"""
Who trains when, if several models share a window: by priority, no more at a time than allowed, staggered.

Start at `order_jobs`. The order is fixed beforehand, so that it can be shown, simulated and held against the window.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from simulation.plan import Job, Training


@dataclass(frozen=True)
class JobSlot:
    """
    A job's place: minutes after the opening at which it begins and ends when every stage takes as long as told.

    `lane` is which of the `max_concurrent` places it takes; two jobs of one lane never run at once.
    """

    job: Job
    begins_min: float
    ends_min: float
    lane: int = 0


def order_jobs(training: Training, *, at_p95: bool = True) -> tuple[JobSlot, ...]:
    """
    Return when each job begins and ends, in the order in which they begin.

    A job begins when one of `max_concurrent` places is free and its `start_after_min` has passed; of those that
    could begin at one instant the highest priority goes first, then the order of the plan. Nothing overtakes a job
    that could begin, and no place waits for a job that may not yet.
    """
    return arrange(by_priority(training.all_jobs()), training.max_concurrent, at_p95=at_p95)


def by_priority(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs with the highest priority first; equal ones keep their order."""
    return sorted(jobs, key=lambda job: -job.priority)


def arrange(jobs: Sequence[Job], lanes: int, *, at_p95: bool = True, stagger_min: float = 0.0) -> tuple[JobSlot, ...]:
    """Return the places of jobs that come with the first in line first; starts lie `stagger_min` apart at least."""
    waiting = list(jobs)
    free_at, may_begin = [0.0] * lanes, 0.0
    slots: list[JobSlot] = []
    while waiting:
        lane = min(range(len(free_at)), key=free_at.__getitem__)
        begins = max(free_at[lane], may_begin, min(job.start_after_min for job in waiting))
        chosen = next(job for job in waiting if job.start_after_min <= begins)
        waiting.remove(chosen)
        ends = begins + minutes_of(chosen, at_p95=at_p95)
        free_at[lane], may_begin = ends, begins + stagger_min
        slots.append(JobSlot(chosen, begins, ends, lane))
    return tuple(slots)


def work_p95_min(training: Training) -> float:
    """Return the minutes after the opening by which every job has ended, all stages taken at their p95."""
    return max(slot.ends_min for slot in order_jobs(training))


def together(slots: tuple[JobSlot, ...]) -> list[tuple[float, tuple[Job, ...]]]:
    """Return, for each minute at which a job begins, which jobs run from then on side by side."""
    return [
        (slot.begins_min, tuple(s.job for s in slots if s.begins_min <= slot.begins_min < s.ends_min)) for slot in slots
    ]


def minutes_of(job: Job, *, at_p95: bool) -> float:
    """Return how long a job takes; the sum of p95s lies over the p95 of the sum, which is on the safe side."""
    return sum(stage.minutes_p95 if at_p95 else stage.minutes_p50 for stage in job.stages)
