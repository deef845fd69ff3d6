"""Pictures of a what-if: which plans hold where, and what they cost against how fast they answer; style of `plots`."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.colors import ListedColormap

from reports.plots import _INK, _STYLE, BLUE, GREEN, VERMILLION, _figure, _svg

# One mark and one colour per answer, so that neither reading needs the other.
ANSWERS = {
    "holds": (GREEN, "o"),
    "not enough evidence": (BLUE, "s"),
    "fails": (VERMILLION, "X"),
    "refused": (_INK, "x"),
}


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    answers: Sequence[Sequence[str]],
    cells: Sequence[Sequence[str]],
    *,
    row_name: str,
    column_name: str,
) -> str:
    """
    Draw a grid of plans, each cell coloured by its answer and written over with a number.

    Parameters
    ----------
    answers, cells : shape (len(rows), len(columns)); an answer of `ANSWERS`, and what to write
    """
    order = list(ANSWERS)
    with matplotlib.rc_context(_STYLE):
        (ax,) = axes = _figure(8.0, 1.4 + 0.42 * len(rows))
        codes = np.array([[order.index(answer) for answer in row] for row in answers], dtype=np.float64)
        colours = ListedColormap([colour for colour, _ in ANSWERS.values()])
        ax.imshow(codes, cmap=colours, vmin=-0.5, vmax=len(order) - 0.5, alpha=0.35, aspect="auto")
        marks = {"holds": "✓", "fails": "✗", "refused": "–", "not enough evidence": "?"}
        for i, row in enumerate(answers):
            for j, answer in enumerate(row):
                ax.text(j, i, f"{marks[answer]} {cells[i][j]}".strip(), ha="center", va="center", fontsize=8)
        ax.set_xticks(range(len(columns)), columns, rotation=45 if len(columns) > 8 else 0)
        ax.set_yticks(range(len(rows)), rows)
        ax.set(xlabel=column_name, ylabel=row_name)
        ax.grid(visible=False)
        ax.set_title(
            "✓ holds   ? not enough evidence   ✗ fails   – no such plan · number: P(SLO missed), worst scenario"
        )
        return _svg(axes, f"Which plans hold, by {row_name} and {column_name}")


def cost_front(points: Sequence[tuple[str, str, float, float, float, float]], currency: str) -> str:
    """Draw p99 with its interval against cost for each plan: label, answer, cost, p99, its low and high (ms)."""
    with matplotlib.rc_context(_STYLE):
        (ax,) = axes = _figure(8.0, 4.2)
        seen: set[str] = set()
        for label, answer, cost, p99_ms, low_ms, high_ms in points:
            colour, marker = ANSWERS[answer]
            bars = (
                [[max(0.0, p99_ms - low_ms)], [max(0.0, high_ms - p99_ms)]]
                if np.isfinite([low_ms, high_ms]).all()
                else None
            )
            ax.errorbar(
                [cost], [p99_ms], yerr=bars, fmt=marker, color=colour, ms=6, capsize=3, lw=1,
                label=None if answer in seen else answer,
            )  # fmt: skip
            ax.annotate(f" {label}", (cost, p99_ms), fontsize=7, va="bottom")
            seen.add(answer)
        ax.set(xlabel=f"cost of the window ({currency})", ylabel="p99 latency, worst scenario (ms)", ylim=(0, None))
        ax.margins(x=0.12)
        ax.legend(loc="upper right")
        ax.set_title("Latency against cost, with intervals · source: simulation")
        return _svg(axes, "Latency against cost of each plan")
