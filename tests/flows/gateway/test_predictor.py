"""The fast path to LightGBM gives the bits of Booster.predict, from any number of threads."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.gateway.predictor import Calibration, InvalidModel, Predictor

cell = st.floats(allow_nan=True, allow_infinity=False, width=64)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(cell, cell, st.sampled_from([0.0, 1.0, 2.0, math.nan])), min_size=1, max_size=20))
def test_one_row_and_a_batch_are_bit_equal_to_booster_predict(trained, predictor, rows):
    features = np.array(rows)
    expected = trained.second.predict(features)
    assert predictor.predict_many(features).tobytes() == expected.tobytes()
    assert [predictor.predict_one(row) for row in rows] == expected.tolist()


def test_threads_do_not_share_a_buffer(trained, predictor):
    rows = [tuple(row) for row in np.random.default_rng(1).normal(size=(400, 3)).tolist()]
    expected = trained.second.predict(np.array(rows)).tolist()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: [predictor.predict_one(row) for row in rows], range(8)))
    assert all(scores == expected for scores in found)


def test_a_calibration_moves_the_log_odds(trained):
    plain = Predictor(trained.first.model_to_string())
    moved = Predictor(trained.first.model_to_string(), Calibration(0.8, -0.3))
    for row in np.random.default_rng(2).normal(size=(50, 3)).tolist():
        p = plain.predict_one(row)
        expected = 1 / (1 + math.exp(-(0.8 * math.log(p / (1 - p)) - 0.3)))
        assert moved.predict_one(row) == pytest.approx(expected, rel=1e-12)
        assert moved.predict_many(np.array([row]))[0] == moved.predict_one(row)


def test_the_identity_calibration_changes_nothing_but_the_last_place(trained):
    text = trained.first.model_to_string()
    row = [30.0, 0.5, 2.0]
    assert Predictor(text, Calibration(1.0, 0.0)).predict_one(row) == pytest.approx(
        Predictor(text).predict_one(row), rel=1e-15
    )


def test_a_calibrated_probability_of_extreme_odds_does_not_overflow():
    assert Calibration(1.0, 0.0).probability(-1e6) == 0.0
    assert Calibration(1.0, 0.0).probability(1e6) == 1.0


@pytest.mark.parametrize(("slope", "intercept"), [(0.0, 0.0), (-1.0, 0.0), (math.nan, 0.0), (1.0, math.inf)])
def test_a_calibration_that_reverses_or_hides_scores_is_refused(slope, intercept):
    with pytest.raises(InvalidModel, match="slope"):
        Calibration(slope, intercept)


def test_only_a_binary_model_can_be_calibrated(trained):
    text = trained.first.model_to_string().replace("objective=binary sigmoid:1", "objective=regression")
    with pytest.raises(InvalidModel, match="objective 'binary'"):
        Predictor(text, Calibration(1.0, 0.0))


def test_a_text_that_is_no_model_is_refused():
    with pytest.raises(InvalidModel, match="LightGBM refused the model"):
        Predictor("not a model")


def test_the_model_names_its_columns(trained, predictor):
    assert predictor.feature_names == trained.schema.names


def test_a_batch_of_another_width_is_refused(predictor):
    with pytest.raises(InvalidModel, match="reads 3 columns"):
        predictor.predict_many(np.zeros((2, 4)))


@pytest.fixture(scope="module")
def predictor(trained):
    return Predictor(trained.second.model_to_string())
