"""
Which columns moved between two sets of rows, with at most 5 % false alarms per report, not per column.

Start at `find_shifts`. Rows are dealt out anew between the two sets, whole, so that columns keep hanging together; a
column is said to have moved only if hardly any dealing moves any column as far (Westfall and Young's step-down maxT).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from flows.domain.features import Kind
from simulation.errors import LullError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Part = Literal["shape", "missing", "novel"]

FALSE_ALARM_RATE = 0.05
N_SCALING = 200  # dealings that set the scales; the others are ranked
N_RANKED = 999
_PARTS: tuple[Part, ...] = ("shape", "missing", "novel")
_MOST_TELLING = (2, 1, 0)  # a new category also changes the shape: of equally sure parts the narrower one is named
_MOST_CELLS = 256
_CHUNK = 256


class InvalidDriftSample(LullError):
    """Two sets of rows, or dealings of them, that cannot be compared; the message names the column."""


@dataclass(frozen=True)
class Feature:
    """
    One column in both sets of rows.

    Attributes
    ----------
    reference, current : shapes (m,) and (n,)
        float64 with NaN for a missing number; objects with None for a missing category.
    """

    name: str
    kind: Kind
    reference: NDArray[Any]
    current: NDArray[Any]


@dataclass(frozen=True)
class ColumnShift:
    """
    What became of one column.

    Attributes
    ----------
    distance
        Largest gap of the two distribution functions for numbers, total variation for categories; 0 to 1.
    missing_reference, missing_current, novel
        Shares of rows: without a value; and with one outside the reference's range or categories.
    p_value
        Chance that a report without drift moves any of its columns as far, of the part that moved most surely.
    part
        Which part that is: the shape of the distribution, the missing share, or values never seen before.
    """

    name: str
    kind: Kind
    distance: float
    missing_reference: float
    missing_current: float
    novel: float
    p_value: float
    part: Part
    is_moved: bool


@dataclass(frozen=True)
class Shifts:
    """All columns of a report, in the order given, and how the report was calibrated."""

    columns: tuple[ColumnShift, ...]
    n_reference: int
    n_current: int
    n_ranked: int
    false_alarm_rate: float

    @property
    def moved(self) -> tuple[ColumnShift, ...]:
        """The columns that moved."""
        return tuple(column for column in self.columns if column.is_moved)


@dataclass(frozen=True)
class _Cells:
    """A column as cells: ordered ranges or categories, the last cell for missing values."""

    codes: IntArray
    totals: FloatArray
    is_ordered: bool


def deal_rows(
    rng: np.random.Generator, n_reference: int, n_current: int, n_ranked: int = N_RANKED
) -> Iterator[IntArray]:
    """Yield N_SCALING + n_ranked dealings: which pooled rows (reference first) form the smaller set, shape (k,)."""
    n = n_reference + n_current
    for _ in range(N_SCALING + n_ranked):
        yield rng.choice(n, min(n_reference, n_current), replace=False, shuffle=False)


def find_shifts(
    features: Sequence[Feature], dealings: Iterable[IntArray], *, false_alarm_rate: float = FALSE_ALARM_RATE
) -> Shifts:
    """
    Test every column's shape, missing share and novel values, as one family.

    Parameters
    ----------
    features : at least one
        All with the same m reference and n current rows, m and n >= 1.
    dealings : from `deal_rows`, of the same m and n
        The first N_SCALING put the statistics on one scale, the rest are ranked against the report itself.
    false_alarm_rate
        Bound on the chance that anything is said to have moved when nothing has.

    Raises
    ------
    InvalidDriftSample
        If there is no column, a set is empty, lengths differ, or there are too few dealings for the rate.

    Notes
    -----
    Exact for any m, n, number of columns and dependence between columns, if rows are exchangeable when nothing
    drifts. Rows that hang together in time (one person's requests) raise the rate. Numbers with more than 256
    distinct values are compared at 256 quantiles of both sets together, finer in the tails.

    References
    ----------
    Westfall and Young (1993), "Resampling-based multiple testing"; Romano and Wolf (2005), "Exact and approximate
    stepdown methods for multiple hypothesis testing"; Hemerik and Goeman (2018), "Exact testing with random
    permutations".
    """
    n_reference, n_current = _sizes(features)
    cells = [_cells(feature) for feature in features]
    n_rows = n_reference + n_current
    observed = _statistics(_counts(cells, [np.arange(n_reference, n_rows)]), cells, n_current)
    chunks = []
    iterator = iter(dealings)
    while chunk := list(islice(iterator, _CHUNK)):
        taken = _counts(cells, chunk)
        if n_current > n_reference:
            taken = [c.totals - t for c, t in zip(cells, taken, strict=True)]
        chunks.append(_statistics(taken, cells, n_current))
    dealt = np.concatenate(chunks) if chunks else np.empty((0, observed.shape[1]))
    n_ranked = len(dealt) - N_SCALING
    if n_ranked + 1 < 1 / false_alarm_rate:
        raise InvalidDriftSample(
            f"{len(dealt)} dealings cannot bound false alarms at {false_alarm_rate:g}; "
            f"give at least {N_SCALING + int(np.ceil(1 / false_alarm_rate)) - 1}"
        )
    scale = dealt[:N_SCALING]
    p_values = _step_down(_surprise(observed, scale)[0], _surprise(dealt[N_SCALING:], scale))
    columns = tuple(
        _describe(feature, column, part_p, false_alarm_rate)
        for feature, column, part_p in zip(features, cells, p_values.reshape(-1, len(_PARTS)), strict=True)
    )
    return Shifts(columns, n_reference, n_current, n_ranked, false_alarm_rate)


def is_missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark missing values, shape (n,): NaN, None."""
    return np.asarray(values != values) if values.dtype.kind == "f" else np.array([v is None or v != v for v in values])


def _sizes(features: Sequence[Feature]) -> tuple[int, int]:
    if not features:
        raise InvalidDriftSample("there is no column to compare; name at least one")
    n_reference, n_current = features[0].reference.size, features[0].current.size
    for feature in features:
        if (feature.reference.size, feature.current.size) != (n_reference, n_current):
            raise InvalidDriftSample(
                f"column {feature.name!r} has {feature.reference.size} and {feature.current.size} rows, the first "
                f"column {n_reference} and {n_current}; all columns come from the same rows"
            )
    if n_reference == 0 or n_current == 0:
        empty = "reference" if n_reference == 0 else "current data"
        raise InvalidDriftSample(f"the {empty} hold no rows, so nothing can be compared; choose another span")
    return n_reference, n_current


def _cells(feature: Feature) -> _Cells:
    """Sort both sets' values into cells; the cells do not depend on which row is in which set."""
    values = np.concatenate([feature.reference, feature.current])
    missing = is_missing(values)
    present = values[~missing]
    codes = np.empty(values.size, dtype=np.int64)
    if feature.kind == "number":
        cuts = _cuts(np.sort(present.astype(np.float64)))
        codes[~missing] = np.searchsorted(cuts, present.astype(np.float64))
        n_cells = cuts.size
    else:
        known, codes[~missing] = np.unique(present.astype(str), return_inverse=True)
        n_cells = known.size
    codes[missing] = n_cells
    totals = np.bincount(codes, minlength=n_cells + 1).astype(np.float64)
    return _Cells(codes, totals, feature.kind == "number")


def _cuts(ordered: FloatArray) -> FloatArray:
    """Return the upper ends of the cells: all distinct values, or quantiles with ever finer steps at both ends."""
    distinct = np.unique(ordered)
    if distinct.size <= _MOST_CELLS:
        return distinct
    last = ordered.size - 1
    ranks = np.linspace(0, last, _MOST_CELLS).astype(np.int64)
    tail = 2 ** np.arange(int(np.log2(max(2, last // _MOST_CELLS))) + 1) - 1
    return np.unique(ordered[np.concatenate([ranks, tail, last - 1 - tail])])


def _counts(cells: list[_Cells], sets: list[IntArray]) -> list[FloatArray]:
    """Return how many rows of each set lie in each cell: per column an array of shape (sets, cells)."""
    ends = np.cumsum([column.totals.size for column in cells])
    # One row's cells of all columns lie side by side: a set is gathered and counted in two calls.
    codes = np.stack([column.codes + end - column.totals.size for column, end in zip(cells, ends, strict=True)], axis=1)
    counts = np.stack([np.bincount(codes[rows].ravel(), minlength=ends[-1]) for rows in sets]).astype(np.float64)
    return np.split(counts, ends[:-1], axis=1)


def _statistics(current: list[FloatArray], cells: list[_Cells], n_current: int) -> FloatArray:
    """Return shape, missing and novel of every column, shape (dealings, 3 × columns); larger is further apart."""
    return np.concatenate([_parts(c, column, n_current) for c, column in zip(current, cells, strict=True)], axis=1)


def _parts(current: FloatArray, cells: _Cells, n_current: int) -> FloatArray:
    totals, reference = cells.totals, cells.totals - current
    expected = totals * (n_current / totals.sum())
    missing = (current[:, -1] - expected[-1]) ** 2
    is_seen = reference[:, :-1] > 0
    if cells.is_ordered:
        shape = _squared_gap(current[:, :-1], reference[:, :-1])
        from_below = np.maximum.accumulate(is_seen, axis=1)
        is_seen = from_below & np.maximum.accumulate(is_seen[:, ::-1], axis=1)[:, ::-1]
    else:
        shape = ((current - expected) ** 2 / np.maximum(totals, 1.0)).sum(axis=1)
    novel = np.where(is_seen, 0.0, current[:, :-1]).sum(axis=1)
    return np.stack([shape, missing, novel], axis=1)


def _squared_gap(current: FloatArray, reference: FloatArray) -> FloatArray:
    """Return Kolmogorov and Smirnov's distance of the rows that have a value, squared, times the effective rows."""
    if current.shape[1] == 0:
        return np.zeros(len(current))
    n, m = current.sum(axis=1), reference.sum(axis=1)
    shares = [np.cumsum(c, axis=1) / np.maximum(k, 1.0)[:, None] for c, k in ((current, n), (reference, m))]
    gap = np.abs(shares[0] - shares[1]).max(axis=1)
    return np.asarray(gap**2 * n * m / np.maximum(n + m, 1.0))  # 0 when a set has no value: then `missing` tells


def _surprise(values: FloatArray, scale: FloatArray) -> FloatArray:
    """
    Put statistics on one scale: minus the log tail chance under a gamma law with the moments of `scale`.

    A scale only balances the columns against each other. It never sees the report itself, so the ranking stays exact.
    """
    mean, variance = scale.mean(axis=0), scale.var(axis=0)
    # As if one more dealing had a novel row: a value that no dealing shows must still count when the report has it.
    unit = np.tile([0.0, 0.0, 1.0], scale.shape[1] // len(_PARTS))
    mean, variance = np.maximum(mean + unit / len(scale), 1e-12), np.maximum(variance + unit / len(scale), 1e-12)
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log(special.gammaincc(mean**2 / variance, values * mean / variance)))


def _step_down(observed: FloatArray, dealt: FloatArray) -> FloatArray:
    """Return family-wise p-values, shape (parts,); ties count against an alarm."""
    order = np.argsort(-observed, kind="stable")
    largest = np.maximum.accumulate(dealt[:, order[::-1]], axis=1)[:, ::-1]
    n_as_far = (largest >= observed[order] * (1 - 1e-9)).sum(axis=0)
    p_values = np.empty(observed.size)
    p_values[order] = np.maximum.accumulate((1 + n_as_far) / (1 + len(dealt)))
    return p_values


def _describe(feature: Feature, cells: _Cells, p_values: FloatArray, false_alarm_rate: float) -> ColumnShift:
    m, n = feature.reference.size, feature.current.size
    current = np.bincount(cells.codes[m:], minlength=cells.totals.size).astype(np.float64)
    reference = cells.totals - current
    novel = _parts(current[None], cells, n)[0, _PARTS.index("novel")]
    best = min(_MOST_TELLING, key=lambda part: p_values[part])
    return ColumnShift(
        name=feature.name,
        kind=feature.kind,
        distance=_distance(reference, current, cells.is_ordered),
        missing_reference=float(reference[-1] / m),
        missing_current=float(current[-1] / n),
        novel=float(novel / n),
        p_value=float(p_values[best]),
        part=_PARTS[best],
        is_moved=bool(p_values[best] <= false_alarm_rate),
    )


def _distance(reference: FloatArray, current: FloatArray, is_ordered: bool) -> float:
    """Return the gap of the distribution functions (rows with a value), or total variation (missing as a category)."""
    if not is_ordered:
        return float(np.abs(current / current.sum() - reference / reference.sum()).sum() / 2)
    gap = _squared_gap(current[None, :-1], reference[None, :-1])[0]
    n, m = current[:-1].sum(), reference[:-1].sum()
    return float(np.sqrt(gap * (n + m) / (n * m))) if n and m else 0.0
