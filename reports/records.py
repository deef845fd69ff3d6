"""
The saved results of a cycle: what flows write and pages read, one JSON file per step.

A cycle lives in `<home>/cycles/<cycle>/`: plan.yaml, plan.json (PlanRecord), certificate.json (as issued by
`simulation.verdict.certify`), training.json, evaluation.json, drift.json, promotion.json, replay.json. A missing
file means that the step has not happened.
"""

import json
import types
import typing
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from simulation.errors import LullError
from simulation.plan_file import write_whole

Record = TypeVar("Record")


class InvalidRecord(LullError):
    """A saved result that cannot be read; the sentence names the file."""


@dataclass(frozen=True)
class WindowRecord:
    """One candidate window; times ISO 8601 in UTC, loads in requests per second."""

    opens_at: str
    closes_at: str
    opens_local: str
    mean_load_rps: float
    p95_load_rps: float
    probability_below: float
    expected_requests: float
    reason: str


@dataclass(frozen=True)
class NightRecord:
    """One simulated night per minute, for the timeline: counts begin `lead_min` before the window opens."""

    scenario: str
    seed: int
    lead_min: float
    window_min: float
    offered_per_min: list[int]
    bad_per_min: list[int]
    queue_per_min: list[int]
    steps: list[tuple[float, float, str]]  # begin and end in minutes after the opening, stage
    events: list[tuple[float, str]]
    # Plans of older versions lack what follows.
    choice: str = ""  # "middling" or "worst" of the scenario's nights by bad requests
    capacity_steps: list[tuple[float, float]] = field(default_factory=list)  # from that minute on, requests per second
    promoted_min: float = float("nan")
    rolled_back_min: float = float("nan")
    worst_seed: int | None = None
    worst_bad: int | None = None


@dataclass(frozen=True)
class PlanRecord:
    """History, forecast, windows and simulated nights behind a plan."""

    cycle: str
    plan_name: str
    plan_digest: str
    now: str  # the clock of the cycle
    is_clock_simulated: bool
    history_name: str
    history_start: str
    history_end: str
    history_step_s: int
    history_shift_weeks: int
    history_quality: list[str]
    history_load_rps: list[float | None]  # hourly means of the last 28 days, null in gaps
    history_load_start: str
    forecast_start: str
    forecast_step_s: int
    forecast_p05_rps: list[float]
    forecast_p50_rps: list[float]
    forecast_p95_rps: list[float]
    threshold_rps: float
    time_zone: str
    windows: list[WindowRecord]  # best first; the first one was chosen
    nights: list[NightRecord]  # one per scenario
    next_openings: list[str]


@dataclass(frozen=True)
class TrainingRecord:
    """What was trained, on what, how long each step took."""

    cycle: str
    status: Literal["trained", "skipped", "stopped"]
    reason: str
    model: str
    version: str | None
    champion_version: str | None
    is_bootstrap: bool
    data_name: str
    rows: int
    positive_ratio: float
    data_from: str
    data_until: str
    data_digest: str
    model_digest: str
    rounds: int
    seconds_per_step: dict[str, float]
    importance: dict[str, float]  # share of total gain per feature
    envelope: dict[str, str]  # limit -> as read back
    clock: str
    run_id: str


@dataclass(frozen=True)
class MetricRecord:
    """A metric of both models on the same rows; `difference` is challenger − champion, worse is larger."""

    metric: str
    role: Literal["success", "guardrail", "quality"]
    champion: float
    challenger: float
    difference: float
    low: float
    high: float
    margin: float
    verdict: Literal["passes", "fails", "undecided"]
    reason: str


@dataclass(frozen=True)
class GroupRecord:
    """One group's log loss under both models; groups below the plan's minimum are not here."""

    group: str
    rows: int
    champion: float
    challenger: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class CheckRecord:
    """One number of both models, gated or not, with the interval of challenger − champion."""

    name: str
    champion: float
    challenger: float
    low: float
    high: float


@dataclass(frozen=True)
class EvaluationRecord:
    """The evidence on labelled rows that neither model has seen, and the gate's verdict."""

    cycle: str
    champion_version: str
    challenger_version: str
    rows: int  # distinct labelled rows
    positives: int
    data_from: str
    data_until: str
    confidence: float
    verdict: Literal["promote", "hold for data", "needs a person", "roll back"]
    reasons: list[str]
    metrics: list[MetricRecord]
    groups: list[GroupRecord]
    hidden_groups: int
    calibration_champion: list[tuple[float, float, int]]  # mean score, positive ratio, rows, per bin
    calibration_challenger: list[tuple[float, float, int]]
    score_edges: list[float]
    score_champion: list[int]
    score_challenger: list[int]
    checks: list[CheckRecord] = field(default_factory=list)  # absent from records written before there were any


@dataclass(frozen=True)
class PromotionStep:
    """One step of the rollout, with what was seen."""

    at: str
    name: str  # load, warm, shadow, canary 10 %, switch, roll back, keep warm …
    outcome: str  # a sentence
    seconds: float
    requests: int
    failed: int


@dataclass(frozen=True)
class PromotionRecord:
    """How traffic moved, and what the gateway answered while it did."""

    cycle: str
    verdict: Literal["promoted", "held", "rolled back"]
    reasons: list[str]
    slot_before: str
    slot_after: str
    version_before: str
    version_after: str
    steps: list[PromotionStep]
    answered_by_slot: dict[str, int]
    answered_by_version: dict[str, int]
    failed: int
    sent: int
    rollback_drill_s: float | None


@dataclass(frozen=True)
class ReplayRecord:
    """The whole replay around a promotion as its client counted it: longer than the promote flow, which it outlives."""

    cycle: str
    sent: int
    answered: int
    failed: int
    answered_by_slot: dict[str, int]
    answered_by_version: dict[str, int]


@dataclass(frozen=True)
class DriftColumn:
    """One column: what moved, whether it matters, how sure; and Evidently's test of it, NaN where it made none."""

    column: str
    is_drifted: bool  # by the report's own test, of which the false-alarm rate is known
    movement: str
    distance: float  # gap of the distribution functions, or total variation: 0 to 1
    p_value: float  # of the report as a whole
    importance: float
    log_loss: float  # nats per row that the model loses if this column moved and the outcomes did not
    score_change: float  # of the mean score if this column alone had moved
    evidently_method: str
    evidently_value: float
    evidently_threshold: float


@dataclass(frozen=True)
class QualityRecord:
    """One check of the rows themselves against a limit."""

    check: str
    is_met: bool
    sentence: str


@dataclass(frozen=True)
class PromiseRecord:
    """A metric as the scores alone promise it, and as the labels show it (NaN without labels)."""

    metric: str
    promised: float
    low: float
    high: float
    truth: float


@dataclass(frozen=True)
class DriftRecord:
    """The newest month against rows of the training span that the model was not boosted on."""

    cycle: str
    problem: str  # why nothing could be compared, empty if it could
    reference_rows: int
    current_rows: int
    reference_from: str
    reference_until: str
    current_from: str
    current_until: str
    columns: list[DriftColumn]  # the model's score among them, under `score_name`
    score_name: str
    share_drifted: float
    false_alarm_rate: float
    dealings: int
    promises: list[PromiseRecord]
    promise_assumption: str
    quality: list[QualityRecord]
    evidently_page: str  # file name beside the drift page, empty if there is none
    evidently_version: str


def save_record(record: Any, path: Path) -> None:
    """Write a record as JSON, all of it or nothing; NaN becomes null."""
    write_whole(path, json.dumps(_without_nan(asdict(record)), indent=1, ensure_ascii=False) + "\n")


def load_record(kind: type[Record], path: Path) -> Record | None:
    """Return the record in `path`, None if there is no such file; raise `InvalidRecord` if it does not fit."""
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return typing.cast(Record, _build(kind, data))
    except (ValueError, TypeError, KeyError) as problem:
        raise InvalidRecord(f"{path}: is not a {kind.__name__} ({problem}); delete it and run the step again") from None


def _build(kind: Any, data: Any) -> Any:
    """Turn plain JSON data into the annotated kind; null stands for NaN where a number is wanted."""
    origin = typing.get_origin(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        unknown = set(data) - set(hints)
        if unknown:
            raise TypeError(f"unknown keys {sorted(unknown)}")
        absent = {
            f.name for f in fields(kind)
            if f.name not in data and not (f.default is MISSING and f.default_factory is MISSING)
        }  # fmt: skip
        return kind(**{f.name: _build(hints[f.name], data[f.name]) for f in fields(kind) if f.name not in absent})
    if origin is list:
        return [_build(typing.get_args(kind)[0], item) for item in data]
    if origin is tuple:
        return tuple(_build(k, item) for k, item in zip(typing.get_args(kind), data, strict=True))
    if origin is dict:
        return {key: _build(typing.get_args(kind)[1], value) for key, value in data.items()}
    if origin is types.UnionType:
        return data
    if kind is float:
        return float("nan") if data is None else float(data)
    return data


def _without_nan(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_nan(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_without_nan(item) for item in data]
    return None if isinstance(data, float) and data != data else data
