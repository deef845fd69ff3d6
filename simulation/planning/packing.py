"""
Several models in one window: who trains when, and who is deferred because the window cannot hold it; start at `pack`.

Greedy by priority: a job is admitted if it and all that were admitted before it fit; so no job is ever deferred for a
lower one. OR-tools could pack tighter; nobody could tell from its answer why a job was left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from simulation.plan import Job, Plan
from simulation.planning.job_order import JobSlot, arrange, by_priority, minutes_of
from simulation.result import Experiment
from simulation.statistics import Estimate, probability_interval

STAGGER_MIN = 1.0  # between two starts, where there is room for it: reading data all at once would load one disk


@dataclass(frozen=True)
class Deferred:
    """A job that this window does not hold, and why, in a sentence."""

    job: Job
    reason: str


@dataclass(frozen=True)
class Packing:
    """
    The jobs of a window.

    Attributes
    ----------
    slots : the jobs that train, in the order in which they begin, each at its p95
    deferred : those that do not, highest priority first
    room_min : the window less its rollback reserve
    needed_min : by when all jobs would have ended in a window that is long enough
    """

    slots: tuple[JobSlot, ...]
    deferred: tuple[Deferred, ...]
    room_min: float
    needed_min: float

    def slot_of(self, model: str) -> JobSlot | None:
        """Return the place of a model's job, or None if it is deferred."""
        return next((slot for slot in self.slots if slot.job.model == model), None)

    def before(self, slot: JobSlot) -> JobSlot | None:
        """Return the job that has the same lane just before, or None."""
        earlier = [other for other in self.slots if other.lane == slot.lane and other.begins_min < slot.begins_min]
        return max(earlier, key=lambda other: other.begins_min) if earlier else None


def pack(plan: Plan) -> Packing:
    """
    Return which jobs of a plan train in its window, when and beside which, and which are deferred.

    Never more than `training.max_concurrent` at once, none before its `start_after_min`, none that would end in the
    rollback reserve at its p95; starts lie a minute apart where the window has room for it.
    """
    training = plan.training
    room_min = plan.window.duration_min - plan.window.rollback_reserve_min
    admitted: list[Job] = []
    slots: tuple[JobSlot, ...] = ()
    deferred: list[Deferred] = []
    for job in by_priority(training.all_jobs()):
        found = _fit([*admitted, job], training.max_concurrent, room_min)
        if found is not None:
            admitted.append(job)
            slots = found
            continue
        over = _ends_min([*admitted, job], training.max_concurrent) - room_min
        beside = f" beside {', '.join(other.model for other in admitted)}, which go first," if admitted else ""
        deferred.append(
            Deferred(
                job,
                f"{job.model} is deferred: its {minutes_of(job, at_p95=True):g} minutes at p95{beside} do not fit into "
                f"the {room_min:g} minutes of the window less its reserve; lengthen the window by {over:g} minutes"
                + (", raise training.max_concurrent" if admitted else "")
                + " or shorten the work",
            )
        )
    needed = _ends_min(by_priority(training.all_jobs()), training.max_concurrent)
    return Packing(slots, tuple(deferred), room_min, needed)


def finish_by_job(experiment: Experiment, confidence: float) -> dict[str, dict[str, Estimate]]:
    """Return P(a job is done in its window, the reserve left free) by scenario and model, one-sided exact bounds."""
    told: dict[str, dict[str, Estimate]] = {}
    for name in experiment.scenarios():
        trials = experiment.of(name)
        models = [job.model for job in trials[0].jobs]
        told[name] = {
            model: probability_interval(
                sum(job.has_finished for trial in trials for job in trial.jobs if job.model == model),
                len(trials),
                confidence,
            )
            for model in models
        }
    return told


def _fit(jobs: Sequence[Job], lanes: int, room_min: float) -> tuple[JobSlot, ...] | None:
    """Return an arrangement that ends in time, or None; the first that does, in the order of `_arrangements`."""
    return next((found for found in _arrangements(jobs, lanes) if _end(found) <= room_min), None)


def _ends_min(jobs: Sequence[Job], lanes: int) -> float:
    return min(_end(found) for found in _arrangements(jobs, lanes))


def _end(slots: Sequence[JobSlot]) -> float:
    return max(slot.ends_min for slot in slots)


def _arrangements(jobs: Sequence[Job], lanes: int) -> Iterator[tuple[JobSlot, ...]]:
    """
    Yield the arrangements that are tried.

    First the order that cutoffs and the check of a plan count with, staggered and as it is. It lets no lane idle, so
    a job that may start later can find its lane taken by a lower one; last, each job at its earliest place.
    """
    yield arrange(jobs, lanes, stagger_min=STAGGER_MIN)
    yield arrange(jobs, lanes)
    yield _each_at_its_earliest(jobs, lanes)


def _each_at_its_earliest(jobs: Sequence[Job], lanes: int) -> tuple[JobSlot, ...]:
    """Place job after job where it can begin first, gaps between those already placed included."""
    placed: list[JobSlot] = []
    for job in jobs:
        takes = minutes_of(job, at_p95=True)
        # A lane that is busy becomes free when a job ends: no other moment can be the earliest.
        moments = [job.start_after_min, *(slot.ends_min for slot in placed)]
        begins, lane = min(
            (moment, lane)
            for moment in moments
            if moment >= job.start_after_min
            for lane in range(lanes)
            if not any(s.lane == lane and s.begins_min < moment + takes and moment < s.ends_min for s in placed)
        )
        placed.append(JobSlot(job, begins, begins + takes, lane))
    return tuple(sorted(placed, key=lambda slot: (slot.begins_min, slot.lane)))
