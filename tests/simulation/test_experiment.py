"""Experiments: every scenario with every seed, in order, the same bytes for any number of threads."""

import datetime as dt
from typing import Any

import pytest

import simulation
from simulation import trial_jobs
from simulation.errors import InvalidScenario
from simulation.experiment import code_digest, simulate
from simulation.result import Experiment, Trial
from simulation.scenario import Scenario
from tests.simulation.plans import OPENS_AT, flat_forecast, small_plan

CALM = Scenario(name="calm", question="And without trouble?")
BUSY = Scenario.model_validate(
    {"name": "busy", "question": "?", "events": [{"kind": "surge", "at_min": 5, "minutes": 2, "factor": 2}]}
)
SHORT = small_plan(
    window__duration_min=20,
    window__rollback_reserve_min=1,
    training__stages=[{"name": "train", "minutes_p50": 5, "minutes_p95": 9}],
)


def run(**settings: Any) -> Experiment:
    defaults: dict[str, Any] = {"load": flat_forecast(10.0), "opens_at": OPENS_AT, "replications": 2}
    return simulate(SHORT, [CALM, BUSY], **(defaults | settings))


def test_one_thread_and_two_give_the_same_bytes() -> None:
    one, two = run(threads=1), run(threads=2)
    assert one == two
    assert [(t.scenario, t.seed) for t in one.trials] == [("calm", 1), ("calm", 2), ("busy", 1), ("busy", 2)]
    assert len({t.fingerprint for t in one.trials}) == 4


def test_trials_are_reported_in_their_order() -> None:
    told: list[Trial] = []
    experiment = run(on_trial=told.append)
    assert tuple(told) == experiment.trials


def test_the_first_seed_is_the_callers_and_the_number_of_nights_the_plans() -> None:
    experiment = simulate(SHORT, [CALM], load=flat_forecast(10.0), opens_at=OPENS_AT, first_seed=7)
    assert [t.seed for t in experiment.trials] == [7, 8, 9, 10]
    assert experiment.provenance["first_seed"] == 7
    assert experiment.provenance["replications"] == SHORT.acceptance.replications == 4


def test_an_experiment_says_how_to_make_it_again() -> None:
    provenance = run(replications=1).provenance
    assert provenance["plan_digest"] == SHORT.digest()
    assert provenance["code_digest"] == code_digest()
    assert dt.datetime.fromisoformat(provenance["opens_at"]) == OPENS_AT
    assert set(provenance["versions"]) == {"numpy", "numba", "simpy", "scipy"}


def test_an_experiment_becomes_a_frame_with_its_provenance() -> None:
    experiment = run(replications=1)
    frame = experiment.to_frame()
    assert frame["scenario"].tolist() == ["calm", "busy"]
    assert frame["n_requests"].tolist() == [t.n_requests for t in experiment.trials]
    assert frame.attrs == experiment.provenance
    assert "offered_per_min" not in frame


def test_no_scenario_and_two_of_one_name_are_refused() -> None:
    for scenarios in ([], [CALM, CALM]):
        with pytest.raises(InvalidScenario, match="at least one and differ in name"):
            simulate(SHORT, scenarios, load=flat_forecast(), opens_at=OPENS_AT)


def test_a_scenario_that_does_not_fit_is_refused_before_any_night_is_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_jobs, "simulate_trial", lambda *args: pytest.fail("a night was played"))
    bad = Scenario.model_validate(
        {"name": "bad", "question": "?", "events": [{"kind": "stage_fails", "stage": "tune"}]}
    )
    with pytest.raises(InvalidScenario, match="the plan has no stage 'tune'"):
        simulate(SHORT, [CALM, bad], load=flat_forecast(), opens_at=OPENS_AT)


def test_the_code_digest_is_over_names_and_contents() -> None:
    assert code_digest() == code_digest()
    assert len(code_digest()) == 64


def test_every_public_name_can_be_imported_and_no_other() -> None:
    for name in simulation.__all__:
        assert callable(getattr(simulation, name)), name
    with pytest.raises(AttributeError, match="has no attribute 'forecaster'"):
        simulation.forecaster  # noqa: B018 (the access is the test)


def test_a_public_function_stays_one_after_its_module_was_imported() -> None:
    import simulation.traffic.forecast

    assert simulation.forecast is simulation.traffic.forecast.forecast
