"""An autoscaler as clouds offer them: it looks at utilisation with a delay, and its machines take time to come."""

import math

from simulation.control_plane.world import Rank, SimEvents, World
from simulation.data_plane.pool_settings import BLUE, GREEN
from simulation.plan_serving import Autoscaler


def autoscale(world: World, settings: Autoscaler) -> SimEvents:
    """
    Keep the utilisation of the live version near its target.

    Every `look_s` the share of server time that was spent at work since the last look is read. More replicas are
    ordered at once and open, cold, `boot_s` later; what is ordered counts, so that one peak is not answered twice.
    Fewer are closed one at a time, `cooldown_s` after the last change, and drained.
    """
    servers_each = world.settings.versions[0].servers_per_replica
    live, ordered = world.live, world.replicas(world.live)
    changed_s, worked_s = -math.inf, 0.0
    while True:
        yield world.after(settings.look_s, Rank.SCALING)
        world.play()
        if live != world.live:  # a rollout or its way back: what runs there is what was ordered
            live, ordered = world.live, world.replicas(world.live)
        up = len(world.replicas_up(BLUE)) + len(world.replicas_up(GREEN))
        work_s, worked_s = world.pool.worked_s - worked_s, world.pool.worked_s
        utilisation = work_s / (settings.look_s * up * servers_each) if up else 1.0
        wanted = math.ceil(len(world.replicas_up(live)) * utilisation / settings.target_utilisation - 1e-9)
        wanted = min(settings.max_replicas, max(settings.min_replicas, wanted))
        if wanted > ordered:
            world.note(f"autoscaler: {wanted - ordered} replica(s) ordered at {utilisation:.0%} utilisation")
            ordered, changed_s = wanted, world.now_s
            world.env.process(_open(world, live, wanted, settings.boot_s))
        elif wanted < ordered and ordered == world.replicas(live) and world.now_s - changed_s >= settings.cooldown_s:
            ordered, changed_s = ordered - 1, world.now_s
            world.set_replicas(ordered, version=live)
            world.note(f"autoscaler: one replica closed at {utilisation:.0%} utilisation")


def _open(world: World, version: int, replicas: int, boot_s: float) -> SimEvents:
    yield world.after(boot_s, Rank.SCALING)
    if replicas > world.replicas(version) > 0:
        world.set_replicas(replicas, version=version)
        world.note(f"autoscaler: {replicas} replicas open")
