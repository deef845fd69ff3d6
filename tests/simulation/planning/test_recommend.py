"""Recommendations: the best plan that holds, its runner-up and how sure that is; refusals that say what binds."""

import datetime as dt
import json
import math
from typing import Any

import numpy as np
import pytest

from simulation.errors import InvalidPlan
from simulation.experiment import simulate
from simulation.plan import Plan
from simulation.plan_file import window_rule
from simulation.planning.candidate_nights import nights_spared
from simulation.planning.candidates import SearchSpace, candidates
from simulation.planning.objective import Objective
from simulation.planning.recommend import _nights_needed, recommend
from simulation.planning.recommendation import Recommendation, Refusal
from simulation.result import Trial
from simulation.scenario import Scenario
from simulation.statistics import probability_interval
from simulation.traffic.calendar import Calendar, CalendarEntry
from simulation.verdict import Answer, judge
from tests.simulation.nights import EXACT_STAGES, play, scenario
from tests.simulation.plans import OPENS_AT, flat_forecast, small_plan, stepped_forecast

AFTER = OPENS_AT - dt.timedelta(hours=1)
# Few nights are enough: half of the nights may be bad, said with 60 % confidence.
QUICK = {"acceptance__confidence": 0.6, "acceptance__max_breach_probability": 0.5,
         "acceptance__min_finish_probability": 0.5, "acceptance__replications": 2}  # fmt: skip
PRICES = {"costs__replica_hour": 2.0, "costs__training_cpu_hour": 1.0}
DAY = flat_forecast(20.0, hours=30)


def exact_plan(**changes: Any) -> Plan:
    return small_plan(**{"training__stages": EXACT_STAGES, **QUICK, **PRICES, **changes})


def search(plan: Plan | None = None, *scenarios: Scenario, load: Any = DAY, **space: Any) -> Any:
    how = {name: space.pop(name) for name in ("objective", "calendar", "replications", "keep", "on_trial", "threads",
                                              "first_seed") if name in space}  # fmt: skip
    return recommend(
        plan or exact_plan(), load, after=AFTER, search=SearchSpace(**{"starts_local": ("02:00",), **space}),
        scenarios=scenarios or [scenario()], **how,
    )  # fmt: skip


def found(told: Any) -> Recommendation:
    assert isinstance(told, Recommendation), told.sentences()
    return told


def refused(told: Any) -> Refusal:
    assert isinstance(told, Refusal), told.sentences()
    return told


# The objective


def test_the_cost_of_a_day_counts_every_replica_and_training_hour_once() -> None:
    plan = exact_plan(rollout__keep_warm_min=60)
    trial = play(plan=plan)
    assert trial.promoted_min < 60 < trial.promoted_min + 60  # the old replicas stay warm past the window's close
    objective = Objective.of(plan, "cost", AFTER)
    opened_min = next(end for _, end, name in trial.steps if name == "train")  # green opens when training is done
    both_h = (trial.promoted_min - opened_min + 60) / 60
    cost = 2.0 * 2 * (24 + both_h) + 1.0 * 32 / 60
    assert objective.value(plan, OPENS_AT, trial) == pytest.approx(cost)
    longer = exact_plan(window__duration_min=90)
    assert objective.value(longer, OPENS_AT, play(plan=longer)) == pytest.approx(cost)  # the pool runs all day anyhow


def test_without_prices_machine_hours_are_counted() -> None:
    plan = small_plan()
    objective = Objective.of(plan, "cost", AFTER)
    assert objective.unit == "machine hours per day"
    assert (objective.costs(plan).replica_hour, objective.costs(plan).training_cpu_hour) == (1, 1)
    assert Objective.of(exact_plan(), "cost", AFTER).unit == "EUR per day"


def test_staleness_counts_from_after_and_a_night_without_a_model_waits_for_the_next_window() -> None:
    plan = exact_plan()
    objective, trial = Objective.of(plan, "staleness", AFTER), play(plan=plan)
    assert objective.value(plan, OPENS_AT, trial) == pytest.approx(1 + trial.promoted_min / 60)
    late = play({"kind": "late_data", "minutes": 40}, plan=plan)
    assert math.isnan(late.promoted_min)
    assert objective.value(plan, OPENS_AT, late) == pytest.approx(1 + 24 + 1)


# The candidates


def test_without_starts_the_quietest_windows_of_the_plan_s_days_are_tried() -> None:
    load = stepped_forecast([40.0] * 36 + [10.0] * 12 + [40.0] * 120, step_s=600)  # quiet from 06:00 to 08:00
    order, _ = candidates(small_plan(), load, SearchSpace(n_windows=1), [scenario()],
                          Objective.of(small_plan(), "cost", AFTER), None)  # fmt: skip
    assert [c.plan.window.starts_at_local for c in order] == ["06:00"]
    assert order[0].opens_at == OPENS_AT + dt.timedelta(hours=4)


def test_the_cheapest_come_first_and_the_quietest_of_equals() -> None:
    load = stepped_forecast([30.0] * 24 + [10.0] * 156, step_s=600)
    space = SearchSpace(("02:00", "05:00"), replicas=(3, 2))
    order, none = candidates(small_plan(), load, space, [scenario()], Objective.of(small_plan(), "cost", AFTER), None)
    assert [(c.plan.serving.replicas, c.plan.window.starts_at_local) for c in order] == [
        (2, "05:00"), (2, "02:00"), (3, "05:00"), (3, "02:00"),
    ]  # fmt: skip
    assert not none


def test_what_cannot_be_a_plan_or_is_not_forecast_is_kept_with_its_reason() -> None:
    space = SearchSpace(("02:00", "23:30"), durations_min=(60, 4))
    order, none = candidates(small_plan(), flat_forecast(hours=6), space, [scenario()],
                             Objective.of(small_plan(), "cost", AFTER), None)  # fmt: skip
    assert len(order) == 1
    reasons = sorted(one.reason for one in none)
    assert len(reasons) == 3
    assert reasons[0].startswith("the forecast does not cover the night that opens at 2026-03-10 23:30")
    assert "rollback_reserve_min 5 leaves nothing" in reasons[-1]


def test_a_scenario_that_does_not_fit_a_candidate_refuses_it() -> None:
    lost = scenario({"kind": "replica_lost", "at_min": 1, "minutes": 1, "replicas": 2})
    _, none = candidates(small_plan(), DAY, SearchSpace(("02:00",), replicas=(1,)), [lost],
                         Objective.of(small_plan(), "cost", AFTER), None)  # fmt: skip
    assert "2 replicas cannot be lost of 1" in none[0].reason


def test_a_denied_night_is_not_the_one_that_is_judged() -> None:
    week = AFTER + dt.timedelta(days=7)
    denial = CalendarEntry(OPENS_AT, OPENS_AT + dt.timedelta(minutes=10), "freeze", "no change", True)
    calendar = Calendar(AFTER, week, (denial,), None)
    told = found(search(load=flat_forecast(20.0, hours=54), calendar=calendar))
    assert told.best.candidate.opens_at == OPENS_AT + dt.timedelta(days=1)


# The search


def test_the_cheapest_pool_that_holds_is_recommended_with_its_runner_up() -> None:
    told = found(search(replicas=(3, 2, 4), keep=2))
    assert told.best.candidate.plan.serving.replicas == 2
    assert told.runner_up is not None
    assert told.runner_up.candidate.plan.serving.replicas == 3
    assert told.lead is not None
    assert told.lead.low > 0
    assert told.selection_confidence == 0.6
    assert (told.counts.combinations, told.counts.holding, told.counts.not_reached) == (3, 2, 1)
    assert "Runner-up: 02:00 for 60 min, 3 replicas; worse by " in told.sentences()[2]


def test_the_lead_is_the_paired_difference_of_the_very_nights() -> None:
    told = found(search(replicas=(2, 3)))
    assert told.runner_up is not None
    assert told.lead is not None
    pairs = told.runner_up.values - told.best.values
    assert told.lead.value == pytest.approx(float(np.mean(pairs)))
    seeds = [[t.seed for t in one.experiment.trials] for one in (told.best, told.runner_up)]
    assert seeds[0] == seeds[1] == list(range(1, told.replications + 1))
    offered = [[t.offered_per_min for t in one.experiment.trials] for one in (told.best, told.runner_up)]
    assert offered[0] == offered[1]  # common random numbers: the same requests


def test_a_pool_that_is_too_small_in_simulation_is_passed_over() -> None:
    surge = scenario({"kind": "surge", "at_min": 2, "minutes": 50, "factor": 4})
    told = found(search(None, surge, replicas=(2, 5), keep=1))
    assert told.best.candidate.plan.serving.replicas == 5
    assert told.counts.failing == 1


def test_candidates_that_are_worse_in_every_way_than_one_that_failed_are_not_simulated() -> None:
    surge = scenario({"kind": "surge", "at_min": 2, "minutes": 50, "factor": 4})
    nights: list[Trial] = []
    told = found(search(None, surge, starts_local=("02:00", "03:00", "04:00"), replicas=(2, 5), keep=1,
                        on_trial=nights.append))  # fmt: skip
    assert told.counts.dominated == 2
    assert told.best.candidate.plan.serving.replicas == 5
    assert len(nights) == 5 + told.replications  # the pilot of one that failed, all nights of one that holds


def test_the_confidence_is_shared_by_all_that_could_have_been_chosen() -> None:
    told = found(search(replicas=(2, 3, 4, 5), keep=1))
    assert told.confidence_each == pytest.approx(1 - 0.4 / 4)
    one = found(search(replicas=(2,)))
    assert one.confidence_each == pytest.approx(0.6)
    assert one.replications < told.replications
    assert one.runner_up is None
    assert "no runner-up" in one.sentences()[-1]


def test_the_nights_that_are_needed_just_show_the_limits() -> None:
    plan = exact_plan()
    n = int(_nights_needed(plan, 0.9))
    for nights, answer in ((n, Answer.HOLDS), (n - 1, Answer.UNDECIDED)):
        strict = exact_plan(acceptance__confidence=0.9)
        played = simulate(strict, [scenario()], load=DAY, opens_at=OPENS_AT, replications=nights)
        assert judge(strict, played).answer is answer
    assert _nights_needed(exact_plan(acceptance__max_breach_probability=0.0), 0.9) == math.inf


def test_a_candidate_is_dropped_as_soon_as_it_can_hold_no_more_and_not_before() -> None:
    n, confidence = 30, 0.99
    spared = nights_spared(n, confidence, 0.5)
    assert 0 < spared < 15
    assert (
        probability_interval(spared, n, confidence).high <= 0.5 < probability_interval(spared + 1, n, confidence).high
    )
    assert nights_spared(2, confidence, 0.5) == -1
    assert nights_spared(int(_nights_needed(exact_plan(), confidence)), confidence, 0.5) == 0


def test_more_jobs_at_a_time_and_more_cpus_can_be_searched() -> None:
    job = {"model": "other", "data": "d", "stages": [EXACT_STAGES[1]], "storage_path": "training/other"}
    told = found(search(exact_plan(training__jobs=[job]), max_concurrent=(1, 2)))
    assert told.counts.ruled_out == 1  # one after the other they take 62 of the 55 minutes
    assert told.best.candidate.plan.training.max_concurrent == 2
    assert "2 jobs at a time" in told.best.candidate.label
    narrow = found(search(envelope_cpus=(0.5, 1.0)))
    assert narrow.best.candidate.plan.training.envelope.cpus == 1.0


def test_the_least_stale_plan_opens_first() -> None:
    told = found(search(starts_local=("04:00", "02:00", "03:00"), objective="staleness", keep=2))
    assert told.best.candidate.plan.window.starts_at_local == "02:00"
    assert told.runner_up is not None
    assert told.runner_up.candidate.plan.window.starts_at_local == "03:00"
    assert told.best.objective.value == pytest.approx(float(told.best.values.mean()))
    assert 1.5 < told.best.objective.value < 2


def test_the_same_search_gives_the_same_bytes_whatever_the_threads() -> None:
    texts = [json.dumps(search(replicas=(2, 3), threads=threads, first_seed=7).to_dict()) for threads in (1, 2, 2)]
    assert texts[0] == texts[1] == texts[2]
    nights = [
        {trial.fingerprint for trial in found(search(first_seed=seed)).best.experiment.trials} for seed in (7, 107)
    ]
    assert not nights[0] & nights[1]


def test_what_is_recommended_holds_when_it_is_simulated_as_it_is() -> None:
    told = found(search(replicas=(2, 3), durations_min=(60, 90)))
    plan, opens_at = told.best.candidate.plan, told.best.candidate.opens_at
    assert window_rule(plan).next_opening(AFTER) == opens_at
    assert plan.costs == exact_plan().costs
    fresh = simulate(plan, [scenario()], load=DAY, opens_at=opens_at, replications=6, first_seed=100)
    assert judge(plan, fresh).answer is Answer.HOLDS


# Refusals


def test_a_plan_that_cannot_fit_is_refused_with_what_binds_and_what_would_make_it_fit() -> None:
    told = refused(search(durations_min=(30, 36), replicas=(2, 3)))
    assert told.answer is Answer.FAILS
    assert told.counts.ruled_out == 4
    assert told.sentences() == [
        "No plan is recommended: none of 4 holds. What binds: 4 × the window is too short for the work.",
        "Nearest miss: 02:00 for 36 min, 2 replicas: the work takes 32 minutes at its p95, the window of 36 less its "
        "reserve of 5 has 31.",
        "What would make it fit: lengthen the window to 37 minutes, or shorten the work by 1.",
    ]
    found(search(durations_min=(37,)))  # the remedy is one


def test_a_refusal_after_simulation_names_the_scenario_and_a_remedy_that_was_tried() -> None:
    surge = scenario({"kind": "surge", "at_min": 2, "minutes": 50, "factor": 4})
    told = refused(search(None, surge, replicas=(1, 2)))
    assert told.answer is Answer.FAILS
    assert told.nearest is not None
    assert "under tried, P(the night misses the SLO) is 100% over" in told.reason
    assert told.remedy.startswith("serving.replicas of ")
    n = int(told.remedy.split()[2].rstrip(","))
    assert n > 2
    found(search(None, surge, replicas=(n,)))


def test_training_that_is_late_is_given_more_minutes() -> None:
    twice = scenario({"kind": "more_data", "factor": 2})
    told = refused(search(None, twice))
    assert "training finishes in the window" in told.reason
    # 64 minutes of work: over the envelope's 60 too.
    assert told.remedy.startswith("window.duration_min of 90 and training.envelope.minutes of 90, which kept it")
    found(search(exact_plan(training__envelope={"minutes": 90}), twice, durations_min=(90,)))


def test_a_remedy_that_is_no_plan_is_not_promised() -> None:
    surge = scenario({"kind": "surge", "at_min": 2, "minutes": 50, "factor": 4})
    told = refused(search(exact_plan(serving__autoscaler={"min_replicas": 1, "max_replicas": 2}), surge))
    assert told.remedy.startswith("nothing up to serving.replicas of 3, which is not possible (")


def test_a_formula_alone_refuses_nobody() -> None:
    plan = exact_plan(training__envelope={"cpus": 0.5, "minutes": 60})
    told = search(plan, durations_min=(90,))  # stretched to 64 minutes, over the envelope's 60
    assert not told.to_dict()["counts"]["by_formula"]
    assert refused(told).counts.failing == 1


def test_too_few_nights_are_undecided_before_anything_is_played() -> None:
    nights: list[Trial] = []
    told = refused(search(replicas=(2, 3, 4, 5), replications=2, on_trial=nights.append))
    assert told.answer is Answer.UNDECIDED
    assert not nights
    assert told.remedy == "play 4 nights per scenario, or search fewer"
    found(search(replicas=(2, 3, 4, 5), replications=4))


def test_certainty_cannot_be_shown() -> None:
    told = refused(search(exact_plan(acceptance__max_breach_probability=0.0)))
    assert told.answer is Answer.UNDECIDED
    assert "max_breach_probability over 0" in told.remedy


def test_an_uncalibrated_model_is_undecided_unless_allowed() -> None:
    plan = exact_plan(serving__service_time__calibrated=False)
    told = refused(search(plan))
    assert (told.answer, told.counts.not_reached) == (Answer.UNDECIDED, 1)
    assert told.remedy == "calibrate it, or set acceptance.allow_uncalibrated"


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ({"keep": 0}, "keep: 0 leaves nothing"),
        ({"durations_min": (3.0,)}, "none of 1 combinations is a plan that can be played; .*leaves nothing"),
        ({"replicas": tuple(range(1, 1001)), "envelope_cpus": (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)}, "6,000 combinations"),
    ],
)
def test_a_search_without_a_plan_is_a_wrong_call(space: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidPlan, match=sentence):
        search(**space)
