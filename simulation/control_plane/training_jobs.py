"""
All training jobs of a simulated night, as the packing places them; start at `TrainingJobs`.

To the controller and to faults they are one: a pause or a stop reaches all of them, and so does a killed worker.
"""

import math
from collections.abc import Sequence

from simulation.control_plane.training import TrainingJob
from simulation.control_plane.world import World
from simulation.plan import Plan
from simulation.planning.job_order import JobSlot
from simulation.planning.packing import pack
from simulation.result import JobOutcome
from simulation.scenario import Event


class TrainingJobs:
    """
    The jobs of one night.

    Attributes
    ----------
    main : the job of the plan's own model, whose end the rollout waits for; None if the packing deferred it
    all : the jobs that the packing admitted, in the order in which they begin
    """

    def __init__(self, world: World, plan: Plan, events: Sequence[Event], window_s: float):
        self.world, self.packing = world, pack(plan)
        self._due_s = world.lead_s + window_s - 60 * plan.window.rollback_reserve_min
        numbers = {job.model: number for number, job in enumerate(plan.training.all_jobs())}
        by_slot: dict[str, TrainingJob] = {}
        for slot in self.packing.slots:
            before = self.packing.before(slot)
            by_slot[slot.job.model] = TrainingJob(
                world, plan, events, window_s, slot=slot, number=numbers[slot.job.model],
                before=None if before is None else by_slot[before.job.model],
            )  # fmt: skip
        self.all = tuple(by_slot.values())
        self.main = by_slot.get(plan.training.model)
        self._models = tuple(numbers)

    def start(self) -> None:
        """Start the process of every job but the main one, which the rollout runs; note who is deferred."""
        for deferred in self.packing.deferred:
            self.world.note(deferred.reason)
        for job in self.all:
            if job is not self.main:
                self.world.env.process(job.run())

    # What others see of the jobs, and do to them ---------------------------------------------------------------------

    @property
    def is_training(self) -> bool:
        """Whether any stage is worked on."""
        return any(job.stage is not None for job in self.all)

    @property
    def is_paused(self) -> bool:
        """Whether the jobs were asked to stand still."""
        return any(job.is_paused for job in self.all)

    @property
    def is_stopped(self) -> bool:
        """Whether every job was ended for good."""
        return all(job.is_stopped for job in self.all)

    def pause(self) -> None:
        """Ask all jobs to stand still."""
        for job in self.all:
            job.pause()

    def resume(self) -> None:
        """Let all jobs go on."""
        for job in self.all:
            job.resume()

    def stop(self) -> None:
        """End all jobs for good."""
        for job in self.all:
            job.stop()

    def kill(self, restart_after_s: float) -> None:
        """Kill the process of every job that runs; each is started again after a while."""
        for job in self.all:
            job.kill(restart_after_s)

    # What became of them ---------------------------------------------------------------------------------------------

    @property
    def finished_s(self) -> float:
        """When the main job ended, in seconds of the play; NaN if it never did."""
        return math.nan if self.main is None else self.main.finished_s

    @property
    def have_finished(self) -> bool:
        """Whether the main job and all that were admitted beside it ended before the reserve."""
        return self.main is not None and all(job.finished_s <= self._due_s for job in self.all)

    @property
    def cpu_s(self) -> float:
        """CPU seconds that all jobs spent."""
        return sum(job.cpu_s for job in self.all)

    @property
    def paused_s(self) -> float:
        """Seconds for which the job that stood still the longest did."""
        return max((job.paused_s for job in self.all), default=0.0)

    def steps(self) -> list[tuple[float, float, str]]:
        """Return begin and end (seconds of the play) and name of each stretch of a stage, in the order of begins."""
        named = [
            (begin, end, stage if job is self.main else f"{job.job.model}: {stage}")
            for job in self.all
            for begin, end, stage in job.steps
        ]
        return sorted(named, key=lambda step: step[:2])

    def outcomes(self) -> tuple[JobOutcome, ...]:
        """Return what became of every job of the plan, deferred ones among them, in the plan's order."""
        jobs = {job.job.model: job for job in self.all}
        return tuple(self._outcome(model, jobs.get(model), self.packing.slot_of(model)) for model in self._models)

    def _outcome(self, model: str, job: TrainingJob | None, slot: JobSlot | None) -> JobOutcome:
        if job is None or slot is None:
            return JobOutcome(model, math.nan, math.nan, False, True)
        finished_s = job.finished_s
        minute = math.nan if math.isnan(finished_s) else (finished_s - self.world.lead_s) / 60
        return JobOutcome(model, slot.begins_min, minute, bool(finished_s <= self._due_s), False)
