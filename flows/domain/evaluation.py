"""
Champion against challenger on the same labelled rows: every metric as a paired difference with a bootstrap interval.

"Worse is larger" throughout: AUC enters as 1 − AUC. Start at `compare`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulation.plan import Evaluation, Gate

FloatArray = NDArray[np.float64]
_EPS = 1e-12
_BINS = 10


@dataclass(frozen=True)
class Difference:
    """A metric of both models and the interval of challenger − champion at the plan's confidence."""

    champion: float
    challenger: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """Challenger − champion; above 0 the challenger is worse."""
        return self.challenger - self.champion


@dataclass(frozen=True)
class GroupDifference:
    """The log loss of one group under both models."""

    group: str
    rows: int
    log_loss: Difference


@dataclass(frozen=True)
class Comparison:
    """The evidence that the gates judge."""

    rows: int
    positives: int
    metrics: dict[str, Difference]
    groups: tuple[GroupDifference, ...]
    hidden_groups: int


def log_loss(labels: FloatArray, scores: FloatArray) -> float:
    """Return the mean negative log likelihood, shapes (n,)."""
    return float(row_log_loss(labels, scores).mean())


def row_log_loss(labels: FloatArray, scores: FloatArray) -> FloatArray:
    """Return the negative log likelihood of each row."""
    clipped = np.clip(scores, _EPS, 1 - _EPS)
    return np.asarray(-(labels * np.log(clipped) + (1 - labels) * np.log1p(-clipped)))


def brier(labels: FloatArray, scores: FloatArray) -> float:
    """Return the mean squared error of the scores."""
    return float(np.mean((scores - labels) ** 2))


def one_minus_auc(labels: FloatArray, scores: FloatArray) -> float:
    """Return 1 − the area under the ROC curve, ties counting half (Mann-Whitney); NaN when a class is absent."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    _, first, counts = np.unique(ranked, return_index=True, return_counts=True)
    ranks = np.empty(scores.size)
    ranks[order] = np.repeat(first + (counts + 1) / 2, counts)
    positives = labels.sum()
    negatives = labels.size - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    return float(1 - (ranks[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def calibration_error(labels: FloatArray, scores: FloatArray) -> float:
    """Return the expected calibration error over ten bins of equal size: the mean gap of score and outcome."""
    parts = np.array_split(np.argsort(scores, kind="stable"), _BINS)
    gaps = [abs(scores[p].mean() - labels[p].mean()) * p.size for p in parts if p.size]
    return float(sum(gaps) / scores.size)


def calibration_curve(labels: FloatArray, scores: FloatArray) -> list[tuple[float, float, int]]:
    """Return (mean score, share of positives, rows) for ten bins of equal size."""
    parts = np.array_split(np.argsort(scores, kind="stable"), _BINS)
    return [(float(scores[p].mean()), float(labels[p].mean()), int(p.size)) for p in parts if p.size]


def score_shift(champion: FloatArray, challenger: FloatArray) -> float:
    """Return the population stability index of the challenger's scores against the champion's deciles."""
    edges = np.unique(np.quantile(champion, np.linspace(0, 1, _BINS + 1)[1:-1]))
    a = np.bincount(np.searchsorted(edges, champion), minlength=edges.size + 1) / champion.size
    b = np.bincount(np.searchsorted(edges, challenger), minlength=edges.size + 1) / challenger.size
    a, b = np.maximum(a, 1e-4), np.maximum(b, 1e-4)
    return float(np.sum((b - a) * np.log(b / a)))


METRICS: dict[str, Callable[[FloatArray, FloatArray], float]] = {
    "auc": one_minus_auc,
    "log_loss": log_loss,
    "brier": brier,
    "calibration_error": calibration_error,
}


def compare(
    labels: FloatArray, champion: FloatArray, challenger: FloatArray, groups: NDArray[np.str_], settings: Evaluation
) -> Comparison:
    """
    Hold two models' scores against the same labels, all of shape (n,), each row distinct.

    Intervals are percentile bootstrap over rows, both models on the same draw, two-sided so that each bound holds at
    the plan's confidence. Groups below the plan's minimum size are counted and not shown.
    """
    rng = np.random.default_rng(20260101)
    draws = rng.integers(0, labels.size, (settings.bootstrap_draws, labels.size))
    metrics = {name: _paired(metric, labels, champion, challenger, draws, settings) for name, metric in METRICS.items()}
    shift = score_shift(champion, challenger)
    metrics["score_shift"] = Difference(0.0, shift, shift, shift)
    shown, hidden = [], 0
    for group in np.unique(groups):
        inside = np.flatnonzero(groups == group)
        if inside.size < settings.minimum_group:
            hidden += 1
            continue
        places = rng.integers(0, inside.size, (settings.bootstrap_draws, inside.size))
        a = row_log_loss(labels[inside], champion[inside])
        b = row_log_loss(labels[inside], challenger[inside])
        low, high = _bounds((b - a)[places].mean(axis=1), settings.confidence)
        shown.append(GroupDifference(str(group), inside.size, Difference(float(a.mean()), float(b.mean()), low, high)))
    return Comparison(labels.size, int(labels.sum()), metrics, tuple(shown), hidden)


def _paired(
    metric: Callable[[FloatArray, FloatArray], float],
    labels: FloatArray,
    champion: FloatArray,
    challenger: FloatArray,
    draws: NDArray[np.int64],
    settings: Evaluation,
) -> Difference:
    """Return one metric's difference; sorting metrics use fewer draws, as each costs a sort."""
    used = draws if metric in (log_loss, brier) else draws[: max(200, len(draws) // 4)]
    differences = np.array([metric(labels[d], challenger[d]) - metric(labels[d], champion[d]) for d in used])
    low, high = _bounds(differences, settings.confidence)
    return Difference(metric(labels, champion), metric(labels, challenger), low, high)


def _bounds(values: FloatArray, confidence: float) -> tuple[float, float]:
    """Return one-sided bounds on both sides, each at `confidence`."""
    if not np.isfinite(values).all():
        return float("nan"), float("nan")
    low, high = np.quantile(values, [1 - confidence, confidence])
    return float(low), float(high)


def metric_of(gate: Gate, comparison: Comparison) -> Difference | None:
    """Return the evidence for a gate, None if this comparison does not hold it; groups count by their worst one."""
    if gate.metric == "group_log_loss":
        worst = max(comparison.groups, key=lambda group: group.log_loss.high, default=None)
        return None if worst is None else worst.log_loss
    return comparison.metrics.get(gate.metric)
