"""The drift report's tests: against a plain twin and scipy, against what they are by definition, and on real shifts."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flows.domain import drift
from flows.domain.drift import N_SCALING, Feature, InvalidDriftSample, Shifts, deal_rows, find_shifts

N_RANKED = 99


def numbers(name: str, reference: Any, current: Any) -> Feature:
    return Feature(name, "number", np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64))


def categories(name: str, reference: Any, current: Any) -> Feature:
    return Feature(name, "category", np.array(list(reference), dtype=object), np.array(list(current), dtype=object))


def shifts(features: list[Feature], seed: int = 1, n_ranked: int = N_RANKED) -> Shifts:
    rng = np.random.default_rng(seed)
    return find_shifts(features, deal_rows(rng, features[0].reference.size, features[0].current.size, n_ranked))


def world(rng: np.random.Generator, m: int, n: int) -> list[Feature]:
    """Return columns of one world: numbers, rounded numbers, numbers with gaps, and categories that hang together."""
    common = rng.normal(size=m + n)
    gaps = np.where(rng.random(m + n) < 0.1, np.nan, common + rng.normal(size=m + n))
    job = np.where(common > 0.5, "clerk", np.where(rng.random(m + n) < 0.3, "nurse", "cook")).astype(object)
    job[rng.random(m + n) < 0.05] = None
    whole = [("plain", common), ("rounded", np.round(common)), ("gaps", gaps)]
    return [numbers(name, v[:m], v[m:]) for name, v in whole] + [categories("job", job[:m], job[m:])]


# Is it the algorithm? ----------------------------------------------------------------------------------------------


def twin_parts(kind: str, reference: list[Any], current: list[Any]) -> tuple[float, float, float]:
    """Shape, missing and novel of one column, straight from their definitions."""
    here, there = ([v for v in side if v is not None and v == v] for side in (reference, current))
    n, m = len(current), len(reference)
    expected = (n - len(there) + m - len(here)) * n / (n + m)
    missing = (n - len(there) - expected) ** 2
    if kind == "number":
        shape = 0.0
        if here and there:
            gap = max(abs(sum(v <= x for v in there) / len(there) - sum(v <= x for v in here) / len(here))
                      for x in here + there)  # fmt: skip
            shape = gap**2 * len(here) * len(there) / (len(here) + len(there))
        novel = sum(not here or v < min(here) or v > max(here) for v in there)
    else:
        every = {*here, *there, None}
        shape = 0.0
        for v in every:
            both = sum(x == v for x in reference + current)
            if both:
                shape += (sum(x == v for x in current) - both * n / (n + m)) ** 2 / both
        novel = sum(v not in here for v in there)
    return shape, missing, float(novel)


def twin_p_values(features: list[Feature], dealings: list[list[int]]) -> list[float]:
    """Family-wise p-values by the book: closed by successive maxima, one dealing after the other."""
    m = features[0].reference.size
    rows = [[*f.reference.tolist(), *f.current.tolist()] for f in features]
    n = len(rows[0]) - m

    def statistics(current: set[int]) -> list[float]:
        found: list[float] = []
        for feature, values in zip(features, rows, strict=True):
            inside = [v for i, v in enumerate(values) if i in current]
            outside = [v for i, v in enumerate(values) if i not in current]
            found += twin_parts(feature.kind, outside, inside)
        return found

    everything = set(range(m + n))
    dealt = [statistics(set(d) if n <= m else everything - set(d)) for d in dealings]
    scale, ranked = dealt[:N_SCALING], dealt[N_SCALING:]

    def surprise(values: list[float]) -> list[float]:
        told = []
        for j, x in enumerate(values):
            column = [row[j] for row in scale]
            prior = 1 / len(scale) if j % 3 == 2 else 0.0
            mean = max(sum(column) / len(column) + prior, 1e-12)
            variance = max(sum((v - sum(column) / len(column)) ** 2 for v in column) / len(column) + prior, 1e-12)
            told.append(-float(stats.gamma.logsf(x, mean**2 / variance, scale=variance / mean)))
        return told

    seen, others = surprise(statistics(set(range(m, m + n)))), [surprise(row) for row in ranked]
    order = sorted(range(len(seen)), key=lambda j: -seen[j])
    p, before = [0.0] * len(seen), 0.0
    for place, j in enumerate(order):
        as_far = sum(max(row[k] for k in order[place:]) >= seen[j] * (1 - 1e-9) for row in others)
        before = max(before, (1 + as_far) / (1 + len(others)))
        p[j] = before
    return [min(p[3 * i : 3 * i + 3]) for i in range(len(features))]


@pytest.mark.parametrize(("m", "n", "seed"), [(40, 25, 1), (20, 35, 2), (30, 1, 3), (1, 30, 4)])
def test_p_values_are_those_of_the_plain_twin(m: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = world(rng, m, n)
    moved = features[0]
    features[0] = numbers(moved.name, moved.reference, moved.current + 0.8)
    dealings = list(deal_rows(rng, m, n, 60))
    found = find_shifts(features, dealings)
    assert [c.p_value for c in found.columns] == twin_p_values(features, [d.tolist() for d in dealings])


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=25)
def test_the_distance_of_numbers_is_scipy_s(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference, current = np.round(rng.normal(size=80), 1), np.round(rng.normal(0.3, 1, 50), 1)
    found = shifts([numbers("x", reference, current)], n_ranked=19).columns[0].distance
    assert found == pytest.approx(stats.ks_2samp(reference, current).statistic, abs=1e-12)


def test_quantile_cells_lose_at_most_a_cell_of_the_distance() -> None:
    rng = np.random.default_rng(5)
    reference, current = rng.normal(size=4000), rng.normal(0.1, 1, 3000)
    found = shifts([numbers("x", reference, current)], n_ranked=19).columns[0].distance
    exact = stats.ks_2samp(reference, current).statistic
    assert exact - 7000 / 255 / 3000 <= found <= exact + 1e-12


def test_the_shape_of_categories_is_scipy_s_chi_square() -> None:
    rng = np.random.default_rng(6)
    reference, current = rng.choice(list("abc"), 70), rng.choice(list("abc"), 40, p=[0.5, 0.3, 0.2])
    table = [[np.sum(side == v) for v in "abc"] for side in (reference, current)]
    cells = drift._cells(categories("x", reference, current))
    shape = drift._statistics(drift._counts([cells], [np.arange(70, 110)]), [cells], 40)[0, 0]
    n, m = 40, 70
    chi_square = shape * (n + m) ** 2 / (n * m)
    assert chi_square == pytest.approx(stats.chi2_contingency(table, correction=False).statistic, rel=1e-12)


# Does it obey its definition? --------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1, 60))
@settings(deadline=None, max_examples=25)
def test_identical_sets_never_alarm(seed: int, n: int) -> None:
    features = [Feature(f.name, f.kind, f.current, f.current) for f in world(np.random.default_rng(seed), 1, n)]
    found = shifts(features, n_ranked=19)
    assert [c.p_value for c in found.columns] == [1.0] * 4
    assert all(c.distance == 0 and c.novel == 0 for c in found.columns)


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=15)
def test_the_order_of_rows_inside_a_set_moves_no_distance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = world(rng, 50, 30)
    there, here = rng.permutation(50), rng.permutation(30)
    mixed = [Feature(f.name, f.kind, f.reference[there], f.current[here]) for f in features]
    for a, b in zip(shifts(features, n_ranked=19).columns, shifts(mixed, n_ranked=19).columns, strict=True):
        assert (a.distance, a.missing_current, a.novel) == (b.distance, b.missing_current, b.novel)


@given(st.integers(0, 10_000), st.permutations(range(4)))
@settings(deadline=None, max_examples=15)
def test_the_order_of_columns_changes_no_p_value(seed: int, order: list[int]) -> None:
    features = world(np.random.default_rng(seed), 50, 30)
    straight = {c.name: c.p_value for c in shifts(features).columns}
    assert {c.name: c.p_value for c in shifts([features[i] for i in order]).columns} == straight


def test_an_increasing_change_of_scale_changes_no_p_value() -> None:
    features = world(np.random.default_rng(8), 60, 60)
    scaled = [Feature(f.name, f.kind, np.exp(f.reference), np.exp(f.current)) for f in features[:3]] + features[3:]
    assert [c.p_value for c in shifts(scaled).columns] == [c.p_value for c in shifts(features).columns]


def test_more_columns_never_make_a_column_surer() -> None:
    rng = np.random.default_rng(9)
    features = world(rng, 80, 80)
    moved = numbers("moved", rng.normal(size=80), rng.normal(0.45, 1, 80))
    dealings = list(deal_rows(rng, 80, 80, 399))
    alone = find_shifts([moved], dealings).columns[0].p_value
    assert find_shifts([moved, *features], dealings).columns[0].p_value >= alone


# Is it true? -------------------------------------------------------------------------------------------------------

Change = Callable[[np.random.Generator, list[Feature]], Feature]
PLANTED: dict[str, tuple[str, str, Change]] = {
    "a shifted number": (
        "plain", "shape", lambda rng, f: numbers(f[0].name, f[0].reference, f[0].current + 0.5),
    ),
    "a feed with more gaps": (
        "gaps", "missing",
        lambda rng, f: numbers(f[2].name, f[2].reference, np.where(rng.random(300) < 0.3, np.nan, f[2].current)),
    ),
    "a new category": (
        "job", "novel",
        lambda rng, f: categories(f[3].name, f[3].reference, [*f[3].current[:-12], *["pilot"] * 12]),
    ),
    "a unit that changed": (
        "rounded", "novel", lambda rng, f: numbers(f[1].name, f[1].reference, f[1].current * 1000),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_shift_is_found_and_nothing_else(what: str) -> None:
    rng = np.random.default_rng(11)
    features = world(rng, 1500, 300)
    name, part, change = PLANTED[what]
    changed = change(rng, features)
    found = shifts([changed if f.name == changed.name else f for f in features], n_ranked=199)
    assert [c.name for c in found.moved] == [name]
    assert found.moved[0].part == part


def test_a_value_that_no_dealing_shows_still_counts() -> None:
    """Twelve rows of a new category among 38,000: no dealing puts them all on one side."""
    rng = np.random.default_rng(12)
    old = rng.choice(["a", "b"], 38_000).astype(object)
    new = np.concatenate([rng.choice(["a", "b"], 188), ["c"] * 12]).astype(object)
    assert shifts([Feature("x", "category", old, new)]).moved[0].part == "novel"


@pytest.mark.theory
@pytest.mark.parametrize(("m", "n", "n_copies"), [(100, 100, 25), (400, 60, 5)])
def test_a_report_on_drift_free_rows_alarms_in_at_most_one_of_twenty(m: int, n: int, n_copies: int) -> None:
    """Up to a hundred columns that hang together; the count has a chance over 1e-5 at a true rate of 5 %."""
    rng = np.random.default_rng(13)
    n_reports, n_alarms = 200, 0
    for _ in range(n_reports):
        columns = [f for _ in range(n_copies) for f in world(rng, m, n)]
        n_alarms += bool(find_shifts(columns, deal_rows(rng, m, n, 99)).moved)
    assert n_alarms <= stats.binom.ppf(1 - 1e-5, n_reports, 0.05)


# Does it refuse well? ----------------------------------------------------------------------------------------------


def test_one_row_can_be_asked_about_and_proves_nothing() -> None:
    found = shifts([numbers("x", np.zeros(10), [9.0])])
    assert math.isclose(found.columns[0].novel, 1.0)
    assert found.moved == ()


@pytest.mark.parametrize(
    ("features", "sentence"),
    [
        ([], "there is no column"),
        ([numbers("x", [], [1.0])], "the reference hold no rows"),
        ([numbers("x", [1.0], [])], "the current data hold no rows"),
        ([numbers("x", [1.0], [1.0]), numbers("y", [1.0], [1.0, 2.0])], "column 'y' has 1 and 2 rows"),
    ],
)
def test_what_cannot_be_compared_is_refused(features: list[Feature], sentence: str) -> None:
    with pytest.raises(InvalidDriftSample, match=sentence):
        find_shifts(features, [])


def test_too_few_dealings_for_the_rate_are_refused() -> None:
    features = [numbers("x", [1.0, 2.0], [1.0])]
    with pytest.raises(InvalidDriftSample, match="give at least 219"):
        shifts(features, n_ranked=18)
    assert shifts(features, n_ranked=19).n_ranked == 19
