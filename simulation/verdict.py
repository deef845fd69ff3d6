"""Verdict and certificate: from trials to `holds`, `fails` or `not enough evidence`, with reasons in sentences."""

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from simulation.errors import LullError
from simulation.plan import Plan
from simulation.result import Experiment
from simulation.statistics import Estimate, mean_interval, probability_interval


class Answer(StrEnum):
    """What can be said of a plan."""

    HOLDS = "holds"
    FAILS = "fails"
    UNDECIDED = "not enough evidence"


class InvalidCertificate(LullError):
    """A certificate that does not cover what is about to be deployed; the sentence says why and what to do."""


@dataclass(frozen=True)
class ScenarioVerdict:
    """The answer for one scenario, its numbers and its reasons."""

    scenario: str
    answer: Answer
    n_trials: int
    breach: Estimate
    finish: Estimate
    p99_ms: Estimate
    expected_bad_requests: Estimate
    finish_min_p95: float
    paused_min: float
    recovery_min_p95: float
    cost: Estimate
    reasons: tuple[str, ...]
    binding: tuple[str, ...]  # of the reasons those that keep it from holding

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "scenario": self.scenario,
            "answer": self.answer.value,
            "n_trials": self.n_trials,
            "p_slo_breach": self.breach.to_dict(),
            "p_finish_in_window": self.finish.to_dict(),
            "p99_ms": self.p99_ms.to_dict(),
            "expected_bad_requests": self.expected_bad_requests.to_dict(),
            "finish_min_p95": self.finish_min_p95 if np.isfinite(self.finish_min_p95) else None,
            "paused_min": self.paused_min,
            "recovery_min_p95": self.recovery_min_p95,
            "cost": self.cost.to_dict(),
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True)
class Verdict:
    """The overall answer: the worst of its scenarios'."""

    answer: Answer
    reasons: tuple[str, ...]
    scenarios: tuple[ScenarioVerdict, ...]
    is_calibrated: bool


def judge(plan: Plan, experiment: Experiment, *, is_partial: bool = False) -> Verdict:
    """
    Hold the trials against the plan's acceptance.

    With `is_partial` only the scenarios that were played count, as in a what-if; no certificate comes of that.

    A scenario holds if the upper bound of P(breach) and the lower bound of P(finish) both keep their limits, fails
    if an opposite bound breaks one, and is undecided between. Bounds are exact and one-sided at the plan's confidence.
    """
    verdicts = tuple(_judge_scenario(plan, experiment, name) for name in experiment.scenarios())
    wanted = () if is_partial else plan.acceptance.scenarios
    missing = [name for name in wanted if name not in experiment.scenarios()]
    reasons = [f"{v.scenario}: {reason}" for v in verdicts for reason in v.binding]
    answers = {v.answer for v in verdicts}
    answer = Answer.HOLDS
    if Answer.FAILS in answers:
        answer = Answer.FAILS
    elif Answer.UNDECIDED in answers or missing or not verdicts:
        answer = Answer.UNDECIDED
    if missing:
        reasons.append(f"the plan asks for scenarios that were not run: {', '.join(missing)}.")
    calibrated = plan.serving.service_time.calibrated
    if not calibrated and not plan.acceptance.allow_uncalibrated:
        answer = Answer.FAILS if answer is Answer.FAILS else Answer.UNDECIDED
        reasons.append(
            "The service model was never calibrated on the real pool; calibrate it, or "
            "set acceptance.allow_uncalibrated."
        )
    if answer is Answer.HOLDS:
        reasons.append(
            f"All {len(verdicts)} scenarios keep the promise to users and finish in the window, "
            f"each with {plan.acceptance.confidence:.0%} confidence."
        )
    return Verdict(answer, tuple(reasons), verdicts, calibrated)


def _judge_scenario(plan: Plan, experiment: Experiment, name: str) -> ScenarioVerdict:
    trials, limits = experiment.of(name), plan.acceptance
    n = len(trials)
    breach = probability_interval(sum(t.is_breach for t in trials), n, limits.confidence)
    finish = probability_interval(sum(t.has_finished for t in trials), n, limits.confidence)
    reasons: list[str] = []
    answers: list[Answer] = []
    for label, low_is_good, estimate, limit in (
        ("the night misses the SLO", True, breach, limits.max_breach_probability),
        ("training finishes in the window, its reserve left free", False, finish, limits.min_finish_probability),
    ):
        kept = estimate.high <= limit if low_is_good else estimate.low >= limit
        broken = estimate.low > limit if low_is_good else estimate.high < limit
        side = "at most" if low_is_good else "at least"
        bound = estimate.high if low_is_good else estimate.low
        answers.append(Answer.HOLDS if kept else Answer.FAILS if broken else Answer.UNDECIDED)
        verb = "kept" if kept else "broken" if broken else "not settled, run more replications"
        reasons.append(
            f"P({label}) is {estimate.value:.0%} over {n} nights, {side} {bound:.0%} "
            f"with {limits.confidence:.0%} confidence; "
            f"the limit is {side} {limit:.0%}: {verb}."
        )
    answer = (
        Answer.FAILS if Answer.FAILS in answers else Answer.UNDECIDED if Answer.UNDECIDED in answers else Answer.HOLDS
    )
    finishes = np.array([t.finish_min for t in trials if np.isfinite(t.finish_min)])
    return ScenarioVerdict(
        scenario=name,
        answer=answer,
        n_trials=n,
        breach=breach,
        finish=finish,
        p99_ms=mean_interval(np.array([t.p99_ms for t in trials]), limits.confidence),
        expected_bad_requests=mean_interval(np.array([float(t.n_bad) for t in trials]), limits.confidence),
        finish_min_p95=float(np.quantile(finishes, 0.95)) if finishes.size else float("nan"),
        paused_min=float(np.mean([t.paused_min for t in trials])),
        recovery_min_p95=float(np.quantile([t.longest_bad_min for t in trials], 0.95)),
        cost=mean_interval(np.array([t.cost for t in trials]), limits.confidence),
        reasons=tuple(reasons),
        binding=tuple(r for r, a in zip(reasons, answers, strict=True) if a is not Answer.HOLDS),
    )


def certify(
    plan: Plan,
    verdict: Verdict,
    experiment: Experiment,
    history_digest: str,
    now: dt.datetime,
    outlook: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """
    Return the certificate as plain data: verdict, numbers, digests, seeds, validity, and a digest over it all.

    `outlook` is what was worked out beside the trials, as plain data by name: whether the night can tip the pool into
    a bad state that outlasts its cause, and whether the rollout can decide.
    """
    content: dict[str, Any] = {
        "format": 1,
        "plan": plan.name,
        "answer": verdict.answer.value,
        "reasons": list(verdict.reasons),
        "is_calibrated": verdict.is_calibrated,
        "scenarios": [v.to_dict() for v in verdict.scenarios],
        "outlook": dict(outlook or {}),
        "history_digest": history_digest,
        "fingerprints": [trial.fingerprint for trial in experiment.trials],
        "provenance": experiment.provenance,
        "issued_at": now.isoformat(),
        "expires_at": (now + dt.timedelta(hours=plan.acceptance.certificate_valid_hours)).isoformat(),
    }
    return {**content, "digest": certificate_digest(content)}


def certificate_digest(content: dict[str, Any]) -> str:
    """Return the SHA-256 over a certificate without its own digest."""
    body = {key: value for key, value in content.items() if key != "digest"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def check_certificate(certificate: dict[str, Any], plan: Plan, now: dt.datetime) -> None:
    """Raise `InvalidCertificate` unless it is whole, holds, is in date, and covers this plan and this code."""
    # Here, for it loads the simulator's kernels: seconds that a reader of certificates need not wait for.
    from simulation.experiment import code_digest

    remedy = "run `lull simulate` on the plan again"
    if certificate.get("digest") != certificate_digest(certificate):
        raise InvalidCertificate(f"the certificate was changed after it was issued; {remedy}")
    made = certificate.get("provenance")
    made = made if isinstance(made, dict) else {}
    lacking = [key for key in ("answer", "reasons", "expires_at") if key not in certificate]
    lacking += [f"provenance.{key}" for key in ("plan_digest", "code_digest") if key not in made]
    if lacking:
        raise InvalidCertificate(f"the certificate lacks {', '.join(lacking)}; {remedy}")
    if certificate["answer"] != Answer.HOLDS.value:
        first = certificate["reasons"][0] if certificate["reasons"] else "no reason was given"
        raise InvalidCertificate(f"the certificate says {certificate['answer']!r}: {first}")
    if made["plan_digest"] != plan.digest():
        raise InvalidCertificate(f"the certificate is for another version of plan {plan.name}; {remedy}")
    if made["code_digest"] != code_digest():
        raise InvalidCertificate(f"the certificate was issued by another version of the simulator; {remedy}")
    if now >= dt.datetime.fromisoformat(certificate["expires_at"]):
        raise InvalidCertificate(f"the certificate expired at {certificate['expires_at']}; {remedy}")
