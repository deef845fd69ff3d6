"""Delayed labels: every line is counted once, no label twice, and metrics wait until all had the same time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from flows.domain.outcomes import InvalidOutcomes, Joined, Outcomes, Requests, join_outcomes, matured_performance

DAY_US = 86_400 * 10**6


def requests(*rows: tuple[str, int, float]) -> Requests:
    """Return a request log from (id, day, score)."""
    return Requests(
        [r[0] for r in rows], np.array([r[1] * DAY_US for r in rows], dtype=np.int64), np.array([r[2] for r in rows])
    )


def outcomes(*rows: tuple[str, float, int, int]) -> Outcomes:
    """Return an outcome log from (id, label, day observed, day received)."""
    days = np.array([row[2:] for row in rows], dtype=np.int64).reshape(-1, 2) * DAY_US
    return Outcomes([r[0] for r in rows], np.array([r[1] for r in rows], dtype=np.float64), days[:, 0], days[:, 1])


def test_each_kind_of_line_is_counted_in_its_class() -> None:
    joined = join_outcomes(
        requests(("a", 0, 0.1), ("b", 0, 0.2), ("c", 5, 0.3), ("d", 0, 0.4), ("a", 1, 0.9), ("e", 0, 0.5)),
        outcomes(
            ("a", 1, 3, 4),
            ("a", 1, 3, 6),  # again
            ("b", 0, 1, 2),
            ("b", 1, 1, 3),  # contradicts
            ("zz", 1, 1, 3),  # nobody asked
            ("c", 1, 4, 7),  # before its request
            ("d", 0.5, 1, 7),  # no label
            ("e", 0, 1, 9),  # observed before what came on day 4
        ),
    )
    c = joined.counts
    assert (c.used, c.repeated, c.contradictory, c.unknown, c.before_request, c.unreadable) == (2, 1, 2, 1, 1, 1)
    assert (c.requests, c.repeated_requests, c.labelled, c.contradicted, c.waiting) == (5, 1, 2, 1, 2)
    assert c.out_of_order == 1
    assert joined.scores[0] == 0.1, "the first line of a repeated request counts"
    assert joined.ages_s[0] == 4 * 86_400
    assert len(c.sentences()) == 7


def test_a_clean_log_has_nothing_to_say() -> None:
    joined = join_outcomes(requests(("a", 0, 0.1), ("b", 0, 0.2)), outcomes(("a", 1, 1, 2), ("b", 0, 2, 3)))
    assert joined.counts.sentences() == ()


ids = st.sampled_from("abcdef")
request_rows = st.lists(st.tuples(ids, st.integers(0, 5), st.floats(0, 1)), max_size=12)
outcome_rows = st.lists(
    st.tuples(ids, st.sampled_from([0.0, 1.0, 2.0, float("nan")]), st.integers(0, 9), st.integers(0, 9)), max_size=20
)


@given(request_rows, outcome_rows)
@settings(deadline=None)
def test_no_line_is_lost_and_none_counts_twice(
    asked: list[tuple[str, int, float]], told: list[tuple[str, float, int, int]]
) -> None:
    joined = join_outcomes(requests(*asked), outcomes(*told))
    c = joined.counts
    assert c.outcomes == c.used + c.repeated + c.contradictory + c.unknown + c.before_request + c.unreadable
    assert c.requests == c.labelled + c.contradicted + c.waiting == len({r[0] for r in asked})
    assert c.requests + c.repeated_requests == len(asked)
    assert np.isfinite(joined.labels).sum() == c.used


def _by_id(joined: Joined) -> dict[str, tuple[str, str]]:
    return {i: (repr(label), repr(age)) for i, label, age in zip(joined.ids, joined.labels, joined.ages_s, strict=True)}


@given(request_rows, outcome_rows, st.randoms())
@settings(deadline=None)
def test_the_order_of_the_outcome_lines_changes_no_label(
    asked: list[tuple[str, int, float]], told: list[tuple[str, float, int, int]], random: object
) -> None:
    shuffled = list(told)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # Hypothesis gives a random.Random
    straight, mixed = (join_outcomes(requests(*asked), outcomes(*rows)) for rows in (told, shuffled))
    assert _by_id(straight) == _by_id(mixed)


def test_metrics_are_those_of_scikit_learn_on_the_rows_that_count() -> None:
    rng = np.random.default_rng(3)
    n = 300
    scores, label, delay = rng.uniform(0.05, 0.95, n), rng.integers(0, 2, n), rng.integers(1, 20, n)
    day = rng.integers(0, 30, n)
    joined = join_outcomes(
        requests(*((str(i), int(day[i]), float(scores[i])) for i in range(n))),
        outcomes(*((str(i), float(label[i]), int(day[i]), int(day[i] + delay[i])) for i in range(n))),
    )
    found = matured_performance(joined, 30 * DAY_US, 10 * 86_400)
    counts = (30 - day >= 10) & (delay <= 10)
    assert found.labelled == counts.sum()
    assert found.too_young == (day > 20).sum()
    assert found.late == ((day <= 20) & (delay > 10)).sum()
    assert found.matured == found.labelled + found.unlabelled
    assert found.auc == pytest.approx(roc_auc_score(label[counts], scores[counts]), abs=1e-12)
    assert found.log_loss == pytest.approx(sklearn_log_loss(label[counts], scores[counts]), abs=1e-12)
    assert found.least_positive <= label[day <= 20].mean() <= found.most_positive


def test_a_label_that_came_quickly_waits_for_the_slow_ones() -> None:
    joined = join_outcomes(requests(("a", 9, 0.5)), outcomes(("a", 1, 9, 9)))
    young = matured_performance(joined, 10 * DAY_US, 10 * 86_400)
    assert (young.too_young, young.labelled) == (1, 0)
    assert "nothing can be said yet" in young.sentence()


def test_a_horizon_is_a_closed_bound() -> None:
    joined = join_outcomes(requests(("a", 0, 0.5)), outcomes(("a", 1, 1, 10)))
    assert matured_performance(joined, 10 * DAY_US, 10 * 86_400).labelled == 1


def test_a_horizon_of_nothing_and_torn_columns_are_refused() -> None:
    joined = join_outcomes(requests(), outcomes())
    with pytest.raises(InvalidOutcomes, match="leaves no time for labels"):
        matured_performance(joined, 0, 0.0)
    with pytest.raises(InvalidOutcomes, match="column scores has 0 rows, ids 1"):
        join_outcomes(Requests(["a"], np.zeros(1, dtype=np.int64), np.empty(0)), outcomes())
