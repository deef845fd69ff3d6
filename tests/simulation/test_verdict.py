"""Verdicts: holds, fails, not enough evidence; and certificates that cover what is deployed, or are refused."""

import copy
import datetime as dt
import json
from typing import Any

import pytest

from simulation.experiment import provenance
from simulation.plan import Plan
from simulation.result import Experiment, Trial
from simulation.verdict import Answer, InvalidCertificate, certificate_digest, certify, check_certificate, judge
from tests.simulation.plans import OPENS_AT, small_plan

NOW = dt.datetime(2026, 3, 9, 12, 0, tzinfo=dt.UTC)


def trial(seed: int, *, scenario: str = "calm", is_breach: bool = False, has_finished: bool = True) -> Trial:
    return Trial(
        scenario=scenario, seed=seed, n_requests=1000, n_bad=20 if is_breach else 1, is_breach=is_breach,
        good_ratio=0.98 if is_breach else 0.999, p50_ms=40.0, p95_ms=120.0, p99_ms=200.0 + seed, p999_ms=400.0,
        has_finished=has_finished, finish_min=30.0 + seed if has_finished else float("nan"), paused_min=1.0,
        max_queue=3, is_overloaded=False, in_flight=0, offered_per_min=(), bad_per_min=(), queue_per_min=(),
        n_retries=0, promoted_min=31.0, rolled_back_min=float("nan"), longest_bad_min=0, cost=1.0, capacity_steps=(),
        steps=(), events=(), fingerprint=f"{seed:064x}",
    )  # fmt: skip


def nights(n: int, n_breach: int = 0, n_late: int = 0, scenario: str = "calm") -> tuple[Trial, ...]:
    return tuple(trial(i, scenario=scenario, is_breach=i < n_breach, has_finished=i >= n_late) for i in range(n))


def experiment_of(plan: Plan, *trials: Trial) -> Experiment:
    return Experiment(tuple(trials), provenance(plan, OPENS_AT, 1, len(trials)))


def answer(trials: tuple[Trial, ...], **changes: Any) -> Answer:
    plan = small_plan(**changes)
    return judge(plan, experiment_of(plan, *trials)).answer


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        (nights(14), Answer.HOLDS),  # 0.8 ** 14 < 5 %: the first number of quiet nights that shows at most 20 %
        (nights(13), Answer.UNDECIDED),
        (nights(2), Answer.UNDECIDED),
        (nights(20, n_breach=5), Answer.UNDECIDED),
        (nights(20, n_breach=10), Answer.FAILS),
        (nights(20, n_late=10), Answer.FAILS),
        (nights(20, n_late=5), Answer.UNDECIDED),
        (nights(20, n_breach=20, n_late=20), Answer.FAILS),
        (nights(1, n_breach=1), Answer.UNDECIDED),  # one miss in one has a chance of 20 % at the very limit
    ],
)
def test_the_answer_follows_from_exact_bounds(trials: tuple[Trial, ...], expected: Answer) -> None:
    assert answer(trials) is expected


def test_too_few_nights_never_hold_however_good_they_are() -> None:
    for n in range(14):
        assert answer(nights(n)) is Answer.UNDECIDED


def test_one_failing_scenario_fails_the_plan_and_an_open_one_leaves_it_open() -> None:
    good, open_, bad = nights(20), nights(5, scenario="storm"), nights(20, n_breach=15, scenario="flood")
    assert answer(good + open_) is Answer.UNDECIDED
    assert answer(good + open_ + bad) is Answer.FAILS


def test_reasons_carry_the_numbers_and_name_the_scenario() -> None:
    plan = small_plan()
    verdict = judge(plan, experiment_of(plan, *nights(20), *nights(20, n_breach=15, scenario="flood")))
    (reason,) = [r for r in verdict.reasons if "broken" in r]
    assert reason.startswith("flood: P(the night misses the SLO) is 75% over 20 nights")
    assert "the limit is at most 20%: broken." in reason


def test_a_plan_that_holds_says_with_which_confidence() -> None:
    plan = small_plan()
    verdict = judge(plan, experiment_of(plan, *nights(20)))
    assert verdict.answer is Answer.HOLDS
    assert verdict.reasons == (
        "All 1 scenarios keep the promise to users and finish in the window, each with 95% confidence.",
    )


def test_a_scenario_that_the_plan_asks_for_must_have_been_run() -> None:
    plan = small_plan(acceptance__scenarios=["calm", "flood"])
    verdict = judge(plan, experiment_of(plan, *nights(20)))
    assert verdict.answer is Answer.UNDECIDED
    assert "the plan asks for scenarios that were not run: flood." in verdict.reasons


def test_no_trial_at_all_is_no_evidence() -> None:
    assert answer(()) is Answer.UNDECIDED


def test_an_uncalibrated_plan_holds_only_if_it_allows_that_and_is_marked() -> None:
    plan = small_plan(serving__service_time__calibrated=False)
    verdict = judge(plan, experiment_of(plan, *nights(20)))
    assert verdict.answer is Answer.UNDECIDED
    assert any("never calibrated" in reason for reason in verdict.reasons)
    allowed = small_plan(serving__service_time__calibrated=False, acceptance__allow_uncalibrated=True)
    verdict = judge(allowed, experiment_of(allowed, *nights(20)))
    assert verdict.answer is Answer.HOLDS
    assert not verdict.is_calibrated


def test_an_uncalibrated_plan_that_fails_still_fails() -> None:
    assert answer(nights(20, n_breach=20), serving__service_time__calibrated=False) is Answer.FAILS


def test_a_night_without_a_latency_is_left_out_and_not_zero() -> None:
    plan = small_plan()
    (scenario,) = judge(plan, experiment_of(plan, *nights(3, n_late=1))).scenarios
    assert scenario.finish_min_p95 == pytest.approx(31.95)  # of 31 and 32, the late night has none
    assert scenario.p99_ms.value == 201.0
    assert scenario.to_dict()["n_trials"] == 3


# Certificates ----------------------------------------------------------------------------------------------------


def certificate(plan: Plan | None = None, n: int = 20, n_breach: int = 0) -> dict[str, Any]:
    plan = plan or small_plan()
    experiment = experiment_of(plan, *nights(n, n_breach=n_breach))
    made = certify(plan, judge(plan, experiment), experiment, "0" * 64, NOW)
    return json.loads(json.dumps(made, allow_nan=False))  # as it comes back from a file


def test_a_whole_certificate_is_accepted_until_it_expires() -> None:
    made = certificate()
    check_certificate(made, small_plan(), NOW)
    check_certificate(made, small_plan(), NOW + dt.timedelta(hours=23, minutes=59))
    for late in (24, 48):
        with pytest.raises(InvalidCertificate, match=r"expired at 2026-03-10T12:00.*run `lull simulate`"):
            check_certificate(made, small_plan(), NOW + dt.timedelta(hours=late))


@pytest.mark.parametrize("key", ["answer", "expires_at", "history_digest", "reasons", "fingerprints", "provenance"])
def test_a_changed_certificate_is_refused(key: str) -> None:
    made = copy.deepcopy(certificate(n=3))
    made[key] = "holds" if key == "answer" else [] if isinstance(made[key], list) else "2030-01-01T00:00:00+00:00"
    with pytest.raises(InvalidCertificate, match="was changed after it was issued"):
        check_certificate(made, small_plan(), NOW)


def test_a_certificate_without_its_digest_is_refused() -> None:
    made = certificate()
    del made["digest"]
    with pytest.raises(InvalidCertificate, match="was changed after it was issued"):
        check_certificate(made, small_plan(), NOW)


def test_a_certificate_for_another_plan_is_refused() -> None:
    with pytest.raises(InvalidCertificate, match="another version of plan small-night"):
        check_certificate(certificate(), small_plan(serving__replicas=3), NOW)


def test_a_certificate_by_other_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = certificate()
    monkeypatch.setattr("simulation.experiment.code_digest", lambda: "f" * 64)
    with pytest.raises(InvalidCertificate, match="another version of the simulator"):
        check_certificate(made, small_plan(), NOW)


@pytest.mark.parametrize(("n", "n_breach", "said"), [(20, 20, "'fails'"), (3, 0, "'not enough evidence'")])
def test_a_certificate_that_does_not_hold_is_refused_with_its_first_reason(n: int, n_breach: int, said: str) -> None:
    with pytest.raises(InvalidCertificate, match=f"the certificate says {said}: calm: P"):
        check_certificate(certificate(n=n, n_breach=n_breach), small_plan(), NOW)


@pytest.mark.parametrize("content", [{}, {"answer": "holds"}, {"answer": "holds", "provenance": {}}])
def test_something_that_is_no_certificate_is_refused(content: dict[str, Any]) -> None:
    with pytest.raises(InvalidCertificate):
        check_certificate(content, small_plan(), NOW)
    with pytest.raises(InvalidCertificate, match="lacks"):
        check_certificate({**content, "digest": certificate_digest(content)}, small_plan(), NOW)
