"""How commands print: aligned columns for people, JSON without NaN for programs."""

import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulation.result import Trial


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1, text_last: bool = False) -> None:
    """
    Print columns as wide as their widest cell, never cut to a terminal.

    The first `left` columns are flush left, and with `text_last` the last one.
    """
    table = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    for n, row in enumerate(table):
        flush_left = [cell.ljust(w) for cell, w in zip(row[:left], widths[:left], strict=True)]
        cells = flush_left + [cell.rjust(w) for cell, w in zip(row[left:], widths[left:], strict=True)]
        if text_last:
            cells[-1] = row[-1]
        print("  ".join(cells).rstrip())
        if n == 0:
            print("  ".join("-" * w for w in widths))


def print_json(data: Any) -> None:
    """Print plain data as JSON; NaN and infinity, which JSON does not know, become null."""
    json.dump(_plain(data), sys.stdout, indent=1, ensure_ascii=False)
    print()


class Counter:
    """Counts nights on a terminal's stderr, so that stdout stays clean; silent in a pipe."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.is_shown = total, 0, sys.stderr.isatty()

    def __call__(self, trial: "Trial") -> None:
        """Count one night."""
        self.done += 1
        if self.is_shown:
            print(f"\r{self.done}/{self.total} nights, {trial.scenario:<24}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self.is_shown:
            print("\r" + " " * 60 + "\r", end="", file=sys.stderr, flush=True)


def _plain(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(item) for item in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
