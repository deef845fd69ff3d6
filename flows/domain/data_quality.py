"""
What a drift report says of the rows themselves: absent columns, values of another kind, new coding, row count, age.

Start at `columns_of`, which turns two frames into the columns that `flows.domain.drift` tests. These checks hold facts
against limits; they are no tests, so they add nothing to a report's false-alarm rate.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flows.domain.drift import ColumnShift, Feature, is_missing
from flows.domain.features import FeatureColumn, FeatureSchema

if TYPE_CHECKING:
    import pandas as pd

_LEAST_RECODED = 0.05  # share of rows from which vanished and new categories look like another way of writing
_OTHER_UNIT = 0.5


@dataclass(frozen=True)
class QualityFinding:
    """One check, whether the rows pass it, and a sentence."""

    check: str
    is_met: bool
    sentence: str


def columns_of(
    reference: "pd.DataFrame", current: "pd.DataFrame", schema: FeatureSchema
) -> tuple[list[Feature], list[QualityFinding]]:
    """
    Return every column of the schema as drift tests take it, and what had to be said on the way.

    A column that is absent, and a text where a number belongs, count as missing values: both show as drift.
    """
    features, findings = [], []
    for column in schema.columns:
        sides = []
        for frame, what in ((reference, "reference"), (current, "current data")):
            if column.name not in frame.columns:
                findings.append(QualityFinding("columns", False, f"Column {column.name} is absent from the {what}."))
            values, n_other = _values(frame, column)
            if n_other:
                findings.append(QualityFinding(
                    "values", False, f"Column {column.name} of the {what} holds {n_other:,} values that are no numbers."
                ))  # fmt: skip
            sides.append(values)
        features.append(Feature(column.name, column.kind, sides[0], sides[1]))
    return features, findings


def check_row_count(n_current: int, earlier_counts: Sequence[int]) -> QualityFinding:
    """Hold the number of rows against the fewest and the most of the earlier periods of equal length."""
    if not earlier_counts:
        return QualityFinding(
            "row count", True, f"Rows in the month: {n_current:,}; there is no earlier month to compare with."
        )
    low, high = min(earlier_counts), max(earlier_counts)
    inside = low <= n_current <= high
    words = "within" if inside else "outside"
    return QualityFinding(
        "row count", inside,
        f"Rows in the month: {n_current:,}, {words} the {low:,} to {high:,} of {len(earlier_counts)} months before.",
    )  # fmt: skip


def check_freshness(newest: dt.datetime, due: dt.datetime) -> QualityFinding:
    """Hold the end of the newest month with rows against the end of the newest month that should have some."""
    if newest >= due:
        return QualityFinding("freshness", True, f"The newest finished month, up to {due:%Y-%m-%d}, has rows.")
    return QualityFinding(
        "freshness", False,
        f"No rows came from {newest:%Y-%m-%d} to {due:%Y-%m-%d}; what follows is about the last month that has some.",
    )  # fmt: skip


def coding_change(feature: Feature, shift: ColumnShift) -> QualityFinding | None:
    """
    Return a warning if a moved column looks as if it were written in another way (Y and N as 1 and blank, m as mm).

    A column that has not moved gives none, so that this raises no alarm of its own.
    """
    if not shift.is_moved:
        return None
    if feature.kind == "number":
        if shift.novel < _OTHER_UNIT:
            return None
        text = f"{shift.novel:.0%} of the values of {feature.name} lie outside the reference's range: another unit?"
        return QualityFinding("coding", False, text)
    here, there = (_present(side) for side in (feature.reference, feature.current))
    vanished = float(np.isin(here, there, invert=True).sum() / feature.reference.size)
    new = shift.novel + max(0.0, shift.missing_current - shift.missing_reference)
    if min(vanished, new) < _LEAST_RECODED or vanished < new / 2:
        return None
    return QualityFinding(
        "coding", False,
        f"Column {feature.name} seems to be written in another way: categories of {vanished:.0%} of the reference rows "
        f"are gone, and {new:.0%} of the current rows have new or no values, which the model reads as missing.",
    )  # fmt: skip


def movement(feature: Feature, shift: ColumnShift, minimum_group: int) -> str:
    """
    Say what moved, in a sentence without any row's own value.

    Groups of fewer than `minimum_group` current or reference rows are not named, and no median is told of so few.
    """
    n = feature.current.size
    if shift.part == "missing":
        earlier = _share(shift.missing_reference, feature.reference.size, minimum_group)
        return f"missing values went from {earlier} to {_share(shift.missing_current, n, minimum_group)}"
    if shift.part == "novel":
        where = "outside the reference's range" if feature.kind == "number" else "in categories the reference lacks"
        return f"{_share(shift.novel, n, minimum_group)} of the current data are {where}"
    here, there = (_present(side) for side in (feature.reference, feature.current))
    if min(here.size, there.size) < minimum_group:
        return f"the distribution moved by {shift.distance:.2f}; too few rows to show values"
    if feature.kind == "number":
        before, after = (float(np.median(side.astype(np.float64))) for side in (here, there))
        return f"the distribution moved by {shift.distance:.2f}; the median went from {before:,.4g} to {after:,.4g}"
    return _largest_change(here, there, minimum_group)


def _largest_change(here: NDArray[Any], there: NDArray[Any], minimum_group: int) -> str:
    names = np.unique(np.concatenate([here, there]))
    counts = np.array([[np.count_nonzero(side == name) for name in names] for side in (here, there)])
    before, after = counts[0] / here.size, counts[1] / there.size
    largest = int(np.argmax(np.abs(after - before)))
    if not all(n == 0 or n >= minimum_group for n in counts[:, largest]):
        return "the share of a small group moved most"
    name = repr(str(names[largest]))
    return f"the share of {name} went from {before[largest]:.1%} to {after[largest]:.1%}"


def _share(share: float, n: int, minimum_group: int) -> str:
    """Write a share, unless it is of so few rows that their number must not be told."""
    few = 0 < share * n < minimum_group - 0.5
    return f"fewer than {minimum_group} rows" if few else f"{share:.1%}"


def _present(values: NDArray[Any]) -> NDArray[Any]:
    present = values[~is_missing(values)]
    return present if values.dtype.kind == "f" else present.astype(str)


def _values(frame: "pd.DataFrame", column: FeatureColumn) -> tuple[NDArray[Any], int]:
    """Return a column's values, and how many of them are no numbers though they should be."""
    if column.name not in frame.columns:
        return np.full(len(frame), np.nan) if column.kind == "number" else np.full(len(frame), None, dtype=object), 0
    cells = frame[column.name]
    if column.kind == "number" and cells.dtype.kind in "iuf":
        return cells.to_numpy(dtype=np.float64, na_value=np.nan), 0
    plain = cells.astype(object).where(cells.notna(), None).to_numpy(dtype=object)
    if column.kind == "category":
        return np.array([None if v is None else str(v) for v in plain], dtype=object), 0
    numbers = np.array([_number(v) for v in plain], dtype=np.float64)
    return numbers, int(sum(v is not None and np.isnan(x) for v, x in zip(plain, numbers, strict=True)))


def _number(value: object) -> float:
    try:
        return float(value) if isinstance(value, int | float | str | np.number) else float("nan")
    except ValueError:
        return float("nan")
