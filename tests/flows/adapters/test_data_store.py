"""Labelled rows by event time: half-open spans, finished months only, and refusals that name the column."""

import datetime as dt
from pathlib import Path

import pandas as pd
import pytest

from flows.adapters.data_store import FrameStore, InvalidData, months_before, next_month, open_store


def utc(month: int, day: int = 1, year: int = 2009) -> dt.datetime:
    """Return midnight of a day."""
    return dt.datetime(year, month, day, tzinfo=dt.UTC)


@pytest.fixture
def frame() -> pd.DataFrame:
    """Return five rows of four months, not in order."""
    times = pd.to_datetime(
        [
            "2009-03-31 23:59:59",
            "2009-01-01 00:00:00",
            "2009-02-28 00:00:00",
            "2009-05-02 00:00:00",
            "2009-03-01 00:00:00",
        ]
    )
    return pd.DataFrame({"event_time": times.tz_localize("UTC"), "label": [1, 0, 1, 0, 1], "age": [30, 40, 50, 60, 70]})


def test_a_span_holds_its_first_instant_and_not_its_last(frame: pd.DataFrame) -> None:
    found = FrameStore(frame, "rows").snapshot(utc(1), utc(3))
    assert found.frame["age"].tolist() == [40, 50]
    assert FrameStore(frame, "rows").snapshot(utc(3), utc(4)).frame["age"].tolist() == [70, 30]


def test_adjoining_spans_share_no_row_and_lose_none(frame: pd.DataFrame) -> None:
    store = FrameStore(frame, "rows")
    parts = [store.snapshot(utc(1), utc(3)), store.snapshot(utc(3), utc(6))]
    assert pd.concat([part.frame for part in parts])["age"].tolist() == store.frame["age"].tolist()


def test_months_without_rows_are_not_listed(frame: pd.DataFrame) -> None:
    assert FrameStore(frame, "rows").months() == [utc(1), utc(2), utc(3), utc(5)]


@pytest.mark.parametrize(("now", "n"), [(utc(4) - dt.timedelta(microseconds=1), 2), (utc(4), 3), (utc(6), 4)])
def test_a_month_counts_from_the_instant_it_has_ended(frame: pd.DataFrame, now: dt.datetime, n: int) -> None:
    assert len(months_before(FrameStore(frame, "rows").months(), now)) == n


@pytest.mark.parametrize(
    ("month", "after"), [(utc(1), utc(2)), (utc(2, year=2008), utc(3, year=2008)), (utc(12), utc(1, year=2010))]
)
def test_the_next_month_begins_where_the_calendar_says(month: dt.datetime, after: dt.datetime) -> None:
    assert next_month(month) == after


def test_equal_rows_in_any_order_of_the_file_have_one_digest_and_a_changed_label_has_another(
    frame: pd.DataFrame,
) -> None:
    span = utc(1), utc(6)
    digest = FrameStore(frame, "rows").snapshot(*span).digest
    assert FrameStore(frame.iloc[::-1], "rows").snapshot(*span).digest == digest
    assert FrameStore(frame.assign(label=[1, 0, 1, 0, 0]), "rows").snapshot(*span).digest != digest


def test_times_without_a_zone_are_utc_and_times_of_a_zone_are_moved_there(frame: pd.DataFrame) -> None:
    expected = FrameStore(frame, "rows").frame["event_time"].tolist()
    naive = frame.assign(event_time=frame["event_time"].dt.tz_localize(None))
    paris = frame.assign(event_time=frame["event_time"].dt.tz_convert("Europe/Paris"))
    assert FrameStore(naive, "rows").frame["event_time"].tolist() == expected
    assert FrameStore(paris, "rows").frame["event_time"].tolist() == expected


def test_an_empty_span_is_refused_by_its_dates(frame: pd.DataFrame) -> None:
    with pytest.raises(InvalidData, match="rows: has no rows from 2009-04-01 to 2009-05-01; choose another span"):
        FrameStore(frame, "rows").snapshot(utc(4), utc(5))


@pytest.mark.parametrize("column", ["event_time", "label"])
def test_a_missing_column_is_named(frame: pd.DataFrame, column: str) -> None:
    with pytest.raises(InvalidData, match=f"rows: has no column {column};"):
        FrameStore(frame.drop(columns=column), "rows")


def test_times_that_are_text_are_refused_by_the_column_s_name(frame: pd.DataFrame) -> None:
    with pytest.raises(InvalidData, match=r"rows: column event_time holds .* not times"):
        FrameStore(frame.assign(event_time="yesterday"), "rows")


def test_a_file_is_read_like_the_frame_it_was_written_from(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.to_parquet(tmp_path / "rows.parquet")
    span = utc(1), utc(6)
    found = open_store(str(tmp_path / "rows.parquet")).snapshot(*span)
    assert found.digest == FrameStore(frame, "rows").snapshot(*span).digest


def test_a_file_that_is_missing_or_broken_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="is no shipped data set and no file"):
        open_store(str(tmp_path / "none.parquet"))
    (tmp_path / "broken.parquet").write_text("event_time,label", encoding="utf-8")
    with pytest.raises(InvalidData, match=r"broken.parquet: is no Parquet file") as refusal:
        open_store(str(tmp_path / "broken.parquet"))
    assert "\n" not in str(refusal.value)


def test_the_shipped_data_open_by_name_and_cover_their_years() -> None:
    store = open_store("bank_marketing_2008_2010")
    assert (store.months()[0], store.months()[-1]) == (utc(5, year=2008), utc(11, year=2010))
    assert set(store.frame["label"].unique()) == {0, 1}
