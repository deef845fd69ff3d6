"""One simulated night, played with small changes: what the tests of the control plane start from."""

import datetime as dt
import functools
from typing import Any

from simulation.control_plane.night import simulate_trial
from simulation.control_plane.traffic import Load, Trace
from simulation.plan import Plan
from simulation.result import Trial
from simulation.rules import Action, Decision, Observation, Rules, StepRule, never_intervene, promote_after_enough
from simulation.scenario import Scenario
from simulation.traffic.forecast import Forecast
from tests.simulation.plans import OPENS_AT, flat_forecast, small_plan

# p50 and p95 alike: the job takes exactly 2 + 30 minutes of work, in rounds of 9 seconds.
EXACT_STAGES = [
    {"name": "load", "minutes_p50": 2, "minutes_p95": 2},
    {"name": "train", "minutes_p50": 30, "minutes_p95": 30, "pausable": True, "serving_slowdown": 1.2},
]
ROUND_MIN = 30 / 200


def scenario(*events: dict[str, Any]) -> Scenario:
    """Return a scenario of these events."""
    return Scenario.model_validate({"name": "tried", "question": "What then?", "events": list(events)})


def play(
    *events: dict[str, Any],
    plan: Plan | None = None,
    load: Forecast | Trace | Load | None = None,
    seed: int = 1,
    rules: Rules = never_intervene,
    step_rule: StepRule = promote_after_enough,
    opens_at: dt.datetime = OPENS_AT,
) -> Trial:
    """Play the small plan's night with these events."""
    return simulate_trial(
        plan or small_plan(training__stages=EXACT_STAGES),
        scenario(*events),
        load or flat_forecast(),
        opens_at,
        seed,
        rules,
        step_rule,
    )


@functools.cache
def calm_night() -> Trial:
    """Return the night on which nothing goes wrong."""
    return play()


def times_of(trial: Trial, beginning: str) -> list[float]:
    """Return the minutes of the notes that begin so."""
    return [at for at, text in trial.events if text.startswith(beginning)]


def on_load(action: Action, limit_rps: float) -> Rules:
    """Act while more than `limit_rps` arrives."""

    def rules(observation: Observation, memory: Any) -> tuple[Decision, Any]:
        chosen = action if observation.load_rps > limit_rps else Action.CONTINUE
        return Decision(chosen, f"{observation.load_rps:.0f} requests per second"), memory

    return rules
