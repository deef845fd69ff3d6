"""
The rule of a live rollout: from what both slots answered to promote, hold for data, needs a person or roll back.

Start at `judge_rollout`. It may be asked at every look: the statistics are always valid (`flows.domain.sequential`),
and the risk of a false alarm is shared out over the checks in force.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from flows.domain.criteria import Criteria, LiveGate
from flows.domain.gates import GateVerdict
from flows.domain.sequential import (
    Discordances,
    FloatArray,
    Scores,
    Shares,
    Split,
    add_scores,
    discordant_log_evidence,
    mean_bounds,
    mean_difference,
    means_log_evidence,
    paired_difference,
    scores_log_evidence,
    share_bounds,
    share_difference,
    shares_log_evidence,
    split_p_value,
)
from simulation.statistics import Estimate

LOSS_CAP = 0.1
_BATCH = 50


@dataclass(frozen=True)
class Latency:
    """Latencies of both slots, of different requests, as shares of `cap_ms`; a slower request counts as `cap_ms`."""

    green: Scores
    blue: Scores
    cap_ms: float

    def slower_ms(self, alpha: float) -> Estimate:
        """Return by how much green's mean is above blue's, each bound wrong with a chance of `alpha` at most."""
        return _times(mean_difference(self.green, self.blue, alpha), self.cap_ms)

    def log_evidence(self) -> float:
        """Return the log evidence that green is slower at all."""
        g, b = self.green, self.blue
        return float(means_log_evidence(g.n, g.total, g.surprise, b.n, b.total, b.surprise))

    def own_ms(self, alpha: float) -> Estimate:
        """Return green's mean latency with bounds."""
        return _times(mean_bounds(self.green, alpha), self.cap_ms)


@dataclass(frozen=True)
class PairedLatency:
    """Green less blue on the same requests: `halves` holds (1 + difference / cap_ms) / 2, cut to 0 and 1."""

    green: Scores
    halves: Scores
    cap_ms: float

    def slower_ms(self, alpha: float) -> Estimate:
        """Return by how much green's mean is above blue's, each bound wrong with a chance of `alpha` at most."""
        half = mean_bounds(self.halves, alpha)
        return _times(Estimate(2 * half.value - 1, 2 * half.low - 1, 2 * half.high - 1), self.cap_ms)

    def log_evidence(self) -> float:
        """Return the log evidence that green is slower at all."""
        return float(scores_log_evidence(self.halves.n, self.halves.total, self.halves.surprise, 0.5))

    def own_ms(self, alpha: float) -> Estimate:
        """Return green's mean latency with bounds."""
        return _times(mean_bounds(self.green, alpha), self.cap_ms)


def paired_latency(green_ms: FloatArray, blue_ms: FloatArray, cap_ms: float) -> PairedLatency:
    """Return the evidence of latencies, shape (n,) each, taken in turn on the same requests."""
    shares = [np.clip(x / cap_ms, 0.0, 1.0) for x in (green_ms, blue_ms)]
    return PairedLatency(_scores(shares[0]), _scores((1 + shares[0] - shares[1]) / 2), cap_ms)


def paired_losses(labels: FloatArray, green: FloatArray, blue: FloatArray) -> Scores:
    """
    Return green's squared error less blue's on the same requests, shape (n,) each, as scores from 0 to 1.

    A difference counts 0.1 at most either way: bounded closely, a loss of calibration shows sooner. 0.5 means none.
    """
    return _scores(loss_halves(labels, green, blue))


def loss_halves(labels: FloatArray, green: FloatArray, blue: FloatArray) -> FloatArray:
    """Return the scores that `paired_losses` adds up."""
    differences = (green - labels) ** 2 - (blue - labels) ** 2
    return np.asarray((1 + np.clip(differences / LOSS_CAP, -1.0, 1.0)) / 2)


def _scores(values: FloatArray) -> Scores:
    """Return the state after scores that came in batches of fifty."""
    state = Scores()
    for begin in range(0, values.size, _BATCH):
        part = values[begin : begin + _BATCH]
        state = add_scores(state, n=part.size, total=float(part.sum()), squares=float((part**2).sum()))
    return state


def _times(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(estimate.value * factor, estimate.low * factor, estimate.high * factor)


@dataclass(frozen=True)
class LiveEvidence:
    """
    What was seen since the first canary step; distinct requests only.

    Attributes
    ----------
    shares : both slots, the whole rollout
    step_taken, step_failed : green, this step
    splits : distinct entities per share that was set; empty where nobody counts entities
    shadow : the same requests given to both models; None without a shadow
    latency : None where nobody measured it
    losses : `paired_losses` of requests whose outcome is known; None before any is
    """

    shares: Shares
    step_taken: int
    step_failed: int
    splits: tuple[Split, ...] = ()
    shadow: Discordances | None = None
    latency: Latency | PairedLatency | None = None
    losses: Scores | None = None


@dataclass(frozen=True)
class LiveDecision:
    """The verdict with its reasons as sentences."""

    verdict: GateVerdict
    reasons: tuple[str, ...]

    @property
    def reason(self) -> str:
        """All reasons in one line."""
        return "; ".join(self.reasons)


def judge_rollout(evidence: LiveEvidence, criteria: Criteria, *, is_last: bool) -> LiveDecision:
    """
    Judge a step of the rollout; before the last step's end the plan's gates on live answers must have been shown.

    A split other than the one set: a person must look, as the slots cannot be compared. Green surely worse than blue
    and not shown to be so within the margin, or surely over its own limit: roll back. Too few distinct requests, a
    limit passed but not surely, a gate without evidence: hold for data. Else promote, which lets the next step begin.
    """
    alpha = criteria.alpha / _n_checks(evidence)
    skewed = _split_problem(evidence.splits, alpha)
    if skewed:
        return LiveDecision(GateVerdict.PERSON, (skewed,))
    alarms = tuple(_alarms(evidence, criteria, alpha))
    if alarms:
        return LiveDecision(GateVerdict.ROLL_BACK, alarms)
    taken, failed = evidence.step_taken, evidence.step_failed
    if taken < criteria.requests_per_step:
        short = f"{taken:,} requests reached the new model, the plan asks for {criteria.requests_per_step:,}"
        return LiveDecision(GateVerdict.HOLD, (short,))
    if failed > criteria.max_failed_ratio * taken:
        over = (
            f"{failed:,} of {taken:,} requests failed on the new model, over {criteria.max_failed_ratio:g}, "
            "but not yet surely"
        )
        return LiveDecision(GateVerdict.HOLD, (over,))
    told = f"{taken - failed:,} requests answered by the new model, {failed:,} failed"
    gates = [_failed_gate(gate, evidence, criteria.alpha) for gate in criteria.failed]
    gates += [_latency_gate(gate, evidence.latency, criteria.alpha) for gate in criteria.latency]
    missing = tuple(sentence for shown, sentence in gates if not shown)
    if missing and is_last:
        return LiveDecision(GateVerdict.HOLD, missing)
    return LiveDecision(GateVerdict.PROMOTE, (told, *(sentence for _, sentence in gates)))


def _n_checks(evidence: LiveEvidence) -> int:
    """Count the checks that may raise an alarm: against blue, the limit, the split, and what else was measured."""
    return 3 + sum(kind is not None for kind in (evidence.shadow, evidence.latency, evidence.losses))


def _split_problem(splits: tuple[Split, ...], alpha: float) -> str:
    p_value = split_p_value(splits)
    if p_value > alpha:
        return ""
    green, blue = sum(s.green for s in splits), sum(s.blue for s in splits)
    asked = ", then ".join(f"{s.ratio:.0%}" for s in splits)
    return (
        f"{green:,} of {green + blue:,} entities were sent to the new model where {asked} was set "
        f"(p = {p_value:.1g} at any number of looks): the slots cannot be compared until a person finds out why"
    )


def _alarms(evidence: LiveEvidence, criteria: Criteria, alpha: float) -> Iterator[str]:
    """Yield what is surely wrong with green, each as a sentence."""
    enough, s = -math.log(alpha), evidence.shares
    margin = min((gate.margin for gate in criteria.failed if gate.role == "guardrail"), default=criteria.margin)
    if float(shares_log_evidence(s.green, s.green_failed, s.blue, s.blue_failed)) >= enough:
        difference = share_difference(s, alpha)
        if difference.high > margin:
            yield (
                f"the new model fails more, surely: {_of(s.green_failed, s.green)} against {_of(s.blue_failed, s.blue)}"
                f" on the old one, {_between(difference.low, difference.high)} more"
            )
    own = share_bounds(s.green, s.green_failed, alpha)
    if own.low > criteria.max_failed_ratio:
        yield (
            f"{_of(s.green_failed, s.green)} requests failed on the new model, surely over "
            f"{criteria.max_failed_ratio:g} (at least {own.low:.2%})"
        )
    shadow = evidence.shadow
    if shadow and float(discordant_log_evidence(shadow.n, shadow.only_green, shadow.only_blue)) >= enough:
        paired = paired_difference(shadow, alpha)
        if paired.high > margin:
            yield (
                f"of {shadow.n:,} requests given to both models the new one alone failed {shadow.only_green:,}, the "
                f"old one alone {shadow.only_blue:,}: {_between(paired.low, paired.high)} more"
            )
    yield from _latency_alarm(evidence.latency, criteria, enough, alpha)
    losses = evidence.losses
    if losses and float(scores_log_evidence(losses.n, losses.total, losses.surprise, 0.5)) >= enough:
        worse = _times(mean_bounds(losses, alpha), 2 * LOSS_CAP)
        yield (
            f"the new model's scores are further from what happened, surely: by {worse.low - LOSS_CAP:.5f} of the "
            f"Brier score at least, over {losses.n:,} requests with known outcomes"
        )


def _latency_alarm(
    latency: Latency | PairedLatency | None, criteria: Criteria, enough: float, alpha: float
) -> Iterator[str]:
    if latency is None or latency.log_evidence() < enough:
        return
    slower = latency.slower_ms(alpha)
    margin_ms = min((gate.margin for gate in criteria.latency if gate.role == "guardrail"), default=0.0)
    if slower.high > margin_ms:
        yield (
            f"the new model is slower, surely: by {slower.value:.3g} ms on average, from {slower.low:.3g} to "
            f"{slower.high:.3g} ms (a request counts {latency.cap_ms:.3g} ms at most)"
        )


def _failed_gate(gate: LiveGate, evidence: LiveEvidence, alpha: float) -> tuple[bool, str]:
    """Return whether a gate on failures is shown, with a sentence; what both models were given counts as well."""
    if gate.role == "quality":
        s = evidence.shares
        own = share_bounds(s.green, s.green_failed, alpha)
        told = f"failures of the new model: at most {own.high:.2%}, may be {gate.margin:.2%}"
        return own.high <= gate.margin, told
    if evidence.shadow is None:
        best = share_difference(evidence.shares, alpha).high
    else:  # either kind of evidence may show it: half the risk each
        best = min(
            share_difference(evidence.shares, alpha / 2).high, paired_difference(evidence.shadow, alpha / 2).high
        )
    return _shown(
        gate, best
    ), f"failures: at most {best:+.2%} against the old model, {_goal(gate, f'{gate.margin:.2%}')}"


def _latency_gate(gate: LiveGate, latency: Latency | PairedLatency | None, alpha: float) -> tuple[bool, str]:
    if latency is None or not latency.green.n:
        return False, f"latency: there is no evidence for this {gate.role}"
    if gate.role == "quality":
        high_ms = latency.own_ms(alpha).high
        return high_ms <= gate.margin, f"latency of the new model: at most {high_ms:.3g} ms, may be {gate.margin:g} ms"
    high_ms = latency.slower_ms(alpha).high
    goal = _goal(gate, f"{gate.margin:g} ms")
    return _shown(gate, high_ms), f"latency: at most {high_ms:+.3g} ms against the old model, {goal}"


def _shown(gate: LiveGate, high: float) -> bool:
    return high < 0.0 if gate.role == "success" else high <= gate.margin


def _goal(gate: LiveGate, margin: str) -> str:
    return "must be better" if gate.role == "success" else f"may be worse by {margin}"


def _of(failed: int, taken: int) -> str:
    return f"{failed:,} of {taken:,}"


def _between(low: float, high: float) -> str:
    return f"from {low:.2%} to {high:.2%}"
