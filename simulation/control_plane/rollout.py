"""
The blue-green rollout at the end of a night: green opens beside blue, takes traffic step by step, and may go back.

Start at `roll_out`. The rule that judges a step is the one that runs at night; it sees answers only, with their delay.
"""

import math

from simulation.control_plane.training import TrainingJob
from simulation.control_plane.world import Rank, SimEvents, World
from simulation.data_plane.pool_settings import BLUE, GREEN
from simulation.plan import Plan, Rollout
from simulation.rules import StepRule, StepVerdict
from simulation.scenario import BadModel, Scenario

LOOK_S = 10.0


class RolloutState:
    """What became of the rollout; `promoted_s` and `rolled_back_s` are seconds of the play, NaN if it never was."""

    def __init__(self) -> None:
        self.promoted_s = math.nan
        self.rolled_back_s = math.nan


def roll_out(
    world: World, plan: Plan, scenario: Scenario, job: TrainingJob | None, rule: StepRule, state: RolloutState
) -> SimEvents:
    """Train, then open green, shadow, canary by canary, switch; blue stays open as the way back, then drains."""
    if job is None:  # the packing has deferred it: nothing new to roll out
        return
    yield from job.run()
    if math.isnan(job.finished_s):
        return
    rollout = plan.rollout
    bad = next((event for event in scenario.events if isinstance(event, BadModel)), None)
    world.set_replicas(rollout.green_replicas or plan.serving.replicas, version=GREEN)
    if bad is not None:
        world.slow("bad model", bad.slowdown, versions=[GREEN])
        world.pool.set_error_ratio(bad.error_ratio, version=GREEN)
    yield from _shadow(world, rollout)
    for ratio in rollout.canary_ratios:
        passed = yield from _step(world, rollout, ratio, rule)
        if not passed:
            _give_back(world, state)
            return
    world.play()
    world.pool.set_green_share(1.0)
    world.live, state.promoted_s = GREEN, world.now_s
    world.note("the new model goes live" if bad is None else "the new model goes live, and is bad")
    passed = yield from _watch(world, rollout, rule, "after the switch")
    if passed and bad is not None:
        # What no gate sees, somebody notices: a bad model that only answers slowly, say.
        noticed_s = state.promoted_s + bad.noticed_after_min * 60
        yield world.after(max(0.0, noticed_s - world.now_s), Rank.ROLLOUT)
        passed = False
    if not passed:
        _give_back(world, state)
        return
    yield world.after(rollout.keep_warm_min * 60, Rank.ROLLOUT)
    world.set_replicas(0, version=BLUE)
    world.note("the old replicas are drained")


def _shadow(world: World, rollout: Rollout) -> SimEvents:
    """Wait until enough requests were there to be scored by both; green answers nobody yet."""
    world.play()
    watch, seen = world.pool.watch(), 0
    begun_s = world.now_s
    while seen < rollout.shadow_requests and world.now_s - begun_s < rollout.step_timeout_s:
        yield world.after(LOOK_S, Rank.ROLLOUT)
        world.play()
        seen += watch.observe().attempts
    world.note(f"shadow: {seen} requests scored by both models")


def _step(world: World, rollout: Rollout, ratio: float, rule: StepRule) -> SimEvents:
    """Send a share of requests to green and judge what it answers; return whether the step passed."""
    world.play()
    world.pool.set_green_share(ratio)
    passed = yield from _watch(world, rollout, rule, f"canary {ratio:.0%}")
    return passed


def _watch(world: World, rollout: Rollout, rule: StepRule, name: str) -> SimEvents:
    """Look at green until the rule decides or the step's time is over; return whether it passed."""
    watch = world.pool.watch()
    begun_s, answered, failed = world.now_s, 0, 0
    while True:
        verdict, reason = rule(answered, failed, rollout)
        if verdict != StepVerdict.HOLD or world.now_s - begun_s >= rollout.step_timeout_s:
            world.note(f"{name}: {verdict}, {reason}")
            return verdict == StepVerdict.PROMOTE
        yield world.after(LOOK_S, Rank.ROLLOUT)
        world.play()
        seen = watch.observe().by_version[GREEN]
        answered += seen.finished - seen.errors
        failed += seen.errors


def _give_back(world: World, state: RolloutState) -> None:
    """Send all traffic to blue again, at once; green finishes what it works on."""
    world.play()
    world.pool.set_green_share(0.0)
    world.set_replicas(0, version=GREEN)
    world.live, state.rolled_back_s = BLUE, world.now_s
    world.note("rolled back to the old model")
