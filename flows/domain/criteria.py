"""What a rollout is judged by, fixed before training: `criteria_digest` and `criteria_of` read it from the plan."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from simulation.plan import Gate, Plan, Rollout


@dataclass(frozen=True)
class LiveGate:
    """A gate on live answers: `success` must be better, `guardrail` not worse by over `margin`, `quality` bounded."""

    role: str
    margin: float


@dataclass(frozen=True)
class Criteria:
    """
    Limits of a rollout.

    Attributes
    ----------
    requests_per_step : distinct requests that green must have taken in a step
    max_failed_ratio : what green may fail of its own
    margin : by how much of the share of failed requests green may be worse, where the plan has no gate on it
    alpha : risk of a false alarm over the whole rollout, all checks together; and of passing a guardrail wrongly
    failed, latency : the plan's gates on live answers, which must be shown before the switch; margins as a share, in ms
    """

    requests_per_step: int
    max_failed_ratio: float
    margin: float
    alpha: float
    failed: tuple[LiveGate, ...] = ()
    latency: tuple[LiveGate, ...] = ()


def criteria_of(rollout: Rollout, gates: Sequence[Gate] = ()) -> Criteria:
    """Return the limits that a plan sets for its rollout; gates on labelled rows play no part in it."""
    live = {
        name: tuple(LiveGate(gate.role, gate.margin) for gate in gates if gate.metric == name)
        for name in ("failed_ratio", "latency_ms")
    }
    return Criteria(
        rollout.requests_per_step, rollout.max_failed_ratio, rollout.evidence.margin, rollout.evidence.alpha,
        live["failed_ratio"], live["latency_ms"],
    )  # fmt: skip


def criteria_digest(plan: Plan) -> str:
    """
    Return the SHA-256 of the plan's evaluation and rollout sections: by what a challenger is judged, nothing else.

    Values that equal their default are left out, as in `Plan.digest`.
    """
    plain = plan.model_dump(mode="json", exclude_defaults=True, include={"evaluation", "rollout"})
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def criteria_problem(fixed: str | None, plan: Plan) -> str | None:
    """Return why a person must look before promotion, None if the criteria are those fixed before training."""
    now = criteria_digest(plan)
    if fixed is None:
        return (
            "the audit log does not say by which criteria this challenger was to be judged: they must be fixed before "
            "training; retrain, or let a person decide"
        )
    if fixed != now:
        return (
            f"the plan's evaluation or rollout section was changed after training began (criteria {fixed[:12]} then, "
            f"{now[:12]} now); put them back, retrain under the new ones, or let a person decide"
        )
    return None
