"""The drift report's story on real rows: what is compared, and each odd month as a sentence instead of a traceback."""

import datetime as dt
import logging
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows import report_drift as flow_file
from flows.adapters.audit import AuditFile
from flows.adapters.data_store import FrameStore, open_store
from flows.adapters.model_registry import InMemoryRegistry
from flows.demo_plan import DATA
from flows.domain.features import bank_marketing_schema
from flows.drift_findings import SCORE
from flows.gateway.model_package import canary_rows
from flows.report_drift import Compared, _record, compare_months, nothing_compared
from flows.training import train
from reports.records import DriftColumn, DriftRecord, TrainingRecord
from simulation.plan import Plan
from simulation.plan_file import read_plan

PLAN = read_plan(Path(__file__).parents[2] / "examples" / "plan.yaml")
NOW = dt.datetime(2008, 8, 3, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Return 700 rows of each of three months; every one counts once."""
    months = open_store(DATA).frame.query("seq < 18822")
    return months.groupby(months["event_time"].dt.month, group_keys=False).sample(700, random_state=1)


@dataclass
class World:
    """As much of a wired cycle as the report looks at; the trained model is kept by the in-memory registry."""

    home: Path
    frame: pd.DataFrame
    now: dt.datetime = NOW
    plan: Plan = field(default_factory=lambda: PLAN)
    training: TrainingRecord | None = None

    def __post_init__(self) -> None:
        self.registry = InMemoryRegistry("bank", self.home / "models")
        self.settings = SimpleNamespace(reports=self.home / "reports")
        self.cycle = SimpleNamespace(name="2008-07", plan=self.plan, now=lambda: self.now)

    def store(self) -> FrameStore:
        return FrameStore(self.frame, "rows")

    def trained(self) -> "World":
        """Train on the months before the newest one."""
        store = self.store()
        months = store.months()
        past, schema = store.snapshot(months[0], months[-1]), bank_marketing_schema(self.frame)
        # Not the night's envelope: its niceness would stay with the tests that follow.
        envelope = self.plan.training.envelope.model_copy(update={"nice": 0, "cpus": 64.0})
        model = train(past, schema, self.plan.training.model_copy(update={"rounds": 20, "envelope": envelope}))
        version = self.registry.register(model, schema, canary_rows(past.frame, schema), {}).version
        self.training = TrainingRecord(
            cycle="2008-07", status="trained", reason="", model="bank", version=version, champion_version=None,
            is_bootstrap=False, data_name="rows", rows=len(past.frame), positive_ratio=0.1, data_from="", data_until="",
            data_digest=past.digest, model_digest="", rounds=20, seconds_per_step={}, importance=model.importance,
            envelope={}, clock="", run_id="",
        )  # fmt: skip
        return self

    def report(self) -> DriftRecord:
        wired: Any = self
        found = compare_months.fn(wired, self.training)
        if isinstance(found, str):
            return nothing_compared(wired, found)
        assert isinstance(found, Compared)
        return _record(wired, found, self.training)


def july(rows: pd.DataFrame) -> pd.Series:
    return rows["event_time"].dt.month == 7


def told(record: DriftRecord) -> str:
    return " ".join(check.sentence for check in record.quality)


def column(record: DriftRecord, name: str) -> DriftColumn:
    return next(c for c in record.columns if c.column == name)


def test_a_month_is_held_against_held_out_rows_with_scores_losses_and_promises(
    tmp_path: Path, rows: pd.DataFrame
) -> None:
    record = World(tmp_path, rows).trained().report()
    assert record.current_rows == 700
    assert record.reference_rows == 280, "a fifth of the past was held out of the trees"
    moved = [c for c in record.columns if c.is_drifted and c.column != SCORE]
    assert {"euribor3m", "month"} <= {c.column for c in moved}
    assert all(np.isfinite(c.log_loss) and c.movement for c in moved)
    assert [p.metric for p in record.promises] == ["AUC", "log loss", "share of positives"]
    assert all(np.isfinite(p.truth) for p in record.promises)
    assert record.evidently_version
    assert (tmp_path / "reports" / "2008-07" / "evidently.html").is_file()


def test_without_a_model_columns_are_compared_and_the_reason_is_told(tmp_path: Path, rows: pd.DataFrame) -> None:
    record = World(tmp_path, rows).report()
    assert record.promises == []
    assert record.reference_rows == 1400
    assert "left out: this cycle has no trained model" in told(record)


def test_a_model_of_other_rows_is_not_asked(tmp_path: Path, rows: pd.DataFrame) -> None:
    world = World(tmp_path, rows).trained()
    world.frame = rows.drop(rows.index[:1])
    assert "no longer those that the model was trained on" in told(world.report())


@pytest.mark.parametrize(
    ("now", "sentence"),
    [
        (dt.datetime(2008, 5, 20, tzinfo=dt.UTC), "No month with rows had ended by 2008-05-20"),
        (dt.datetime(2008, 6, 2, tzinfo=dt.UTC), "2008-05 is the first month with rows"),
    ],
)
def test_an_empty_reference_is_a_sentence(tmp_path: Path, rows: pd.DataFrame, now: dt.datetime, sentence: str) -> None:
    record = World(tmp_path, rows, now=now).report()
    assert record.problem.startswith(sentence)
    assert record.columns == []


def test_a_flow_without_reference_ends_well_and_its_audit_line_is_plain_json(
    tmp_path: Path, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, rows, now=dt.datetime(2008, 6, 2, tzinfo=dt.UTC))
    folder = tmp_path / "cycles" / "2008-07"
    folder.mkdir(parents=True)
    world.cycle.path = lambda name: folder / name
    world.settings.home = tmp_path
    pages: dict[str, str] = {}
    wired = SimpleNamespace(cycle=world.cycle, settings=world.settings, store=world.store, registry=world.registry,
                            audit=AuditFile(tmp_path / "audit.jsonl"))  # fmt: skip
    monkeypatch.setattr(flow_file, "wire", lambda *_: wired)
    monkeypatch.setattr(flow_file, "compare_months", compare_months.fn)
    monkeypatch.setattr(flow_file, "create_markdown_artifact", lambda key, markdown: pages.update({key: markdown}))
    monkeypatch.setattr(flow_file, "get_run_logger", lambda: logging.getLogger("drift"))
    assert flow_file.report_drift.fn("2008-07") is None
    assert "Nobody can tell: 2008-05 is the first month with rows" in pages["lull-drift"]
    assert "NaN" not in (tmp_path / "audit.jsonl").read_text(encoding="utf-8")


def test_a_month_without_traffic_is_a_sentence(tmp_path: Path, rows: pd.DataFrame) -> None:
    record = World(tmp_path, rows, now=dt.datetime(2008, 10, 2, tzinfo=dt.UTC)).report()
    assert "No rows came from 2008-08-01 to 2008-10-01" in told(record)


def test_one_row_is_compared_and_shows_nothing_of_itself(tmp_path: Path, rows: pd.DataFrame) -> None:
    aged = rows.assign(age=np.where(july(rows), 97.25, rows["age"]))
    record = World(tmp_path, pd.concat([aged[~july(rows)], aged[july(rows)].head(1)])).report()
    assert record.current_rows == 1
    assert "Rows in the month: 1, outside the 700 to 700" in told(record)
    assert "the smaller set has 1, fewer than the 100 rows that the plan lets be shown" in told(record)
    assert record.evidently_page == ""
    assert "97" not in " ".join(c.movement for c in record.columns)


def test_a_new_category_is_found_and_a_small_one_is_named_nowhere(tmp_path: Path, rows: pd.DataFrame) -> None:
    places = np.flatnonzero(july(rows))[:40]
    job = rows["job"].astype(object).to_numpy().copy()
    job[places] = "lighthouse keeper"
    record = World(tmp_path, rows.assign(job=pd.Series(job, index=rows.index, dtype="str"))).report()
    assert column(record, "job").movement == (
        "fewer than 100 rows of the current data are in categories the reference lacks"
    )
    assert "lighthouse" not in repr(record)
    page = (tmp_path / "reports" / "2008-07" / "evidently.html").read_text(encoding="utf-8")
    assert "lighthouse" not in page


def test_a_category_written_in_another_way_is_told_as_such(tmp_path: Path, rows: pd.DataFrame) -> None:
    recoded = rows["contact"].where(~july(rows), rows["contact"].map({"cellular": "1", "telephone": None}))
    record = World(tmp_path, rows.assign(contact=recoded)).report()
    assert column(record, "contact").is_drifted
    assert "Column contact seems to be written in another way" in told(record)


def test_repeated_rows_are_left_out_and_counted(tmp_path: Path, rows: pd.DataFrame) -> None:
    record = World(tmp_path, pd.concat([rows, rows[july(rows)].head(50)])).report()
    assert record.current_rows == 700
    assert "50 rows repeat another row and are left out" in told(record)


def test_no_value_of_a_single_row_reaches_the_record(tmp_path: Path, rows: pd.DataFrame) -> None:
    marked = rows.copy()
    marked.loc[rows.index[july(rows)][0], ["age", "campaign"]] = [119, 887766]
    record = World(tmp_path, marked).trained().report()
    assert "119" not in " ".join(c.movement for c in record.columns)
    assert "887766" not in repr(record)
    assert "887766" not in (tmp_path / "reports" / "2008-07" / "evidently.html").read_text(encoding="utf-8")
