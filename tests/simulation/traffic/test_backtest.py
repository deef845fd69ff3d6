"""The backtest: its score recomputed by hand, no look into the future, and the figures on real requests."""

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from simulation.errors import InvalidHistory
from simulation.traffic.backtest import FIXED, FORECAST, RULES, backtest, hour_of_day_median, hour_of_week_mean
from simulation.traffic.history import RequestHistory
from simulation.traffic.read_history import read_history

UTC = dt.UTC
START = dt.datetime(2026, 3, 2, tzinfo=UTC)


def small(seed: int = 0, n_days: int = 40) -> RequestHistory:
    """Return hourly counts of a noisy daily pattern."""
    hours = np.arange(n_days * 24)
    mean = 1000 - 800 * np.cos(2 * np.pi * (hours - 4) / 24)
    counts = np.random.default_rng(seed).poisson(
        mean * np.exp(np.random.default_rng(seed + 1).normal(0, 0.2, hours.size))
    )
    return RequestHistory("small", START, 3600, counts.astype(float))


def test_each_choice_lies_in_its_local_day_and_its_score_can_be_recomputed() -> None:
    history = small()
    result = backtest(history, time_zone="America/New_York", step_s=3600)
    for name, choices in result.choices.items():
        assert len(choices) == result.n_days > 20
        chosen = quietest = 0.0
        for choice in choices:
            midnight = dt.datetime.combine(choice.day, dt.time(), tzinfo=ZoneInfo("America/New_York"))
            begin = int((midnight.astimezone(UTC) - START).total_seconds() // 3600)
            starts = [history.counts[begin + i : begin + i + 2].sum() for i in range(23)]
            first = int((choice.opens_at - START).total_seconds() // 3600)
            assert begin <= first <= begin + 22
            assert choice.closes_at - choice.opens_at == dt.timedelta(hours=2)
            chosen += history.counts[first : first + 2].sum()
            quietest += min(starts)
        assert result.pooled_excess(name) == pytest.approx(chosen / quietest - 1)


def test_a_choice_does_not_change_with_what_comes_after_its_midnight() -> None:
    history = small()
    counts = history.counts.copy()
    counts[30 * 24 :] = counts[30 * 24 :][::-1] * 5
    other = RequestHistory("small", START, 3600, counts)
    first, second = (backtest(h, time_zone="UTC", step_s=3600) for h in (history, other))
    for name in (FORECAST, *RULES):
        upto = [c.opens_at for c in first.choices[name] if c.day <= dt.date(2026, 4, 1)]
        assert upto == [c.opens_at for c in second.choices[name] if c.day <= dt.date(2026, 4, 1)]
        assert len(upto) == 17


def test_the_simple_rules_are_what_they_say() -> None:
    counts = np.arange(30.0)[:, None] * np.ones(24)
    counts[22, 3] = np.nan
    assert hour_of_week_mean(counts, 29)[:4].tolist() == [11.5, 11.5, 11.5, (1 + 8 + 15) / 3]
    assert hour_of_day_median(counts, 29)[0] == 14.5
    result = backtest(small(), time_zone="UTC", step_s=3600)
    assert {choice.opens_at.hour for choice in result.choices[FIXED]} == {2}
    assert result.best_rule() in RULES


def test_a_day_whose_chosen_window_is_unknown_is_skipped_for_all_rules() -> None:
    history = small()
    history.counts[30 * 24 : 30 * 24 + 6] = np.nan
    result = backtest(history, time_zone="UTC", step_s=3600)
    assert result.n_skipped == 1
    assert dt.date(2026, 4, 1) not in {choice.day for choice in result.choices[FORECAST]}
    assert {len(choices) for choices in result.choices.values()} == {result.n_days}


@pytest.mark.parametrize(
    ("zone", "rule_excess", "most"),
    [("Europe/Paris", 0.0367, 0.0260), ("UTC", 0.0545, 0.0480)],
)
def test_worldcup98_windows_lie_nearer_to_hindsight_than_those_of_any_simple_rule(
    zone: str, rule_excess: float, most: float
) -> None:
    result = backtest(read_history("worldcup98"), time_zone=zone, last_days=59)
    assert (result.n_days, result.n_skipped) == (59, 0)
    assert result.best_rule() == "hour-of-week mean"
    assert result.pooled_excess("hour-of-week mean") == pytest.approx(rule_excess, abs=5e-5)  # known from elsewhere
    assert result.pooled_excess() < most
    covered = {wide: result.coverage[high] - result.coverage[low] for wide, low, high in (
        (0.5, 0.25, 0.75), (0.8, 0.1, 0.9), (0.9, 0.05, 0.95))}  # fmt: skip
    for nominal, share in covered.items():
        assert abs(share - nominal) < 0.03


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"duration_min": 90}, "duration_min: 90"),
        ({"duration_min": 0}, "duration_min: 0"),
        ({"last_days": 0}, "last_days: 0"),
        ({"since": dt.date(2030, 1, 1)}, "no day can be scored"),
    ],
)
def test_a_backtest_that_cannot_be_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidHistory, match=said):
        backtest(small(), **({"time_zone": "UTC", "step_s": 3600} | options))  # type: ignore[arg-type]
