"""
Evidently's default tests between two sets of rows, and its own page beside ours.

Its tests are shown, never acted on: without drift, some column of twenty is flagged in most reports of 500 rows. The
alarm is `flows.domain.drift`.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.domain.features import FeatureSchema

if TYPE_CHECKING:
    import pandas as pd


_RARE = "(rare)"


@dataclass(frozen=True)
class ColumnDrift:
    """One column's test: `value` is a distance or a p-value by the method's name."""

    column: str
    method: str
    value: float
    threshold: float
    is_drifted: bool


@dataclass(frozen=True)
class DriftResult:
    """All columns' tests, the share that drifted, and Evidently's version."""

    columns: tuple[ColumnDrift, ...]
    share_drifted: float
    version: str


def measure_drift(
    reference: "pd.DataFrame",
    current: "pd.DataFrame",
    schema: FeatureSchema,
    page: Path | None,
    *,
    minimum_group: int = 1,
) -> DriftResult:
    """
    Test every feature of `current` against `reference` and write Evidently's page to `page`, if one is wanted.

    The page names categories and the ends of histograms: categories of fewer than `minimum_group` rows in both sets
    together are joined to one, and numbers are cut off where fewer rows than that lie further out.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Evidently's own imports warn; nothing of it is ours to mend
        import evidently
        from evidently import DataDefinition, Dataset, Report
        from evidently.presets import DataDriftPreset

        numbers = [c.name for c in schema.columns if c.kind == "number"]
        categories = [c.name for c in schema.columns if c.kind == "category"]
        definition = DataDefinition(numerical_columns=numbers, categorical_columns=categories)

        def dataset(frame: "pd.DataFrame") -> Dataset:
            plain = frame[list(schema.names)].astype(dict.fromkeys(numbers, "float64"))
            for name in numbers:
                plain[name] = plain[name].clip(*ends[name])
            plain = plain.astype(dict.fromkeys(categories, object))
            for name in categories:
                plain[name] = plain[name].where(plain[name].isna() | plain[name].isin(shown[name]), _RARE)
            return Dataset.from_pandas(plain, data_definition=definition)

        ends = {name: _ends(reference[name], current[name], minimum_group) for name in numbers}
        shown = {name: _common(reference[name], current[name], minimum_group) for name in categories}

        snapshot = Report([DataDriftPreset()]).run(dataset(current), dataset(reference))
        if page is not None:
            page.parent.mkdir(parents=True, exist_ok=True)
            snapshot.save_html(str(page))
    columns, share = [], float("nan")
    for metric in snapshot.dict()["metrics"]:
        config, value = metric["config"], metric["value"]
        if "column" in config:
            method, threshold = str(config.get("method")), float(config.get("threshold"))
            drifted = float(value) < threshold if "p_value" in method else float(value) >= threshold
            columns.append(ColumnDrift(config["column"], method, float(value), threshold, drifted))
        elif isinstance(value, dict) and "share" in value:
            share = float(value["share"])
    return DriftResult(tuple(columns), share, evidently.__version__)


def _common(reference: "pd.Series[Any]", current: "pd.Series[Any]", minimum_group: int) -> list[Any]:
    """Return the categories that both sets together hold often enough to be named."""
    counts = reference.value_counts().add(current.value_counts(), fill_value=0)
    return list(counts.index[counts >= minimum_group])


def _ends(reference: "pd.Series[Any]", current: "pd.Series[Any]", minimum_group: int) -> tuple[float, float]:
    """Return the values that at least `minimum_group` rows of both sets together lie at or beyond."""
    values = sorted([*reference.dropna().astype(float), *current.dropna().astype(float)])
    if not values:
        return float("nan"), float("nan")
    # Of fewer rows than twice the minimum only the middle is left.
    place = min(minimum_group - 1, (len(values) - 1) // 2)
    return values[place], values[-1 - place]
