"""Speeds of the command line: `lull --help`, and `lull windows` on 88 days of minutes, imports apart."""

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import import_module

REPEATS = 7


def seconds_of_process(arguments: Sequence[str]) -> list[float]:
    """Return the wall seconds of several runs of a Python process; the highest is often the first, on cold caches."""
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    return seconds


def show(what: str, seconds: Sequence[float]) -> None:
    """Print median and range."""
    middle, low, high = statistics.median(seconds), min(seconds), max(seconds)
    print(f"{what:<58} {middle:7.3f} s   ({low:.3f} to {high:.3f}, {len(seconds)} runs)")


def main() -> None:
    """Print the figures that the project promises: help under 0.4 s, windows under 1 s beyond its imports."""
    show("python -c pass", seconds_of_process(["-c", "pass"]))
    show("lull --help", seconds_of_process(["-m", "flows.cli", "--help"]))
    call = ["-m", "flows.cli", "windows", "worldcup98", "--timezone", "Europe/Paris", "--duration", "120"]
    show("lull windows worldcup98, whole process", seconds_of_process(call))
    show("its imports", seconds_of_process(["-c", "import flows.cli, flows.commands.windows"]))

    read_history = import_module("simulation.traffic.read_history").read_history
    forecast = import_module("simulation.traffic.forecast").forecast
    find_windows = import_module("simulation.planning.windows").find_windows
    parts: dict[str, list[float]] = {"read": [], "forecast": [], "windows": []}
    for _ in range(REPEATS):
        began = time.perf_counter()
        history = read_history("worldcup98", time_zone="Europe/Paris")
        read = time.perf_counter()
        load = forecast(history, time_zone="Europe/Paris")
        known = time.perf_counter()
        find_windows(load, duration_min=120.0, time_zone="Europe/Paris")
        found = time.perf_counter()
        for name, took_s in zip(parts, (read - began, known - read, found - known), strict=True):
            parts[name].append(took_s)
    print(
        f"In one process, {history.counts.size:,} minutes ({history.counts.size / 1440:.0f} days), first run included:"
    )
    for name, seconds in parts.items():
        show(f"  {name}", seconds)
    show("  together", [sum(run) for run in zip(*parts.values(), strict=True)])


if __name__ == "__main__":
    main()
