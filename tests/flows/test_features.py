"""The feature function: one row and a whole frame give the same numbers, and untidy rows are refused by name."""

import math
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.domain.features import (
    BANK_MARKETING_LEAKS,
    FeatureColumn,
    FeatureSchema,
    InvalidFeatures,
    bank_marketing_schema,
    encode_frame,
    encode_row,
    infer_schema,
    schema_changes,
)

SCHEMA = FeatureSchema(
    (
        FeatureColumn("age", "number"),
        FeatureColumn("emp.var.rate", "number"),
        FeatureColumn("job", "category", ("admin.", "retired", "student")),
    ),
    label="label",
)
GOOD = {"age": 41, "emp.var.rate": -1.8, "job": "retired"}
finite = st.floats(allow_nan=False, allow_infinity=False)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "age": st.none() | st.integers(-(2**62), 2**62) | finite,
            "emp.var.rate": st.none() | finite,
            "job": st.none() | st.sampled_from(["admin.", "retired", "student", "unheard of", ""]),
        }
    ),
    min_size=1,
    max_size=20,
)


@settings(deadline=None, max_examples=150)
@given(rows)
def test_a_frame_is_encoded_bit_for_bit_like_its_rows(drawn):
    frame = pd.DataFrame({name: pd.Series([row[name] for row in drawn], dtype=object) for name in SCHEMA.names})
    one_by_one = np.array([encode_row(row, SCHEMA) for row in drawn])
    assert encode_frame(frame, SCHEMA).tobytes() == one_by_one.tobytes()


@settings(deadline=None, max_examples=50)
@given(st.lists(finite, min_size=1), st.data())
def test_numpy_columns_are_encoded_like_their_rows(numbers, data):
    jobs = data.draw(st.lists(st.sampled_from(["admin.", "x"]), min_size=len(numbers), max_size=len(numbers)))
    frame = pd.DataFrame({"job": jobs, "emp.var.rate": numbers, "age": np.arange(len(numbers)), "left over": "-"})
    one_by_one = [
        encode_row({"age": i, "emp.var.rate": number, "job": job}, SCHEMA)
        for i, (number, job) in enumerate(zip(numbers, jobs, strict=True))
    ]
    assert encode_frame(frame, SCHEMA).tobytes() == np.array(one_by_one).tobytes()


def test_a_row_is_encoded_as_numbers_and_category_indices():
    assert encode_row(GOOD, SCHEMA).tolist() == [41.0, -1.8, 1.0]


@pytest.mark.parametrize("value", [None, "unheard of"])
def test_a_missing_and_an_unseen_category_are_nan(value):
    assert math.isnan(encode_row(GOOD | {"job": value}, SCHEMA)[2])


def test_a_missing_number_in_a_frame_is_nan_whatever_its_dtype():
    for dtype in ("float64", "Int64", "object"):
        frame = pd.DataFrame({"age": pd.Series([1, None], dtype=dtype), "emp.var.rate": [0.0, 1.0], "job": "student"})
        assert np.isnan(encode_frame(frame, SCHEMA)).tolist() == [[False] * 3, [True, False, False]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"age": "41"}, "column 'age' must be a number or null, not '41'"),
        ({"age": True}, "column 'age' must be a number or null, not True"),
        ({"age": float("nan")}, "column 'age' is nan, not a finite number"),
        ({"age": float("inf")}, "column 'age' is inf"),
        ({"age": 10**400}, "column 'age' is 1000"),
        ({"age": [1]}, "column 'age' must be a number"),
        ({"job": 3}, "column 'job' must be text or null, not 3"),
        ({"job": ["admin."]}, "column 'job' must be text or null"),
        ({"salary": 1}, "column 'salary' is not in the schema"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_by_its_column(change, said):
    with pytest.raises(InvalidFeatures, match=said):
        encode_row(GOOD | change, SCHEMA)


def test_a_row_without_a_column_is_refused():
    with pytest.raises(InvalidFeatures, match="column 'job' is missing"):
        encode_row({"age": 1, "emp.var.rate": 0.5}, SCHEMA)


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("age", ["1", "2"], "row 0: column 'age' must be a number"),
        ("age", [True, False], "row 0: column 'age' must be a number"),
        ("age", [1.0, np.inf], "column 'age', row 1: infinite"),
        ("job", [1, 2], "row 0: column 'job' must be text"),
        ("job", ["admin.", 2], "row 1: column 'job' must be text"),
        ("job", ["admin.", ["x"]], "row 1: column 'job' must be text"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused_by_column_and_row(column, values, said):
    frame = pd.DataFrame({"age": [1, 2], "emp.var.rate": [0.0, 1.0], "job": ["admin.", "student"]})
    frame[column] = values
    with pytest.raises(InvalidFeatures, match=said):
        encode_frame(frame, SCHEMA)


def test_a_frame_without_a_column_is_refused():
    with pytest.raises(InvalidFeatures, match="'job' is missing from the frame"):
        encode_frame(pd.DataFrame({"age": [1], "emp.var.rate": [1.0]}), SCHEMA)


def test_a_schema_survives_json_with_its_digest():
    again = FeatureSchema.from_json(SCHEMA.to_json())
    assert again == SCHEMA
    assert again.digest() == SCHEMA.digest()


def test_the_order_of_categories_changes_the_digest():
    swapped = FeatureSchema(
        (*SCHEMA.columns[:2], FeatureColumn("job", "category", ("retired", "admin.", "student"))), "label"
    )
    assert swapped.digest() != SCHEMA.digest()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format":1,"label":"y","columns":[{"name":"a"}]}', '{"format":9}'])
def test_text_that_is_no_schema_is_refused(text):
    with pytest.raises(InvalidFeatures):
        FeatureSchema.from_json(text)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: FeatureColumn("", "number"), "needs a name"),
        (lambda: FeatureColumn("a", "text"), "kind must be"),
        (lambda: FeatureColumn("a", "number", ("x",)), "cannot have categories"),
        (lambda: FeatureColumn("a", "category"), "at least one category"),
        (lambda: FeatureColumn("a", "category", ("x", "x")), "none twice"),
        (lambda: FeatureSchema((), "y"), "at least one feature column"),
        (lambda: FeatureSchema((FeatureColumn("a", "number"),) * 2, "y"), "twice here: 'a'"),
        (lambda: FeatureSchema((FeatureColumn("a", "number"),), "a"), "label 'a' is among the features"),
    ],
)
def test_a_schema_that_contradicts_itself_is_refused(build, said):
    with pytest.raises(InvalidFeatures, match=said):
        build()


def test_a_schema_is_inferred_without_label_and_leaks():
    frame = pd.DataFrame({"n": [1, 2], "t": ["b", "a"], "late": [0.0, 1.0], "y": [0, 1]})
    schema = infer_schema(frame, label="y", leaks=("late",))
    assert schema == FeatureSchema((FeatureColumn("n", "number"), FeatureColumn("t", "category", ("a", "b"))), "y")


@pytest.mark.parametrize("values", [[True, False], pd.to_datetime(["2009-01-01", "2009-01-02"]), [1, "x"]])
def test_a_column_that_is_neither_numeric_nor_text_is_refused(values):
    with pytest.raises(InvalidFeatures, match="neither numeric nor text"):
        infer_schema(pd.DataFrame({"odd": values, "y": [0, 1]}), label="y")


def test_an_absent_leak_is_refused():
    with pytest.raises(InvalidFeatures, match="'duration' is not in the frame"):
        infer_schema(pd.DataFrame({"a": [1], "y": [0]}), label="y", leaks=("duration",))


def test_no_leak_of_the_shipped_data_becomes_a_feature(bank_frame):
    schema = bank_marketing_schema(bank_frame)
    assert not set(schema.names) & {*BANK_MARKETING_LEAKS, "label"}
    assert len(schema.names) == 19
    assert (
        encode_frame(bank_frame.head(200), schema).tobytes()
        == np.array(
            [encode_row(row, schema) for row in bank_frame.head(200)[list(schema.names)].to_dict("records")]
        ).tobytes()
    )


@pytest.fixture(scope="module")
def bank_frame():
    return pd.read_parquet(files("flows") / "datasets" / "bank_marketing_2008_2010" / "bank_additional_full.parquet")


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        (SCHEMA.columns, None),
        (SCHEMA.columns[:2], "column 'job' is gone"),
        ((*SCHEMA.columns, FeatureColumn("pet", "number")), "column 'pet' is new"),
        ((FeatureColumn("age", "category", ("old", "young")), *SCHEMA.columns[1:]),
         "column 'age' was a number and is a category"),
        ((*SCHEMA.columns[:2], FeatureColumn("job", "category", ("admin.", "pilot", "student"))),
         "column 'job' gained pilot and lost retired"),
        ((*SCHEMA.columns[:2], FeatureColumn("job", "category", ("retired", "admin.", "student"))),
         "column 'job' has its categories in another order"),
        (SCHEMA.columns[::-1], "the columns are in another order"),
    ],
)  # fmt: skip
def test_what_a_client_would_have_to_change_is_told(columns, sentence):
    after = FeatureSchema(tuple(columns), "label")
    assert schema_changes(SCHEMA, after) == (() if sentence is None else (sentence,))
    assert (after.digest() == SCHEMA.digest()) is (sentence is None)


def test_another_label_is_told():
    assert schema_changes(SCHEMA, FeatureSchema(SCHEMA.columns, "y")) == ("the label was 'label' and is 'y'",)
