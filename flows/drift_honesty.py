"""
How honest the drift report is: `make drift-honesty` counts its false alarms, its finds, and how its promises held.

Start at `main`. Drift-free worlds are drawn; the real months are the shipped data's, or those of a file that is named.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from flows.adapters.data_store import FrameStore, Snapshot, next_month, open_store
from flows.adapters.drift import measure_drift
from flows.demo_plan import DATA, FIRST_MONTH, make_demo_plan
from flows.domain.data_quality import columns_of
from flows.domain.drift import deal_rows, find_shifts
from flows.domain.evaluation import log_loss, one_minus_auc, score_shift
from flows.domain.features import BANK_MARKETING_LEAKS, FeatureSchema, infer_schema
from flows.drift_findings import SCORE, measure
from flows.gateway.predictor import Predictor
from flows.training import held_for_calibration, train
from simulation.errors import LullError
from simulation.plan import Training
from simulation.statistics import Estimate, probability_interval

SIZES, WIDTHS = (100, 500, 5000), (5, 20, 100)
N_REPORTS, N_EVIDENTLY = 400, 10
_N_RANKED = 99  # the rate is exact for any number of dealings; few are quick, and cost only some power
_PSI_LIMIT = 0.2
# The rarest has one row in nine: with rarer ones Evidently's chi-square finds p = 0 as soon as the reference lacks one.
_EDGES = (-1.5, -0.75, 0.0, 0.75, 1.5)


@dataclass(frozen=True)
class FalseAlarms:
    """Reports with an alarm on one drift-free world, among how many, by three ways of looking."""

    n_rows: int
    n_columns: int
    ours: tuple[int, int]
    psi: tuple[int, int]
    evidently: tuple[int, int]

    def line(self) -> str:
        """Return the row of the table."""
        cells = "".join(f"{_share(*pair):>26}" for pair in (self.ours, self.psi, self.evidently))
        return f"{self.n_rows:>7,}{self.n_columns:>9}{cells}"


@dataclass(frozen=True)
class MonthRow:
    """One month held against the months before it, and what its labels said later."""

    month: str
    n_rows: int
    n_columns: int
    n_moved: int
    is_score_moved: bool
    n_psi: int
    n_evidently: int | None
    worst: str
    auc: Estimate
    true_auc: float
    log_loss: Estimate
    true_log_loss: float

    def line(self) -> str:
        """Return the row of the table."""
        evidently = "-" if self.n_evidently is None else str(self.n_evidently)
        return (
            f"{self.month:<8}{self.n_rows:>7,}{self.n_moved:>5} of {self.n_columns:<3}"
            f"{'yes' if self.is_score_moved else 'no':>6}{self.n_psi:>5}{evidently:>10}  {self.worst:<26}"
            f"{_held(self.auc, self.true_auc)}{_held(self.log_loss, self.true_log_loss)}"
        )


def drift_free(rng: np.random.Generator, n_rows: int, n_columns: int) -> pd.DataFrame:
    """Return rows of one world whose columns hang together: three in five numbers, some rounded or with gaps."""
    common, columns = rng.normal(size=n_rows), {}
    for i in range(n_columns):
        values = 0.7 * common + rng.normal(size=n_rows)
        if i % 5 == 1:
            values = np.round(np.exp(values))
        elif i % 5 == 2:
            values = np.where(rng.random(n_rows) < 0.03, np.nan, values)
        is_number = i % 5 < 3
        columns[f"c{i}"] = values if is_number else np.array(list("abcdef"))[np.digitize(values, _EDGES)]
    return pd.DataFrame(columns)


def count_false_alarms(n_rows: int, n_columns: int, n_reports: int, n_evidently: int, seed: int) -> FalseAlarms:
    """Report on pairs of drift-free samples of `n_rows` each, and count the reports in which any column alarms."""
    rng = np.random.default_rng([seed, n_rows, n_columns])
    ours = psi = evidently = 0
    schema = infer_schema(drift_free(rng, 50_000, n_columns).assign(label=0), label="label")
    for report in range(n_reports):
        whole = drift_free(rng, 2 * n_rows, n_columns)
        reference, current = whole[:n_rows], whole[n_rows:]
        features, _ = columns_of(reference, current, schema)
        ours += bool(find_shifts(features, deal_rows(rng, n_rows, n_rows, _N_RANKED)).moved)
        psi += psi_alarms(reference, current, schema) > 0
        if report < n_evidently:
            evidently += any(c.is_drifted for c in measure_drift(reference, current, schema, None).columns)
    return FalseAlarms(n_rows, n_columns, (ours, n_reports), (psi, n_reports), (evidently, min(n_evidently, n_reports)))


def psi_alarms(reference: pd.DataFrame, current: pd.DataFrame, schema: FeatureSchema) -> int:
    """Return how many number columns have a population stability index over 0.2."""
    names = [column.name for column in schema.columns if column.kind == "number"]
    pairs = [(reference[n].dropna().to_numpy(np.float64), current[n].dropna().to_numpy(np.float64)) for n in names]
    return sum(score_shift(a, b) > _PSI_LIMIT for a, b in pairs if a.size and b.size)


def judge_months(
    store: FrameStore, schema: FeatureSchema, training: Training, first: int = 1, evidently: bool = True
) -> Iterator[MonthRow]:
    """Yield each month against a model trained on all months before it; months of one class have no true AUC."""
    months = store.months()
    for month in months[first:]:
        past, current = store.snapshot(months[0], month), store.snapshot(month, next_month(month))
        yield judge_month(past, current, schema, training, evidently)


def judge_month(
    past: Snapshot, current: Snapshot, schema: FeatureSchema, training: Training, evidently: bool
) -> MonthRow:
    """Train on the past, report on the month, and hold the promise against its labels."""
    model = train(past, schema, training)
    predictor = Predictor(model.text, model.calibration)
    reference = past.frame[held_for_calibration(len(past.frame), training.calibration_ratio)]
    found = measure(reference, current.frame, schema, predictor.predict_many, seed=1)
    assert found.promise is not None  # there is a model, and the frames are those it was trained on
    assert found.current_scores is not None
    labels = current.frame[schema.label].to_numpy(np.float64)
    moved = [column.name for column in found.shifts.moved]
    worst = max(found.losses, key=lambda name: found.losses[name].log_loss, default="")
    return MonthRow(
        month=f"{current.since:%Y-%m}",
        n_rows=len(current.frame),
        n_columns=len(schema.columns),
        n_moved=len(set(moved) - {SCORE}),
        is_score_moved=SCORE in moved,
        n_psi=psi_alarms(reference, current.frame, schema),
        n_evidently=sum(c.is_drifted for c in measure_drift(reference, current.frame, schema, None).columns)
        if evidently
        else None,
        worst=f"{worst} {found.losses[worst].log_loss:.4f}" if worst else "-",
        auc=found.promise.auc,
        true_auc=1 - one_minus_auc(labels, found.current_scores),
        log_loss=found.promise.log_loss,
        true_log_loss=log_loss(labels, found.current_scores),
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; return 1 if the drift-free reports alarm more often than they say, 2 for a wrong call."""
    asked = _parser().parse_args(arguments)
    try:
        store = open_store(asked.data)
        leaks = [name for name in asked.leaks.split(",") if name]
        schema = infer_schema(store.frame, label=asked.label, leaks=leaks)
        is_kept = True if asked.months_only else print_false_alarms(asked.reports, asked.evidently)
        print_months(store, schema, asked.first, asked.evidently > 0)
    except LullError as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0 if is_kept else 1


def print_false_alarms(n_reports: int, n_evidently: int) -> bool:
    """Print how often drift-free reports alarm; return whether 5 % lies within or over the pooled exact interval."""
    print("Drift-free reports with at least one alarm, 95 % exact intervals; as many reference as current rows")
    print(f"{'rows':>7}{'columns':>9}{'this report':>26}{'PSI > 0.2':>26}{'Evidently, defaults':>26}")
    n_alarms = n_in_all = 0
    for n_rows in SIZES:
        for n_columns in WIDTHS:
            n = max(1, n_reports // 4) if n_rows == max(SIZES) else n_reports
            row = count_false_alarms(n_rows, n_columns, n, n_evidently, seed=1)
            print(row.line(), flush=True)
            n_alarms, n_in_all = n_alarms + row.ours[0], n_in_all + row.ours[1]
    print(f"{'all':>7}{'':>9}{_share(n_alarms, n_in_all):>26}\n")
    return probability_interval(n_alarms, n_in_all, 0.975).low <= 0.05


def print_months(store: FrameStore, schema: FeatureSchema, first: int, evidently: bool) -> None:
    """Print each month's drift and what was promised for it, and how often the promise held."""
    training = make_demo_plan(FIRST_MONTH).plan.training
    print(
        "Each month against the rows before it that were held out of training; "
        "promised [95 % interval] and true, ! if outside"
    )
    print(
        f"{'month':<8}{'rows':>7}{'moved':>11}{'score':>6}{'PSI':>5}{'Evidently':>10}  {'costliest, nats per row':<26}"
        f"{'AUC':<34}{'log loss':<34}"
    )
    rows = []
    for row in judge_months(store, schema, training, first, evidently):
        print(row.line(), flush=True)
        rows.append(row)
    for name, pairs in (
        ("AUC", [(r.auc, r.true_auc) for r in rows if np.isfinite(r.true_auc)]),
        ("log loss", [(r.log_loss, r.true_log_loss) for r in rows]),
    ):
        n_bounded = sum(np.isfinite(e.low + e.high) for e, _ in pairs)
        n_held = sum(e.low <= truth <= e.high for e, truth in pairs)
        gap = float(np.median([abs(e.value - truth) for e, truth in pairs])) if pairs else float("nan")
        print(f"{name}: the promise held in {n_held} of {n_bounded} months that bound it; median gap {gap:.3f}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.drift_honesty", description=__doc__)
    parser.add_argument("--data", default=DATA, help="a shipped data set or a Parquet file with event_time and label")
    parser.add_argument("--label", default="label", help="the column to predict")
    parser.add_argument("--leaks", default=",".join(BANK_MARKETING_LEAKS), help="columns left out, by commas")
    parser.add_argument("--first", type=int, default=1, help="months that only train")
    parser.add_argument(
        "--reports", type=int, default=N_REPORTS, help="drift-free reports per size; a quarter at 5,000"
    )
    parser.add_argument("--evidently", type=int, default=N_EVIDENTLY, help="how many of them Evidently judges too")
    parser.add_argument("--months-only", action="store_true", help="leave the drift-free reports out")
    return parser


def _share(n_hits: int, n: int) -> str:
    if not n:
        return "not run"
    exact = probability_interval(n_hits, n, 0.975)
    return f"{n_hits} of {n} ({exact.low:.1%} to {exact.high:.1%})"


def _held(promised: Estimate, truth: float) -> str:
    is_broken = truth < promised.low or truth > promised.high  # NaN bounds promise nothing
    mark = "!" if is_broken else " "
    return f"{promised.value:.3f} [{promised.low:.3f}, {promised.high:.3f}] {truth:.3f}{mark}".ljust(34)


if __name__ == "__main__":
    sys.exit(main())
