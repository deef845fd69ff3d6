"""
Champion against challenger on the same labelled rows: every metric as a paired difference with a bootstrap interval.

"Worse is larger" throughout: AUC enters as 1 − AUC, a calibration slope as its distance from 1. Start at `compare`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.domain.calibration import Line, calibration_error, fit_line, weighted_error, weighted_line
from simulation.plan import Evaluation, Gate

FloatArray = NDArray[np.float64]
_EPS = 1e-12
_BINS = 10
_TAIL = 0.05
_CELLS = 1_000_000  # rows times draws held at once: 8 MB an array
# A metric of one model: from bootstrap weights, shape (draws, n), to one value per draw.
Weighted = Callable[[FloatArray], FloatArray]


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
class OperatingPoint:
    """What is decided where a score of `threshold` or more means yes; `swapped` is the share decided otherwise."""

    threshold: float
    positive: Difference
    swapped: Difference


@dataclass(frozen=True)
class Comparison:
    """The evidence that the gates judge; `n_changed` rows have another score than the champion's, None: not known."""

    rows: int
    positives: int
    metrics: dict[str, Difference]
    groups: tuple[GroupDifference, ...]
    hidden_groups: int
    operating: tuple[OperatingPoint, ...] = ()
    lines: tuple[Line, Line] | None = None  # calibration of champion and challenger
    n_changed: int | None = None


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


def compare(
    labels: FloatArray, champion: FloatArray, challenger: FloatArray, groups: NDArray[np.str_], settings: Evaluation
) -> Comparison:
    """
    Hold two models' scores against the same labels, all of shape (n,), each row distinct.

    Intervals are percentile bootstrap over rows, both models on the same draw, two-sided so that each bound holds at
    the plan's confidence. Groups below the plan's minimum size are counted and not shown; the others' intervals are on
    the change against the champion.
    """
    rng = np.random.default_rng(20260101)
    draws = rng.integers(0, labels.size, (settings.bootstrap_draws, labels.size))
    lines = fit_line(labels, champion), fit_line(labels, challenger)
    pairs = _quality(labels, champion, challenger, lines) | _decisions(champion, challenger, settings.thresholds)
    found = _differences(pairs, draws, settings.confidence)
    shift = score_shift(champion, challenger)
    metrics = {name: found[name] for name in (*_QUALITY, "tail_shift")}
    metrics["score_shift"] = Difference(0.0, shift, shift, shift)
    operating = tuple(OperatingPoint(t, found[f"positive {t:g}"], found[f"swapped {t:g}"]) for t in settings.thresholds)
    if operating:
        metrics["swap_ratio"] = max((point.swapped for point in operating), key=lambda d: d.challenger)
        metrics["positive_shift"] = max(
            (found[f"shift {t:g}"] for t in settings.thresholds), key=lambda d: d.challenger
        )
    shown, hidden = _by_group(labels, champion, challenger, groups, settings, rng)
    return Comparison(
        labels.size, int(labels.sum()), metrics, shown, hidden, operating, lines, int((champion != challenger).sum())
    )


_QUALITY = ("auc", "log_loss", "brier", "calibration_error", "calibration_slope", "calibration_intercept")


def _quality(
    labels: FloatArray, champion: FloatArray, challenger: FloatArray, lines: tuple[Line, Line]
) -> dict[str, tuple[float, float, Weighted]]:
    """Return each metric of labels and scores: of the champion, of the challenger, and their difference per draw."""

    def paired(of: Callable[[FloatArray, FloatArray], float], weighted: Callable[..., FloatArray], *more: object) -> (
        tuple[float, float, Weighted]
    ):  # fmt: skip
        def change(weights: FloatArray) -> FloatArray:
            return weighted(weights, labels, challenger) - weighted(weights, labels, champion)

        return of(labels, champion), of(labels, challenger), change

    def line_change(place: int, ideal: float) -> Weighted:
        def change(weights: FloatArray) -> FloatArray:
            two, one = (
                np.abs(weighted_line(weights, labels, scores, line)[:, place] - ideal)
                for scores, line in ((challenger, lines[1]), (champion, lines[0]))
            )
            return np.asarray(two - one)

        return change

    return {
        "auc": paired(one_minus_auc, _weighted_auc),
        "log_loss": paired(log_loss, lambda w, y, s: w @ row_log_loss(y, s) / y.size),
        "brier": paired(brier, lambda w, y, s: w @ (s - y) ** 2 / y.size),
        "calibration_error": paired(calibration_error, weighted_error),
        "calibration_slope": (abs(lines[0].slope - 1), abs(lines[1].slope - 1), line_change(1, 1.0)),
        "calibration_intercept": (abs(lines[0].intercept), abs(lines[1].intercept), line_change(0, 0.0)),
    }


def _decisions(
    champion: FloatArray, challenger: FloatArray, thresholds: tuple[float, ...]
) -> dict[str, tuple[float, float, Weighted]]:
    """Return what changes for whoever acts on the scores: decisions at each threshold, and how full the tails are."""
    found: dict[str, tuple[float, float, Weighted]] = {}
    for t in thresholds:
        yes = [(scores >= t).astype(np.float64) for scores in (champion, challenger)]
        moved = yes[1] - yes[0]
        found[f"positive {t:g}"] = (float(yes[0].mean()), float(yes[1].mean()), _mean_of(moved))
        found[f"swapped {t:g}"] = (0.0, float(np.abs(moved).mean()), _mean_of(np.abs(moved)))
        found[f"shift {t:g}"] = (0.0, abs(float(moved.mean())), _mean_of(moved, is_absolute=True))
    low, high = np.quantile(champion, [_TAIL, 1 - _TAIL])
    tails = np.stack(
        [(challenger < low).astype(float) - (champion < low), (challenger > high).astype(float) - (champion > high)],
        axis=1,
    )
    found["tail_shift"] = (
        0.0, float(np.abs(tails.mean(axis=0)).max()), lambda w: np.abs(w @ tails / len(tails)).max(axis=1)
    )  # fmt: skip
    return found


def _mean_of(values: FloatArray, *, is_absolute: bool = False) -> Weighted:
    """Return the mean of values as a function of bootstrap weights, with or without its sign."""

    def mean(weights: FloatArray) -> FloatArray:
        found = weights @ values / values.size
        return np.asarray(np.abs(found) if is_absolute else found)

    return mean


def _weighted_auc(weights: FloatArray, labels: FloatArray, scores: FloatArray) -> FloatArray:
    """Return 1 − AUC of each draw, ties counting half; NaN where a draw holds one class only."""
    order = np.argsort(scores, kind="stable")
    first = np.unique(scores[order], return_index=True)[1]
    sorted_weights, is_yes = weights[:, order], labels[order]
    yes = np.add.reduceat(sorted_weights * is_yes, first, axis=1)
    no = np.add.reduceat(sorted_weights * (1 - is_yes), first, axis=1)
    pairs = yes.sum(axis=1) * no.sum(axis=1)
    beaten = (yes * (np.cumsum(no, axis=1) - no / 2)).sum(axis=1)
    return np.asarray(1 - np.divide(beaten, pairs, out=np.full_like(pairs, np.nan), where=pairs > 0))


def _by_group(
    labels: FloatArray, champion: FloatArray, challenger: FloatArray, groups: NDArray[np.str_], settings: Evaluation,
    rng: np.random.Generator,
) -> tuple[tuple[GroupDifference, ...], int]:  # fmt: skip
    """Return the change of the log loss of each group that is large enough, and how many are not."""
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
    return tuple(shown), hidden


def _differences(
    pairs: dict[str, tuple[float, float, Weighted]], draws: NDArray[np.int64], confidence: float
) -> dict[str, Difference]:
    """Return each metric's difference with its interval, all of them over the same draws."""
    changes: dict[str, list[FloatArray]] = {name: [] for name in pairs}
    for weights in _weights(draws):
        for name, (_, _, change) in pairs.items():
            changes[name].append(change(weights))
    return {
        name: Difference(pair[0], pair[1], *_bounds(np.concatenate(changes[name]), confidence))
        for name, pair in pairs.items()
    }


def _weights(draws: NDArray[np.int64]) -> Iterator[FloatArray]:
    """Yield how often each draw took each row, some draws at a time."""
    n = draws.shape[1]
    at_once = max(1, _CELLS // n)
    for begin in range(0, len(draws), at_once):
        part = draws[begin : begin + at_once]
        places = part + np.arange(len(part))[:, None] * n
        yield np.bincount(places.ravel(), minlength=len(part) * n).reshape(len(part), n).astype(np.float64)


def _bounds(values: FloatArray, confidence: float) -> tuple[float, float]:
    """Return one-sided bounds on both sides, each at `confidence`."""
    if not np.isfinite(values).all():
        return float("nan"), float("nan")
    low, high = np.quantile(values, [1 - confidence, confidence])
    return float(low), float(high)


def metric_of(gate: Gate, comparison: Comparison) -> Difference | None:
    """Return the evidence for a gate, None if this comparison does not hold it; groups count by their worst one."""
    if gate.metric == "group_log_loss":
        # One that is surely over the margin comes before one that merely may be.
        worst = max(
            comparison.groups, key=lambda g: (g.log_loss.low > gate.margin, g.log_loss.high), default=None
        )  # fmt: skip
        return None if worst is None else worst.log_loss
    return comparison.metrics.get(gate.metric)
