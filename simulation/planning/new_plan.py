"""A first plan from a few answers: window from the forecast, cautious values for the rest. Start at `draft_plan`."""

import itertools
from dataclasses import dataclass
from typing import Any

from simulation.errors import InvalidPlan
from simulation.plan import Plan
from simulation.planning.window_rule import WindowRule
from simulation.planning.windows import Window, expect, find_windows
from simulation.traffic.forecast import Forecast, forecast
from simulation.traffic.history import RequestHistory

COMMENTS = {
    "serving": "the pool that must not notice; its service time is an assumption until it is calibrated",
    "serving.slo": "what users were promised, and what they notice when it is broken",
    "traffic": "the request history that stands for the nights to come",
    "window": "chosen from the forecast; the reason is below",
    "training": "every stage with how long it takes and what it does to serving; replace guesses by measurements",
    "triggers": "what makes training give way; the simulator plays these very rules",
    "evaluation": "gates on challenger - champion; worse is larger, bounds are one-sided",
    "acceptance": "what the simulation must show before this plan may be deployed",
    "calendar": "what windows keep clear of; add files of campaigns, releases and maintenance, and rules that deny",
}


@dataclass(frozen=True)
class Answers:
    """What only a person can know of a new plan; units are in the names."""

    name: str
    history: str
    time_zone: str
    duration_min: float
    model: str
    data: str
    replicas: int
    service_ms: float
    slo_ms: float
    good_ratio: float
    user_impact: str
    servers_per_replica: int = 1
    threshold_rps: float | None = None
    train_p50_min: float = 20.0
    train_p95_min: float = 30.0
    country: str | None = None


@dataclass(frozen=True)
class Draft:
    """A new plan, and why its window is where it is."""

    plan: Plan
    reason: str


def draft_plan(answers: Answers, history: RequestHistory) -> Draft:
    """
    Return a plan that holds the answers, opens every day at one quiet local time, and gives way to users.

    Raises
    ------
    InvalidPlan
        If an answer cannot be meant, with the name of the field.
    InvalidHistory
        If the history is too short for a forecast.
    """
    load = forecast(history, time_zone=answers.time_zone)
    best = find_windows(
        load, duration_min=answers.duration_min, time_zone=answers.time_zone, threshold_rps=answers.threshold_rps
    )
    starts, reason = _quietest_every_day(answers, load, best)
    data = _serving(answers) | {
        "name": answers.name,
        "traffic": {
            "history": answers.history, "time_zone": answers.time_zone, "history_digest": history.digest()
        },
        "window": {
            "time_zone": answers.time_zone,
            "starts_at_local": starts,
            "duration_min": answers.duration_min,
            "threshold_rps": round(best[0].threshold_rps, 3),
            "rollback_reserve_min": min(10.0, answers.duration_min / 10),
            "reason": reason,
        },
        "training": _training(answers),
        "evaluation": {
            "gates": [
                {"metric": "log_loss", "role": "success"},
                {"metric": "auc", "role": "guardrail", "margin": 0.02},
                {"metric": "latency_ms", "role": "guardrail", "margin": answers.slo_ms / 10},
            ]
        },
    }  # fmt: skip
    if answers.country:
        data["calendar"] = {"holidays": [{"country": answers.country}]}
    return Draft(Plan.model_validate(data), reason)


def _quietest_every_day(answers: Answers, load: Forecast, best: list[Window]) -> tuple[str, str]:
    """
    Return the local start with the fewest expected requests over the week, and why.

    The best start of a Sunday may lie in a weekday's peak: each day's best is weighed on all days, beside 02:00.
    """
    weighed: dict[str, float] = {}
    for start in dict.fromkeys([*(f"{window.opens_local:%H:%M}" for window in best), "02:00"]):
        rule = WindowRule(answers.time_zone, start, answers.duration_min)
        spans = itertools.takewhile(lambda span: span[1] <= load.end, rule.occurrences(load.start))
        told = [expect(load, opens, closes, best[0].threshold_rps) for opens, closes in spans]
        known = [found.expected_requests for found in told if found is not None]
        if known:
            weighed[start] = sum(known) / len(known)
    chosen = min(weighed, key=weighed.__getitem__)
    at_two = f", against {weighed['02:00']:,.0f} at 02:00" if chosen != "02:00" and "02:00" in weighed else ""
    reason = (
        f"{chosen} {answers.time_zone} every day: about {weighed[chosen]:,.0f} requests in {answers.duration_min:g} "
        f"minutes on the average day of the forecast{at_two}; the fewest of the {len(weighed)} starts that are the "
        "quietest of some day or customary."
    )
    return chosen, reason


def _serving(answers: Answers) -> dict[str, Any]:
    """Return the pool, and triggers that act before its promise is broken."""
    if not 0 < answers.service_ms < answers.slo_ms:
        raise InvalidPlan(
            f"service_ms: {answers.service_ms:g} must lie over 0 and below slo_ms ({answers.slo_ms:g}): one request "
            "on an idle pool must keep the promise"
        )
    capacity_rps = answers.replicas * answers.servers_per_replica / (answers.service_ms / 1000)
    watch_ms = answers.service_ms + 0.7 * (answers.slo_ms - answers.service_ms)
    calm_ms = answers.service_ms + 0.4 * (answers.slo_ms - answers.service_ms)
    return {
        "serving": {
            "pool": "serving",
            "replicas": answers.replicas,
            "servers_per_replica": answers.servers_per_replica,
            "service_time": {"mean_ms": answers.service_ms},
            "slo": {
                "latency_ms": answers.slo_ms,
                "good_ratio": answers.good_ratio,
                "user_impact": answers.user_impact,
            },
        },
        "triggers": [
            {"name": "pause-when-users-wait", "observe": "p99_ms", "above": round(watch_ms, 1),
             "clears_below": round(calm_ms, 1), "for_s": 20, "clears_for_s": 120},
            {"name": "pause-on-surge", "observe": "load_rps", "above": round(0.6 * capacity_rps, 2),
             "clears_below": round(0.4 * capacity_rps, 2), "for_s": 20, "clears_for_s": 120},
        ],
    }  # fmt: skip


def _training(answers: Answers) -> dict[str, Any]:
    """Return load, train and register, the guessed length of training between them."""
    return {
        "model": answers.model,
        "data": answers.data,
        "stages": [
            {"name": "load", "minutes_p50": 3, "minutes_p95": 6, "serving_slowdown": 1.1},
            {"name": "train", "minutes_p50": answers.train_p50_min, "minutes_p95": answers.train_p95_min,
             "serving_slowdown": 1.3, "pausable": True},
            {"name": "register", "minutes_p50": 1, "minutes_p95": 3},
        ],
        "envelope": {"minutes": answers.train_p95_min + 9},
    }  # fmt: skip
