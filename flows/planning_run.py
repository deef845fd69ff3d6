"""From a plan to its certificate by history, forecast, opening, experiment, verdict; shared with the demo."""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.domain.gates import judge_canary
from flows.domain.triggers import make_rules
from flows.openings_ahead import next_openings, plan_calendar
from simulation.errors import InvalidPlan
from simulation.experiment import simulate
from simulation.plan import Plan
from simulation.plan_file import window_rule
from simulation.planning.decidability import decidability
from simulation.planning.metastability import assess_metastability
from simulation.planning.openings import next_whole_opening
from simulation.planning.secondary_nights import SecondaryNights, play_secondaries, with_secondaries
from simulation.result import Experiment, Trial
from simulation.scenario import Scenario, read_scenario, ready_scenarios
from simulation.traffic.forecast import Forecast, forecast
from simulation.traffic.history import RequestHistory
from simulation.traffic.read_history import read_history
from simulation.verdict import Verdict, certify, judge

HORIZON_DAYS = 7


@dataclass(frozen=True)
class ValidatedPlan:
    """
    Everything that a plan's simulated verdict rests on; `certificate` is plain data, ready for JSON.

    `verdict` covers the secondary plans too; `experiment` has the main plan's nights, `secondaries` theirs.
    """

    history: RequestHistory
    load: Forecast
    opens_at: dt.datetime
    experiment: Experiment
    verdict: Verdict
    certificate: dict[str, Any]
    secondaries: tuple[SecondaryNights, ...] = ()


def validate_plan(
    plan: Plan,
    *,
    now: dt.datetime | None = None,
    opens_at: dt.datetime | None = None,
    scenarios: Sequence[Scenario] | None = None,
    replications: int | None = None,
    first_seed: int = 1,
    threads: int = 2,
    history: RequestHistory | None = None,
    load: Forecast | None = None,
    folder: Path = Path(),
    dask: str | None = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> ValidatedPlan:
    """
    Replay the plan's next night under its scenarios and judge it, with the very rules that run at night.

    Parameters
    ----------
    now : UTC, when the certificate is issued; default: the clock. A cycle on a simulated clock passes its own
    opens_at : UTC, the night to play; default: the first opening after the history's end that nothing denies
    scenarios : default: the plan's, or all ready ones when it names none
    replications : nights per scenario; default: the plan's
    first_seed : seeds are `first_seed`, `first_seed` + 1, …
    folder : where relative files of the plan's calendar lie
    history, load : as `plan_traffic` and `plan_forecast` return them, if they are there already
    dask : address of a Dask scheduler whose workers play the nights; default: threads of this machine
    on_trial : called as trials end, for progress bars

    Raises
    ------
    InvalidHistory, InvalidPlan, InvalidScenario, UnknownZone
        If the history cannot be read, its digest is not the plan's, or the night cannot be played.
    DaskUnavailable
        If the cluster cannot play the nights.
    """
    issued_at = dt.datetime.now(dt.UTC) if now is None else now
    known = plan_traffic(plan) if history is None else history
    ahead = plan_forecast(plan, known) if load is None else load
    opening = choose_opening(plan, known, opens_at, folder=folder)
    chosen = plan_scenarios(plan) if scenarios is None else tuple(scenarios)
    experiment = simulate(
        plan, chosen, load=ahead, opens_at=opening, rules=make_rules(plan.triggers), step_rule=judge_canary,
        replications=replications, first_seed=first_seed, threads=threads, dask=dask, on_trial=on_trial,
    )  # fmt: skip
    secondaries = play_secondaries(
        plan, read_scenario, load=ahead, opens_at=opening, rules_of=lambda under: make_rules(under.triggers),
        step_rule=judge_canary, replications=replications, first_seed=first_seed, threads=threads, dask=dask,
        on_trial=on_trial,
    )  # fmt: skip
    verdict = with_secondaries(judge(plan, experiment), secondaries)
    outlook = {
        "metastability": assess_metastability(plan, ahead, opening).to_dict(),
        "decidability": decidability(plan, ahead, opening).to_dict(),
    }
    certificate = certify(plan, verdict, experiment, known.digest(), issued_at, outlook)
    return ValidatedPlan(known, ahead, opening, experiment, verdict, certificate, secondaries)


def plan_traffic(plan: Plan) -> RequestHistory:
    """Return the history that the plan names, moved and thinned as it says; raise `InvalidPlan` if it has changed."""
    traffic = plan.traffic
    recorded = read_history(traffic.history, time_zone=traffic.time_zone)
    history = recorded.shifted(traffic.shift_weeks).thinned(traffic.keep_ratio)
    if traffic.history_digest is not None and history.digest() != traffic.history_digest:
        raise InvalidPlan(
            f"traffic.history_digest: {traffic.history} is not the history that plan {plan.name} was made from "
            f"(digest {history.digest()[:12]}, the plan says {traffic.history_digest[:12]}); "
            "make the plan again, or remove the digest to accept the new history"
        )
    return history


def plan_forecast(plan: Plan, history: RequestHistory) -> Forecast:
    """Return the load of the days after the history, for the plan's zone."""
    return forecast(history, time_zone=plan.traffic.time_zone, horizon_days=HORIZON_DAYS)


def plan_scenarios(plan: Plan) -> tuple[Scenario, ...]:
    """Return the scenarios that the plan asks for, all ready ones when it names none."""
    return tuple(read_scenario(name) for name in plan.acceptance.scenarios or ready_scenarios())


def choose_opening(
    plan: Plan, history: RequestHistory, opens_at: dt.datetime | None, *, folder: Path = Path()
) -> dt.datetime:
    """
    Return the opening to simulate: the one asked for, if rule and calendar have it, or the first after the history.

    It is one of which the calendar denies nothing: a night that is denied is never deployed, and a shortened one is
    another night than the plan's. Relative files of the calendar are looked up in `folder`.
    """
    rule = window_rule(plan)
    if opens_at is None:
        after = soonest_opening_after(history)
        calendar = plan_calendar(plan, folder, after)
        opening = next_whole_opening(plan, calendar, after)
        if opening is None:
            next_openings(plan, calendar, after, 1)  # says which rules deny them, if they deny all
            raise InvalidPlan(
                f"plan {plan.name}: the calendar takes a part of every opening before {calendar.until:%Y-%m-%d}; move "
                "the window, or name one with --opens-at"
            )
        return opening.opens_at
    if opens_at.tzinfo is None:
        raise InvalidPlan(f"--opens-at: {opens_at.isoformat()} carries no zone; write it with one, such as 02:00Z")
    utc = opens_at.astimezone(dt.UTC)
    held = rule.occurrence_at(utc)
    if held is None or held[0] != utc:
        raise InvalidPlan(
            f"--opens-at: the plan's window does not open at {utc:%Y-%m-%d %H:%M} UTC. {rule.explain(utc)}"
        )
    denied = plan_calendar(plan, folder, utc).denials(*held)
    if denied:
        rules = " and ".join(dict.fromkeys(entry.sentence() for entry in denied))
        raise InvalidPlan(f"--opens-at: the night of {utc:%Y-%m-%d %H:%M} UTC is denied by {rules}; choose another")
    return utc


def soonest_opening_after(history: RequestHistory) -> dt.datetime:
    """Return the moment after which a window may open to be played: half an hour of lead lies before the opening."""
    return history.end + dt.timedelta(minutes=30) - dt.timedelta(seconds=1)
