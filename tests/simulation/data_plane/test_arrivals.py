"""Arrivals: are they the algorithm, do they obey the definition, are they Poisson, do they refuse well?"""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.data_plane.arrivals import MergedArrivals, PoissonArrivals
from simulation.errors import InvalidWorkload
from simulation.randomness import Purpose, exponentials
from tests.simulation.reference_arrivals import poisson

quick = settings(deadline=None, max_examples=150)


@dataclass(frozen=True)
class Day:
    """Steps of a rate, and whose day it is."""

    edges_s: list[float]
    rates_rps: list[float]
    seed: int
    stream: int
    kept: tuple[float, float]

    def arrivals(self) -> PoissonArrivals:
        return PoissonArrivals(self.edges_s, self.rates_rps, self.seed, self.stream, kept=self.kept)

    def expected(self) -> list[float]:
        return list(poisson(self.edges_s, self.rates_rps, self.seed, self.stream, self.kept))


@st.composite
def days(draw: st.DrawFn) -> Day:
    """A day of up to six steps, quiet and busy ones and some at 0; now and then with a part of the stream only."""
    lengths = draw(st.lists(st.sampled_from([2.0**-20, 0.125, 0.3, 1.0, 7.7]), min_size=1, max_size=6))
    edges = np.cumsum([draw(st.sampled_from([0.0, 0.7, 1e5])), *lengths]).tolist()
    rates = [draw(st.sampled_from([0.0, 1e-3, 0.9, 40.0, 300.0])) for _ in lengths]
    kept = draw(st.sampled_from([(0.0, 1.0), (0.0, 1.0), (0.0, 0.3), (0.3, 1.0), (0.5, 0.5)]))
    return Day(edges, rates, draw(st.integers(0, 2**63 - 1)), draw(st.integers(0, 2**32 - 1)), kept)


# Are they the algorithm?


@quick
@given(days())
def test_the_compiled_arrivals_equal_the_plain_ones_bit_for_bit(day):
    assert day.arrivals().take(20_000).tolist() == day.expected()


@quick
@given(days(), st.lists(st.tuples(st.integers(0, 700), st.floats(0.0, 20.0)), max_size=8))
def test_pieces_of_any_size_up_to_any_moment_are_the_same_arrivals(day, pieces):
    arrivals, got = day.arrivals(), []
    for max_n, until_s in pieces:
        until_s += day.edges_s[0]
        due = sum(arrival_s < until_s for arrival_s in day.expected())
        piece = arrivals.take(max_n, until_s).tolist()
        assert len(piece) <= max_n
        assert all(arrival_s < until_s for arrival_s in piece)
        assert len(piece) == max_n or len(got) + len(piece) == max(len(got), due)
        got += piece
    assert got + arrivals.take(20_000).tolist() == day.expected()


# Do they obey the definition?


@quick
@given(days())
def test_arrivals_come_in_order_inside_the_steps_and_never_at_rate_0(day):
    arrivals = day.arrivals().take(20_000)
    assert (np.diff(arrivals) >= 0.0).all()
    steps = np.searchsorted(day.edges_s, arrivals, side="right") - 1
    assert ((steps >= 0) & (steps < len(day.rates_rps))).all()
    assert (np.array(day.rates_rps)[steps] > 0.0).all()


@quick
@given(days(), st.integers(1, 5))
def test_a_rate_twice_as_high_squeezes_the_same_arrivals_into_half_the_time(day, power):
    factor = 2.0**power
    edges = np.array(day.edges_s) - day.edges_s[0]
    plain = PoissonArrivals(edges, day.rates_rps, day.seed, day.stream).take(20_000)
    busier = PoissonArrivals(edges / factor, np.array(day.rates_rps) * factor, day.seed, day.stream).take(20_000)
    np.testing.assert_array_equal(busier * factor, plain)


@quick
@given(days(), st.floats(0.0, 1.0))
def test_the_parts_of_a_stream_share_out_its_very_arrivals(day, cut):
    whole = PoissonArrivals(day.edges_s, day.rates_rps, day.seed).take(20_000)
    parts = [
        PoissonArrivals(day.edges_s, day.rates_rps, day.seed, kept=kept).take(20_000)
        for kept in ((0.0, cut), (cut, 1.0))
    ]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), whole)


@quick
@given(st.lists(days(), min_size=1, max_size=4), st.lists(st.tuples(st.integers(0, 9000), st.floats(0.0, 30.0))))
def test_merged_streams_are_all_arrivals_of_all_streams_in_order(some, pieces):
    merged, got = MergedArrivals([day.arrivals() for day in some]), []
    expected = np.sort(np.concatenate([day.arrivals().take(20_000) for day in some]))
    for max_n, until_s in pieces:
        piece = merged.take(max_n, until_s)
        assert (piece < until_s).all()
        due = int(np.searchsorted(expected, until_s))
        assert piece.size == max_n or len(got) + piece.size == max(len(got), due)
        got += piece.tolist()
    np.testing.assert_array_equal(np.concatenate([got, merged.take(80_000)]), expected)


def test_a_merge_draws_on_beyond_what_it_holds_ahead():
    def streams():
        return [PoissonArrivals([0.0, 9.0], [rate], 3, stream) for stream, rate in enumerate((3000.0, 10.0, 1500.0))]

    expected = np.sort(np.concatenate([stream.take(100_000) for stream in streams()]))
    assert expected.size > 3 * 4096
    np.testing.assert_array_equal(MergedArrivals(streams()).take(100_000), expected)


# Are they Poisson?

N_DAYS = 4000
EDGES_S, RATES_RPS = [0.0, 1.0, 1.5, 3.0, 3.25, 5.0], [8.0, 0.0, 2.0, 40.0, 0.4]
MEANS = np.diff(EDGES_S) * RATES_RPS


def counts_by_step(stream: int = 0, kept: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """Return the arrivals in each step, shape (days, steps)."""
    one_each = [PoissonArrivals(EDGES_S, RATES_RPS, seed, stream, kept=kept).take(1000) for seed in range(N_DAYS)]
    return np.array([np.histogram(arrivals, EDGES_S)[0] for arrivals in one_each])


@pytest.mark.theory
def test_the_counts_of_each_step_are_poisson_and_independent_of_the_others():
    counts, busy = counts_by_step(), MEANS > 0.0
    assert (counts[:, ~busy] == 0).all()
    counts, means = counts[:, busy], MEANS[busy]
    mean_errors = (counts.mean(axis=0) - means) / np.sqrt(means / N_DAYS)
    # The variance of the sample variance of n Poisson counts is (2 m² n / (n - 1) + m) / n.
    spreads = np.sqrt((2.0 * means**2 * N_DAYS / (N_DAYS - 1) + means) / N_DAYS)
    variance_errors = (counts.var(axis=0, ddof=1) - means) / spreads
    assert np.abs(mean_errors).max() < 4.0
    assert np.abs(variance_errors).max() < 4.0
    between = np.corrcoef(counts.T)[np.triu_indices(means.size, 1)]
    assert np.abs(between).max() < 4.0 / math.sqrt(N_DAYS)


@pytest.mark.theory
def test_streams_and_parts_of_a_stream_are_independent_and_have_their_shares():
    base, surge = counts_by_step(), counts_by_step(stream=1)
    few, many = counts_by_step(kept=(0.0, 0.25)), counts_by_step(kept=(0.25, 1.0))
    np.testing.assert_array_equal(few + many, base)
    mean = float(MEANS.sum())
    for counts, share in ((surge, 1.0), (few, 0.25), (many, 0.75)):
        assert abs(counts.sum(axis=1).mean() - share * mean) < 4.0 * math.sqrt(share * mean / N_DAYS)
    for one, other in ((base, surge), (few, many)):
        assert abs(np.corrcoef(one.sum(axis=1), other.sum(axis=1))[0, 1]) < 4.0 / math.sqrt(N_DAYS)


@pytest.mark.theory
def test_within_a_step_arrivals_lie_evenly_and_right_after_a_change_too():
    together = np.concatenate([PoissonArrivals(EDGES_S, RATES_RPS, seed).take(1000) for seed in range(N_DAYS)])
    for begin, end in ((0.0, 1.0), (1.5, 3.0), (3.0, 3.25), (3.25, 5.0)):
        places = np.sort((together[(together >= begin) & (together < end)] - begin) / (end - begin))
        n = places.size
        furthest = np.abs(places - (np.arange(n) + 0.5) / n).max() + 0.5 / n
        assert furthest < 1.95 / math.sqrt(n)  # Kolmogorov at 99.9 %


@pytest.mark.theory
def test_an_endless_pool_under_a_daily_wave_holds_as_many_as_theory_says():
    hours = np.linspace(0.0, 48.0, 961)
    turn = 2.0 * math.pi / 24.0
    rates = 100.0 - 40.0 * np.diff(np.cos(turn * hours)) / np.diff(turn * hours)
    n_nights, moments = 1000, np.array([24.0, 30.0, 42.0])
    inside = np.zeros((n_nights, 3))
    for seed in range(n_nights):
        arrivals = PoissonArrivals(hours, rates, seed).take(10_000)
        leaves = arrivals + exponentials(seed, np.arange(arrivals.size), 0, Purpose.SERVICE) / 2.0
        inside[seed] = ((arrivals[:, None] < moments) & (moments < leaves[:, None])).sum(axis=0)
    expected = np.array([47.42610905, 69.66307846, 30.33692154])
    assert (np.abs(inside.mean(axis=0) - expected) < 4.0 * np.sqrt(expected / n_nights)).all()


# Do they refuse well?


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([0.0, 1.0], [1.0, 2.0], 1), r"edges_s has shape \(2,\) for rates_rps of \(2,\); give n \+ 1 edges for n"),
        (([0.0], [], 1), "give n . 1 edges for n"),
        ((["x", 1.0], [1.0], 1), "must be real numbers"),
        (([-1.0, 1.0], [1.0], 1), r"edges_s\[0\] is -1.0; give seconds from 0 on"),
        (([0.0, 2.0, 2.0], [1.0, 1.0], 1), r"edges_s\[2\] is 2.0 after 2.0; edges are finite and increase"),
        (([0.0, math.inf], [1.0], 1), r"edges_s\[1\] is inf"),
        (([0.0, 1.0], [-0.5], 1), r"rates_rps\[0\] is -0.5; give a finite number from 0 on"),
        (([0.0, 1.0], [math.nan], 1), r"rates_rps\[0\] is nan"),
        (([0.0, 1.0], [1.0], -1), "seed -1 is not a whole number"),
        (([0.0, 1.0], [1.0], 1, 2**32), "stream is 4294967296; give a whole number"),
        (([0.0, 1.0], [1.0], 1, 0.5), "stream is 0.5"),
    ],
)
def test_a_wrong_stream_is_refused_by_a_sentence(arguments, sentence):
    with pytest.raises(InvalidWorkload, match=sentence):
        PoissonArrivals(*arguments)


@pytest.mark.parametrize("kept", [(0.5, 0.2), (-0.1, 1.0), (0.0, 1.1), (math.nan, 1.0)])
def test_a_part_that_is_none_is_refused(kept):
    with pytest.raises(InvalidWorkload, match="give two shares from 0 to 1"):
        PoissonArrivals([0.0, 1.0], [1.0], 1, kept=kept)


def test_a_wrong_piece_and_a_merge_of_nothing_are_refused():
    arrivals = PoissonArrivals([0.0, 1.0], [1.0], 1)
    for source in (arrivals, MergedArrivals([arrivals])):
        with pytest.raises(InvalidWorkload, match="max_n is -1; give a count from 0 on"):
            source.take(-1)
        with pytest.raises(InvalidWorkload, match="until_s is NaN"):
            source.take(1, math.nan)
    with pytest.raises(InvalidWorkload, match="give at least one stream"):
        MergedArrivals([])
