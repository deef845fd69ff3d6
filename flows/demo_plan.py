"""The demo's plan: traffic of 1998 and customers of 2008 to 2010 on one calendar, and why each number is so."""

import datetime as dt
import math
from dataclasses import dataclass

from flows.planning_run import HORIZON_DAYS
from reports.night_records import nights_to_show
from reports.records import PlanRecord, WindowRecord
from simulation.plan import Plan
from simulation.plan_file import window_rule
from simulation.planning.windows import Window, find_windows
from simulation.result import Experiment
from simulation.traffic.forecast import Forecast, forecast
from simulation.traffic.history import RequestHistory
from simulation.traffic.read_history import read_history

HISTORY, DATA, ZONE = "worldcup98", "bank_marketing_2008_2010", "Europe/Paris"
FIRST_MONTH = dt.datetime(2009, 5, 1, tzinfo=dt.UTC)
BOOTSTRAP_UNTIL = dt.datetime(2009, 3, 1, tzinfo=dt.UTC)
DURATION_MIN = 120.0
SCENARIOS = ["as-forecast", "flash-crowd", "replica-lost", "twice-the-data", "failed-stage", "retry-storm"]
_LEAD = dt.timedelta(minutes=30)

COMMENTS = {
    "profile": "demo: a simulated clock is allowed, against the demo's own registry only",
    "serving": "the pool that must not notice; its service time is an assumption until it is calibrated",
    "traffic": "World Cup 1998, moved forward by whole weeks so that weekdays keep their place",
    "window": "chosen from the forecast; the reason is below",
    "training": "every stage with how long it takes and what it does to serving beside it",
    "triggers": "what makes training give way; the simulator plays these very rules",
    "evaluation": "gates on challenger - champion; worse is larger, bounds are one-sided. The score distribution is "
    "shown and not gated: the share of positives grew from 6 to 9 %, so scores must move",
    "rollout": "shadow, then canary steps, then the switch; the old slot stays warm",
    "acceptance": "what the simulation must show before this plan may be deployed",
}


@dataclass(frozen=True)
class DemoPlan:
    """The plan of one demo cycle and what it was made from."""

    plan: Plan
    now: dt.datetime
    history: RequestHistory
    load: Forecast
    windows: list[Window]
    opens_at: dt.datetime


def make_demo_plan(month: dt.datetime, *, replications: int = 30) -> DemoPlan:
    """
    Return the plan of the cycle whose newest month of data is `month` (its first instant, UTC).

    The cycle's clock stands where the history ends once it is moved, by as few weeks as possible, past that month.
    """
    recorded = read_history(HISTORY, time_zone=ZONE)
    month_ends = (month.replace(day=28) + dt.timedelta(days=5)).replace(day=1)
    weeks = math.ceil((month_ends - recorded.end) / dt.timedelta(weeks=1))
    history = recorded.shifted(weeks)
    load = forecast(history, time_zone=ZONE, horizon_days=HORIZON_DAYS)
    windows = [
        window
        for window in find_windows(load, duration_min=DURATION_MIN, time_zone=ZONE)
        if history.end + _LEAD <= window.opens_at and window.closes_at + _LEAD <= load.end
    ]
    best = windows[0]
    plan = Plan.model_validate(_sections(history, weeks, best))
    plan = plan.model_copy(update={"acceptance": plan.acceptance.model_copy(update={"replications": replications})})
    return DemoPlan(plan, history.end, history, load, windows, best.opens_at)


def plan_record(demo: DemoPlan, cycle: str, experiment: Experiment) -> PlanRecord:
    """Return what the plan page shows."""
    history = demo.history.resampled(3600)
    recent = history.between(history.end - dt.timedelta(days=28), history.end)
    openings = window_rule(demo.plan).occurrences(demo.now)
    return PlanRecord(
        cycle=cycle,
        plan_name=demo.plan.name,
        plan_digest=demo.plan.digest(),
        now=demo.now.isoformat(),
        is_clock_simulated=True,
        history_name=demo.history.name,
        history_start=demo.history.start.isoformat(),
        history_end=demo.history.end.isoformat(),
        history_step_s=demo.history.step_s,
        history_shift_weeks=demo.plan.traffic.shift_weeks,
        history_quality=list(demo.history.quality.sentences()),
        history_load_rps=[None if math.isnan(x) else round(float(x), 3) for x in recent.load_rps()],
        history_load_start=recent.start.isoformat(),
        forecast_start=demo.load.start.isoformat(),
        forecast_step_s=demo.load.step_s,
        forecast_p05_rps=[round(float(x), 3) for x in demo.load.at(0.05)],
        forecast_p50_rps=[round(float(x), 3) for x in demo.load.at(0.5)],
        forecast_p95_rps=[round(float(x), 3) for x in demo.load.at(0.95)],
        threshold_rps=demo.plan.window.threshold_rps,
        time_zone=ZONE,
        windows=[_window_record(window) for window in demo.windows],
        nights=[
            night for scenario in experiment.scenarios() for night in nights_to_show(demo.plan, experiment, scenario)
        ],
        next_openings=[next(openings)[0].isoformat() for _ in range(12)],
    )


def _window_record(window: Window) -> WindowRecord:
    return WindowRecord(
        opens_at=window.opens_at.isoformat(),
        closes_at=window.closes_at.isoformat(),
        opens_local=f"{window.opens_local:%a %Y-%m-%d %H:%M}",
        mean_load_rps=window.mean_load_rps,
        p95_load_rps=window.p95_load_rps,
        probability_below=window.probability_below,
        expected_requests=window.expected_requests,
        reason=window.reason,
    )


def _sections(history: RequestHistory, weeks: int, best: Window) -> dict[str, object]:
    return {
        "name": "bank-marketing",
        "profile": "demo",
        "serving": {
            "pool": "gateway",
            "replicas": 6,
            "servers_per_replica": 4,
            "queue_limit": 400,
            "service_time": {"mean_ms": 30.0, "scv": 1.0, "distribution": "lognormal", "calibrated": False},
            "client": {"timeout_ms": 2000.0, "retries": 1, "backoff_ms": 100.0, "jitter_ratio": 0.5},
            "slo": {
                "latency_ms": 500.0,
                "good_ratio": 0.99,
                "user_impact": "an agent waits for the score while the customer is on the line",
            },
        },
        "traffic": {
            "history": HISTORY,
            "time_zone": ZONE,
            "shift_weeks": weeks,
            "history_digest": history.digest(),
        },
        "window": {
            "time_zone": ZONE,
            "starts_at_local": f"{best.opens_local:%H:%M}",
            "duration_min": DURATION_MIN,
            "weekdays": [f"{best.opens_local:%a}".lower()],
            "threshold_rps": round(best.threshold_rps, 3),
            "rollback_reserve_min": 10.0,
            "reason": best.reason,
        },
        "training": {
            "model": "bank-marketing",
            "data": DATA,
            "rounds": 120,
            "segment_rounds": 40,
            "num_leaves": 15,
            "min_data_in_leaf": 60,
            "seed": 7,
            "stages": [
                {"name": "snapshot", "minutes_p50": 3, "minutes_p95": 6, "cpus": 1, "serving_slowdown": 1.1},
                {"name": "features", "minutes_p50": 4, "minutes_p95": 7, "cpus": 1, "serving_slowdown": 1.2},
                {"name": "train", "minutes_p50": 20, "minutes_p95": 28, "cpus": 1, "serving_slowdown": 1.5,
                 "pausable": True},
                {"name": "calibrate", "minutes_p50": 2, "minutes_p95": 4, "cpus": 1, "serving_slowdown": 1.1},
                {"name": "register", "minutes_p50": 2, "minutes_p95": 4, "cpus": 1},
            ],
            "envelope": {"cpus": 1, "threads": 1, "nice": 10, "memory_gib": 2, "minutes": 100},
        },
        "triggers": [
            {"name": "pause-when-users-wait", "observe": "p99_ms", "above": 400.0, "clears_below": 250.0, "for_s": 20,
             "clears_for_s": 120, "action": "pause"},
            {"name": "pause-on-surge", "observe": "load_rps", "above": 300.0, "clears_below": 200.0, "for_s": 20,
             "clears_for_s": 120, "action": "pause"},
        ],
        "evaluation": {
            "minimum_rows": 2000,
            "gates": [
                {"metric": "log_loss", "role": "success"},
                {"metric": "auc", "role": "guardrail", "margin": 0.02},
                {"metric": "brier", "role": "guardrail", "margin": 0.005},
                {"metric": "calibration_error", "role": "guardrail", "margin": 0.02},
                {"metric": "group_log_loss", "role": "guardrail", "margin": 0.03},
            ],
        },
        "rollout": {"shadow_requests": 300, "canary_ratios": [0.1, 0.5], "requests_per_step": 100},
        # Assumed prices, so that cost can be compared: a small machine of a public cloud.
        "costs": {"currency": "EUR", "replica_hour": 0.05, "training_cpu_hour": 0.05},
        "acceptance": {
            "allow_uncalibrated": True,
            "scenarios": SCENARIOS,
        },
    }  # fmt: skip
