"""Training gives the same bytes straight or resumed, on one thread or two; another seed gives others."""

import datetime as dt
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest

from flows.adapters.data_store import FrameStore, Snapshot
from flows.checkpoints import Checkpoints
from flows.domain.features import FeatureSchema, encode_frame, infer_schema
from flows.gateway.predictor import Calibration
from flows.training import (
    StoppedTooEarly,
    TrainedModel,
    _parameters,
    fit_calibration,
    held_for_calibration,
    inputs_of,
    model_digest,
    train,
)
from simulation.plan import Envelope, Training
from simulation.plan_file import read_plan


@pytest.fixture(scope="module")
def training() -> Training:
    """Return 12 rounds in segments of 5; niceness 0, as a process cannot take a higher one back."""
    found = read_plan(Path(__file__).parents[2] / "examples" / "plan.yaml").training
    envelope = Envelope(nice=0, threads=1, cpus=1)
    update: dict[str, Any] = {"rounds": 12, "segment_rounds": 5, "num_leaves": 7, "min_data_in_leaf": 20, "seed": 7}
    return found.model_copy(update={**update, "envelope": envelope, "calibration_ratio": 0.2})


@pytest.fixture(scope="module")
def rows() -> tuple[Snapshot, FeatureSchema]:
    """Return 1,500 rows with two numbers, a category and holes."""
    rng = np.random.default_rng(5)
    n = 1500
    age, balance = rng.integers(18, 80, n).astype(float), rng.normal(0, 1, n)
    balance[rng.random(n) < 0.1] = np.nan
    job = rng.choice(["clerk", "nurse", "cook"], n)
    odds = -1 + 0.03 * (age - 45) + np.nan_to_num(balance) + (job == "cook")
    start = pd.Timestamp("2009-01-01", tz="UTC")
    frame = pd.DataFrame(
        {"age": age, "balance": balance, "job": job, "label": (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(int),
         "event_time": start + pd.to_timedelta(np.arange(n), unit="min")}
    )  # fmt: skip
    first = dt.datetime(2009, 1, 1, tzinfo=dt.UTC)
    snapshot = FrameStore(frame, "made").snapshot(first, first + dt.timedelta(days=30))
    return snapshot, infer_schema(frame[["age", "balance", "job", "label"]], label="label")


@pytest.fixture(scope="module")
def model(rows: tuple[Snapshot, FeatureSchema], training: Training) -> TrainedModel:
    return train(*rows, training)


def test_a_run_resumed_from_disk_after_each_segment_gives_the_same_digest(
    rows: tuple[Snapshot, FeatureSchema], training: Training, model: TrainedModel, tmp_path: Path
) -> None:
    """The twin keeps nothing between segments but the model's own file."""
    snapshot, schema = rows
    values, labels = encode_frame(snapshot.frame, schema), snapshot.frame["label"].to_numpy(dtype=np.float64)
    held = held_for_calibration(len(labels), training.calibration_ratio)
    file = tmp_path / "model.txt"
    for done, rounds in ((0, 5), (5, 5), (10, 2)):
        data = lgb.Dataset(
            values[~held], labels[~held], feature_name=list(schema.names),
            categorical_feature=schema.categorical_indices,
        )  # fmt: skip
        before = lgb.Booster(model_file=str(file)) if done else None
        lgb.train(_parameters(training, done), data, rounds, init_model=before).save_model(str(file))
    resumed = lgb.Booster(model_file=str(file))
    calibration = fit_calibration(np.asarray(resumed.predict(values[held], raw_score=True)), labels[held])
    assert model_digest(resumed.model_to_string(), calibration) == model.digest


def test_the_same_plan_and_rows_give_the_same_digest_again(
    rows: tuple[Snapshot, FeatureSchema], training: Training, model: TrainedModel
) -> None:
    assert train(*rows, training).digest == model.digest


def test_the_number_of_threads_changes_the_text_at_most_and_never_the_digest(
    rows: tuple[Snapshot, FeatureSchema], training: Training, model: TrainedModel
) -> None:
    two = training.model_copy(update={"envelope": Envelope(nice=0, threads=2, cpus=2)})
    assert train(*rows, two).digest == model.digest


@pytest.mark.parametrize("change", [{"seed": 8}, {"num_leaves": 8}, {"rounds": 13}, {"calibration_ratio": 0.3}])
def test_what_shapes_the_model_changes_the_digest(
    rows: tuple[Snapshot, FeatureSchema], training: Training, model: TrainedModel, change: dict[str, Any]
) -> None:
    assert train(*rows, training.model_copy(update=change)).digest != model.digest


def test_progress_is_told_after_each_segment_the_short_last_one_too(
    rows: tuple[Snapshot, FeatureSchema], training: Training
) -> None:
    told: list[tuple[int, int]] = []
    train(*rows, training, on_segment=lambda done, of: told.append((done, of)))
    assert told == [(5, 12), (10, 12), (12, 12)]


def test_the_model_says_what_it_took(model: TrainedModel) -> None:
    assert (model.n_rows, model.n_calibration_rows) == (1500, 300)
    assert sum(model.importance.values()) == pytest.approx(1.0)
    assert lgb.Booster(model_str=model.text).num_trees() == 12
    assert set(model.seconds) == {"features", "train", "calibrate"}


@pytest.mark.parametrize(("n", "ratio", "held"), [(10, 0.0, 0), (10, 0.2, 2), (7, 0.5, 3), (1, 0.2, 0)])
def test_calibration_rows_are_spread_over_the_span(n: int, ratio: float, held: int) -> None:
    mask = held_for_calibration(n, ratio)
    assert mask.sum() == held
    gaps = np.diff(np.flatnonzero(mask))
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("labels", [np.zeros(200), np.ones(200), np.tile([0.0, 1.0], 24), np.empty(0)])
def test_calibration_is_neutral_without_both_classes_or_enough_rows(labels: np.ndarray) -> None:
    assert fit_calibration(np.linspace(-2, 2, labels.size), labels) == Calibration(1.0, 0.0)


def test_calibration_finds_the_slope_and_intercept_that_spoiled_the_scores() -> None:
    rng = np.random.default_rng(1)
    z = rng.normal(0, 1.5, 40_000)
    labels = (rng.random(z.size) < 1 / (1 + np.exp(-z))).astype(np.float64)
    found = fit_calibration((z - 0.5) / 2.0, labels)
    assert (found.slope, found.intercept) == pytest.approx((2.0, 0.5), abs=0.06)


def kept(directory: Path, rows: tuple[Snapshot, FeatureSchema], training: Training) -> Checkpoints:
    return Checkpoints(directory, inputs_of(rows[0].digest, rows[1], training))


class Lost(Exception):
    """A process that died at this round."""


@pytest.mark.parametrize("dies_at", range(12))
def test_a_run_that_dies_at_any_round_goes_on_to_the_same_digest(
    rows: tuple[Snapshot, FeatureSchema], training: Training, model: TrainedModel, tmp_path: Path, dies_at: int
) -> None:
    def between(rounds: int) -> str:
        if rounds == dies_at:
            raise Lost
        return ""

    with pytest.raises(Lost):
        train(*rows, training, checkpoints=kept(tmp_path, rows, training), between=between)
    asked: list[int] = []

    def note(rounds: int) -> str:
        asked.append(rounds)
        return ""

    found = train(*rows, training, checkpoints=kept(tmp_path, rows, training), between=note)
    assert found.digest == model.digest
    assert asked[0] == 5 * (dies_at // 5), "it goes on from the last whole segment"


@pytest.mark.parametrize("k", [1, 4, 5, 6, 10, 11])
def test_a_run_stopped_after_k_rounds_is_the_model_of_a_plan_with_k_rounds_and_stays_so(
    rows: tuple[Snapshot, FeatureSchema], training: Training, tmp_path: Path, k: int
) -> None:
    def stop(rounds: int) -> str:
        return "users wait" if rounds == k else ""

    found = train(*rows, training, checkpoints=kept(tmp_path, rows, training), between=stop)
    assert (found.rounds, found.stopped) == (k, "users wait")
    assert found.digest == train(*rows, training.model_copy(update={"rounds": k})).digest
    again = train(*rows, training, checkpoints=kept(tmp_path, rows, training))
    assert (again.digest, again.rounds, again.stopped) == (found.digest, k, "users wait"), "a stop is replayed"


def test_a_run_stopped_before_its_first_round_has_no_model(
    rows: tuple[Snapshot, FeatureSchema], training: Training, tmp_path: Path
) -> None:
    with pytest.raises(StoppedTooEarly, match="stopped before its first round: users wait"):
        train(*rows, training, checkpoints=kept(tmp_path, rows, training), between=lambda rounds: "users wait")
    assert kept(tmp_path, rows, training).latest() is None


def test_between_is_asked_after_every_round_but_the_last_and_a_checkpoint_comes_first(
    rows: tuple[Snapshot, FeatureSchema], training: Training, tmp_path: Path
) -> None:
    asked: list[tuple[int, int]] = []

    def between(rounds: int) -> str:
        last = kept(tmp_path, rows, training).latest()
        asked.append((rounds, last.rounds if last is not None else 0))
        return ""

    train(*rows, training, checkpoints=kept(tmp_path, rows, training), between=between)
    assert asked == [(n, 5 * (n // 5)) for n in range(12)]


@pytest.mark.parametrize("change", [{"threads": 2}, {"cpus": 0.5}, {"minutes": 7.0}, {"nice": 3}, {"memory_gib": 1.0}])
def test_resource_settings_do_not_keep_a_run_from_going_on(
    rows: tuple[Snapshot, FeatureSchema], training: Training, change: dict[str, Any]
) -> None:
    other = training.model_copy(update={"envelope": training.envelope.model_copy(update=change)})
    assert inputs_of("d", rows[1], other) == inputs_of("d", rows[1], training)


SHAPES: list[dict[str, Any]] = [
    {"seed": 8}, {"num_leaves": 8}, {"rounds": 13}, {"segment_rounds": 4}, {"learning_rate": 0.06},
    {"min_data_in_leaf": 21}, {"calibration_ratio": 0.3},
]  # fmt: skip


@pytest.mark.parametrize("change", SHAPES)
def test_what_shapes_the_model_keeps_a_run_from_going_on(
    rows: tuple[Snapshot, FeatureSchema], training: Training, change: dict[str, Any]
) -> None:
    other = training.model_copy(update=change)
    assert inputs_of("d", rows[1], other) != inputs_of("d", rows[1], training)
    assert inputs_of("e", rows[1], training) != inputs_of("d", rows[1], training)
