"""Reading the answer of a Prometheus range query (`/api/v1/query_range`): start at `read_prometheus`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simulation.errors import InvalidHistory
from simulation.traffic.history import FloatArray


def read_prometheus(path: Path, place: str) -> pd.DataFrame:
    """
    Return a table with `time_utc`, `requests` and a column per label; one row per series and step.

    A series whose name ends in `_total` is a counter: its growth is counted, and a fall is a restart from 0. Any
    other series is a rate, requests per second over the step before each sample. A sample that is absent, or NaN, is
    a gap; the samples of a series lie a step apart, the most frequent distance of all of them.

    Raises
    ------
    InvalidHistory
        If the file is no JSON, no successful matrix, holds no samples, or a value is not a number.

    References
    ----------
    Prometheus, "HTTP API": range queries, result type `matrix`.
    """
    series = _matrix(path, place)
    tables = []
    samples = [_samples(one, place) for one in series]
    gaps = np.concatenate([np.diff(times) for times, _ in samples])
    if gaps.size == 0:
        raise InvalidHistory(f"{place}: no series holds two samples; query a longer range")
    values, frequency = np.unique(gaps, return_counts=True)
    step_s = int(values[frequency.argmax()])
    for one, (times, value) in zip(series, samples, strict=True):
        labels = dict(one.get("metric", {}))
        if str(labels.pop("__name__", "")).endswith("_total"):
            growth = np.where(np.diff(value) < 0, value[1:], np.diff(value))
            adjacent = np.diff(times) == step_s  # growth over a gap belongs to no step of it
            begins, counts = times[:-1][adjacent], growth[adjacent]
        else:
            begins, counts = times - step_s, value * step_s
        known = np.isfinite(counts)
        table = pd.DataFrame({"time_utc": pd.to_datetime(begins[known], unit="s"), "requests": counts[known]})
        tables.append(table.assign(**labels))
    return pd.concat(tables, ignore_index=True)


def _matrix(path: Path, place: str) -> list[dict[str, Any]]:
    """Return the series of the answer, or say why there are none."""
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise InvalidHistory(f"{place}: is no JSON ({problem}); save the answer of query_range as it came") from None
    data = answer.get("data", {}) if isinstance(answer, dict) else {}
    if not isinstance(data, dict) or answer.get("status") != "success" or data.get("resultType") != "matrix":
        raise InvalidHistory(
            f"{place}: is not the answer of a Prometheus range query that succeeded; ask /api/v1/query_range"
        )
    if not data.get("result"):
        raise InvalidHistory(f"{place}: the query found no series; check its metric and its range")
    return list(data["result"])


def _samples(series: dict[str, Any], place: str) -> tuple[FloatArray, FloatArray]:
    """Return times (whole seconds since the epoch) and values of a series."""
    try:
        pairs = [(float(time), float(value)) for time, value in series["values"]]
    except (KeyError, TypeError, ValueError):
        raise InvalidHistory(
            f"{place}: series {series.get('metric')}: a sample is no [time, value]; save the answer as it came"
        ) from None
    array = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return np.round(array[:, 0]), array[:, 1]
