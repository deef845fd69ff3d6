"""Reading request histories: what is mended, what is marked, and what is refused, one by one."""

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simulation.datasets import shipped_histories
from simulation.errors import InvalidHistory, UnknownZone
from simulation.traffic.history import RequestHistory
from simulation.traffic.read_history import read_history

UTC = dt.UTC


def write(folder: Path, text: str, name: str = "log.csv") -> Path:
    """Write a small CSV file."""
    path = folder / name
    path.write_text(text)
    return path


def minutes(values: list[object], first: str = "2026-03-01T00:00:00") -> str:
    """Return a CSV of one count per minute in UTC."""
    start = dt.datetime.fromisoformat(first)
    rows = [f"{(start + dt.timedelta(minutes=i)).isoformat()}Z,{value}" for i, value in enumerate(values)]
    return "\n".join(["time,requests", *rows])


# What is read


def test_worldcup98_is_found_by_name_and_its_ten_flagged_minutes_are_unknown() -> None:
    history = read_history("worldcup98")
    assert (history.start, history.step_s) == (dt.datetime(1998, 4, 30, 21, 30, tzinfo=UTC), 60)
    assert history.counts.size == 125_310
    assert np.nansum(history.counts) == 1_352_804_107  # the published figure of the archive
    assert np.isnan(history.counts).sum() == history.quality.n_flagged_steps == 10
    assert history.quality.n_outage_steps == history.quality.n_frozen_steps == 0
    peak = history.start + dt.timedelta(minutes=int(np.nanargmax(history.counts)))
    assert peak == dt.datetime(1998, 7, 7, 21, 41, tzinfo=UTC)


def test_csv_and_parquet_of_the_same_rows_are_the_same_history(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"minute_utc": pd.date_range("2026-03-01", periods=300, freq="min"), "requests": np.arange(300) % 37 + 20}
    )
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_parquet(tmp_path / "a.parquet")
    table.set_index("minute_utc").to_parquet(tmp_path / "b.parquet")
    digests = {read_history(tmp_path / name).digest() for name in ("a.csv", "a.parquet", "b.parquet")}
    assert len(digests) == 1


def test_columns_of_odd_names_are_found_by_their_type_or_by_option(tmp_path: Path) -> None:
    path = write(tmp_path, "served,when_utc,region\n5,2026-03-01T00:00,eu\n6,2026-03-01T00:01,eu\n")
    assert read_history(path).counts.tolist() == [5, 6]
    path = write(tmp_path, "a,b,when\n5,7,2026-03-01T00:00Z\n6,8,2026-03-01T00:01Z\n")
    assert read_history(path, time_column="when", count_column="b").counts.tolist() == [7, 8]


def test_times_with_offsets_are_instants_whatever_the_option_says(tmp_path: Path) -> None:
    path = write(tmp_path, "time,requests\n2026-03-01T02:00:00+02:00,1\n2026-02-28T20:01:00-04:00,2\n")
    history = read_history(path, time_zone="Asia/Tokyo")
    assert history.start == dt.datetime(2026, 3, 1, tzinfo=UTC)
    assert history.counts.tolist() == [1, 2]


def test_zone_less_times_are_read_in_the_zone_given(tmp_path: Path) -> None:
    path = write(tmp_path, "time,requests\n2026-07-01 02:00,1\n2026-07-01 03:00,2\n")
    assert read_history(path, time_zone="Europe/Paris").start == dt.datetime(2026, 7, 1, 0, tzinfo=UTC)


# What is mended or marked


def test_absent_rows_become_gaps_and_never_zeros(tmp_path: Path) -> None:
    rows = minutes(list(range(20, 40))).splitlines()
    history = read_history(write(tmp_path, "\n".join(rows[:5] + rows[8:])))
    assert np.flatnonzero(np.isnan(history.counts)).tolist() == [4, 5, 6]
    assert history.quality.n_gap_steps == 3
    assert history.notes == ["3 steps are absent and marked as gaps."]


def test_empty_cells_and_flagged_rows_become_gaps(tmp_path: Path) -> None:
    text = (
        "time,requests,missing\n2026-03-01T00:00Z,4,false\n2026-03-01T00:01Z,0,true\n"
        "2026-03-01T00:02Z,,false\n2026-03-01T00:03Z,5,0\n"
    )
    history = read_history(write(tmp_path, text))
    assert np.isnan(history.counts).tolist() == [False, True, True, False]
    assert history.quality.n_flagged_steps == 2


def test_unsorted_rows_are_sorted(tmp_path: Path) -> None:
    rows = minutes([1, 2, 3, 4]).splitlines()
    history = read_history(write(tmp_path, "\n".join([rows[0], rows[3], rows[1], rows[4], rows[2]])))
    assert history.counts.tolist() == [1, 2, 3, 4]
    assert history.quality.n_unsorted == 2


def test_exact_repeats_are_dropped_and_other_counts_for_one_time_added_up(tmp_path: Path) -> None:
    rows = minutes(list(range(10, 40))).splitlines()
    text = "\n".join([*rows, rows[3], rows[3], rows[5].replace(",14", ",100")])
    history = read_history(write(tmp_path, text))
    assert history.counts[2] == 12
    assert history.counts[4] == 114
    assert (history.quality.n_duplicates, history.quality.n_conflicts) == (2, 1)


def test_a_known_count_wins_over_an_unknown_one_for_the_same_time(tmp_path: Path) -> None:
    text = "time,requests\n2026-03-01T00:00Z,\n2026-03-01T00:00Z,7\n2026-03-01T00:01Z,8\n"
    assert read_history(write(tmp_path, text)).counts.tolist() == [7, 8]


@pytest.mark.parametrize("interleaved", [True, False])
def test_an_hour_that_clocks_show_twice_is_told_apart_by_order(tmp_path: Path, interleaved: bool) -> None:
    # Paris, 2026-10-25: 03:00 summer time becomes 02:00 winter time.
    hours = ["01:00", "01:30", "02:00", "02:30", "02:00", "02:30", "03:00"]
    counts = [1, 2, 3, 4, 5, 6, 7]
    order = [0, 1, 2, 4, 3, 5, 6] if interleaved else range(7)
    text = "\n".join(["time,requests", *(f"2026-10-25 {hours[i]},{counts[i]}" for i in order)])
    history = read_history(write(tmp_path, text), time_zone="Europe/Paris")
    assert history.counts.tolist() == counts
    assert history.start == dt.datetime(2026, 10, 24, 23, tzinfo=UTC)
    assert history.quality.n_doubled_hour_rows == 4


def test_a_doubled_hour_written_once_is_the_first_showing_and_the_second_is_a_gap(tmp_path: Path) -> None:
    hours = [f"2026-10-25 0{hour}:00,{10 + hour}" for hour in range(5)]
    history = read_history(write(tmp_path, "\n".join(["time,requests", *hours])), time_zone="Europe/Paris")
    assert np.isnan(history.counts).tolist() == [False, False, False, True, False, False]


def test_a_time_that_clocks_skipped_is_left_out_and_reported(tmp_path: Path) -> None:
    hours = [f"2026-03-29 0{hour}:00,{10 + hour}" for hour in range(6)]  # 02:00 does not exist in Paris
    history = read_history(write(tmp_path, "\n".join(["time,requests", *hours])), time_zone="Europe/Paris")
    assert history.counts.tolist() == [10, 11, 13, 14, 15]
    assert history.quality.n_skipped_hour_rows == 1
    assert "check the zone" in " ".join(history.notes)


def test_outages_and_frozen_counters_are_unknown_in_what_is_read(tmp_path: Path) -> None:
    values: list[object] = [200 + (7 * i) % 41 for i in range(240)]
    values[60:80] = [0] * 20
    values[150:190] = [211] * 40
    history = read_history(write(tmp_path, minutes(values)))
    assert np.isnan(history.counts[60:80]).all()
    assert np.isnan(history.counts[150:190]).all()
    assert history.quality.n_outage_steps == 20
    assert history.quality.n_frozen_steps == 40
    assert history.quality.n_unknown_steps == 60


def test_a_nightly_hole_is_named_in_the_notes(tmp_path: Path) -> None:
    times = pd.date_range("2026-03-01", periods=20 * 24 * 4, freq="15min")
    keep = ~((times.hour == 3) & (times.minute < 30))
    table = pd.DataFrame({"time_utc": times, "requests": 50 + np.arange(times.size) % 13})[keep]
    table.to_csv(tmp_path / "hole.csv", index=False)
    notes = " ".join(read_history(tmp_path / "hole.csv").notes)
    assert "From 03:00 to 03:30 UTC nothing is known on most days (20 of them)" in notes


def test_a_tidy_history_says_so(tmp_path: Path) -> None:
    history = read_history(write(tmp_path, minutes([3, 4, 5])))
    assert history.notes == ["No gap, repeat or disorder was found."]


# What is refused: (text, options, what the sentence must hold)

BAD = {
    "negative count": (minutes([3, -4, 5]), {}, ["row 2", "column requests", "negative", "empty cell"]),
    "text for a number": (minutes([3, "four", 5]), {}, ["row 2", "column requests", "'four'", "mend the cell"]),
    "infinite count": (minutes([3, "inf", 5]), {}, ["row 2", "column requests", "infinite"]),
    "no count at all": (minutes(["", "", ""]), {}, ["column requests", "--count-column"]),
    "empty file": ("", {}, ["empty", "time and a count column"]),
    "header only": ("time,requests\n", {}, ["no rows"]),
    "one row": (minutes([3]), {}, ["one time only"]),
    "no time column": ("a,b\n1,2\n2,3\n", {}, ["time", "a, b", "--time-column"]),
    "no count column": ("time,who\n2026-03-01T00:00Z,x\n2026-03-01T00:01Z,y\n", {}, ["row 1", "column who", "'x'"]),
    "two count columns": ("time,a,b\n2026-03-01T00:00Z,1,2\n", {}, ["a, b", "--count-column"]),
    "unknown time column": (minutes([1, 2]), {"time_column": "when"}, ["'when'", "time, requests"]),
    "unknown count column": (minutes([1, 2]), {"count_column": "n"}, ["'n'", "time, requests"]),
    "columns of one name": ("time,requests,requests \n2026-03-01T00:00Z,1,2\n", {}, ["two columns", "'requests'"]),
    "no zone": ("time,requests\n2026-03-01 00:00,1\n2026-03-01 00:01,2\n", {}, ["no zone", "--timezone"]),
    "mixed zones": ("time,requests\n2026-03-01T00:00Z,1\n2026-03-01 00:01,2\n", {}, ["row 2", "no zone", "one way"]),
    "unreadable time": (
        "time,requests\n2026-03-01T00:00Z,1\nyesterdayZ,2\n", {}, ["row 2", "'yesterdayZ'", "ISO 8601"],
    ),
    "empty time": ("time,requests\n2026-03-01T00:00Z,1\n,2\n", {}, ["row 2", "the time is empty"]),
    "plain numbers as times": ("time,requests\n1,1\n2,2\n", {}, ["column time", "plain numbers", "2026-03-01T"]),
    "a flag that is none": (
        "time,requests,missing\n2026-03-01T00:00Z,1,perhaps\n2026-03-01T00:01Z,1,no\n", {},
        ["row 1", "column missing", "'perhaps'"],
    ),
    "off the grid": (
        minutes([1] * 9).replace("00:05:00Z", "00:05:17Z"), {}, ["00:05:17", "off the grid of 60 s"],
    ),
    "two series in one": (
        "\n".join([minutes([1, 2, 3, 4]), *minutes([7, 8, 9, 9]).splitlines()[1:]]), {},
        ["4 rows repeat", "add them up"],
    ),
    "a step that changes": (
        "\n".join([minutes([1] * 60), *(f"2026-03-02T{i:02d}:00:00Z,60" for i in range(24))]), {},
        ["3600 s apart", "60 s elsewhere", "split the file"],
    ),
    "a year that cannot be": (minutes([1, 2, 3]) + "\n2226-03-01T00:00:00Z,4", {}, ["too many to be meant"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_sentence_that_names_file_place_and_remedy(tmp_path: Path, case: str) -> None:
    text, options, expected = BAD[case]
    path = write(tmp_path, text)
    with pytest.raises(InvalidHistory) as refusal:
        read_history(path, **options)
    sentence = str(refusal.value)
    assert sentence.startswith(f"{path}: ")
    assert "\n" not in sentence
    for part in expected:
        assert part in sentence


def test_an_unknown_file_or_name_is_refused_with_the_shipped_names() -> None:
    with pytest.raises(InvalidHistory, match=r"worldcup89: no such file.*worldcup98"):
        read_history("worldcup89")
    assert "worldcup98" in shipped_histories()


def test_a_folder_and_a_broken_parquet_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidHistory, match="is a folder"):
        read_history(tmp_path)
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(InvalidHistory, match=r"x\.parquet: cannot be read as a table"):
        read_history(tmp_path / "x.parquet")


def test_an_unknown_zone_is_refused_with_the_nearest_names(tmp_path: Path) -> None:
    with pytest.raises(UnknownZone, match="Europe/Paris"):
        read_history(write(tmp_path, minutes([1, 2])), time_zone="Europe/Pariss")


# What a history can do


def hourly(values: list[float], start: dt.datetime = dt.datetime(2026, 3, 1, tzinfo=UTC)) -> RequestHistory:
    """Return a small hourly history."""
    return RequestHistory("small", start, 3600, np.array(values, dtype=float))


def test_between_returns_whole_steps_and_until_what_had_ended() -> None:
    history = hourly([1, 2, 3, 4])
    half_past = history.start + dt.timedelta(minutes=30)
    part = history.between(half_past, history.start + dt.timedelta(hours=3, minutes=59))
    assert (part.start, part.counts.tolist()) == (history.start + dt.timedelta(hours=1), [2, 3])
    assert history.until(half_past + dt.timedelta(hours=2)).counts.tolist() == [1, 2]
    with pytest.raises(InvalidHistory, match=r"nothing between .* it covers 2026-03-01 00:00 to 2026-03-01 04:00"):
        history.until(half_past)


def test_resampling_keeps_requests_aligns_to_the_clock_and_bridges_half_known_steps() -> None:
    start = dt.datetime(2026, 3, 1, 1, tzinfo=UTC)
    coarse = hourly([1, 5, 7, np.nan, 9, np.nan, np.nan, 4, 4], start).resampled(7200)
    assert coarse.start == start + dt.timedelta(hours=1)
    assert coarse.counts.tolist()[:2] == [12, 18]  # 9 requests in a known hour stand for 18 in two
    assert np.isnan(coarse.counts[2])
    assert coarse.counts[3] == 8
    with pytest.raises(InvalidHistory, match="multiple of 3600"):
        hourly([1, 2]).resampled(5400)


def test_a_shift_keeps_weekdays_and_a_digest_names_the_content() -> None:
    history = hourly([1, 2, np.nan])
    later = history.shifted(1486)
    assert later.start.weekday() == history.start.weekday()
    assert later.digest() != history.digest() == hourly([1, 2, np.nan]).digest()
    assert hourly([1, 2, 3]).digest() != history.digest()
    assert history.load_rps()[1] == 2 / 3600
    assert history.thinned(0.5).counts.tolist()[:2] == [0.5, 1]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RequestHistory("h", dt.datetime(2026, 3, 1), 60, np.ones(2)), "no time zone"),
        (lambda: RequestHistory("h", dt.datetime(2026, 3, 1, tzinfo=UTC), 0, np.ones(2)), "step of 0 s"),
        (lambda: hourly([]), "no steps"),
        (lambda: hourly([1, -1]), "negative"),
        (lambda: hourly([1, 1]).thinned(0.0), "keep_ratio"),
        (lambda: hourly([1, 1]).resampled(86_400), "shorter than one step"),
    ],
)
def test_a_history_that_cannot_be_is_refused(make: object, said: str) -> None:
    with pytest.raises(InvalidHistory, match=said):
        make()  # type: ignore[operator]
