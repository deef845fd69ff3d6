"""A small valid plan, its YAML, and a synthetic forecast: what the tests of this folder start from."""

import copy
import datetime as dt
from typing import Any

import numpy as np

from simulation.plan import Plan
from simulation.traffic.forecast import LEVELS, Forecast

OPENS_AT = dt.datetime(2026, 3, 10, 2, 0, tzinfo=dt.UTC)

# One replica of four servers at 50 ms: 80 requests per second when nothing slows it.
PLAN_YAML = """\
# Kept by the operators of the test pool.
name: small-night
serving:
  pool: scorer
  replicas: 2
  servers_per_replica: 2  # two processes per machine
  service_time:
    mean_ms: 50
    scv: 1.0
    distribution: exponential
    calibrated: true
  slo:
    latency_ms: 1000
    good_ratio: 0.99
    user_impact: the answer takes longer than a page view
traffic:
  history: worldcup98
  time_zone: UTC
# Agreed with the on-call team.
window:
  time_zone: UTC
  starts_at_local: "02:00"
  duration_min: 60
  threshold_rps: 30
  rollback_reserve_min: 5
training:
  model: bank-marketing
  data: bank_marketing_2008_2010
  stages:
    - name: load  # from the warehouse
      minutes_p50: 2
      minutes_p95: 4
    - name: train
      minutes_p50: 10
      minutes_p95: 15
      serving_slowdown: 1.2
      pausable: true
evaluation:
  gates:
    - metric: log_loss
      role: success
acceptance:
  replications: 4
"""


def plan_data() -> dict[str, Any]:
    """Return the plan of `PLAN_YAML` as plain data, a fresh copy at each call."""
    return {
        "name": "small-night",
        "serving": {
            "pool": "scorer",
            "replicas": 2,
            "servers_per_replica": 2,
            "service_time": {"mean_ms": 50, "scv": 1.0, "distribution": "exponential", "calibrated": True},
            "slo": {
                "latency_ms": 1000,
                "good_ratio": 0.99,
                "user_impact": "the answer takes longer than a page view",
            },
        },
        "traffic": {"history": "worldcup98", "time_zone": "UTC"},
        "window": {
            "time_zone": "UTC",
            "starts_at_local": "02:00",
            "duration_min": 60,
            "threshold_rps": 30,
            "rollback_reserve_min": 5,
        },
        "training": {
            "model": "bank-marketing",
            "data": "bank_marketing_2008_2010",
            "stages": [
                {"name": "load", "minutes_p50": 2, "minutes_p95": 4},
                {
                    "name": "train",
                    "minutes_p50": 10,
                    "minutes_p95": 15,
                    "serving_slowdown": 1.2,
                    "pausable": True,
                },
            ],
        },
        "evaluation": {"gates": [{"metric": "log_loss", "role": "success"}]},
        "acceptance": {"replications": 4},
    }


def small_plan(**changes: Any) -> Plan:
    """Return the small plan with values changed by dotted name, dots written as `__`; numbers choose a list entry."""
    data = copy.deepcopy(plan_data())
    for name, value in changes.items():
        *parents, key = name.split("__")
        place: Any = data
        for parent in parents:
            place = place[int(parent)] if parent.isdigit() else place.setdefault(parent, {})
        place[key] = copy.deepcopy(value)
    return Plan.model_validate(data)


def flat_forecast(
    load_rps: float = 20.0, *, hours: int = 6, step_s: int = 600, start: dt.datetime | None = None
) -> Forecast:
    """Return a forecast of one load for all levels, so that only the arrivals themselves are random."""
    return stepped_forecast([load_rps] * (hours * 3600 // step_s), step_s=step_s, start=start)


def stepped_forecast(loads_rps: list[float], *, step_s: int, start: dt.datetime | None = None) -> Forecast:
    """Return a forecast that is sure of its load, one value per step; it starts two hours before the opening."""
    begin = OPENS_AT - dt.timedelta(hours=2) if start is None else start
    return Forecast(begin, step_s, LEVELS, np.repeat(np.array(loads_rps)[:, None], len(LEVELS), axis=1))
