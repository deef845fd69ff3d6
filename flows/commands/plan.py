"""`lull plan schema` and `lull plan check`: what a plan may say, and whether one says it."""

import datetime as dt
from pathlib import Path

from flows.commands.printing import print_json
from simulation.plan import Plan
from simulation.plan_file import read_plan, window_rule


def schema() -> int:
    """Print the JSON Schema of plans; return 0."""
    print_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **Plan.model_json_schema()})
    return 0


def check(path: Path, as_json: bool) -> int:
    """Say that the plan is valid and when its window opens next; return 0. What is wrong with it is raised."""
    plan = read_plan(path)
    rule = window_rule(plan)
    now = dt.datetime.now(dt.UTC)
    if as_json:
        opens, closes = next(rule.occurrences(now))
        print_json(
            {
                "plan": plan.name,
                "is_valid": True,
                "digest": plan.digest(),
                "window": {"opens_at": opens.isoformat(), "closes_at": closes.isoformat()},
            }
        )
        return 0
    print(f"{path}: plan {plan.name} is valid (digest {plan.digest()[:12]}).")
    print(rule.explain(now))
    return 0
