"""
Training in segments: the same bytes whether a run went straight through or was resumed in between.

Each segment has its own derived seed and a fresh LightGBM Dataset and continues from the model before it; a reused
Dataset would make a resumed run differ.
"""

import datetime as dt
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from flows.adapters.data_store import Snapshot
from flows.domain.features import FeatureSchema, FloatArray, encode_frame
from flows.gateway.predictor import Calibration
from simulation.plan import Training


@dataclass(frozen=True)
class TrainedModel:
    """A model, its calibration on newer rows, and what it took."""

    text: str
    calibration: Calibration
    digest: str
    importance: dict[str, float]
    n_rows: int
    n_calibration_rows: int
    seconds: dict[str, float]
    envelope: dict[str, str]


def train(
    snapshot: Snapshot,
    schema: FeatureSchema,
    training: Training,
    *,
    on_segment: Callable[[int, int], None] | None = None,
) -> TrainedModel:
    """
    Train on most rows of a snapshot and calibrate on the rest, spread evenly over its span.

    Parameters
    ----------
    on_segment : called with (rounds done, rounds in all) after each segment

    Notes
    -----
    The digest covers the trees and the calibration, not resource settings such as the number of threads.
    """
    envelope = apply_envelope(training)
    started = time.monotonic()
    values = encode_frame(snapshot.frame, schema)
    labels = snapshot.frame[schema.label].to_numpy(dtype=np.float64)
    held = held_for_calibration(len(labels), training.calibration_ratio)
    encoded = time.monotonic()
    booster = _boost(values[~held], labels[~held], schema, training, on_segment)
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
        envelope=envelope,
    )  # fmt: skip


def _boost(
    values: FloatArray,
    labels: FloatArray,
    schema: FeatureSchema,
    training: Training,
    on_segment: Callable[[int, int], None] | None,
) -> lgb.Booster:
    """Add trees segment by segment."""
    booster: lgb.Booster | None = None
    done = 0
    while done < training.rounds:
        rounds = min(training.segment_rounds, training.rounds - done)
        data = lgb.Dataset(
            values, labels, feature_name=list(schema.names),
            categorical_feature=schema.categorical_indices, free_raw_data=False,
        )  # fmt: skip
        booster = lgb.train(_parameters(training, done), data, rounds, init_model=booster, keep_training_booster=False)
        done += rounds
        if on_segment is not None:
            on_segment(done, training.rounds)
    assert booster is not None  # rounds >= 1, by the plan's schema
    return booster


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


def apply_envelope(training: Training) -> dict[str, str]:
    """Apply niceness and CPU affinity to this process and return the limits as the system reads them back."""
    import psutil

    envelope, process = training.envelope, psutil.Process()
    if process.nice() < envelope.nice:
        process.nice(envelope.nice)
    available = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, set(available[-max(1, min(len(available), int(np.ceil(envelope.cpus)))) :]))
    return {
        "nice": str(process.nice()),
        "cpus": ", ".join(map(str, sorted(os.sched_getaffinity(0)))),
        "threads": str(envelope.threads),
        "memory": "not limited: watched by the operating system only",
    }


def month_name(moment: dt.datetime) -> str:
    """Return the month as 2008-07."""
    return f"{moment:%Y-%m}"
