"""
The controller of a simulated night: it looks, lets the rules judge, and the job obeys; start at `control`.

It sees what a real one could: answers and rejections of the last look but one, never the future, never a service time.
"""

from typing import Any

from simulation.control_plane.training_jobs import TrainingJobs
from simulation.control_plane.world import Rank, SimEvents, World
from simulation.rules import Action, Observation, Rules

LOOK_S = 10.0  # the controller sees the last ten seconds, ten seconds late


def control(world: World, jobs: TrainingJobs, rules: Rules, closes_s: float) -> SimEvents:
    """Look every `LOOK_S` from the opening on, and let the rules judge what was seen one look before."""
    yield world.after(world.lead_s, Rank.CONTROLLER)
    world.play()
    look = world.pool.look()
    memory: Any = None
    pending: Observation | None = None
    while True:
        yield world.after(LOOK_S, Rank.CONTROLLER)
        world.play()
        seen, pending = pending, _observe(world, jobs, look, closes_s)
        if seen is None:
            continue
        decision, memory = rules(seen, memory)
        _obey(world, jobs, decision.action, decision.reason)


def _observe(world: World, jobs: TrainingJobs, look: Any, closes_s: float) -> Observation:
    seen = look.take()
    n = seen.finished + seen.rejected + seen.timeouts
    n_failed = seen.errors + seen.rejected + seen.timeouts
    return Observation(
        at_s=world.now_s - world.lead_s,
        span_s=LOOK_S,
        n_finished=n,
        load_rps=seen.attempts / LOOK_S,
        p50_ms=1000 * seen.p50_s,
        p99_ms=1000 * seen.p99_s,
        bad_ratio=(seen.late + n_failed) / n if n else 0.0,
        error_ratio=n_failed / n if n else 0.0,
        queue_length=float(seen.queue_length),
        is_training=jobs.is_training,
        is_paused=jobs.is_paused,
        seconds_to_cutoff=closes_s - world.now_s,
    )


def _obey(world: World, jobs: TrainingJobs, action: Action, reason: str) -> None:
    if action is Action.PAUSE and not jobs.is_paused:
        jobs.pause()
        world.note(f"pause: {reason}")
    elif action is Action.CONTINUE and jobs.is_paused:
        jobs.resume()
        world.note(f"continue: {reason}")
    elif action is Action.STOP and not jobs.is_stopped:
        jobs.stop()
        world.note(f"stop: {reason}")
