"""Nights are added until each scenario's measure is known well enough, or the cap is reached."""

import math
from typing import Any

import pytest

from simulation.errors import InvalidSample, InvalidScenario
from simulation.experiment import simulate
from simulation.experiment_until import MEASURES, ExperimentUntil, simulate_until
from simulation.result import Trial
from simulation.scenario import Scenario
from simulation.statistics import mean_interval, share_interval
from tests.simulation.plans import OPENS_AT, flat_forecast, small_plan

CALM = Scenario(name="calm", question="And without trouble?")
BUSY = Scenario.model_validate(
    {"name": "busy", "question": "?", "events": [{"kind": "surge", "at_min": 1, "minutes": 6, "factor": 6}]}
)
SHORT = small_plan(
    window__duration_min=10,
    window__rollback_reserve_min=1,
    training__stages=[{"name": "train", "minutes_p50": 2, "minutes_p95": 4}],
)


def until(**settings: Any) -> ExperimentUntil:
    defaults: dict[str, Any] = {"load": flat_forecast(10.0), "opens_at": OPENS_AT, "least_n": 4, "cap": 40}
    return simulate_until(SHORT, [CALM, BUSY], **(defaults | settings))


def test_its_nights_are_the_first_of_the_plain_experiment_and_its_intervals_are_over_them() -> None:
    found = until(half_width=0.25, confidence=0.9, first_seed=5)
    assert found.has_reached
    counts = found.experiment.provenance["replications"]
    assert counts == {name: found.stopped[name].n for name in ("calm", "busy")}
    for scenario in (CALM, BUSY):
        plain = simulate(
            SHORT, [scenario], load=flat_forecast(10.0), opens_at=OPENS_AT, first_seed=5,
            replications=counts[scenario.name],
        )  # fmt: skip
        trials = found.experiment.of(scenario.name)
        assert [repr(t) for t in trials] == [repr(t) for t in plain.trials]
        stopped = found.stopped[scenario.name]
        assert stopped.estimate == share_interval([float(t.is_breach) for t in trials], 0.9)
        assert 0 < stopped.estimate.half_width <= 0.25
    assert found.experiment.scenarios() == ("calm", "busy")


def test_a_scenario_goes_on_alone_until_the_cap_which_is_said() -> None:
    told: list[Trial] = []
    found = until(measure="p99_ms", half_width=8.0, cap=12, on_trial=told.append)
    assert tuple(told) == found.experiment.trials
    calm, busy = found.stopped["calm"], found.stopped["busy"]
    assert (calm.has_reached, busy.has_reached, busy.n) == (True, False, 12)
    assert calm.n < busy.n
    assert not found.has_reached
    assert busy.estimate == mean_interval([t.p99_ms for t in found.experiment.of("busy")], SHORT.acceptance.confidence)


def test_the_measures_are_what_their_names_say() -> None:
    trial = until(half_width=0.9, cap=4).experiment.trials[0]
    assert MEASURES["p_breach"].of(trial) == float(trial.is_breach)
    assert MEASURES["p_finish"].of(trial) == float(trial.has_finished)
    assert MEASURES["p99_ms"].of(trial) == trial.p99_ms
    assert math.isclose(MEASURES["bad_ratio"].of(trial), trial.n_bad / trial.n_requests, abs_tol=1e-12)


def test_unknown_measures_and_scenarios_are_refused() -> None:
    with pytest.raises(InvalidSample, match="measure: 'p42' is not known; use one of p_breach, p_finish"):
        until(measure="p42", half_width=0.1)
    with pytest.raises(InvalidSample, match="half_width 0"):
        until(half_width=0.0)
    with pytest.raises(InvalidScenario, match="differ in name"):
        simulate_until(SHORT, [CALM, CALM], load=flat_forecast(), opens_at=OPENS_AT, half_width=0.1, cap=10)
