"""A night with training beside serving: a flash crowd comes, a rule pauses the job, and the night is told."""

import datetime as dt
from typing import Any

import numpy as np

from simulation import Plan, Scenario, simulate
from simulation.rules import Action, Decision, Observation, never_intervene
from simulation.traffic.forecast import LEVELS, Forecast

OPENS_AT = dt.datetime(2026, 3, 10, 2, 0, tzinfo=dt.UTC)
CROWD = {"kind": "surge", "at_min": 5, "minutes": 10, "factor": 2.5}
PLAN = {
    "name": "nightly",
    "serving": {
        "pool": "scorer", "replicas": 4, "service_time": {"mean_ms": 50, "distribution": "exponential"},
        "slo": {"latency_ms": 1000, "good_ratio": 0.99, "user_impact": "the answer takes longer than a page view"},
    },
    "traffic": {"history": "worldcup98", "time_zone": "UTC"},
    "window": {"time_zone": "UTC", "starts_at_local": "02:00", "duration_min": 60, "threshold_rps": 30},
    "training": {
        "model": "m", "data": "d",
        "stages": [{"name": "train", "minutes_p50": 20, "minutes_p95": 25, "pausable": True, "serving_slowdown": 2.0}],
    },
    "evaluation": {"gates": [{"metric": "log_loss", "role": "success"}]},
}  # fmt: skip


def pause_on_load(seen: Observation, memory: Any) -> tuple[Decision, Any]:
    """Pause while more than 35 requests per second arrive."""
    action = Action.PAUSE if seen.load_rps > 35 else Action.CONTINUE
    return Decision(action, f"{seen.load_rps:.0f} requests/s"), memory


def main() -> None:
    """Play the same night with and without the rule."""
    load = Forecast(OPENS_AT - dt.timedelta(hours=1), 600, LEVELS, np.full((18, len(LEVELS)), 20.0))
    crowd = Scenario.model_validate({"name": "flash-crowd", "question": "Does training give way?", "events": [CROWD]})
    for name, rules in (("with the rule", pause_on_load), ("without", never_intervene)):
        night = simulate(Plan.model_validate(PLAN), [crowd], load=load, opens_at=OPENS_AT, rules=rules, replications=1)
        trial = night.trials[0]
        print(f"{name}: {trial.n_bad:,} of {trial.n_requests:,} requests late, done at +{trial.finish_min:.1f} min")
        for minute, text in trial.events[:4]:
            print(f"  {minute:+6.1f} min  {text}")


if __name__ == "__main__":
    main()
