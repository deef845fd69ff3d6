"""Whether a rollout can decide: sample sizes against their source, times against the load, and the words."""

import datetime as dt
import math

import numpy as np
import pytest

from simulation.errors import InvalidPlan
from simulation.plan import Plan, RolloutEvidence
from simulation.planning.decidability import decidability, requests_paired, requests_unpaired
from tests.simulation.plans import OPENS_AT, flat_forecast, small_plan, stepped_forecast

TRAINED_AT = OPENS_AT + dt.timedelta(minutes=19)  # 4 + 15 minutes at p95


def test_sample_sizes_are_those_of_the_textbook() -> None:
    # Computed apart with z = 1.6448536 + 1.2815516 (alpha 5 %, power 90 %), base rate 1 %, margin half a point.
    z2 = (1.6448536269514722 + 1.2815515655446004) ** 2
    evidence = RolloutEvidence()
    assert requests_unpaired(evidence, 0.1) == math.ceil(z2 * 0.0099 * (10 + 1 / 0.9) / 0.005**2)
    assert requests_unpaired(evidence, 0.5) == math.ceil(z2 * 0.0099 * 4 / 0.005**2)
    assert requests_paired(evidence) == math.ceil(z2 * 0.02 / 0.005**2)


def test_a_test_of_that_size_has_its_power_and_its_level() -> None:
    evidence = RolloutEvidence(margin=0.02, base_failed_ratio=0.05)
    n = requests_unpaired(evidence, 0.5) // 2
    rng = np.random.default_rng(1)
    for truth, wanted in ((0.05, 0.9), (0.07, 0.05)):
        blue, green = rng.binomial(n, 0.05, 4000) / n, rng.binomial(n, truth, 4000) / n
        error = np.sqrt(blue * (1 - blue) / n + green * (1 - green) / n)
        promoted = float((green - blue + 1.6448536 * error < evidence.margin).mean())
        assert promoted == pytest.approx(wanted, abs=4 * math.sqrt(wanted * (1 - wanted) / 4000) + 0.01)


def test_the_moment_of_decision_is_where_the_requests_have_come() -> None:
    outlook = decidability(small_plan(), flat_forecast(20.0, hours=24), OPENS_AT)
    shadow, tenth, half = outlook.steps
    assert outlook.trained_at == shadow.begins_at == TRAINED_AT
    assert shadow.decided_at == TRAINED_AT + dt.timedelta(seconds=shadow.needed / 20.0)
    assert tenth.begins_at == shadow.decided_at
    assert tenth.decided_at == shadow.decided_at + dt.timedelta(seconds=tenth.needed / 20.0)
    assert half.needed < tenth.needed
    assert outlook.best == "shadow"
    assert outlook.decided_at == shadow.decided_at
    assert outlook.can_decide_in_window
    assert "inside the window" in outlook.reason
    later = decidability(small_plan(), flat_forecast(2.0, hours=24), OPENS_AT)
    assert not later.can_decide_in_window
    assert "after the window has closed (03:00 UTC)" in later.reason


def test_traffic_that_rises_decides_sooner_and_quiet_traffic_never() -> None:
    rising = stepped_forecast([2.0] * 15 + [200.0] * 120, step_s=600)
    assert decidability(small_plan(), rising, OPENS_AT).can_decide_in_window
    quiet = decidability(small_plan(), flat_forecast(0.01), OPENS_AT)
    assert quiet.decided_at is None
    assert quiet.best is None
    assert quiet.reason.startswith("No step of the rollout can decide before the forecast ends")
    unknown = decidability(small_plan(), flat_forecast(math.nan), OPENS_AT)
    assert unknown.decided_at is None


def test_a_step_whose_minimum_does_not_come_in_time_says_so() -> None:
    def plan(requests: int) -> Plan:
        return small_plan(rollout__requests_per_step=requests, rollout__step_timeout_s=60.0)

    # A tenth of 20 requests per second brings 120 in a minute.
    reasons = [decidability(plan(n), flat_forecast(20.0, hours=24), OPENS_AT).steps[1] for n in (120, 121)]
    assert [step.lasts_enough for step in reasons] == [True, False]
    assert "its minimum of 121 answers does not come within 60 s" in reasons[1].reason


def test_an_arm_without_requests_is_refused() -> None:
    for ratio in (0.0, 1.0):
        with pytest.raises(InvalidPlan, match="leaves one arm empty"):
            requests_unpaired(RolloutEvidence(), ratio)


def test_an_outlook_is_plain_data() -> None:
    plain = decidability(small_plan(), flat_forecast(20.0, hours=24), OPENS_AT).to_dict()
    assert plain["steps"][0]["decided_at"].endswith("+00:00")
    assert plain["best"] == "shadow"
