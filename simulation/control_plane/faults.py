"""What breaks during a simulated night, one process per event of the scenario; start at `start_faults`."""

from collections.abc import Callable

import numpy as np

from simulation import randomness
from simulation.control_plane.training_jobs import TrainingJobs
from simulation.control_plane.world import Rank, SimEvents, World
from simulation.data_plane.pool_settings import BLUE, GREEN
from simulation.plan import Plan
from simulation.randomness import Purpose
from simulation.scenario import (
    Event,
    Maintenance,
    ReplicaLost,
    ReplicasFail,
    Scenario,
    SlowReplica,
    SlowServing,
    WorkerKilled,
    ZoneLost,
)

_Z95 = 1.6448536269514722
_RUNNING_WORK = {
    "drain": "having finished their running requests",
    "evict_and_requeue": "their running requests go back to the queue",
    "hand_over": "their running requests are handed over to the others",
    "fail": "their running requests fail",
}
_MOST_FAILURES = 64  # of one replica in one night; a replica that fails more often is not a replica


def start_faults(world: World, plan: Plan, scenario: Scenario, jobs: TrainingJobs) -> None:
    """Start a process for each event that breaks something; what other parts read from the scenario is left to them."""
    processes: dict[type[Event], Callable[..., SimEvents]] = {
        ReplicaLost: _lose_replicas,
        ZoneLost: _lose_zone,
        SlowReplica: _slow_replica,
        Maintenance: _maintain,
        SlowServing: _slow_serving,
    }
    for k, event in enumerate(scenario.events):
        cause = f"{event.kind} {k}"
        if isinstance(event, ReplicasFail):
            for number in range(plan.serving.replicas):
                world.env.process(_fail_at_random(world, event, number, cause))
        elif isinstance(event, WorkerKilled):
            world.env.process(_kill_worker(world, event, jobs))
        elif isinstance(event, ZoneLost):
            world.env.process(_lose_zone(world, event, cause, plan.serving.zones))
        elif type(event) in processes and not _is_over(world, event):
            world.env.process(processes[type(event)](world, event, cause))


def _begin_s(world: World, at_min: float) -> float:
    """Return when an event begins in the play; what began earlier begins with it."""
    return max(0.0, world.lead_s + at_min * 60)


def _end_s(world: World, event: ReplicaLost | ZoneLost | SlowReplica | SlowServing) -> float:
    return world.lead_s + (event.at_min + event.minutes) * 60


def _is_over(world: World, event: Event) -> bool:
    return isinstance(event, ReplicaLost | ZoneLost | SlowReplica | SlowServing) and _end_s(world, event) <= 0.0


def _replicas(n: int) -> str:
    return f"{n} replica" if n == 1 else f"{n} replicas"


def _lose_replicas(world: World, event: ReplicaLost, cause: str) -> SimEvents:
    begin_s = _begin_s(world, event.at_min)
    yield world.after(begin_s, Rank.FAULT)
    lost = world.replicas_up(world.live)[-event.replicas :]  # those with the highest numbers go first
    world.take_down(lost, cause, event.running_work)
    world.note(f"{_replicas(event.replicas)} lost, {_RUNNING_WORK[event.running_work]}")
    yield world.after(_end_s(world, event) - begin_s, Rank.FAULT)
    world.bring_back(lost, cause)
    world.note(f"{_replicas(event.replicas)} back")


def _lose_zone(world: World, event: ZoneLost, cause: str, zones: int) -> SimEvents:
    if _is_over(world, event):
        return
    begin_s = _begin_s(world, event.at_min)
    yield world.after(begin_s, Rank.FAULT)
    lost = [(v, n) for v in (BLUE, GREEN) for n in range(world.replicas(v)) if n % zones == event.zone]
    world.take_down(lost, cause, event.running_work)
    world.note(f"zone {event.zone} lost with {_replicas(len(lost))}")
    yield world.after(_end_s(world, event) - begin_s, Rank.FAULT)
    world.bring_back(lost, cause)
    world.note(f"zone {event.zone} back")


def _fail_at_random(world: World, event: ReplicasFail, number: int, cause: str) -> SimEvents:
    """Let one replica fail and be repaired, from the beginning of the play on."""
    keys = np.arange(_MOST_FAILURES)
    up_s = 3600 * event.mean_hours_between * randomness.exponentials(world.seed, keys, 2 * number, Purpose.FAULTS)
    sigma = np.log(event.repair_min_p95 / event.repair_min_p50) / _Z95
    normals = randomness.normals(world.seed, keys, 2 * number + 1, Purpose.FAULTS)
    repair_s = 60 * event.repair_min_p50 * np.exp(sigma * normals)
    for lives_s, takes_s in zip(up_s.tolist(), repair_s.tolist(), strict=True):
        yield world.after(lives_s, Rank.FAULT)
        broken = (world.live, number)
        if number >= world.replicas(world.live):
            return  # the autoscaler has closed it
        world.take_down([broken], cause, event.running_work)
        world.note(f"replica {number} failed, repaired in {takes_s / 60:,.0f} min")
        yield world.after(takes_s, Rank.FAULT)
        world.bring_back([broken], cause)
        world.note(f"replica {number} back")


def _slow_replica(world: World, event: SlowReplica, cause: str) -> SimEvents:
    begin_s = _begin_s(world, event.at_min)
    yield world.after(begin_s, Rank.FAULT)
    replica = (world.live, event.replica)
    world.slow_replica(replica, event.factor)
    world.note(f"replica {event.replica} {event.factor:g} times slower")
    yield world.after(_end_s(world, event) - begin_s, Rank.FAULT)
    world.slow_replica(replica, 1.0)
    world.note(f"replica {event.replica} recovers")


def _maintain(world: World, event: Maintenance, cause: str) -> SimEvents:
    """Drain, restart and reopen replicas in turn."""
    yield world.after(_begin_s(world, event.at_min), Rank.FAULT)
    for number in range(event.replicas):
        replica = (world.live, number)
        world.take_down([replica], cause, "drain")
        world.note(f"replica {number} drained for maintenance")
        yield world.after(event.minutes_each * 60, Rank.FAULT)
        world.bring_back([replica], cause)
    world.note(f"maintenance of {_replicas(event.replicas)} done")


def _slow_serving(world: World, event: SlowServing, cause: str) -> SimEvents:
    begin_s = _begin_s(world, event.at_min)
    yield world.after(begin_s, Rank.FAULT)
    world.slow(cause, event.factor)
    world.note(f"serving {event.factor:g} times slower: {event.cause.replace('_', ' ')}")
    yield world.after(_end_s(world, event) - begin_s, Rank.FAULT)
    world.slow(cause, 1.0)
    world.note(f"serving recovers: {event.cause.replace('_', ' ')}")


def _kill_worker(world: World, event: WorkerKilled, jobs: TrainingJobs) -> SimEvents:
    yield world.after(_begin_s(world, event.at_min), Rank.FAULT)
    world.note("training worker killed" if jobs.is_training else "training worker killed, nothing ran")
    jobs.kill(event.restart_after_min * 60)
