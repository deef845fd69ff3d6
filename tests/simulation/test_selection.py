"""The best of many: a plain twin of the procedure, its guarantee over fixed seeds, and refusals."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from simulation import serve_queue
from simulation.errors import InvalidSample
from simulation.selection import Draw, Selection, select_best

Floats = NDArray[np.float64]


def table_of(means: Sequence[float], seed: int, n: int, shared: float = 1.0, own: float = 1.0) -> Floats:
    """Return normal values, shape (k, n): a part that all systems share, and one of their own."""
    rng = np.random.default_rng(seed)
    return np.asarray(np.array(means)[:, None] + shared * rng.normal(size=n) + own * rng.normal(size=(len(means), n)))


def from_table(table: Floats) -> Draw:
    return lambda systems, first, last: table[list(systems), first:last]


# Is it the algorithm?


def twin(table: list[list[float]], delta: float, alpha: float, n0: int) -> tuple[int, list[int]]:
    """Kim and Nelson's steps as printed, larger is better: the winner, and who was in at the end of each round."""
    k = len(table)
    eta = 0.5 * ((2 * alpha / (k - 1)) ** (-2 / (n0 - 1)) - 1)
    h2 = 2 * eta * (n0 - 1)
    s2 = {}
    for i in range(k):
        for j in range(k):
            gaps = [table[i][n] - table[j][n] for n in range(n0)]
            mean = math.fsum(gaps) / n0
            s2[i, j] = math.fsum((gap - mean) ** 2 for gap in gaps) / (n0 - 1)
    last = max(math.floor(h2 * s2[i, j] / delta**2) for i in range(k) for j in range(k) if i != j)
    inside, r, rounds = list(range(k)), n0, []
    while True:
        mean = [math.fsum(row[:r]) / r for row in table]
        if r > last:
            return max(inside, key=lambda i: mean[i]), rounds
        inside = [
            i for i in inside
            if all(mean[i] >= mean[j] - max(0.0, delta / (2 * r) * (h2 * s2[i, j] / delta**2 - r))
                   for j in inside if j != i)
        ]  # fmt: skip
        rounds.append(len(inside))
        if len(inside) == 1:
            return inside[0], rounds
        r += 1


@pytest.mark.parametrize("seed", range(40))
def test_the_choice_and_its_cost_are_those_of_the_printed_procedure(seed: int) -> None:
    table = table_of([0.0, 0.3, 0.1, 0.3 + 0.2 * (seed % 2), -0.4], seed, 3000)
    chosen = select_best(
        from_table(table), 5, indifference=0.25, cap=3000, confidence=0.9, first_n=10, is_larger_better=True
    )
    winner, rounds = twin(table.tolist(), 0.25, 0.1, 10)
    assert chosen.is_decided
    assert chosen.best == winner
    assert max(chosen.replications) == 10 + len(rounds) - 1


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_the_choice_does_not_depend_on_the_batch(batch: int) -> None:
    table = table_of([1.0, 0.5, 0.8], 4, 2000)
    chosen = select_best(from_table(table), 3, indifference=0.1, cap=2000, batch=batch)
    one = select_best(from_table(table), 3, indifference=0.1, cap=2000, batch=1)
    assert repr(chosen) == repr(one)


# Does it obey its definition?


def test_smaller_is_better_unless_said_otherwise_and_the_lead_is_positive() -> None:
    table = table_of([5.0, 3.0, 4.0], 1, 500, own=0.2)
    least = select_best(from_table(table), 3, indifference=0.1, cap=500)
    most = select_best(from_table(-table), 3, indifference=0.1, cap=500, is_larger_better=True)
    assert (least.best, least.survivors) == (1, (1,))
    assert least.confidence == 0.95
    assert least.lead.low > 0
    assert (most.best, most.replications, most.lead) == (least.best, least.replications, least.lead)
    np.testing.assert_allclose(least.means, [5, 3, 4], atol=1.0)


def test_the_runner_up_is_the_one_that_held_out_longest() -> None:
    table = table_of([0.0, 0.5, 5.0], 2, 2000, own=1.0)
    chosen = select_best(from_table(table), 3, indifference=0.3, cap=2000)
    assert (chosen.best, chosen.runner_up) == (0, 1)
    assert chosen.replications[0] == chosen.replications[1] > chosen.replications[2]


def test_of_two_that_fall_together_the_better_one_is_the_runner_up() -> None:
    table = table_of([0.0, 9.0, 5.0, 7.0], 6, 200, own=0.01)
    chosen = select_best(from_table(table), 4, indifference=1.0, cap=200)
    assert chosen.replications == (20, 20, 20, 20)
    assert (chosen.best, chosen.runner_up) == (0, 2)


def test_a_cap_that_comes_first_guarantees_nothing() -> None:
    table = table_of([0.0, 0.0], 3, 50)
    chosen = select_best(from_table(table), 2, indifference=0.01, cap=50)
    assert not chosen.is_decided
    assert math.isnan(chosen.confidence)
    assert set(chosen.survivors) == {0, 1}
    assert chosen.replications == (50, 50)
    assert {chosen.best, chosen.runner_up} == {0, 1}


def test_dropped_systems_are_played_no_further() -> None:
    asked: list[tuple[int, ...]] = []
    table = table_of([0.0, 0.4, 9.0], 5, 3000)

    def draw(systems: Sequence[int], first: int, last: int) -> Floats:
        asked.append(tuple(systems))
        return table[list(systems), first:last]

    select_best(draw, 3, indifference=0.2, cap=3000)
    assert asked[0] == (0, 1, 2)
    assert all(2 not in systems for systems in asked[1:])
    assert len(asked) > 1


def test_equal_systems_end_in_a_choice_and_not_in_a_loop() -> None:
    same = np.tile(np.random.default_rng(1).normal(size=40), (3, 1))
    chosen = select_best(from_table(same), 3, indifference=0.5, cap=40)
    assert chosen.is_decided
    assert chosen.lead.value == 0.0


def test_common_random_numbers_make_the_choice_cheaper() -> None:
    means = [0.0, 0.3, 0.3]
    together = [select_best(from_table(table_of(means, s, 9000, 1.0, 0.3)), 3, indifference=0.2, cap=9000)
                for s in range(20)]  # fmt: skip
    apart = [select_best(from_table(table_of(means, s, 9000, 0.0, 1.044)), 3, indifference=0.2, cap=9000)
             for s in range(20)]  # fmt: skip
    assert 4 * sum(sum(c.replications) for c in together) < sum(sum(c.replications) for c in apart)


# Is it true?


def times_right(choices: list[Selection], best: int) -> int:
    assert all(choice.is_decided for choice in choices)
    return sum(choice.best == best for choice in choices)


@pytest.mark.parametrize(("shared", "own"), [(0.0, 1.0), (1.0, 1.0), (3.0, 0.5)])
def test_the_best_is_chosen_as_often_as_promised_at_the_hardest_means(shared: float, own: float) -> None:
    """All others trail by exactly the indifference; 300 contests with fixed seeds."""
    means = [0.0] + [0.5] * 4
    choices = [
        select_best(from_table(table_of(means, seed, 4000, shared, own)), 5, indifference=0.5, cap=4000,
                    confidence=0.9, first_n=10, batch=50)
        for seed in range(300)
    ]  # fmt: skip
    # Fewer than this many of 300 have a chance under 1e-4 if the promise of 90 % is kept.
    assert times_right(choices, 0) >= stats.binom.ppf(1e-4, 300, 0.9)


@pytest.mark.theory
def test_the_best_queue_is_chosen_under_common_random_numbers() -> None:
    """Mean wait of 200 requests; services 3 % and 6 % slower; 200 contests over the exact queue."""
    factors = (1.06, 1.0, 1.03)

    def contest(seed: int) -> Draw:
        def night(r: int) -> tuple[Floats, Floats]:
            rng = np.random.default_rng([seed, r])
            return np.cumsum(rng.exponential(1 / 1.6, 200)), rng.exponential(1.0, 200)

        def draw(systems: Sequence[int], first: int, last: int) -> Floats:
            nights = [night(r) for r in range(first, last)]
            return np.array([[serve_queue(a, factors[i] * s, 2).waits_s.mean() for a, s in nights] for i in systems])

        return draw

    choices = [select_best(contest(seed), 3, indifference=0.04, cap=2000, first_n=20) for seed in range(200)]
    assert times_right(choices, 1) >= stats.binom.ppf(1e-4, 200, 0.95)


# Does it refuse well?


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_systems": 1}, "n_systems: 1 must be 2 or more"),
        ({"indifference": 0.0}, "indifference: 0 must be over 0"),
        ({"first_n": 2}, "first_n: 2 must be 3 or more"),
        ({"cap": 19}, r"cap: 19 must be first_n \(20\) or more"),
        ({"batch": 0}, "batch: 0 must be 1 or more"),
        ({"confidence": 1.0}, "confidence: 1 must lie between 0 and 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, float], message: str) -> None:
    settings = {"n_systems": 2, "indifference": 0.1, "cap": 50} | changes
    with pytest.raises(InvalidSample, match=message):
        select_best(from_table(np.zeros((2, 50))), **settings)


@pytest.mark.parametrize("table", [np.full((2, 50), np.nan), np.zeros((2, 10))])
def test_values_that_are_missing_or_unknown_are_refused(table: Floats) -> None:
    with pytest.raises(InvalidSample, match="must return 2 × 20 finite values"):
        select_best(from_table(table), 2, indifference=0.1, cap=50)
