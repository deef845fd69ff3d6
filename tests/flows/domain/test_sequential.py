"""Statistics for any number of looks: equal to their integrals, honest by enumeration, and laws of their bounds."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from flows.domain.sequential import (
    Discordances,
    Scores,
    Shares,
    Split,
    add_discordances,
    add_scores,
    add_shares,
    discordant_log_evidence,
    mean_bounds,
    mean_difference,
    means_log_evidence,
    paired_difference,
    scores_log_evidence,
    share_bounds,
    share_difference,
    shares_log_evidence,
    split_log_evidence,
    split_p_value,
)
from simulation.errors import InvalidSample

STEP = 2 / 32**4  # how finely bounds are searched
SIZES = st.integers(0, 400)


def counts(n: int = 400) -> st.SearchStrategy[tuple[int, int]]:
    """Requests of a slot and how many of them failed."""
    return st.integers(0, n).flatmap(lambda taken: st.tuples(st.just(taken), st.integers(0, taken)))


# Closed forms and integrals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("green", "blue"), [((10, 4), (90, 3)), ((5, 5), (5, 0)), ((300, 9), (300, 2))])
def test_the_evidence_on_shares_is_the_mixed_likelihood_over_the_pooled_one(
    green: tuple[int, int], blue: tuple[int, int]
) -> None:
    def mixed(n: int, failed: int) -> float:
        def likelihood(p: float) -> float:
            prior = 0.8 * stats.beta.pdf(p, 1, 99) + 0.2 * stats.beta.pdf(p, 0.5, 1)
            return float(prior * p**failed * (1 - p) ** (n - failed))

        return float(integrate.quad(likelihood, 0, 1, points=[1e-4, 0.01, 0.1], limit=400, epsabs=0)[0])

    p = (green[1] + blue[1]) / (green[0] + blue[0])
    failed, taken = green[1] + blue[1], green[0] + blue[0]
    null = failed * math.log(p) + (taken - failed) * math.log1p(-p)
    expected = math.log(mixed(*green)) + math.log(mixed(*blue)) - null
    assert float(shares_log_evidence(*green, *blue)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("n", "total", "surprise", "limit"), [(50, 30.0, 4.0, 0.5), (50, 20.0, 4.0, 0.5), (9, 9, 0, 0)]
)
def test_the_evidence_on_scores_is_the_mixture_of_empirical_bernstein_bounds(
    n: int, total: float, surprise: float, limit: float
) -> None:
    excess = total - n * limit

    def bound(slope: float) -> float:
        weight = (1 - slope) ** 9.0 * math.exp(-10.0 * (1 - slope))
        return weight * math.exp(slope * excess - surprise * (-math.log1p(-slope) - slope))

    whole = integrate.quad(lambda s: (1 - s) ** 9.0 * math.exp(-10.0 * (1 - s)), 0, 1)[0]
    expected = math.log(integrate.quad(bound, 0, 1)[0] / whole)
    assert float(scores_log_evidence(n, total, surprise, limit)) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("excess", [-1e3, -200.0, -60.0])
def test_where_the_integral_of_scores_is_out_of_reach_the_evidence_is_never_overstated(excess: float) -> None:
    def bound(slope: float) -> float:
        return (1 - slope) ** 9.0 * math.exp(-10.0 * (1 - slope) + slope * excess + 50.0 * (math.log1p(-slope) + slope))

    whole = integrate.quad(lambda s: (1 - s) ** 9.0 * math.exp(-10.0 * (1 - s)), 0, 1)[0]
    exact = math.log(integrate.quad(bound, 0, 1, points=[1e-3, 1e-2], epsabs=0)[0] / whole)
    found = float(scores_log_evidence(1000, 500.0 + excess, 50.0, 0.5))
    assert -math.inf < found <= exact + 1e-6


def test_the_evidence_on_a_split_by_hand() -> None:
    expected = special.betaln(60, 60) - special.betaln(50, 50) - 20 * math.log(0.5)
    assert float(split_log_evidence(0.5, 10, 10)) == pytest.approx(expected)
    assert split_p_value(()) == 1.0


def test_pairs_of_which_only_one_fails_are_held_against_their_even_split() -> None:
    found = float(discordant_log_evidence(12, 5, 1))
    # A Dirichlet prior of weights 1, 1, 98: Gamma(100) / Gamma(98) over Gamma(112) / (Gamma(6) Gamma(2) Gamma(104)).
    mixture = special.gammaln([6, 2, 104, 100]).sum() - special.gammaln([112, 98]).sum()
    assert found == pytest.approx(mixture - (6 * math.log(0.25) + 6 * math.log(0.5)))


@pytest.mark.parametrize("margin", [1e-7, -1e-7])
def test_the_null_at_nought_is_the_limit_of_the_null_beside_it(margin: float) -> None:
    assert shares_log_evidence(100, 9, 100, 2, margin) == pytest.approx(shares_log_evidence(100, 9, 100, 2), abs=1e-5)
    assert discordant_log_evidence(100, 9, 2, margin) == pytest.approx(discordant_log_evidence(100, 9, 2), abs=1e-5)


# Honesty, exactly ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_no_sequence_of_looks_refutes_a_truth_more_often_than_alpha_by_enumeration(p: float, margin: float) -> None:
    # All 2^12 outcomes of 12 requests, slots in turn; green worse by exactly the margin; a look after each request.
    alpha, n = 0.2, 12
    outcomes = np.array(list(itertools.product((0, 1), repeat=n)))
    is_green = np.arange(n) % 2 == 0
    share = np.where(is_green, p + margin, p)
    chances = np.prod(np.where(outcomes == 1, share, 1 - share), axis=1)
    assert chances.sum() == pytest.approx(1.0)
    green, blue = np.cumsum(is_green), np.cumsum(~is_green)
    failed = [np.cumsum(outcomes * mask, axis=1) for mask in (is_green, ~is_green)]
    evidence = shares_log_evidence(green, failed[0], blue, failed[1], margin)
    assert chances[(evidence >= math.log(1 / alpha)).any(axis=1)].sum() <= alpha
    assert chances @ np.exp(evidence[:, -1]) <= 1 + 1e-9


@pytest.mark.parametrize("low", [0.1, 0.5])
def test_no_sequence_of_looks_refutes_a_true_mean_more_often_than_alpha_by_enumeration(low: float) -> None:
    # Scores are 1 with chance 0.3 and `low` otherwise, fourteen in a row, a batch of one each.
    alpha, n, share = 0.2, 14, 0.3
    outcomes = np.array(list(itertools.product((0, 1), repeat=n)))
    chances = np.prod(np.where(outcomes == 1, share, 1 - share), axis=1)
    scores = np.where(outcomes == 1, 1.0, low)
    total, size = np.cumsum(scores, axis=1), np.arange(1, n + 1)
    guess = np.concatenate([np.full((len(outcomes), 1), 0.5), (total / size)[:, :-1]], axis=1)
    surprise = np.cumsum((scores - guess) ** 2, axis=1)
    evidence = scores_log_evidence(size, total, surprise, share + (1 - share) * low)
    assert chances[(evidence >= math.log(1 / alpha)).any(axis=1)].sum() <= alpha
    assert chances @ np.exp(evidence[:, -1]) <= 1 + 1e-9


@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_a_split_as_it_was_set_is_refuted_no_more_often_than_alpha_by_enumeration(ratio: float) -> None:
    outcomes = np.array(list(itertools.product((0, 1), repeat=14)))
    chances = np.prod(np.where(outcomes == 1, ratio, 1 - ratio), axis=1)
    green = outcomes.sum(axis=1)
    assert chances @ np.exp(split_log_evidence(ratio, green, 14 - green)) == pytest.approx(1.0)


# Laws ------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(counts(), counts(), st.sampled_from([0.01, 0.05, 0.2]))
def test_bounds_hold_the_value_and_slots_swapped_change_the_sign(
    green: tuple[int, int], blue: tuple[int, int], alpha: float
) -> None:
    found = share_difference(Shares(*green, *blue), alpha)
    other = share_difference(Shares(*blue, *green), alpha)
    assert (other.low, other.high) == pytest.approx((-found.high, -found.low), abs=STEP)
    assert -1 <= found.low <= found.high <= 1
    if green[0] and blue[0]:
        assert found.low <= found.value <= found.high
    else:
        assert (found.low, found.high) == (-1, 1)


@settings(deadline=None, max_examples=20)
@given(counts(), counts())
def test_less_risk_gives_wider_bounds(green: tuple[int, int], blue: tuple[int, int]) -> None:
    shares = Shares(*green, *blue)
    wide, narrow = share_difference(shares, 0.01), share_difference(shares, 0.1)
    assert wide.low <= narrow.low
    assert narrow.high <= wide.high
    own = share_bounds(*green, 0.01), share_bounds(*green, 0.1)
    assert own[0].low <= own[1].low
    assert own[1].high <= own[0].high


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(counts(50), counts(50)), max_size=6))
def test_evidence_on_shares_is_the_same_whatever_the_batches(
    batches: list[tuple[tuple[int, int], tuple[int, int]]],
) -> None:
    state = Shares()
    for green, blue in batches:
        state = add_shares(state, green=green[0], green_failed=green[1], blue=blue[0], blue_failed=blue[1])
    assert state.green == sum(green[0] for green, _ in batches)
    assert state.blue_failed == sum(blue[1] for _, blue in batches)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.floats(0, 1), max_size=60), st.lists(st.floats(0, 1), max_size=60))
def test_a_difference_of_means_lies_inside_its_bounds_and_changes_its_sign(one: list[float], two: list[float]) -> None:
    a, b = (of(scores) for scores in (one, two))
    found, other = mean_difference(a, b, 0.05), mean_difference(b, a, 0.05)
    assert (other.low, other.high) == pytest.approx((-found.high, -found.low), abs=STEP)
    assert found.low <= found.value <= found.high
    assert mean_bounds(a, 0.05).low <= a.mean <= mean_bounds(a, 0.05).high


def of(scores: list[float]) -> Scores:
    """Return the state after scores that came one by one."""
    state = Scores()
    for score in scores:
        state = add_scores(state, n=1, total=score, squares=score**2)
    return state


def test_a_constant_score_is_known_faster_than_a_varying_one() -> None:
    calm, wild = of([0.5] * 200), of([0.0, 1.0] * 100)
    assert mean_bounds(calm, 0.05).half_width < 0.5 * mean_bounds(wild, 0.05).half_width


def test_means_of_both_slots_are_judged_together_and_not_by_two_intervals() -> None:
    rng = np.random.default_rng(2)
    a, b = (of(list(rng.beta(2, 3, 600))) for _ in range(2))
    apart = mean_bounds(a, 0.025).high - mean_bounds(b, 0.025).low
    assert mean_difference(a, b, 0.05).high < apart
    assert float(means_log_evidence(a.n, a.total, a.surprise, b.n, b.total, b.surprise)) < math.log(20)


def test_more_requests_of_the_same_shares_give_narrower_bounds() -> None:
    widths = [share_difference(Shares(n, n // 50, n, n // 100), 0.05).half_width for n in (100, 1000, 10_000)]
    assert widths == sorted(widths, reverse=True)
    paired = [paired_difference(Discordances(n, n // 100, n // 100), 0.05).half_width for n in (100, 1000, 10_000)]
    assert paired == sorted(paired, reverse=True)


def test_the_same_requests_given_to_both_models_decide_faster_than_different_ones() -> None:
    both = paired_difference(Discordances(10_000, 20, 20), 0.05).half_width
    assert both < 0.7 * share_difference(Shares(10_000, 100, 10_000, 100), 0.05).half_width


def test_a_doubled_share_and_a_crooked_split_are_found_and_equal_ones_are_not() -> None:
    assert share_difference(Shares(5000, 100, 5000, 50), 0.05).low > 0
    assert share_difference(Shares(5000, 50, 5000, 50), 0.05).low < 0
    assert paired_difference(Discordances(5000, 60, 20), 0.05).low > 0
    assert split_p_value((Split(0.1, 160, 840),)) < 0.001
    assert split_p_value((Split(0.1, 100, 900), Split(0.5, 500, 500))) == 1.0


def test_discordances_add_up() -> None:
    state = add_discordances(add_discordances(Discordances(), n=5, only_green=2), n=3, only_blue=1)
    assert state == Discordances(8, 2, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Shares(1, 2, 0, 0), "failed requests must lie"),
        (lambda: add_shares(Shares(5, 5), green=1, green_failed=2), "failed requests must lie"),
        (lambda: Discordances(1, 1, 1), "discordant requests must lie"),
        (lambda: Split(0.0, 1, 1), "a share between 0 and 1"),
        (lambda: Split(0.5, -1, 1), "counts of 0 or more"),
        (lambda: add_scores(Scores(), n=2, total=3.0, squares=1.0), "do not lie between 0 and 1"),
        (lambda: add_scores(Scores(), n=2, total=1.0, squares=0.1), "do not lie between 0 and 1"),
        (lambda: share_difference(Shares(), 1.0), "alpha is 1"),
    ],
)
def test_impossible_evidence_is_refused(make: object, message: str) -> None:
    with pytest.raises(InvalidSample, match=message):
        make()  # type: ignore[operator]  # each row is a call
