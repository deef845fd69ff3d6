"""How often 95 % intervals hold the truth: the short form of `make coverage`, and that it sees a wrong interval."""

import math

import numpy as np
import pytest
from scipy import stats

from simulation.coverage_check import (
    BUSY,
    CoverageRow,
    CoverageStudy,
    coverage_studies,
    found_by_requests,
    play_nights,
    table,
    wait_quantile_s,
    waits_from_empty,
)
from simulation.statistics import Estimate
from simulation.theory import MMc

N_RUNS = 300
STUDIES = list(coverage_studies())


def has_likely_coverage(row: CoverageRow) -> bool:
    """Whether the count has a chance over 1e-5 at some true coverage within the limits."""
    least, most = stats.binom.ppf(1e-5, row.n_bounded, row.low), stats.binom.ppf(1 - 1e-5, row.n_bounded, row.high)
    return bool(least <= row.n_covered <= most) and 20 * row.n_bounded >= 19 * row.n_runs


@pytest.mark.theory
@pytest.mark.parametrize("study", STUDIES, ids=[study.name for study in STUDIES])
def test_intervals_hold_the_truth_as_often_as_they_say(study: CoverageStudy) -> None:
    rows = study.rows(N_RUNS, seed=2)
    assert all(has_likely_coverage(row) for row in rows), table(rows)


def order_statistics(groups: list[np.ndarray], level: float, confidence: float) -> Estimate:
    """The interval for independent values: right for them, wrong for waits."""
    pooled = np.sort(np.concatenate(groups))
    tail = (1 - confidence) / 2
    low, high = (int(stats.binom.ppf(q, pooled.size, level)) for q in (tail, 1 - tail))
    return Estimate(float(np.quantile(pooled, level)), float(pooled[low]), float(pooled[min(high, pooled.size - 1)]))


@pytest.mark.theory
def test_the_interval_for_independent_values_would_be_found_out() -> None:
    study = CoverageStudy(
        "planted",
        STUDIES[0].truths,
        lambda rng: play_nights(rng, BUSY, (0.5, 0.95, 0.99), order_statistics),
    )
    rows = {row.name: row for row in study.rows(N_RUNS, seed=2)}
    assert has_likely_coverage(rows["planted: mean"])
    for level in ("p50", "p95", "p99"):
        assert not has_likely_coverage(rows[f"planted: {level}"])
        assert rows[f"planted: {level}"].coverage < 0.6


def test_the_interval_for_independent_values_is_right_for_them() -> None:
    """So that the test before this one is about dependence and not about a broken comparison."""
    rng = np.random.default_rng(1)
    found = [order_statistics([rng.exponential(size=2000)], 0.99, 0.95) for _ in range(500)]
    n_covered = sum(estimate.low <= math.log(100) <= estimate.high for estimate in found)
    assert stats.binom.ppf(1e-5, 500, 0.93) <= n_covered <= stats.binom.ppf(1 - 1e-5, 500, 0.97)


def test_what_the_first_requests_find_is_known_exactly() -> None:
    """The first finds nobody; the second finds the first still there if the arrival comes before the departure."""
    assert found_by_requests(1)[:2].tolist() == [1.0, 0.0]
    stays = BUSY / (BUSY + 1)
    np.testing.assert_allclose(found_by_requests(2)[:3], [(1 + 1 - stays) / 2, stays / 2, 0], rtol=1e-12)


def test_after_many_requests_the_truth_is_that_of_the_settled_queue() -> None:
    late = 2 * found_by_requests(20_000) - found_by_requests(10_000)  # the second ten thousand alone
    queue = MMc(BUSY, 1.0, 1)
    assert late.sum() == pytest.approx(1.0, abs=1e-9)
    assert late @ np.arange(late.size) == pytest.approx(queue.mean_wait_s, rel=1e-6)
    for level in (0.5, 0.99):
        assert wait_quantile_s(late, level) == pytest.approx(queue.wait_quantile_s(level), rel=1e-6)


def test_the_truth_of_a_night_is_the_one_that_is_played() -> None:
    waits = np.array([waits_from_empty(np.random.default_rng([1, i]), 50) for i in range(4000)])
    found = found_by_requests(50)
    error = waits.mean(axis=1).std(ddof=1) / math.sqrt(4000)
    assert abs(waits.mean() - found @ np.arange(found.size)) < 4 * error


def test_a_row_says_when_it_is_outside_or_cannot_be_bounded() -> None:
    good = CoverageRow("a", 1.0, 950, 1000, 1000, 0.92, 0.97)
    low = CoverageRow("b", 1.0, 919, 1000, 1000, 0.92, 0.97)
    rarely = CoverageRow("c", 1.0, 95, 100, 1000, 0.92, 0.97)
    never = CoverageRow("d", 1.0, 0, 0, 1000, 0.92, 0.97)
    assert [row.keeps for row in (good, low, rarely, never)] == [True, False, False, False]
    text = table([good, low])
    assert "95.0%" in text
    assert text.count("outside 92% to 97%") == 1
