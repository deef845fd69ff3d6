"""
The one rule with two clocks: what a controller sees, what it may do, and the shape of the function between.

The functions themselves live in `flows/domain/triggers.py`; the simulator is handed them (`rules=`),
so that a simulated verdict is about the rules that run at night.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol


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

    def __call__(self, observation: Observation, memory: Any) -> tuple[Decision, Any]:
        """Judge one observation; `memory` is None at first."""
        ...


def never_intervene(observation: Observation, memory: Any) -> tuple[Decision, Any]:
    """Let training run whatever happens: the plan without triggers."""
    return Decision(Action.CONTINUE, "no trigger is set"), memory
