"""
The training job of a simulated night: stages with what they take, checkpoints, retries, pauses; see `TrainingJob`.

The job starts nothing after a cutoff, gives way when the controller says so, and slows serving while it works.
"""

import math
from collections.abc import Sequence
from enum import StrEnum

import simpy

from simulation import randomness
from simulation.control_plane.world import Rank, SimEvents, World
from simulation.plan import Plan, Stage
from simulation.planning.job_order import JobSlot
from simulation.randomness import Purpose
from simulation.scenario import Event, LateData, MoreData, StageFails

_Z95 = 1.6448536269514722


class Ending(StrEnum):
    """How a stretch of work on a stage ended."""

    DONE = "done"  # up to where it was to go: its end, or where the scenario lets it fail
    KILLED = "killed"  # the process is gone, the checkpoint is there
    STOPPED = "stopped"  # by the controller, or because the envelope is used up


class TrainingJob:
    """
    One training job; `run` is its process.

    Parameters
    ----------
    slot : its place in the window; without one it is the plan's main job, from the opening on
    number : 0 for the main job, whose rounds are the plan's; draws are keyed by it, so jobs take their time apart
    before : the job that has the same lane first, however long it takes

    Attributes
    ----------
    stage : name of the stage that is worked on, None between stages
    finished_s : when the last stage ended, in seconds of the play; NaN until then
    steps : begin, end (seconds of the play) and name of each stretch of a stage, pauses included
    worked_s, cpu_s, paused_s : what was spent so far
    """

    def __init__(
        self,
        world: World,
        plan: Plan,
        events: Sequence[Event],
        window_s: float,
        *,
        slot: JobSlot | None = None,
        number: int = 0,
        before: "TrainingJob | None" = None,
    ):
        self.world, self.plan, self.window_s = world, plan, window_s
        self.job = plan.training.all_jobs()[0] if slot is None else slot.job
        self.number, self._before = number, before
        self._begins_s = 0.0 if slot is None else 60 * slot.begins_min
        self._label = "" if number == 0 else f"{self.job.model}: "
        self._cause = "training" if number == 0 else f"training of {self.job.model}"
        self.ended: simpy.Event = world.env.event()
        self.stage: str | None = None
        self.is_paused = self.is_stopped = False
        self.finished_s = math.nan
        self.steps: list[tuple[float, float, str]] = []
        self.worked_s = self.cpu_s = self.paused_s = 0.0
        self._late_s = 60 * sum(event.minutes for event in events if isinstance(event, LateData))
        self._data_factor = math.prod(event.factor for event in events if isinstance(event, MoreData))
        self._failures = [event for event in events if isinstance(event, StageFails)]
        self._signal: simpy.Event = world.env.event()
        self._restart_s: float | None = None

    # What others do to the job -----------------------------------------------------------------------------------

    def pause(self) -> None:
        """Ask the job to stand still; a pausable stage does, once its round is over."""
        self.is_paused = True
        self._wake()

    def resume(self) -> None:
        """Let the job go on."""
        self.is_paused = False
        self._wake()

    def stop(self) -> None:
        """End the job for good, once its round is over."""
        self.is_stopped = True
        self._wake()

    def kill(self, restart_after_s: float) -> None:
        """Kill the process; it is started again after a while, from its last checkpoint."""
        if self.stage is not None:
            self._restart_s = restart_after_s
            self._wake()

    def _wake(self) -> None:
        signal, self._signal = self._signal, self.world.env.event()
        signal.succeed()

    # The process -------------------------------------------------------------------------------------------------

    def run(self) -> SimEvents:
        """Work through the stages, inside the window."""
        if self._before is not None:
            yield self._before.ended
        begins_s = self.world.lead_s + max(self._begins_s, self._late_s)
        yield self.world.after(max(0.0, begins_s - self.world.now_s), Rank.TRAINING)
        for index, stage in enumerate(self.job.stages):
            is_done = yield from self._complete(index, stage)
            if not is_done:
                break
        else:
            self.finished_s = self.world.now_s
            self._note("training done")
        self.ended.succeed()

    def _note(self, text: str) -> None:
        self.world.note(self._label + text)

    def cutoff_s(self, index: int) -> float:
        """Return the last moment stage `index` may start: the close less p95 of what is left and the reserve."""
        left_min = sum(stage.minutes_p95 for stage in self.job.stages[index:])
        return self.world.lead_s + self.window_s - 60 * (left_min + self.plan.window.rollback_reserve_min)

    def _complete(self, index: int, stage: Stage) -> SimEvents:
        """Work on a stage until it is done; return whether it is."""
        world, envelope = self.world, self.job.envelope
        if not self._may_start(index):
            return False
        if stage.memory_gib > envelope.memory_gib:
            self._note(
                f"{stage.name} killed: {stage.memory_gib:g} GiB wanted, the envelope has {envelope.memory_gib:g}"
            )
            return False
        work_s = stage_seconds(stage, index, world.seed, self.number) * self._data_factor
        fails_at = [failure.after_ratio * work_s for failure in self._failures_of(stage)]
        done_s, failed = 0.0, 0
        while True:
            until_s = fails_at[failed] if failed < len(fails_at) else work_s
            done_s, ending = yield from self._work(stage, done_s, max(done_s, until_s), work_s)
            if ending is Ending.DONE and failed == len(fails_at):
                return True
            if ending is Ending.STOPPED:
                return False
            wait_s = 0.0
            if ending is Ending.KILLED:
                self._note(f"{stage.name} killed at {done_s / work_s:.0%}")
                wait_s, self._restart_s = self._restart_s or 0.0, None
            else:
                failure = self._failures_of(stage)[failed]
                self._note(f"{stage.name} failed at {done_s / work_s:.0%}")
                failed += 1
                if failed > stage.retries:
                    self._note(f"{stage.name} given up after {failed} attempt(s)")
                    return False
                wait_s = failure.retry_after_min * 60
            done_s = _checkpoint(stage, done_s)
            yield world.after(wait_s, Rank.TRAINING)
            if not self._may_start(index):  # another attempt is another start
                return False

    def _failures_of(self, stage: Stage) -> list[StageFails]:
        return [event for event in self._failures if event.stage == stage.name for _ in range(event.times)]

    def _may_start(self, index: int) -> bool:
        late_s = self.world.now_s - self.cutoff_s(index)
        if late_s > 0:
            name = self.job.stages[index].name
            self._note(f"{name} not started: {late_s:,.0f} s after its cutoff")
        return late_s <= 0 and not self.is_stopped

    def _work(self, stage: Stage, done_s: float, until_s: float, work_s: float) -> SimEvents:
        """
        Work on a stage from `done_s` to `until_s` of its `work_s`; return how far it came, and how it ended.

        Pauses and stops wait for the end of the round; a kill does not.
        """
        world, begun_s = self.world, self.world.now_s
        stretch = self.job.envelope.stretch(stage)
        has_rounds = stage.name == "train" and self.number == 0
        round_s = work_s / self.plan.training.rounds if has_rounds else 0.0
        self.stage = stage.name
        ending = Ending.DONE
        while done_s < until_s:
            gives_way = self.is_stopped or (self.is_paused and stage.pausable)
            aim_s = min(until_s, _round_end(done_s, round_s)) if gives_way else until_s
            if gives_way and aim_s <= done_s:
                if self.is_stopped:
                    ending = Ending.STOPPED
                    break
                yield from self._stand_still()
            else:
                left_s = self._envelope_left_s()
                aim_s = min(aim_s, done_s + left_s / stretch)
                done_s = yield from self._progress(stage, done_s, aim_s, stretch)
                if self._envelope_left_s() <= 0 and done_s < until_s:
                    self._note(f"{stage.name} stopped: the envelope's {self.job.envelope.minutes:g} min are used up")
                    self.is_stopped, ending = True, Ending.STOPPED
                    break
            if self._restart_s is not None:
                ending = Ending.KILLED
                break
        self.steps.append((begun_s, world.now_s, stage.name))
        self.stage = None
        world.slow(self._cause, 1.0)
        return done_s, ending

    def _progress(self, stage: Stage, done_s: float, aim_s: float, stretch: float) -> SimEvents:
        """Work until `aim_s` or a signal; return how far it came."""
        world, since_s = self.world, self.world.now_s
        cpus = min(stage.cpus, self.job.envelope.cpus)
        world.slow(self._cause, max(stage.serving_slowdown, self.plan.serving.slowdown_beside(cpus)))
        end = world.after((aim_s - done_s) * stretch, Rank.TRAINING)
        yield end | self._signal
        spent_s = world.now_s - since_s
        self.worked_s += spent_s
        self.cpu_s += spent_s * cpus
        return aim_s if end.processed else min(aim_s, done_s + spent_s / stretch)

    def _stand_still(self) -> SimEvents:
        since_s = self.world.now_s
        self.world.slow(self._cause, 1.0)
        yield self._signal
        self.paused_s += self.world.now_s - since_s

    def _envelope_left_s(self) -> float:
        return self.job.envelope.minutes * 60 - self.worked_s


def stage_seconds(stage: Stage, index: int, seed: int, job: int = 0) -> float:
    """Draw how long a stage's work takes: the lognormal of its p50 and p95; keyed by seed, stage and job number."""
    sigma = math.log(stage.minutes_p95 / stage.minutes_p50) / _Z95
    draw = float(randomness.normals(seed, [index], job, Purpose.TRAINING)[0])
    return 60 * stage.minutes_p50 * math.exp(sigma * draw)


def _checkpoint(stage: Stage, done_s: float) -> float:
    """Return the work that a new start finds done."""
    if stage.checkpoint_every_min is None:
        return 0.0
    every_s = 60 * stage.checkpoint_every_min
    return math.floor(done_s / every_s) * every_s


def _round_end(done_s: float, round_s: float) -> float:
    """Return the work done at the end of the round that is running; between two rounds, and without any, now."""
    if round_s == 0.0:
        return done_s
    nearest = round(done_s / round_s)
    if abs(done_s - nearest * round_s) <= 1e-9 * max(1.0, done_s):
        return done_s
    return math.ceil(done_s / round_s) * round_s
