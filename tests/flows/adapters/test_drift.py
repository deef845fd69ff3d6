"""Drift by Evidently: equal rows do not drift, moved columns do, each by its own name."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.adapters.drift import DriftResult, measure_drift
from flows.domain.features import FeatureSchema, infer_schema


def made(seed: int) -> pd.DataFrame:
    """Return 1,500 rows of one world."""
    rng = np.random.default_rng(seed)
    age, balance = rng.normal(40, 10, 1500), rng.normal(0, 1, 1500)
    return pd.DataFrame({"age": age, "balance": balance, "job": rng.choice(["clerk", "nurse", "cook"], 1500)})


@pytest.fixture(scope="module")
def schema() -> FeatureSchema:
    return infer_schema(made(1).assign(label=0), label="label")


@pytest.fixture(scope="module")
def moved(schema: FeatureSchema, tmp_path_factory: pytest.TempPathFactory) -> tuple[DriftResult, Path]:
    """Return the drift of a world in which ages and jobs moved, and Evidently's page."""
    current = made(2)
    current = current.assign(age=current["age"] + 10, job=np.where(np.arange(1500) % 5 == 0, "cook", "clerk"))
    page = tmp_path_factory.mktemp("drift") / "deep" / "evidently.html"
    return measure_drift(made(1), current, schema, page), page


def test_two_draws_of_one_world_do_not_drift(schema: FeatureSchema, tmp_path: Path) -> None:
    found = measure_drift(made(1), made(2), schema, tmp_path / "page.html")
    assert [column.column for column in found.columns if column.is_drifted] == []
    assert found.share_drifted == 0.0


def test_moved_columns_are_named_and_the_still_one_is_not(moved: tuple[DriftResult, Path]) -> None:
    found, _ = moved
    assert {column.column for column in found.columns if column.is_drifted} == {"age", "job"}
    assert {column.column for column in found.columns} == {"age", "balance", "job"}


def test_the_share_is_evidently_s_own_and_agrees_with_the_columns(moved: tuple[DriftResult, Path]) -> None:
    found, _ = moved
    assert found.share_drifted == pytest.approx(2 / 3)
    assert found.share_drifted == pytest.approx(np.mean([column.is_drifted for column in found.columns]))


def test_the_page_is_written_and_the_version_told(moved: tuple[DriftResult, Path]) -> None:
    import evidently

    found, page = moved
    assert page.stat().st_size > 10_000
    assert found.version == evidently.__version__


def test_small_samples_are_judged_by_p_values_the_other_way_round(schema: FeatureSchema, tmp_path: Path) -> None:
    """Up to a thousand rows Evidently gives p-values: small means drift."""
    reference, current = made(1).head(500), made(2).head(500)
    found = measure_drift(reference, current.assign(age=current["age"] + 10), schema, tmp_path / "page.html")
    by_name = {column.column: column for column in found.columns}
    assert "p_value" in by_name["age"].method
    assert by_name["age"].value < by_name["age"].threshold
    assert {name for name, column in by_name.items() if column.is_drifted} == {"age"}
    assert found.share_drifted == pytest.approx(1 / 3)


def test_the_page_shows_neither_a_rare_category_nor_a_lonely_value(schema: FeatureSchema, tmp_path: Path) -> None:
    current = made(2)
    current.loc[0, ["age", "balance"]] = [887766.5, -665544.5]
    current.loc[0, "job"] = "lighthouse keeper"
    page = tmp_path / "page.html"
    found = measure_drift(made(1), current, schema, page, minimum_group=20)
    assert found.share_drifted == 0.0
    text = page.read_text(encoding="utf-8")
    assert "clerk" in text
    assert not [word for word in ("887766", "665544", "lighthouse") if word in text]
