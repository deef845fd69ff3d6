"""What-if: the same nights under every plan, refusals kept as rows, the same table twice."""

import datetime as dt

import pytest

from simulation.errors import InvalidPlan
from simulation.planning.sweep import sweep
from simulation.planning.variation import read_variation
from simulation.result import Trial
from simulation.scenario import Scenario
from tests.simulation.plans import OPENS_AT, flat_forecast, small_plan

CALM = Scenario(name="calm", question="And without trouble?")
BUSY = Scenario.model_validate(
    {"name": "busy", "question": "?", "events": [{"kind": "surge", "at_min": 2, "minutes": 10, "factor": 4}]}
)
PLAN = small_plan(
    window__duration_min=20,
    window__rollback_reserve_min=1,
    training__stages=[{"name": "train", "minutes_p50": 5, "minutes_p95": 9}],
)
AFTER = OPENS_AT - dt.timedelta(minutes=30)


def run(*texts: str, **settings: object):
    variations = [read_variation(text) for text in texts]
    defaults: dict[str, object] = {"load": flat_forecast(), "after": AFTER, "replications": 2}
    return sweep(PLAN, variations, [CALM, BUSY], **(defaults | settings))  # type: ignore[arg-type]


def test_every_combination_meets_the_same_traffic() -> None:
    found = run("serving.replicas=1..3", "serving.servers_per_replica=2,4")
    assert [tuple(one.changes.values()) for one in found.tried] == [(1, 2), (1, 4), (2, 2), (2, 4), (3, 2), (3, 4)]
    offered = {tuple(trial.offered_per_min for trial in one.experiment.trials) for one in found.tried}
    assert len(offered) == 1
    bad = [sum(trial.n_bad for trial in one.experiment.of("busy")) for one in found.tried]
    assert bad[0] > bad[2] >= bad[4]


def test_a_table_has_one_row_per_plan_and_scenario_and_is_the_same_twice() -> None:
    frame = run("serving.replicas=2,3").to_frame()
    assert list(frame["serving.replicas"]) == [2, 2, 3, 3]
    assert list(frame["scenario"]) == ["calm", "busy"] * 2
    assert frame.equals(run("serving.replicas=2,3", threads=1).to_frame())
    assert (frame["p_slo_missed_low"] <= frame["p_slo_missed"]).all()


def test_the_window_can_move_and_each_plan_is_played_at_its_own_opening() -> None:
    found = run("window.start=02:00..03:00/30m")
    assert [f"{one.opens_at:%H:%M}" for one in found.tried] == ["02:00", "02:30", "03:00"]


def test_what_is_no_plan_or_no_covered_night_is_a_row_with_its_reason() -> None:
    found = run("serving.replicas=0,2", "window.start=02:00,14:00")
    answers = [(one.verdict is None, one.refusal or "") for one in found.tried]
    assert [is_refused for is_refused, _ in answers] == [True, True, False, True]
    assert "serving.replicas: input should be greater than or equal to 1" in answers[0][1]
    assert "does not cover the night" in answers[3][1]
    frame = found.to_frame()
    assert list(frame["answer"])[:2] == ["refused", "refused"]


def test_a_field_that_no_plan_has_and_a_sweep_of_refusals_are_refused() -> None:
    with pytest.raises(InvalidPlan, match="did you mean 'replicas'"):
        run("serving.replica=1,2")
    with pytest.raises(InvalidPlan, match=r"none of 2 plans can be played; the first: serving\.replicas"):
        run("serving.replicas=0,-1")


def test_trials_are_told_as_they_end() -> None:
    told: list[Trial] = []
    found = run("serving.replicas=2,3", on_trial=told.append)
    assert told == [trial for one in found.tried for trial in one.experiment.trials]
