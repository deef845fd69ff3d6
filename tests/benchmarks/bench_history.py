"""Speeds of histories: a request log of five million lines, a forecast of 3 years, a year of daily decisions."""

import datetime as dt
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from simulation.traffic.backtest import backtest
from simulation.traffic.forecast import forecast
from simulation.traffic.history import RequestHistory

N_LINES = 5_000_000
READ = """
import resource, sys, time
from simulation.traffic.read_history import read_history
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, began = peak(), time.perf_counter()
read_history(sys.argv[1])
print(time.perf_counter() - began, before, peak())
"""
START = dt.datetime(2023, 1, 2, tzinfo=dt.UTC)


def three_years(step_s: int = 1800) -> RequestHistory:
    """Return 3 years of half-hours with a daily and a weekly pattern and a level that wanders."""
    rng = np.random.default_rng(1)
    hours = np.arange(3 * 365 * 86_400 // step_s) * step_s / 3600
    weekend = np.where(hours // 24 % 7 >= 5, 0.6, 1.0)
    level = np.exp(np.repeat(rng.normal(0, 0.02, 3 * 365).cumsum(), 86_400 // step_s))
    mean = 5000 * level * weekend * (1 - 0.8 * np.cos(2 * np.pi * (hours - 4) / 24))
    return RequestHistory("three years", START, step_s, rng.poisson(mean).astype(float))


def write_log(path: Path, n_lines: int) -> None:
    """Write the times of requests that come at random over five days per five million."""
    lines_per_s = 5_000_000 / (5 * 86_400)
    rng = np.random.default_rng(2)
    with path.open("w") as file:
        for begin in range(0, n_lines, 1_000_000):
            seconds = (begin + np.sort(rng.uniform(0, 1_000_000, min(1_000_000, n_lines - begin)))) / lines_per_s
            times = np.datetime64("2026-03-01", "s") + seconds.astype("timedelta64[s]")
            file.write("Z\n".join(np.datetime_as_string(times).tolist()) + "Z\n")


def main() -> None:
    """Print seconds, and the peak memory of a process that only reads, for a log and for one four times as long."""
    for n_lines in (N_LINES, 4 * N_LINES):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "requests.log"
            write_log(path, n_lines)
            call = [sys.executable, "-c", READ, str(path)]
            took_s, before_mib, after_mib = map(float, subprocess.check_output(call, text=True).split())
        print(f"request log, {n_lines:,} lines: {took_s:.2f} s, {n_lines / took_s / 1e6:.1f} M lines/s, ", end="")
        print(f"peak memory {after_mib:.0f} MiB ({before_mib:.0f} before reading)")
    long = three_years()
    began = time.perf_counter()
    forecast(long, time_zone="America/New_York", horizon_days=14)
    print(f"forecast of 3 years of half-hours, 14 days ahead: {time.perf_counter() - began:.2f} s")
    began = time.perf_counter()
    result = backtest(long, time_zone="America/New_York", last_days=365)
    print(f"backtest of {result.n_days} daily decisions on it: {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main()
