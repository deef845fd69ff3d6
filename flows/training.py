"""
Training in segments: the same bytes whether a run went straight through or was resumed in between.

Each segment has its own derived seed and a fresh LightGBM Dataset and continues from the model before it; a reused
Dataset would make a resumed run differ. Start at `train`; `flows/training_process.py` runs it within its envelope.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from flows.adapters.data_store import Snapshot
from flows.checkpoints import Checkpoint, Checkpoints, Inputs
from flows.domain.features import FeatureSchema, FloatArray, encode_frame
from flows.gateway.predictor import Calibration
from simulation.errors import LullError
from simulation.plan import Training

Between = Callable[[int], str]  # rounds done -> why to stop, or ""; it may take its time: that is a pause


class StoppedTooEarly(LullError):
    """A training stopped before its first tree; the message carries the reason."""


@dataclass(frozen=True)
class TrainedModel:
    """A model, its calibration, and what it took; `stopped` is why it has fewer rounds than planned, or empty."""

    text: str
    calibration: Calibration
    digest: str
    importance: dict[str, float]
    n_rows: int
    n_calibration_rows: int
    seconds: dict[str, float]
    envelope: dict[str, str]
    rounds: int
    stopped: str = ""


def train(
    snapshot: Snapshot,
    schema: FeatureSchema,
    training: Training,
    *,
    on_segment: Callable[[int, int], None] | None = None,
    checkpoints: Checkpoints | None = None,
    between: Between | None = None,
    envelope: dict[str, str] | None = None,
) -> TrainedModel:
    """
    Train on most rows of a snapshot and calibrate on the rest, spread evenly over its span.

    Parameters
    ----------
    on_segment : called with (rounds done, rounds in all) after each segment
    checkpoints : where segments are kept and a run goes on from; none: nothing is kept
    between : called between rounds with the number done; a reason ends the training with the trees so far
    envelope : the limits in force, for the record

    Raises
    ------
    StoppedTooEarly
        If it was stopped before its first tree.

    Notes
    -----
    The digest covers the trees and the calibration, not resource settings such as the number of threads.
    A training stopped after k rounds gives the model of a plan with k rounds.
    """
    started = time.monotonic()
    values = encode_frame(snapshot.frame, schema)
    labels = snapshot.frame[schema.label].to_numpy(dtype=np.float64)
    held = held_for_calibration(len(labels), training.calibration_ratio)
    encoded = time.monotonic()
    segments = _Segments(values[~held], labels[~held], schema, training, checkpoints, between or (lambda rounds: ""))
    booster, stopped = segments.boost(on_segment or (lambda done, rounds: None))
    boosted = time.monotonic()
    raw = np.asarray(booster.predict(values[held], raw_score=True)) if held.any() else np.empty(0)
    calibration = fit_calibration(raw, labels[held])
    text = booster.model_to_string()
    gain = booster.feature_importance("gain")
    return TrainedModel(
        text=text,
        calibration=calibration,
        digest=model_digest(text, calibration),
        importance={n: float(g / max(gain.sum(), 1e-12)) for n, g in zip(schema.names, gain, strict=True)},
        n_rows=len(labels),
        n_calibration_rows=int(held.sum()),
        seconds={
            "features": encoded - started, "train": boosted - encoded, "calibrate": time.monotonic() - boosted,
        },
        envelope=envelope or {},
        rounds=booster.num_trees(),
        stopped=stopped,
    )  # fmt: skip


def inputs_of(data_digest: str, schema: FeatureSchema, training: Training) -> Inputs:
    """Return the digests of what shapes a model: the rows, and every setting but those of resources."""
    names = ("rounds", "segment_rounds", "learning_rate", "num_leaves", "min_data_in_leaf", "seed", "calibration_ratio")
    settings = {name: getattr(training, name) for name in names}
    settings |= {"schema": schema.digest(), "lightgbm": lgb.__version__}
    text = json.dumps(settings, sort_keys=True)
    return Inputs(data_digest, hashlib.sha256(text.encode()).hexdigest())


@dataclass(frozen=True)
class _Segments:
    """The trees of a training, segment by segment."""

    values: FloatArray
    labels: FloatArray
    schema: FeatureSchema
    training: Training
    checkpoints: Checkpoints | None
    between: Between

    def boost(self, on_segment: Callable[[int, int], None]) -> tuple[lgb.Booster, str]:
        """Go on from the last checkpoint to the last round, or to where `between` says stop; return why, or ""."""
        last = self.checkpoints.latest() if self.checkpoints is not None else None
        booster = lgb.Booster(model_str=last.text) if last is not None else None
        segment, stopped = (last.segment, last.stopped) if last is not None else (0, "")
        done = last.rounds if last is not None else 0
        while done < self.training.rounds and not stopped:
            stopped = self.between(done)
            if not stopped:
                booster, stopped = self._segment(booster, done)
                done, segment = booster.num_trees(), segment + 1
            if booster is None:
                raise StoppedTooEarly(f"training was stopped before its first round: {stopped}")
            if self.checkpoints is not None:
                self.checkpoints.save(Checkpoint(segment, done, booster.model_to_string(), stopped))
            on_segment(done, self.training.rounds)
        assert booster is not None  # rounds >= 1, by the plan's schema
        return booster, stopped

    def _segment(self, booster: lgb.Booster | None, done: int) -> tuple[lgb.Booster, str]:
        """Add the trees of one segment, or fewer; return the model and why it stopped, or ""."""
        data = lgb.Dataset(
            self.values, self.labels, feature_name=list(self.schema.names),
            categorical_feature=self.schema.categorical_indices, free_raw_data=False,
        )  # fmt: skip
        rounds = min(self.training.segment_rounds, self.training.rounds - done)
        obey = _Obey(self.between)
        parameters = _parameters(self.training, done)
        booster = lgb.train(parameters, data, rounds, init_model=booster, callbacks=[obey])
        return booster, obey.stopped


class _Obey:
    """The callback that asks `between` after each round but a segment's last, whose checkpoint comes first."""

    def __init__(self, between: Between) -> None:
        self._between = between
        self.stopped = ""

    def __call__(self, environment: lgb.callback.CallbackEnv) -> None:
        done = environment.iteration + 1
        if done < environment.end_iteration:
            self.stopped = self._between(done)
        if self.stopped:
            raise lgb.callback.EarlyStopException(environment.iteration, [])


def _parameters(training: Training, done: int) -> dict[str, Any]:
    """Return LightGBM's parameters of the segment that begins after `done` rounds."""
    seed = int.from_bytes(hashlib.sha256(f"{training.seed} {done}".encode()).digest()[:4], "big") & 0x7FFFFFFF
    return {
        "objective": "binary",
        "learning_rate": training.learning_rate,
        "num_leaves": training.num_leaves,
        "min_data_in_leaf": training.min_data_in_leaf,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "feature_fraction": 0.8,
        "seed": seed,
        "num_threads": training.envelope.threads,
        "deterministic": True,
        "force_row_wise": True,  # the column-wise path sums in another order
        "verbosity": -1,
    }


def held_for_calibration(n: int, ratio: float) -> NDArray[np.bool_]:
    """
    Mark the rows kept for calibration, evenly over the span.

    The newest rows alone would be the honest choice for a stable world; on data whose macro columns are constant
    within a month they ask the trees to extrapolate, and the fitted slope collapses (0.05 on July 2008).
    """
    steps = np.floor(np.arange(1, n + 1) * ratio)
    return np.asarray(np.diff(steps, prepend=0.0) > 0)


def fit_calibration(raw: FloatArray, labels: FloatArray) -> Calibration:
    """Return slope and intercept on the log-odds by maximum likelihood (Platt 1999); neutral without both classes."""
    if labels.size < 50 or labels.min() == labels.max():
        return Calibration(1.0, 0.0)
    from scipy.optimize import minimize

    def loss(parts: FloatArray) -> float:
        z = np.exp(parts[0]) * raw + parts[1]
        return float(np.mean(np.logaddexp(0.0, z) - labels * z))

    best = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=[(-3, 3), (-10, 10)]).x
    return Calibration(float(np.exp(best[0])), float(best[1]))


def model_digest(text: str, calibration: Calibration) -> str:
    """Return the SHA-256 over trees and calibration; the parameters echoed in the text are left out."""
    trees = text.split("\nparameters:")[0]
    return hashlib.sha256(f"{trees}\n{calibration.slope!r} {calibration.intercept!r}".encode()).hexdigest()
