"""How honest the drift report is: the short form of `make drift-honesty`, and that it sees a dishonest one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from flows.adapters.data_store import open_store
from flows.demo_plan import DATA
from flows.domain import drift
from flows.domain.features import BANK_MARKETING_LEAKS, infer_schema
from flows.drift_honesty import count_false_alarms, judge_month, main
from simulation.plan_file import read_plan

N_REPORTS = 150
PLAN = read_plan(Path(__file__).parents[2] / "examples" / "plan.yaml")


def most_alarms(n: int) -> float:
    """Return the largest count with a chance over 1e-5 at a true rate of 5 %."""
    return float(stats.binom.ppf(1 - 1e-5, n, 0.05))


@pytest.mark.theory
@pytest.mark.parametrize(("n_rows", "n_columns"), [(100, 5), (100, 20), (500, 20)])
def test_drift_free_reports_alarm_as_seldom_as_they_say(n_rows: int, n_columns: int) -> None:
    n_alarms, n = count_false_alarms(n_rows, n_columns, N_REPORTS, 0, seed=2).ours
    assert n_alarms <= most_alarms(n)


@pytest.mark.theory
def test_a_report_that_takes_each_column_alone_would_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def alone(observed: np.ndarray, dealt: np.ndarray) -> np.ndarray:
        return np.asarray((1 + (dealt >= observed).sum(axis=0)) / (1 + len(dealt)))

    monkeypatch.setattr(drift, "_step_down", alone)
    n_alarms, n = count_false_alarms(100, 20, 60, 0, seed=2).ours
    assert n_alarms > most_alarms(n)


def test_a_real_month_is_found_to_have_moved_and_its_promise_is_held_against_its_labels() -> None:
    store = open_store(DATA)
    schema = infer_schema(store.frame, label="label", leaks=BANK_MARKETING_LEAKS)
    months = store.months()
    envelope = PLAN.training.envelope.model_copy(update={"nice": 0, "cpus": 64.0})
    training = PLAN.training.model_copy(update={"rounds": 20, "envelope": envelope})
    past, current = store.snapshot(months[0], months[9]), store.snapshot(months[9], months[10])
    row = judge_month(past, current, schema, training, evidently=False)
    assert row.n_moved >= 6
    assert 0 < row.true_auc < 1
    assert row.auc.low < row.auc.value < row.auc.high
    assert row.month in row.line()


def test_a_file_that_is_none_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", "nowhere.parquet"]) == 2
    assert "is no shipped data set and no file" in capsys.readouterr().err


def test_a_leak_that_is_not_there_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = pd.date_range("2020-01-01", periods=3, tz="UTC")
    pd.DataFrame({"event_time": times, "label": [0, 1, 0], "x": [1, 2, 3]}).to_parquet(tmp_path / "rows.parquet")
    assert main(["--data", str(tmp_path / "rows.parquet"), "--leaks", "gone"]) == 2
    assert "column 'gone' is not in the frame" in capsys.readouterr().err
