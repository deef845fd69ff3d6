"""
The plan: one validated file that says what is retrained, when, beside which traffic, and under which limits.

Start at `Plan`; `read_plan` and `write_plan` in `simulation/plan_file.py` are its way to and from YAML.
Every quantity carries its unit in its name, every section refuses keys it does not know.
"""

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from simulation.errors import InvalidPlan
from simulation.plan_calendar import CalendarSection
from simulation.plan_secondary import Secondary, set_by_name
from simulation.plan_serving import Client, ServiceTime, Serving, Slo
from simulation.section import (
    WEEKDAYS,
    Count,
    LocalTime,
    NonNegative,
    Positive,
    Ratio,
    RuleName,
    Section,
    Weekday,
    is_unset,
)

__all__ = [
    "WEEKDAYS", "Acceptance", "Approvals", "CalendarSection", "Client", "Costs", "Count", "Envelope", "Evaluation",
    "Gate", "Job", "LocalTime", "NonNegative", "Plan", "Positive", "Ratio", "Rollout", "Secondary", "Section",
    "ServiceTime", "Serving", "Slo", "Stage", "Traffic", "Training", "Trigger", "Weekday", "WindowSection",
]  # fmt: skip


class Traffic(Section):
    """Which request history stands for the nights to come."""

    history: Annotated[str, Field(min_length=1, description="a shipped name or a file")]
    time_zone: str
    shift_weeks: Annotated[int, Field(ge=0)] = Field(0, description="whole weeks by which the history is moved forward")
    keep_ratio: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="share of the recorded requests that this pool serves: each is kept with this probability"
    )
    history_digest: str | None = Field(None, description="SHA-256 of the history that the plan was made from")


class WindowSection(Section):
    """When the heavy work may run: a rule in local time, its reserve, and why it was chosen."""

    time_zone: str
    starts_at_local: LocalTime
    duration_min: Annotated[float, Field(gt=0.0, le=1440.0)]
    weekdays: tuple[Weekday, ...] = WEEKDAYS
    threshold_rps: Positive = Field(description="load below which the pool is called quiet")
    rollback_reserve_min: NonNegative = Field(5.0, description="kept free at the end for a way back")
    reason: str = ""

    @model_validator(mode="after")
    def _leaves_room(self) -> Self:
        if not self.weekdays or len(set(self.weekdays)) != len(self.weekdays):
            raise ValueError("weekdays must name at least one day, and none twice")
        if self.rollback_reserve_min >= self.duration_min:
            raise ValueError(
                f"rollback_reserve_min {self.rollback_reserve_min:g} leaves nothing of duration_min "
                f"{self.duration_min:g}; shorten the reserve or lengthen the window"
            )
        return self


class Stage(Section):
    """One step of the training job, with what it takes and what it does to serving while it runs."""

    name: Annotated[str, Field(min_length=1)]
    minutes_p50: Positive
    minutes_p95: Positive
    cpus: NonNegative = 1.0
    memory_gib: NonNegative = 1.0
    io_mib_s: NonNegative = 0.0
    serving_slowdown: Annotated[float, Field(ge=1.0)] = Field(1.0, description="factor on service times beside it")
    pausable: bool = False
    checkpoint_every_min: Positive | None = Field(
        None, description="minutes of work after which a failure loses nothing older; none: all of it is lost"
    )
    retries: Annotated[int, Field(ge=0, le=10)] = 1

    @model_validator(mode="after")
    def _quantiles_in_order(self) -> Self:
        if self.minutes_p95 < self.minutes_p50:
            raise ValueError(f"minutes_p95 {self.minutes_p95:g} is below minutes_p50 {self.minutes_p50:g}")
        return self


class Envelope(Section):
    """Hard limits of the training process."""

    cpus: Positive = 1.0
    threads: Count = 1
    nice: Annotated[int, Field(ge=0, le=19)] = 10
    memory_gib: Positive = 2.0
    io_mib_s: Positive | None = Field(None, description="disk and network of the training process; none: no limit")
    minutes: Positive = 60.0

    def stretch(self, stage: Stage) -> float:
        """Return how much longer a stage takes inside the envelope than with all that it asks for."""
        stretches = [1.0, stage.cpus / self.cpus]
        if self.io_mib_s is not None:
            stretches.append(stage.io_mib_s / self.io_mib_s)
        return max(stretches)


Regions = Annotated[
    tuple[RuleName, ...] | None,
    Field(exclude_if=lambda told: told is None, description="whose personal data are read; []: nobody's"),
]


class Job(Section):
    """
    One more model that trains in the same window, with its place in the order.

    Jobs run `training.max_concurrent` at a time, higher `priority` first, none before its `start_after_min`.
    """

    model: Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9_.-]+$")]
    data: Annotated[str, Field(min_length=1, description="a shipped name or a file")]
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    envelope: Envelope = Envelope()
    storage_path: Annotated[str, Field(min_length=1)]
    priority: Annotated[int, Field(ge=0, le=100)] = Field(50, description="100 goes first; equal: as listed")
    start_after_min: NonNegative = Field(0.0, description="minutes after the opening before which it does not start")
    personal_data_regions: Regions = None

    @model_validator(mode="after")
    def _stage_names_differ(self) -> Self:
        _check_stages(self.stages)
        return self


class Training(Section):
    """What is trained, on which data, in which stages; further models share the window as `jobs`."""

    model: Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9_.-]+$")]
    data: Annotated[str, Field(min_length=1, description="a shipped name or a file")]
    rounds: Count = 200
    segment_rounds: Count = 50
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05
    num_leaves: Annotated[int, Field(ge=2, le=4096)] = 31
    min_data_in_leaf: Count = 50
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 1
    calibration_ratio: Annotated[float, Field(ge=0.0, lt=0.9)] = Field(0.2, description="share kept for calibration")
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    envelope: Envelope = Envelope()
    storage_path: str = "training"
    personal_data_regions: Regions = None
    priority: Annotated[int, Field(ge=0, le=100, exclude_if=lambda value: value == 50)] = 50
    start_after_min: Annotated[float, Field(ge=0.0, exclude_if=lambda value: value == 0.0)] = 0.0
    max_concurrent: Annotated[int, Field(ge=1, le=64, exclude_if=lambda value: value == 1)] = 1
    jobs: Annotated[tuple[Job, ...], Field(exclude_if=is_unset, description="further models in this window")] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        _check_stages(self.stages)
        models = [job.model for job in self.all_jobs()]
        if len(set(models)) != len(models):
            raise ValueError(f"two jobs train the same model in {models}; give each its own")
        return self

    def all_jobs(self) -> tuple[Job, ...]:
        """Return every model's job: the main one first, then `jobs` as listed."""
        shared = ("model", "data", "stages", "envelope", "storage_path", "priority", "start_after_min")
        main = Job(**{name: getattr(self, name) for name in shared}, personal_data_regions=self.personal_data_regions)
        return (main, *self.jobs)


def _check_stages(stages: tuple[Stage, ...]) -> None:
    """Refuse stages of one name, and a job that trains nothing."""
    names = [stage.name for stage in stages]
    if len(set(names)) != len(names):
        raise ValueError(f"two stages share a name in {names}")
    if all(stage.name != "train" for stage in stages):
        raise ValueError(f"no stage is called 'train' among {names}")


class Trigger(Section):
    """From an observation to an action: acts when the limit is passed for `for_s`, lets go below `clears_below`."""

    name: Annotated[str, Field(min_length=1)]
    observe: Literal["p99_ms", "bad_ratio", "error_ratio", "load_rps", "queue_length"]
    above: NonNegative
    clears_below: NonNegative
    for_s: NonNegative = 0.0
    clears_for_s: NonNegative = 60.0
    action: Literal["pause", "stop"] = "pause"

    @model_validator(mode="after")
    def _has_hysteresis(self) -> Self:
        if self.clears_below > self.above:
            raise ValueError(f"clears_below {self.clears_below:g} lies over above {self.above:g}: it would flap")
        return self


class Gate(Section):
    """
    A rule from evidence to a verdict, on the difference challenger − champion in the direction "worse is larger".

    role: `success` must be better for sure, `guardrail` must not be worse by more than `margin` for sure,
    `quality` bounds the challenger's own value.
    """

    metric: Literal[
        "auc",
        "log_loss",
        "brier",
        "calibration_error",
        "calibration_slope",
        "calibration_intercept",
        "score_shift",
        "swap_ratio",
        "positive_shift",
        "tail_shift",
        "group_log_loss",
        "latency_ms",
        "failed_ratio",
    ]
    role: Literal["success", "guardrail", "quality"]
    margin: NonNegative = 0.0


class Evaluation(Section):
    """How champion and challenger are held against each other."""

    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    minimum_rows: Count = Field(2000, description="distinct labelled rows below which nothing is decided")
    minimum_group: Count = Field(100, description="groups smaller than this are not shown")
    bootstrap_draws: Annotated[int, Field(ge=100, le=100_000)] = 1000
    thresholds: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = Field(
        (0.5,), exclude_if=lambda value: value == (0.5,), description="scores from which on somebody acts"
    )
    gates: Annotated[tuple[Gate, ...], Field(min_length=1)]


class RolloutEvidence(Section):
    """What the rollout must be able to show: not worse by `margin` in failures, at these error rates."""

    margin: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.005, description="of the share of failed requests")
    base_failed_ratio: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.01, description="what the champion fails today"
    )
    disagreement_ratio: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.02, description="share of requests on which only one of both models fails; for paired scoring in the shadow"
    )
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = Field(0.05, description="risk of promoting a model that is worse")
    power: Annotated[float, Field(gt=0.5, lt=1.0)] = Field(0.9, description="chance to promote one that is as good")


class Rollout(Section):
    """How traffic moves to the new model."""

    shadow_requests: Count = 200
    canary_ratios: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = (0.1, 0.5)
    requests_per_step: Count = 100
    max_failed_ratio: Ratio = 0.01
    step_timeout_s: Positive = 60.0
    keep_warm_min: NonNegative = 60.0
    evidence: RolloutEvidence = RolloutEvidence()
    green_replicas: Count | None = Field(None, description="opened beside the old ones; none: as many as those")

    @model_validator(mode="after")
    def _ratios_grow(self) -> Self:
        if list(self.canary_ratios) != sorted(set(self.canary_ratios)):
            raise ValueError(f"canary_ratios must grow, got {list(self.canary_ratios)}")
        return self


class Approvals(Section):
    """Whether a person must agree before promotion."""

    required: bool = False


class Acceptance(Section):
    """What the simulation must show, and how surely, before the plan may be deployed."""

    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    max_breach_probability: Ratio = Field(0.2, description="P(the night misses the SLO), per scenario")
    min_finish_probability: Ratio = Field(0.8, description="P(training is done before the cutoff), per scenario")
    replications: Annotated[int, Field(ge=2, le=100_000)] = 20
    allow_uncalibrated: bool = False
    certificate_valid_hours: Positive = 24.0
    scenarios: tuple[str, ...] = ()


class Costs(Section):
    """What an hour costs, in any one currency."""

    currency: str = "EUR"
    replica_hour: NonNegative = 0.0
    training_cpu_hour: NonNegative = 0.0


class Plan(Section):
    """
    Everything that a night of retraining is bound to; frozen, validated, with a digest.

    Raises
    ------
    pydantic.ValidationError
        Through the constructor. `simulation.plan_file.read_plan` turns it into one sentence (`InvalidPlan`).
    """

    format: Literal[1] = 1
    name: Annotated[str, Field(min_length=1, pattern=r"^[a-z0-9][a-z0-9-]*$")]
    profile: Literal["demo", "production"] = Field("production", description="demo allows a simulated clock")
    serving: Serving
    traffic: Traffic
    window: WindowSection
    training: Training
    triggers: tuple[Trigger, ...] = ()
    evaluation: Evaluation
    rollout: Rollout = Rollout()
    approvals: Approvals = Approvals()
    acceptance: Acceptance = Acceptance()
    costs: Costs = Costs()
    calendar: Annotated[CalendarSection | None, Field(exclude_if=is_unset)] = None
    secondary: Annotated[tuple[Secondary, ...], Field(exclude_if=is_unset)] = ()

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        names = [trigger.name for trigger in self.triggers]
        if len(set(names)) != len(names):
            raise ValueError(f"triggers: two share a name in {names}")
        if self.training.storage_path.strip("/") == self.serving.storage_path.strip("/"):
            raise ValueError("training.storage_path is the same as serving.storage_path; give training its own")
        if self.training.envelope.threads > 4 * self.training.envelope.cpus:
            raise ValueError("training.envelope.threads is over four per CPU; lower threads or raise cpus")
        names = [secondary.name for secondary in self.secondary]
        if len(set(names)) != len(names):
            raise ValueError(f"secondary: two share a name in {names}")
        for secondary in self.secondary:
            self._changed(secondary)
        return self

    def under(self, name: str) -> "Plan":
        """Return the secondary plan of that name in full, or raise `InvalidPlan`."""
        for secondary in self.secondary:
            if secondary.name == name:
                return self._changed(secondary)
        known = ", ".join(secondary.name for secondary in self.secondary) or "none"
        raise InvalidPlan(f"plan {self.name}: no secondary plan is called {name!r}; there is {known}")

    def _changed(self, secondary: Secondary) -> "Plan":
        """Return this plan with the changes of one secondary plan made, as a plan of its own."""
        data = self.to_dict() | {"name": f"{self.name}-{secondary.name}", "secondary": []}
        place = f"secondary.{secondary.name}.changes"
        for name, value in secondary.changes.items():
            set_by_name(data, name, value, place)
        try:
            return Plan.model_validate(data)
        except ValidationError as problem:
            first = problem.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the plan"
            message = first["msg"].removeprefix("Value error, ")
            raise ValueError(f"{place}: {where}: {message[0].lower()}{message[1:]}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, in the order of the fields, as it stands in YAML and JSON."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """
        Return the SHA-256 of the canonical JSON form: equal plans, equal digests, whatever their comments.

        Values that equal their default are left out, so that a field that is new in Lull changes the digest of no plan
        that does not use it. What a default means is the code's, and a certificate names the digest of that too.
        """
        plain = self.model_dump(mode="json", exclude_defaults=True)
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def stage(self, name: str) -> Stage:
        """Return the stage of that name, or raise `InvalidPlan`."""
        for stage in self.training.stages:
            if stage.name == name:
                return stage
        names = ", ".join(stage.name for stage in self.training.stages)
        raise InvalidPlan(f"plan {self.name}: no stage is called {name!r}; the stages are {names}")
