"""
The steps of a blue-green rollout over any gateway: load, warm, shadow, canary, switch, drill, keep warm.

Start at `roll_out`. It measures and acts; what the numbers mean is judged in `flows.domain.rollout`. Prefect-free, so
that the same steps run against the in-memory gateway in tests.
"""

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from flows.adapters.flags import Slot, other_slot
from flows.domain.criteria import Criteria, criteria_of
from flows.domain.gates import GateVerdict
from flows.domain.rollout import LiveEvidence, PairedLatency, judge_rollout, paired_latency
from flows.domain.sequential import Discordances, Shares, Split
from flows.gateway.contract import Gateway, GatewayState, ShadowResults
from reports.records import PromotionStep
from simulation.errors import LullError
from simulation.plan import Gate, Rollout

_POLL_S = 0.1
_SETTLES_S = 1.0  # gateway workers follow a changed split within a second
_CAP_MEDIANS = 5.0  # latencies count up to so many medians of the live model's own warm-up


FirstSlots = Callable[[dt.datetime], dict[str, tuple[dt.datetime, Slot]]]


class NothingLive(LullError):
    """A gateway in which no slot answers; there is nothing to compare with and nothing to fall back on."""


@dataclass
class RolloutResult:
    """What happened, step by step; `verdict` is promoted, held or rolled back."""

    verdict: str
    reasons: list[str]
    slot_before: Slot
    slot_after: Slot
    steps: list[PromotionStep] = field(default_factory=list)
    drill_s: float | None = None


class Refused(LullError):
    """A step that did not go through; carries the reason shown in the report."""


def roll_out(
    gateway: Gateway,
    *,
    version: str,
    package: Path,
    digest: str | None,
    rollout: Rollout,
    before_switch: Callable[[str], None],
    gates: Sequence[Gate] = (),
    first_slots: FirstSlots | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> RolloutResult:
    """
    Move traffic to `version`, or leave it where it is; the live slot answers throughout.

    Parameters
    ----------
    before_switch : called with a sentence before each change of traffic, to write it to the audit log
    gates : the plan's; those on live answers (failed_ratio, latency_ms) must be shown before the switch
    first_slots : returns when and where each entity was answered first since a moment; without it no split is checked
    sleep : how to wait between two looks at the gateway

    Notes
    -----
    Any failure after traffic began to move takes it back to the old slot before it is reported.
    """
    state = gateway.state()
    if state.live is None:
        raise NothingLive("no slot of the gateway is live; load the champion first with `lull up`")
    old, new = state.live, other_slot(state.live)
    result = RolloutResult("held", [], old, old)
    steps = _Steps(gateway, new, result, sleep, criteria_of(rollout, gates))
    steps.first_slots = first_slots
    steps.take("load", lambda: f"version {version} is in the {_load(gateway, new, version, package, digest)} slot")
    steps.take("warm", lambda: _said(gateway.warm(new), "warm: the canary batch gave the scores it was packed with"))
    steps.take("shadow", lambda: steps.shadow(rollout))
    try:
        return _move(gateway, steps, version, rollout, before_switch)
    except LullError as problem:
        # Users first: traffic is back before anybody is told, as the log itself may be what failed.
        _give_back(gateway, old, str(problem))
        before_switch(f"back to {old}: {problem}")
        result.verdict, result.slot_after, result.reasons = "rolled back", old, [str(problem)]
        return result


def _move(
    gateway: Gateway, steps: "_Steps", version: str, rollout: Rollout, before_switch: Callable[[str], None]
) -> RolloutResult:
    """Move traffic step by step, and back when a step is not convinced."""
    result, new = steps.result, steps.new
    old = result.slot_before
    for ratio in rollout.canary_ratios:
        before_switch(f"canary: {ratio:.0%} of entities to {new}")
        name = f"canary {ratio:.0%}"
        verdict, reason = steps.canary(name, ratio, rollout)
        if verdict is not GateVerdict.PROMOTE:
            return _take_back(gateway, result, verdict, f"{name}: {reason}", before_switch)
    before_switch(f"switch: all traffic to {new}, version {version}")
    steps.take("switch", lambda: _said(gateway.switch(new, reason=f"version {version} passed"), f"{new} is live"))
    before_switch(f"drill: roll back to {old} and switch to {new} again")
    steps.take("rollback drill", lambda: _drill(gateway, new, result))
    verdict, reason = steps.canary("after the switch", None, rollout)
    if verdict is not GateVerdict.PROMOTE:
        return _take_back(gateway, result, verdict, f"after the switch: {reason}", before_switch)
    result.verdict, result.slot_after = "promoted", new
    result.reasons = [f"version {version} passed every gate and every step; {old} stays warm as the way back"]
    return result


class _Steps:
    """Takes steps and writes down how long each took and what was answered meanwhile."""

    def __init__(
        self, gateway: Gateway, new: Slot, result: RolloutResult, sleep: Callable[[float], None], criteria: Criteria
    ) -> None:
        self.gateway, self.new, self.result, self.sleep, self.criteria = gateway, new, result, sleep, criteria
        self.first_slots: FirstSlots | None = None
        self.set_at: list[tuple[float, dt.datetime]] = []  # shares of the new slot, and since when
        self.shadowed: Discordances | None = None
        self.latency: PairedLatency | None = None
        self.begun: GatewayState | None = None  # before the first canary step: evidence adds up over all steps

    def take(self, name: str, action: Callable[[], str]) -> None:
        """Do one step and record it."""
        before, started, at = self.gateway.state(), time.monotonic(), dt.datetime.now(dt.UTC)
        outcome = action()
        self._record(name, outcome, before, started, at)

    def canary(self, name: str, ratio: float | None, rollout: Rollout) -> tuple[GateVerdict, str]:
        """Send a share of entities to the new slot and judge what it answered once it answered enough."""
        before, started, at = self.gateway.state(), time.monotonic(), dt.datetime.now(dt.UTC)
        if ratio is not None:
            self.gateway.split(self.new, ratio, reason=name)
            self.set_at.append((ratio, dt.datetime.now(dt.UTC)))
        self.begun = self.begun or before
        verdict, reason = GateVerdict.HOLD, "nothing was seen"
        while time.monotonic() - started < rollout.step_timeout_s:
            is_last = ratio is None or ratio == rollout.canary_ratios[-1]
            evidence = self._evidence(before)
            decision = judge_rollout(evidence, self.criteria, is_last=is_last)
            if decision.verdict is GateVerdict.PROMOTE and ratio is not None:
                # Entities are counted once a step would pass: the log is read once a step, not at every look.
                decision = judge_rollout(replace(evidence, splits=self._splits()), self.criteria, is_last=is_last)
            verdict, reason = decision.verdict, decision.reason
            if verdict is not GateVerdict.HOLD:
                break
            self.sleep(_POLL_S)
        self._record(name, reason, before, started, at)
        return verdict, reason

    def shadow(self, rollout: Rollout) -> str:
        """Score live requests with the new slot too, and keep what that says about failures and latencies."""
        seen = _shadow(self.gateway, self.new, rollout, self.sleep)
        # Requests that the live slot failed are not offered to the shadow: it alone can fail among these.
        self.shadowed = Discordances(seen.n + seen.n_errors, only_green=seen.n_errors)
        live = self.gateway.state().slots[other_slot(self.new)]
        if self.criteria.latency and live.predict_p50_us:
            us = [np.array(pairs) for pairs in (seen.shadow_latencies_us, seen.live_latencies_us)]
            self.latency = paired_latency(us[0] / 1000, us[1] / 1000, _CAP_MEDIANS * live.predict_p50_us / 1000)
        return f"{seen.n} distinct requests scored by both, mean difference of scores {seen.mean_abs_diff or 0.0:.4f}"

    def _evidence(self, before: GatewayState) -> LiveEvidence:
        """Return what both slots answered since the first canary step, and the new one since this step began."""
        now, old = self.gateway.state(), other_slot(self.new)
        answered, failed = _since(before, now, self.new)
        green, green_failed = _since(self.begun or before, now, self.new)
        blue, blue_failed = _since(self.begun or before, now, old)
        shares = Shares(green + green_failed, green_failed, blue + blue_failed, blue_failed)
        return LiveEvidence(shares, answered + failed, failed, shadow=self.shadowed, latency=self.latency)

    def _splits(self) -> tuple[Split, ...]:
        """Return how entities were split at each share so far; one that asked before a share was set does not count."""
        if self.first_slots is None:
            return ()
        seen = self.first_slots(self.set_at[0][1]).values()
        ends = [begin for _, begin in self.set_at[1:]] + [dt.datetime.max.replace(tzinfo=dt.UTC)]
        splits = []
        for (ratio, begin), end in zip(self.set_at, ends, strict=True):
            settled = begin + dt.timedelta(seconds=_SETTLES_S)
            inside = [slot for at, slot in seen if settled <= at < end]
            splits.append(Split(ratio, inside.count(self.new), inside.count(other_slot(self.new))))
        return tuple(splits)

    def _record(self, name: str, outcome: str, before: GatewayState, started: float, at: dt.datetime) -> None:
        after = self.gateway.state()
        self.result.steps.append(
            PromotionStep(
                at=at.isoformat(),
                name=name,
                outcome=outcome,
                seconds=time.monotonic() - started,
                requests=after.n_served - before.n_served,
                failed=after.n_failed - before.n_failed,
            )
        )


def _load(gateway: Gateway, new: Slot, version: str, package: Path, digest: str | None) -> Slot:
    gateway.load(new, version, str(package), digest=digest)
    return new


def _said(_: object, sentence: str) -> str:
    return sentence


def _shadow(gateway: Gateway, new: Slot, rollout: Rollout, sleep: Callable[[float], None]) -> ShadowResults:
    """Score live requests with the idle slot too, until enough distinct ones were seen."""
    gateway.shadow(new, True, max_requests=max(rollout.shadow_requests * 2, 100))
    deadline = time.monotonic() + rollout.step_timeout_s
    seen = gateway.shadow_results()
    while seen.n < rollout.shadow_requests and time.monotonic() < deadline:
        sleep(_POLL_S)
        seen = gateway.shadow_results()
    gateway.shadow(new, False)
    if seen.n < rollout.shadow_requests:
        raise Refused(f"{seen.n} distinct requests were shadowed in time, the plan asks for {rollout.shadow_requests}")
    if seen.n_errors:
        raise Refused(f"{seen.n_errors} of {seen.n} shadowed requests failed on the new model")
    return gateway.shadow_results(include_scores=True)


def _drill(gateway: Gateway, new: Slot, result: RolloutResult) -> str:
    """Roll back and switch again, and keep the time of the rollback."""
    back = gateway.rollback(reason="drill")
    result.drill_s = back.took_ms / 1000
    gateway.switch(new, reason="drill passed")
    return f"back on the old slot {back.took_ms:.0f} ms after the decision, and forward again"


def _since(before: GatewayState, after: GatewayState, slot: Slot) -> tuple[int, int]:
    """Return how many requests a slot answered and failed between two states."""
    a, b = before.slots[slot], after.slots[slot]
    return b.n_served - a.n_served, b.n_failed - a.n_failed


def _take_back(
    gateway: Gateway, result: RolloutResult, verdict: GateVerdict, reason: str, before_switch: Callable[[str], None]
) -> RolloutResult:
    """Give all traffic to the old slot."""
    before_switch(f"back to {result.slot_before}: {reason}")
    _give_back(gateway, result.slot_before, reason)
    result.verdict = "rolled back" if verdict is GateVerdict.ROLL_BACK else "held"
    if verdict is GateVerdict.PERSON:
        reason = f"needs a person: {reason}"
    result.slot_after, result.reasons = result.slot_before, [reason]
    return result


def _give_back(gateway: Gateway, old: Slot, reason: str) -> None:
    """Give all traffic to the old slot, whether a canary ran or the switch was made."""
    if gateway.state().live == old:
        gateway.split(other_slot(old), 0.0, reason=reason)
    else:
        gateway.rollback(reason=reason)
