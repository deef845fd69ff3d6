"""
Does it matter that a column moved? What the model's scores would do if that column alone had moved.

Start at `estimate_loss`. The estimate is of the harm that a broken feed does; a world that really moved may do less.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from flows.domain.drift import FloatArray, IntArray, InvalidDriftSample
from flows.domain.features import Kind

_EPS = 1e-12
Score = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class ColumnLoss:
    """
    What one column's move does to the scores.

    Attributes
    ----------
    score_change : mean of score after − before; mean_absolute_change : the same without sign
    log_loss
        Nats per row that the model loses if the column's values moved and the outcomes did not.
    """

    score_change: float
    mean_absolute_change: float
    log_loss: float


def estimate_loss(
    score: Score, reference: FloatArray, current: FloatArray, column: int, kind: Kind, uniforms: FloatArray
) -> ColumnLoss:
    """
    Move one column of the reference rows to where the current rows have it, as little as can be, and score again.

    Parameters
    ----------
    score : from encoded rows, shape (m, k), to probabilities, shape (m,)
    reference, current : shapes (m, k) and (n, k)
        Encoded as the model sees them: NaN for missing and for unseen.
    uniforms : shape (m,), in [0, 1)
        Breaks ties between rows, and picks the rows that change category.

    Raises
    ------
    InvalidDriftSample
        If a set is empty.

    Notes
    -----
    Assumes that the scores were right on the reference rows (calibrated), that the other columns stay, and that the
    outcomes stay though the column moved: the mean Kullback-Leibler divergence from score to score. If the outcomes
    followed the column as the model learned, the true loss is smaller; if they turned against it, larger.
    """
    if not len(reference) or not len(current):
        raise InvalidDriftSample("a loss needs reference and current rows; one of them holds none")
    shifted = reference.copy()
    move = move_numbers if kind == "number" else move_categories
    shifted[:, column] = move(reference[:, column], current[:, column], uniforms)
    before, after = (np.clip(score(rows), _EPS, 1 - _EPS) for rows in (reference, shifted))
    divergence = before * np.log(before / after) + (1 - before) * np.log((1 - before) / (1 - after))
    change = after - before
    return ColumnLoss(float(change.mean()), float(np.abs(change).mean()), float(divergence.mean()))


def move_numbers(reference: FloatArray, current: FloatArray, uniforms: FloatArray) -> FloatArray:
    """Return for each reference value the current value of the same rank, NaN last; ties by `uniforms`."""
    order = np.lexsort((uniforms, reference))
    ranks = np.empty(reference.size)
    ranks[order] = (np.arange(reference.size) + 0.5) / reference.size
    return np.asarray(np.sort(current)[(ranks * current.size).astype(np.int64)])


def move_categories(reference: FloatArray, current: FloatArray, uniforms: FloatArray) -> FloatArray:
    """Return the reference codes with current shares, changing as few rows as can be; NaN is a category like others."""
    known = np.unique(np.concatenate([reference, current]))
    codes, now = (np.searchsorted(known, values) for values in (reference, current))
    counts = np.bincount(codes, minlength=known.size)
    wanted = _whole_counts(np.bincount(now, minlength=known.size) / now.size, reference.size)
    order = np.lexsort((uniforms, codes))
    place = np.arange(reference.size) - np.repeat(np.cumsum(counts) - counts, counts)
    leaving = order[place >= wanted[codes[order]]]
    leaving = leaving[np.argsort(uniforms[leaving], kind="stable")]
    moved = codes.copy()
    moved[leaving] = np.repeat(np.arange(known.size), np.maximum(wanted - counts, 0))
    return np.asarray(known[moved])


def _whole_counts(shares: FloatArray, n: int) -> IntArray:
    """Return whole numbers near n × shares that sum to n, the largest remainders rounded up."""
    exact = shares * n
    whole = np.floor(exact).astype(np.int64)
    whole[np.argsort(whole - exact, kind="stable")[: n - whole.sum()]] += 1
    return whole
