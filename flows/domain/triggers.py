"""Triggers: from what a controller sees to pause, continue or stop, with hysteresis; the simulator plays them too."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from simulation.plan import Trigger
from simulation.rules import Action, Decision, Observation, Rules

_ALL_CLEAR = Decision(Action.CONTINUE, "every trigger is clear")


@dataclass(frozen=True)
class TriggerMemory:
    """Since when a limit is passed, or kept again, and whether the trigger holds the job now."""

    is_on: bool = False
    since_s: float | None = None


@dataclass(frozen=True)
class TriggerRules:
    """The plan's triggers as the function that judges an observation: plain data, so it can be sent to a cluster."""

    triggers: tuple[Trigger, ...]

    def __call__(self, observation: Observation, memory: Any) -> tuple[Decision, Any]:
        """Judge one observation; `memory` is None at first."""
        triggers = self.triggers
        states: tuple[TriggerMemory, ...] = memory or tuple(TriggerMemory() for _ in triggers)
        after = tuple(_step(trigger, state, observation) for trigger, state in zip(triggers, states, strict=True))
        held = [trigger for trigger, state in zip(triggers, after, strict=True) if state.is_on]
        if not held:
            return _ALL_CLEAR, after
        worst = next((trigger for trigger in held if trigger.action == "stop"), held[0])
        value = getattr(observation, worst.observe)
        limits = f"acts above {worst.above:g}, clears at {worst.clears_below:g} or below"
        reason = f"{worst.name}: {worst.observe} is {value:,.3g}, {limits}"
        return Decision(Action(worst.action), reason), after


def make_rules(triggers: Sequence[Trigger]) -> Rules:
    """
    Return the function that judges an observation by the plan's triggers; it can be pickled.

    A trigger takes hold once its limit was passed for `for_s`, lets go once the value stayed at or below
    `clears_below` for `clears_for_s`; between the two limits nothing changes. Stop beats pause beats continue.
    A value that nobody measured (NaN: nothing finished) neither raises nor clears.
    """
    return TriggerRules(tuple(triggers))


def _step(trigger: Trigger, state: TriggerMemory, observation: Observation) -> TriggerMemory:
    """Return the trigger's state after one observation."""
    value = float(getattr(observation, trigger.observe))
    moves = value <= trigger.clears_below if state.is_on else value > trigger.above
    if not moves:
        # NaN compares false both ways: the state stays, the clock of a pending change starts anew.
        return state if state.since_s is None else replace(state, since_s=None)
    since = observation.at_s if state.since_s is None else state.since_s
    wait = trigger.clears_for_s if state.is_on else trigger.for_s
    if observation.at_s - since >= wait:
        return TriggerMemory(is_on=not state.is_on)
    return replace(state, since_s=since)
