"""Pictures: the same bytes on every run, no colour of their own for ink, and nothing to trip over in the data."""

import dataclasses
import datetime as dt
import math
import subprocess
import sys
from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from reports import plots
from reports.wording import number, percent, signed, utc
from tests.reports import samples

NIGHT = samples.night("flash-crowd")
PLAN = samples.plan()


def load(history: list[float | None] = PLAN.history_load_rps) -> str:
    return plots.load_and_windows(
        history_start=utc(PLAN.history_load_start),
        history_rps=history,
        forecast_start=utc(PLAN.forecast_start),
        forecast_step_s=PLAN.forecast_step_s,
        p05_rps=PLAN.forecast_p05_rps,
        p50_rps=PLAN.forecast_p50_rps,
        p95_rps=PLAN.forecast_p95_rps,
        threshold_rps=PLAN.threshold_rps,
        window=(utc(PLAN.windows[0].opens_at), utc(PLAN.windows[0].closes_at)),
        time_zone=PLAN.time_zone,
        source=PLAN.history_name,
    )


BINS = samples.evaluation().calibration_champion
DRAWINGS: dict[str, Callable[[], str]] = {
    "load": load,
    "night": lambda: plots.night(NIGHT),
    "importance": lambda: plots.importance({"age": 0.7, "job": 0.3}, "title", frozenset({"age"})),
    "calibration": lambda: plots.calibration(BINS, BINS, "9 rows"),
    "scores": lambda: plots.scores([0.0, 0.5, 1.0], [3, 1], [2, 2], "4 rows"),
    "answered": lambda: plots.answered({"blue": 3, "green": 5}),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_picture_is_the_same_bytes_twice_and_takes_the_page_s_ink(name: str) -> None:
    first = DRAWINGS[name]()
    assert first == DRAWINGS[name]()
    ElementTree.fromstring(first)
    assert "currentColor" in first
    assert "#000000" not in first.lower()
    assert "<metadata" not in first
    assert 'id="figure' not in first


def test_a_picture_is_the_same_bytes_in_another_process() -> None:
    code = "from reports import plots; print(plots.answered({'blue': 3, 'green': 5}), end='')"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == plots.answered({"blue": 3, "green": 5})


def test_a_gap_in_the_history_is_drawn_as_a_gap() -> None:
    whole: list[float | None] = [0.0 if v is None else v for v in PLAN.history_load_rps]
    assert load() != load(whole)


def test_every_picture_shrinks_to_a_telephone_with_its_letters_still_readable() -> None:
    for name, draw in DRAWINGS.items():
        root = ElementTree.fromstring(draw())
        assert root.get("viewBox") is not None, name
        # 368 px of a 400 px wide page: letters of 9.5 points are then at least 8.5 px high.
        width_pt = float((root.get("width") or "").removesuffix("pt"))
        assert 9.5 * 368 / width_pt >= 8.5, name


def test_each_stage_of_training_has_a_name_of_its_own_beside_its_bar() -> None:
    text = plots.night(NIGHT)
    assert all(f">{name}<" in text for name in ("prepare", "train", "evaluate"))


def test_events_too_close_to_be_numbered_apart_share_a_mark() -> None:
    assert plots._marks([25.4, 26.3, 27.3, 27.3, 50.0], 7.0) == [(25.4, "1–4"), (50.0, "5")]


def test_the_minute_that_was_not_played_is_not_drawn() -> None:
    whole = dataclasses.replace(NIGHT, offered_per_min=[*NIGHT.offered_per_min[:180], 0])
    assert plots.night(whole) == plots.night(dataclasses.replace(whole, offered_per_min=whole.offered_per_min[:180]))


def test_capacity_and_the_moment_of_going_live_are_drawn_and_named() -> None:
    assert all(f">{words}<" in plots.night(NIGHT) for words in ("capacity", "new model live"))
    bare = dataclasses.replace(NIGHT, capacity_steps=[], promoted_min=math.nan)
    assert "capacity" not in plots.night(bare)


def test_empty_and_unknown_data_still_make_a_picture() -> None:
    ElementTree.fromstring(plots.importance({}, "nothing"))
    ElementTree.fromstring(plots.calibration([], [(float("nan"), float("nan"), 0)], "0 rows"))
    ElementTree.fromstring(plots.answered({}))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.12345, "0.123"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (0.00005, "5e-05"),
        (math.nan, "not known"),
    ],
)
def test_numbers_keep_three_digits(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 %"), (1.0, "100 %"), (0.995, "99.5 %"), (0.004, "0.4 %"), (0.87, "87 %"), (None, "not known")],
)
def test_a_share_near_an_end_is_not_rounded_to_it(value: float | None, text: str) -> None:
    assert percent(value) == text


def test_a_sign_is_shown_unless_there_is_nothing_to_sign() -> None:
    assert [signed(v) for v in (0.012, -0.012, 0.0)] == ["+0.012", "-0.012", "0"]


def test_a_recorded_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no zone"):
        utc("2010-05-03T02:20:00")
    assert utc("2010-05-03T04:20:00+02:00") == dt.datetime(2010, 5, 3, 2, 20, tzinfo=dt.UTC)
