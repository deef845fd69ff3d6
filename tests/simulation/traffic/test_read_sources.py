"""Prometheus answers, request logs and several series in one file; holes that no window may touch."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simulation.errors import InvalidHistory, UnknownZone
from simulation.planning.windows import find_windows
from simulation.traffic import read_requests
from simulation.traffic.forecast import forecast
from simulation.traffic.history import FloatArray
from simulation.traffic.read_history import read_histories, read_history

UTC = dt.UTC
T0 = 1_772_323_200  # 2026-03-01 00:00 UTC


def prometheus(folder: Path, *series: tuple[dict[str, str], list[list[Any]]]) -> Path:
    """Write the answer of a range query."""
    result = [{"metric": labels, "values": values} for labels, values in series]
    path = folder / "answer.json"
    path.write_text(json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}))
    return path


def rates(values: list[float], first: int = T0 + 60) -> list[list[Any]]:
    """Return samples a minute apart."""
    return [[first + 60 * i, str(value)] for i, value in enumerate(values)]


def test_rates_become_requests_of_the_step_before_each_sample(tmp_path: Path) -> None:
    history = read_history(prometheus(tmp_path, ({}, rates([1.0, 2.0, 3.0]))))
    assert (history.start, history.step_s) == (dt.datetime(2026, 3, 1, tzinfo=UTC), 60)
    assert history.counts.tolist() == [60, 120, 180]


def test_a_counter_is_counted_by_its_growth_and_a_fall_is_a_restart(tmp_path: Path) -> None:
    values = rates([100, 130, 150, 7, 20], T0)
    history = read_history(prometheus(tmp_path, ({"__name__": "http_requests_total"}, values)))
    assert history.counts.tolist() == [30, 20, 7, 13]


def test_samples_that_are_absent_or_nan_are_gaps(tmp_path: Path) -> None:
    values = rates([1, 1, 2, 1, float("nan"), 3, 1, 2])
    del values[1]
    history = read_history(prometheus(tmp_path, ({}, values)))
    assert np.isnan(history.counts).tolist() == [False, True, False, False, True, False, False, False]
    counter = rates([10, 20, 60, 70, 80, 95], T0)
    del counter[2]
    history = read_history(prometheus(tmp_path, ({"__name__": "a_total"}, counter)))
    assert np.isnan(history.counts).tolist() == [False, True, True, False, False]


def test_series_are_added_up_or_told_apart_by_a_label(tmp_path: Path) -> None:
    path = prometheus(tmp_path, ({"zone": "b"}, rates([1, 2, 3])), ({"zone": "a"}, rates([1, 1, 2])))
    assert read_history(path).counts.tolist() == [120, 180, 300]
    found = read_histories(path, by="zone", time_zone="UTC")
    assert [(history.name, history.counts[0]) for history, _ in found] == [("a", 60), ("b", 60)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no JSON"),
        ('{"status": "error"}', "range query that succeeded"),
        ('{"status": "success", "data": {"resultType": "vector", "result": []}}', "range query that succeeded"),
        ('{"status": "success", "data": {"resultType": "matrix", "result": []}}', "found no series"),
        ('{"status": "success", "data": {"resultType": "matrix", "result": [{"values": [[1]]}]}}', "no .time, value"),
        ('{"status": "success", "data": {"resultType": "matrix", "result": [{"values": [[1, "2"]]}]}}', "two samples"),
    ],
)
def test_what_is_no_range_query_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "answer.json").write_text(text)
    with pytest.raises(InvalidHistory, match=said):
        read_history(tmp_path / "answer.json")


def log_times(n: int = 40_000) -> "pd.Series[pd.Timestamp]":
    """Return the sorted times of n requests over two hours."""
    seconds = np.sort(np.random.default_rng(3).uniform(0, 7200, n))
    return pd.Series(pd.to_datetime(T0 + np.floor(seconds), unit="s").as_unit("s"))


@pytest.mark.parametrize("form", ["log", "epoch", "csv", "parquet"])
def test_a_request_log_is_counted_per_minute_in_every_form(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_requests, "_BLOCK_BYTES", 1 << 14)  # many blocks
    times = log_times()
    path = tmp_path / f"requests.{'log' if form == 'epoch' else form}"
    text = times.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    if form == "log":
        path.write_text("\n".join(text) + "\n")
    elif form == "epoch":
        path.write_text("\n".join(times.astype("int64").astype(str)) + "\n")
    elif form == "csv":
        pd.DataFrame({"time": text}).to_csv(path, index=False)
    else:
        pd.DataFrame({"time": times.dt.tz_localize("UTC")}).to_parquet(path)
    history = read_history(path)
    expected = times.dt.floor("min").value_counts().sort_index().to_numpy()[1:-1]
    assert history.start == dt.datetime(2026, 3, 1, 0, 1, tzinfo=UTC)
    assert history.counts.tolist() == expected.tolist()
    assert history.quality.n_rows == 40_000


def test_a_log_out_of_order_is_counted_and_its_silence_is_an_outage(tmp_path: Path) -> None:
    times = log_times()
    times = times[(times < pd.Timestamp(T0 + 3000, unit="s")) | (times >= pd.Timestamp(T0 + 4200, unit="s"))]
    path = tmp_path / "requests.log"
    path.write_text("\n".join(times.sample(frac=1, random_state=1).dt.strftime("%Y-%m-%dT%H:%M:%SZ")) + "\n")
    history = read_history(path)
    assert np.flatnonzero(np.isnan(history.counts)).tolist() == list(range(49, 69))
    assert history.quality.n_outage_steps == 20


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2026-03-01T00:00:00\n2026-03-01T00:05:00\n", "no zone"),
        ("2026-03-01T00:00:00Z\n", "three minutes"),
        ("when\nearly\nlate\n", "'early' is no time"),
        ("1e15\n2e15\n", "no seconds since the epoch"),
    ],
)
def test_a_log_that_cannot_be_read_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "requests.log").write_text(text)
    with pytest.raises(InvalidHistory, match=said):
        read_history(tmp_path / "requests.log")


def regions(folder: Path, zones: dict[str, str]) -> Path:
    """Write a table with three hours per region."""
    times = [f"2026-03-01 0{hour}:00" for hour in range(3)]
    rows = [(t, i + 1, region, zone) for region, zone in zones.items() for i, t in enumerate(times)]
    pd.DataFrame(rows, columns=["time", "requests", "region", "zone"]).to_csv(folder / "regions.csv", index=False)
    return folder / "regions.csv"


def test_each_region_is_read_in_its_own_zone(tmp_path: Path) -> None:
    path = regions(tmp_path, {"us": "America/New_York", "jp": "Asia/Tokyo"})
    found = read_histories(path, by="region", time_zone="UTC", zone_column="zone")
    assert [(h.name, h.start.hour, zone) for h, zone in found] == [
        ("jp", 15, "Asia/Tokyo"),
        ("us", 5, "America/New_York"),
    ]
    with pytest.raises(InvalidHistory, match="no column 'area'; --by can be"):
        read_histories(path, by="area", time_zone="UTC")
    with pytest.raises(UnknownZone):
        read_histories(regions(tmp_path, {"us": "Mars/Base"}), by="region", time_zone="UTC", zone_column="zone")
    two = pd.read_csv(regions(tmp_path, {"us": "America/New_York"}))
    two.loc[1, "zone"] = "UTC"
    two.to_csv(tmp_path / "two.csv", index=False)
    with pytest.raises(InvalidHistory, match="region us: has more than one zone"):
        read_histories(tmp_path / "two.csv", by="region", time_zone="UTC", zone_column="zone")
    two.loc[1, "region"] = None
    two.to_csv(tmp_path / "two.csv", index=False)
    with pytest.raises(InvalidHistory, match="row 2, column region: names no series"):
        read_histories(tmp_path / "two.csv", by="region", time_zone="UTC")


def minutes_of_weeks(folder: Path, spoil: Any, n_days: int = 35) -> Path:
    """Write Poisson counts per minute with a trough at 02:20 UTC, after `spoil` has changed the table of days."""
    minute = np.arange(1440)
    mean = 300 * (1 - 0.8 * np.cos(2 * np.pi * (minute - 140) / 1440))
    counts: FloatArray = np.random.default_rng(6).poisson(np.tile(mean, (n_days, 1))).astype(float)
    spoil(counts)
    times = pd.date_range("2026-03-02", periods=counts.size, freq="min")
    pd.DataFrame({"time_utc": times, "requests": counts.ravel()}).to_parquet(folder / "spoilt.parquet")
    return folder / "spoilt.parquet"


@pytest.mark.parametrize("first", [140, 125])  # on a step of ten minutes, and across one
def test_no_window_touches_a_nightly_hole_of_29_minutes(tmp_path: Path, first: int) -> None:
    def hole(counts: FloatArray) -> None:
        counts[:, first : first + 29] = 0.0

    history = read_history(minutes_of_weeks(tmp_path, hole))
    assert history.quality.n_outage_steps == 35 * 29
    assert "nothing is known on most days" in " ".join(history.notes)
    for window in find_windows(forecast(history, time_zone="UTC"), duration_min=60, time_zone="UTC"):
        opens = window.opens_at.hour * 60 + window.opens_at.minute
        assert opens >= first + 29 or opens + 60 <= first
    clean = read_history(minutes_of_weeks(tmp_path, lambda counts: None))
    best = find_windows(forecast(clean, time_zone="UTC"), duration_min=60, time_zone="UTC")[0]
    opens = best.opens_at.hour * 60 + best.opens_at.minute
    assert first - 60 < opens < first + 29  # without the hole, that is where it would lie


def test_38_hours_of_zeros_and_a_frozen_counter_do_not_draw_the_window(tmp_path: Path) -> None:
    def outage(counts: FloatArray) -> None:
        flat = counts.reshape(-1)
        flat[32 * 1440 + 600 : 32 * 1440 + 600 + 38 * 60] = 0.0
        flat[20 * 1440 : 20 * 1440 + 300] = 7.0

    history = read_history(minutes_of_weeks(tmp_path, outage))
    assert (history.quality.n_outage_steps, history.quality.n_frozen_steps) == (38 * 60, 300)
    for window in find_windows(forecast(history, time_zone="UTC"), duration_min=60, time_zone="UTC"):
        assert window.opens_at.hour in (1, 2)
        assert window.mean_load_rps > 0.5
