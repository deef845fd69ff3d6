"""Outages, frozen counters and holes are found; quiet is not taken for an outage, nor an outage for quiet."""

import numpy as np
import pytest

from simulation.traffic.history import FloatArray
from simulation.traffic.outages import find_frozen, find_outages, recurring_holes

RNG_SEED = 20_260_301
QUARTER_S = 900


def busy_weeks(n_weeks: int = 5, per_step: float = 300.0) -> FloatArray:
    """Return Poisson counts per quarter of an hour with a daily trough at a tenth of the mean."""
    steps = np.arange(n_weeks * 7 * 96)
    mean = per_step * (1 - 0.9 * np.cos(2 * np.pi * steps / 96))
    return np.random.default_rng(RNG_SEED).poisson(mean).astype(float)


def test_ordinary_traffic_holds_no_outage_and_no_frozen_counter() -> None:
    counts = busy_weeks()
    assert not find_outages(counts, QUARTER_S).any()
    assert not find_frozen(counts).any()


def test_zeros_between_busy_steps_are_an_outage() -> None:
    counts = busy_weeks()
    counts[1000:1004] = 0
    assert np.flatnonzero(find_outages(counts, QUARTER_S)).tolist() == [1000, 1001, 1002, 1003]


def test_a_38_hour_outage_that_ends_in_the_quiet_of_the_night_is_found_by_other_weeks() -> None:
    counts = busy_weeks(per_step=30)
    end = 20 * 96  # midnight: the trough, 3 requests a step
    counts[end - 152 : end] = 0
    assert find_outages(counts, QUARTER_S).sum() == 152


def test_a_hole_of_zeros_in_every_night_is_found_by_its_edges() -> None:
    counts = busy_weeks()
    nights = np.arange(0, counts.size, 96)
    holes = (nights[:, None] + np.array([10, 11])).ravel()
    counts[holes] = 0
    assert np.array_equal(np.flatnonzero(find_outages(counts, QUARTER_S)), holes)


def test_a_small_service_that_sleeps_at_night_is_quiet_and_not_out() -> None:
    steps = np.arange(5 * 7 * 96)
    mean = np.maximum(0.0, -8 * np.cos(2 * np.pi * steps / 96))
    counts = np.random.default_rng(RNG_SEED).poisson(mean).astype(float)
    assert (counts == 0).sum() > steps.size / 3
    assert not find_outages(counts, QUARTER_S).any()


def test_an_office_that_closes_at_weekends_is_quiet_and_not_out() -> None:
    counts = busy_weeks()
    weekend = (np.arange(counts.size) // 96) % 7 >= 5
    morning_rush = (np.arange(counts.size) % 96) < 8
    counts[weekend] = 0
    counts[morning_rush] = np.minimum(counts[morning_rush], 3)
    assert not find_outages(counts, QUARTER_S).any()


@pytest.mark.parametrize(("value", "n_steps", "is_frozen"), [(250.0, 8, True), (250.0, 5, False), (2.0, 12, False)])
def test_a_count_is_frozen_when_it_repeats_longer_than_chance_allows(
    value: float, n_steps: int, is_frozen: bool
) -> None:
    counts = busy_weeks()
    counts[500 : 500 + n_steps] = value
    counts[499], counts[500 + n_steps] = value + 50, value + 60
    assert find_frozen(counts)[500 : 500 + n_steps].all() == is_frozen
    assert find_frozen(counts).sum() == (n_steps if is_frozen else 0)


def test_a_steady_probe_is_not_a_frozen_counter() -> None:
    counts = np.full(5000, 60.0)
    counts[::701] = 59
    assert not find_frozen(counts).any()


def test_holes_that_recur_are_told_and_a_day_without_anything_is_no_habit() -> None:
    counts = np.ones(30 * 96)
    counts.reshape(30, 96)[:, 8:10] = np.nan
    counts[10 * 96 : 11 * 96] = np.nan
    assert recurring_holes(counts, 0, QUARTER_S) == [(7200, 9000, 29)]
    assert recurring_holes(counts, 3600, QUARTER_S) == [(10_800, 12_600, 30)]
    assert recurring_holes(counts[: 4 * 96], 0, QUARTER_S) == []
