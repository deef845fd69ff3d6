"""What the rows themselves show: absent and misread columns, counts and age against limits, and nothing of one row."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from flows.domain.data_quality import check_freshness, check_row_count, coding_change, columns_of, movement
from flows.domain.drift import ColumnShift, Feature, deal_rows, find_shifts
from flows.domain.features import FeatureColumn, FeatureSchema

SCHEMA = FeatureSchema((FeatureColumn("age", "number"), FeatureColumn("job", "category", ("cook", "nurse"))), "label")


def frame(age: object, job: object) -> pd.DataFrame:
    return pd.DataFrame({"age": age, "job": job})


def shift(feature: Feature, seed: int = 1) -> ColumnShift:
    draws = deal_rows(np.random.default_rng(seed), feature.reference.size, feature.current.size, 99)
    return find_shifts([feature], draws).columns[0]


def words(name: str, here: list[str | None], there: list[str | None]) -> Feature:
    return Feature(name, "category", np.array(here, dtype=object), np.array(there, dtype=object))


def test_columns_come_as_the_tests_take_them() -> None:
    features, findings = columns_of(frame([1, 2], ["cook", None]), frame([3.5, None], ["nurse", "cook"]), SCHEMA)
    assert findings == []
    assert features[0].reference.tolist() == [1.0, 2.0]
    assert np.isnan(features[0].current[1])
    assert features[1].reference.tolist() == ["cook", None]


def test_an_absent_column_is_told_and_counts_as_missing() -> None:
    features, findings = columns_of(frame([1, 2], ["cook", "cook"]), pd.DataFrame({"age": [1]}), SCHEMA)
    assert [f.sentence for f in findings] == ["Column job is absent from the current data."]
    assert features[1].current.tolist() == [None]


def test_texts_in_a_number_column_are_counted_and_readable_ones_read() -> None:
    features, findings = columns_of(frame([1, 2, 3], "cook"), frame(["4", "five", None], "cook"), SCHEMA)
    assert [f.sentence for f in findings] == ["Column age of the current data holds 1 values that are no numbers."]
    assert features[0].current[0] == 4.0


@pytest.mark.parametrize(("n", "is_met"), [(9, False), (10, True), (20, True), (21, False)])
def test_the_row_count_is_held_against_the_months_before(n: int, is_met: bool) -> None:
    assert check_row_count(n, [10, 20, 15]).is_met is is_met


def test_the_first_month_has_no_row_count_to_keep() -> None:
    assert check_row_count(5, []).is_met


def test_freshness_names_the_gap() -> None:
    june, july = dt.datetime(2008, 6, 1, tzinfo=dt.UTC), dt.datetime(2008, 7, 1, tzinfo=dt.UTC)
    assert check_freshness(july, july).is_met
    assert "No rows came from 2008-06-01 to 2008-07-01" in check_freshness(june, july).sentence


def test_yes_and_no_written_as_one_and_blank_is_a_coding_change() -> None:
    feature = words("default", ["yes", "no"] * 100, ["1", None] * 100)
    found = coding_change(feature, shift(feature))
    assert found is not None
    assert "categories of 100% of the reference rows are gone, and 100% of the current rows" in found.sentence


def test_one_more_category_is_no_coding_change() -> None:
    feature = words("job", ["cook", "nurse"] * 100, ["cook", "nurse"] * 80 + ["pilot"] * 40)
    assert shift(feature).is_moved
    assert coding_change(feature, shift(feature)) is None


def test_another_unit_is_told_and_a_still_column_never_is() -> None:
    rng = np.random.default_rng(2)
    metres = rng.normal(10, 1, 200)
    for factor, is_told in ((1000.0, True), (1.0, False)):
        feature = Feature("height", "number", metres, rng.normal(10, 1, 200) * factor)
        assert (coding_change(feature, shift(feature)) is not None) is is_told


def test_a_small_group_is_neither_named_nor_counted() -> None:
    feature = words("job", ["cook"] * 100 + ["nurse"] * 100, ["cook"] * 50 + ["nurse"] * 50 + ["clerk"] * 100)
    whole = ColumnShift(**{**shift(feature).__dict__, "part": "shape"})
    assert movement(feature, whole, 100) == "the share of 'clerk' went from 0.0% to 50.0%"
    more = words("job", ["cook"] * 101 + ["nurse"] * 101, [*feature.current, "cook"])
    assert movement(more, whole, 101) == "the share of a small group moved most"


def test_few_missing_or_novel_rows_are_told_as_few() -> None:
    feature = words("job", ["cook"] * 400, ["cook"] * 300 + ["clerk"] * 99 + [None])
    novel = ColumnShift(**{**shift(feature).__dict__, "part": "novel"})
    assert movement(feature, novel, 100).startswith("fewer than 100 rows of the current data are in categories")
    assert movement(feature, novel, 99).startswith("24.8% of the current data are")
    missing = ColumnShift(**{**novel.__dict__, "part": "missing"})
    assert movement(feature, missing, 100) == "missing values went from 0.0% to fewer than 100 rows"


def test_medians_of_few_rows_are_not_told() -> None:
    feature = Feature("age", "number", np.arange(50.0), np.arange(50.0) + 100)
    whole = ColumnShift(**{**shift(feature).__dict__, "part": "shape"})
    assert "median" not in movement(feature, whole, 51)
    assert "the median went from 24.5 to 124.5" in movement(feature, whole, 50)
