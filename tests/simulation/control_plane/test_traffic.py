"""The requests of a night: drawn from a forecast, replayed from a trace, scaled without squeezing time."""

import datetime as dt
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.control_plane.night import LEAD_S, TAIL_S
from simulation.control_plane.traffic import Trace, forecast_rates, night_arrivals, scale_trace
from simulation.errors import InvalidScenario
from simulation.scenario import Surge
from simulation.traffic.forecast import Forecast
from tests.simulation.nights import calm_night, play
from tests.simulation.plans import OPENS_AT, flat_forecast

SPAN_S = (-LEAD_S, 3600.0 + TAIL_S)
BEGIN = OPENS_AT - dt.timedelta(seconds=LEAD_S)
END = OPENS_AT + dt.timedelta(seconds=SPAN_S[1])


def unsure_forecast() -> Forecast:
    """Return a forecast between 10 and 30 requests per second."""
    sure = flat_forecast()
    row = np.interp(sure.levels, [0.0, 1.0], [10.0, 30.0])
    return replace(sure, load_rps=np.tile(row, (len(sure.load_rps), 1)))


def drawn(seed: int = 1, surges: tuple[Surge, ...] = (), piece_s: float = 1e9) -> np.ndarray:
    source = night_arrivals(unsure_forecast(), OPENS_AT, SPAN_S, seed, surges)
    ends = [*np.arange(piece_s, 7200.0, piece_s), 7200.0]
    return np.concatenate([source.until(float(end)) for end in ends])


def test_an_uncertain_forecast_makes_nights_differ_as_widely_as_it_says() -> None:
    means = np.array([drawn(seed).size / 7200 for seed in range(30)])
    # Each night has its own level, and all of them stay inside of the outermost quantiles.
    assert means.mean() == pytest.approx(20.0, abs=4 * means.std(ddof=1) / math.sqrt(30))
    assert 2.0 < means.std(ddof=1) < 6.0
    assert 11.0 - 0.2 < means.min() <= means.max() < 29.8 + 0.2


@given(piece_s=st.floats(0.5, 4000.0))
@settings(deadline=None, max_examples=20)
def test_pieces_of_any_length_add_up_to_the_same_night(piece_s: float) -> None:
    surges = (Surge(kind="surge", at_min=20, minutes=7, factor=2.5),)
    whole = drawn(3, surges)
    assert np.array_equal(drawn(3, surges, piece_s), whole)
    assert (np.diff(whole) >= 0).all()


def test_a_surge_adds_requests_and_moves_none() -> None:
    calm, surge = drawn(5), drawn(5, (Surge(kind="surge", at_min=20, minutes=7, factor=2.5),))
    added = np.setdiff1d(surge, calm)
    assert np.isin(calm, surge).all()
    assert LEAD_S + 20 * 60 <= added.min() < added.max() < LEAD_S + 27 * 60
    _, rates = forecast_rates(unsure_forecast(), BEGIN, END, 5)
    during = rates[5]  # 20 minutes after the opening lie in the sixth step of ten minutes
    assert added.size == pytest.approx(1.5 * 420 * during, abs=4 * math.sqrt(1.5 * 420 * 30))


def test_the_path_of_load_keeps_to_its_steps_and_its_quantiles() -> None:
    edges, rates = forecast_rates(unsure_forecast(), BEGIN + dt.timedelta(minutes=3), END, 7)
    assert edges[0] == 0.0
    assert edges[1] == 420.0
    assert (np.diff(edges[1:]) == 600.0).all()
    row = unsure_forecast().load_rps[0]
    assert row[0] <= rates.min() <= rates.max() <= row[-1]


def trace() -> Trace:
    return Trace(BEGIN - dt.timedelta(minutes=5), np.arange(0.0, 9000.0, 0.25), END + dt.timedelta(minutes=5))


def test_a_trace_is_replayed_as_it_was() -> None:
    source = night_arrivals(trace(), OPENS_AT, SPAN_S, 1, ())
    pieces = np.concatenate([source.until(100.0), source.until(100.0), source.until(7200.0)])
    assert np.array_equal(pieces, np.arange(0.0, 7200.0, 0.25))
    night = play(load=trace())
    assert set(night.offered_per_min[:120]) == {240}
    assert night.offered_per_min != calm_night().offered_per_min


def test_a_trace_that_does_not_cover_the_night_or_is_to_be_multiplied_is_refused() -> None:
    with pytest.raises(InvalidScenario, match=r"the trace from .* does not cover the night"):
        play(load=trace(), opens_at=OPENS_AT + dt.timedelta(hours=1))
    with pytest.raises(InvalidScenario, match="replayed as it was; scale it with scale_trace"):
        play({"kind": "surge", "at_min": 1, "minutes": 2, "factor": 2}, load=trace())


@given(st.lists(st.integers(0, 86_399_999), max_size=200), st.integers(0, 4))
@settings(deadline=None)
def test_a_whole_factor_makes_shifted_copies(milliseconds: list[int], copies: int) -> None:
    arrivals = np.sort(np.array(milliseconds, np.float64)) / 1000
    scaled = scale_trace(arrivals, float(copies), 86_400.0, seed=1)
    assert scaled.size == copies * arrivals.size
    assert (np.diff(scaled) >= 0).all()
    if copies == 1:
        assert np.array_equal(scaled, arrivals)


def test_a_broken_factor_keeps_its_share_and_no_gap_is_squeezed() -> None:
    arrivals = np.arange(20_000) * 4.0
    scaled = scale_trace(arrivals, 0.3, 80_000.0, seed=2)
    assert scaled.size == pytest.approx(6000, abs=4 * math.sqrt(20_000 * 0.3 * 0.7))
    assert np.isin(scaled, arrivals).all()  # splitting: what stays, stays where it was
    assert scale_trace(arrivals, 2.3, 80_000.0, seed=2).size == pytest.approx(46_000, abs=4 * math.sqrt(4200))


@pytest.mark.parametrize("factor", [-1.0, math.nan, math.inf])
def test_a_factor_that_is_none_is_refused(factor: float) -> None:
    with pytest.raises(InvalidScenario, match="cannot scale a trace"):
        scale_trace(np.zeros(1), factor, 10.0, seed=1)


def test_a_trace_longer_than_its_period_is_refused() -> None:
    with pytest.raises(InvalidScenario, match="cut the trace to its period"):
        scale_trace(np.array([11.0]), 1.0, 10.0, seed=1)
