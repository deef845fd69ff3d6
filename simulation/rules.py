"""
The one rule with two clocks: what a controller sees, what it may do, and the shape of the function between.

The functions themselves live in `flows/domain/triggers.py`; the simulator is handed them (`rules=`),
so that a simulated verdict is about the rules that run at night.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from simulation.plan import Plan, Rollout


class Action(StrEnum):
    """What a rule may ask of the training job."""

    CONTINUE = "continue"
    PAUSE = "pause"
    STOP = "stop"


@dataclass(frozen=True)
class Observation:
    """
    What a real controller can see at `at_s`: finished requests of the last `span_s` seconds, and the job itself.

    Latencies are NaN when nothing finished. Never the future, never a service time.
    """

    at_s: float  # since the window opened
    span_s: float
    n_finished: int
    load_rps: float
    p50_ms: float
    p99_ms: float
    bad_ratio: float  # answered late, or not at all, among the finished
    error_ratio: float
    queue_length: float
    is_training: bool
    is_paused: bool
    seconds_to_cutoff: float


@dataclass(frozen=True)
class Decision:
    """An action and its reason in a sentence."""

    action: Action
    reason: str


class Rules(Protocol):
    """A pure function from an observation and what it remembers to a decision and what to remember next."""

    def __call__(self, observation: Observation, memory: Any, /) -> tuple[Decision, Any]:
        """Judge one observation; `memory` is None at first."""
        ...


def never_intervene(observation: Observation, memory: Any) -> tuple[Decision, Any]:
    """Let training run whatever happens: the plan without triggers."""
    return Decision(Action.CONTINUE, "no trigger is set"), memory


RulesOf = Callable[[Plan], Rules]  # a plan's triggers as rules


def no_rules(plan: Plan) -> Rules:
    """Return the rules of a plan whose triggers nobody looks at."""
    return never_intervene


class StepVerdict(StrEnum):
    """What the answers of a rollout step allow; the words are those of the gates that run at night."""

    PROMOTE = "promote"
    HOLD = "hold for data"
    ROLL_BACK = "roll back"


class StepRule(Protocol):
    """A pure function from what the new slot answered in a step to a verdict (a `StepVerdict`'s word) and a reason."""

    def __call__(self, n_answered: int, n_failed: int, rollout: Rollout, /) -> tuple[str, str]:
        """Judge a step by the requests that the new slot answered, and those that it failed."""
        ...


def promote_after_enough(n_answered: int, n_failed: int, rollout: Rollout) -> tuple[str, str]:
    """Let a step pass once it has its requests, whatever they were: the plan without a gate on live answers."""
    n = n_answered + n_failed
    return StepVerdict.PROMOTE if n >= rollout.requests_per_step else StepVerdict.HOLD, f"{n} requests were answered"
