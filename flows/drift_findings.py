"""
One drift report's measurements from two frames and a model: shifts, losses, data quality, promised performance.

Start at `measure`; the flow saves what it returns, `make drift-honesty` counts how often it is right.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flows.domain.data_quality import QualityFinding, coding_change, columns_of
from flows.domain.drift import N_RANKED, Feature, FloatArray, Shifts, deal_rows, find_shifts
from flows.domain.drift_loss import ColumnLoss, Score, estimate_loss
from flows.domain.features import FeatureSchema, InvalidFeatures, encode_frame
from flows.domain.unlabelled import Promise, promised_performance

if TYPE_CHECKING:
    import pandas as pd

SCORE = "score of the model"
_LOSS_ROWS = 2000
_LABEL_DRAWS = 400


@dataclass(frozen=True)
class Measured:
    """
    What a report knows; `features` and `shifts.columns` are in one order, the score last if there is a model.

    Attributes
    ----------
    losses : of the columns that moved, by name; empty without a model
    promise : None without a model
    """

    features: tuple[Feature, ...]
    shifts: Shifts
    losses: dict[str, ColumnLoss]
    promise: Promise | None
    quality: tuple[QualityFinding, ...]
    current_scores: FloatArray | None


def measure(
    reference: "pd.DataFrame",
    current: "pd.DataFrame",
    schema: FeatureSchema,
    score: Score | None,
    *,
    seed: int,
    n_ranked: int = N_RANKED,
) -> Measured:
    """
    Compare current rows with reference rows that the model was not boosted on.

    Parameters
    ----------
    score : from encoded rows, shape (n, k), to probabilities; None leaves score, losses and promise out

    Raises
    ------
    InvalidDriftSample
        If a set is empty.

    Notes
    -----
    Scores of rows that a model was trained on lie further out than those of new rows; as a reference they would
    alarm without drift.
    """
    features, quality = columns_of(reference, current, schema)
    rng = np.random.default_rng(seed)
    encoded = _encoded(reference, current, schema, quality) if score is not None else None
    scores = None
    if score is not None and encoded is not None and len(reference) and len(current):
        scores = score(encoded[0]), score(encoded[1])
        features.append(Feature(SCORE, "number", *scores))
    shifts = find_shifts(features, deal_rows(rng, len(reference), len(current), n_ranked))
    warnings = (coding_change(f, s) for f, s in zip(features, shifts.columns, strict=True) if f.name != SCORE)
    quality += [warning for warning in warnings if warning is not None]
    losses, promise = {}, None
    if score is not None and encoded is not None and scores is not None:
        losses = _losses(score, encoded, schema, shifts, rng)
        promise = promised_performance(scores[1], _label_draws(rng, len(current)))
    return Measured(tuple(features), shifts, losses, promise, tuple(quality), scores[1] if scores else None)


def _encoded(
    reference: "pd.DataFrame", current: "pd.DataFrame", schema: FeatureSchema, quality: list[QualityFinding]
) -> tuple[FloatArray, FloatArray] | None:
    """Return both sets as the model sees them, or None and a finding that says why it cannot."""
    try:
        return encode_frame(reference, schema), encode_frame(current, schema)
    except InvalidFeatures as problem:
        quality.append(
            QualityFinding("scores", False, f"The rows cannot be scored, so losses are not known: {problem}.")
        )
        return None


def _losses(
    score: Score,
    encoded: tuple[FloatArray, FloatArray],
    schema: FeatureSchema,
    shifts: Shifts,
    rng: np.random.Generator,
) -> dict[str, ColumnLoss]:
    reference, current = encoded
    some = reference[np.sort(rng.permutation(len(reference))[:_LOSS_ROWS])]
    moved = {column.name for column in shifts.moved}
    return {
        column.name: estimate_loss(score, some, current, i, column.kind, rng.random(len(some)))
        for i, column in enumerate(schema.columns)
        if column.name in moved
    }


def _label_draws(rng: np.random.Generator, n: int) -> Iterator[FloatArray]:
    for _ in range(_LABEL_DRAWS):
        yield rng.random(n)
