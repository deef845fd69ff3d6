"""
Pictures as inline SVG: readable on light and dark, by colour-blind readers, and the same bytes on every run.

Lines, text and ticks take the colour of the page's text (`currentColor`); data take colours of Okabe and Ito (2008),
"Color Universal Design", those with a contrast over 3 on both white and near-black.
"""

import datetime as dt
import io
import re
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

import matplotlib
import numpy as np
from matplotlib import dates as mdates
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.records import NightRecord

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
STAGES = (GREEN, PURPLE, BLUE, "#E69F00")
_INK = "#010203"  # stands for the page's text colour until the SVG is written
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "lull",
    "svg.fonttype": "none",  # real text: small, selectable, read aloud
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _INK,
    "grid.alpha": 0.15,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "axes.grid": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def _figure(width_in: float, height_in: float, rows: Sequence[float] = (1.0,), share_x: bool = False) -> list[Axes]:
    """Return the axes of a new figure, stacked with the given relative heights."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasSVG(figure)
    grid = figure.subplots(len(rows), 1, squeeze=False, sharex=share_x, height_ratios=list(rows))
    return list(grid[:, 0])


def _day(when: dt.datetime) -> float:
    """Return a time as matplotlib counts it, in days."""
    return float(mdates.date2num(when))  # type: ignore[no-untyped-call]


def _svg(axes: Sequence[Axes], words: str) -> str:
    """Return the figure of `axes` as SVG to stand inside HTML, with `words` for those who cannot see it."""
    out = io.StringIO()
    figure = axes[0].get_figure(root=True)
    assert figure is not None  # drawn by `_figure`, so it belongs to one
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)  # the same ids in each picture of a page would not be valid HTML
    text = text.replace(_INK, "currentColor")
    label = words.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def load_and_windows(
    *,
    history_start: dt.datetime,
    history_rps: Sequence[float | None],
    forecast_start: dt.datetime,
    forecast_step_s: int,
    p05_rps: Sequence[float],
    p50_rps: Sequence[float],
    p95_rps: Sequence[float],
    threshold_rps: float,
    window: tuple[dt.datetime, dt.datetime],
    time_zone: str,
    source: str,
) -> str:
    """
    Draw the load of the last weeks with the forecast, and below it the day around the chosen window.

    Parameters
    ----------
    history_rps : hourly means, requests per second, None in gaps, which stay gaps
    p05_rps, p50_rps, p95_rps : forecast quantiles per step, requests per second
    window : opening and closing, UTC
    time_zone : IANA name; the axes show its wall clock
    source : the history's name, for the label
    """
    zone = ZoneInfo(time_zone)
    opens, closes = _day(window[0]), _day(window[1])
    with matplotlib.rc_context(_STYLE):
        whole, day = axes = _figure(8.0, 5.2, (1.0, 1.0))
        past = _day(history_start) + np.arange(len(history_rps)) / 24
        seen = np.array([np.nan if v is None else v for v in history_rps], dtype=np.float64)
        ahead = _day(forecast_start) + np.arange(len(p50_rps)) * forecast_step_s / 86400
        whole.plot(past, seen, color=_INK, alpha=0.6, lw=0.9, label="seen, hourly mean")
        for ax in axes:
            ax.fill_between(ahead, p05_rps, p95_rps, color=BLUE, alpha=0.3, lw=0, label="forecast, 5 % to 95 %")
            ax.plot(ahead, p50_rps, color=BLUE, lw=1.2, label="forecast, median")
            ax.axhline(threshold_rps, color=VERMILLION, lw=1, ls="--", label="quiet below")
            ax.axvspan(opens, closes, color=GREEN, alpha=0.35, lw=0, label="chosen window")
            ax.set_ylabel("load (requests/s)")
            ax.set_ylim(bottom=0)
        day.set_xlim(opens - 0.5, closes + 0.5)
        whole.set_title(f"The last four weeks and the coming week · history: {source}")
        day.set_title("Half a day before and after the chosen window")
        whole.xaxis.set_major_locator(mdates.WeekdayLocator(byweekday=mdates.MO, tz=zone))  # type: ignore[no-untyped-call]
        whole.xaxis.set_major_formatter(mdates.DateFormatter("%a %d %b", tz=zone))  # type: ignore[no-untyped-call]
        day.xaxis.set_major_locator(mdates.HourLocator(byhour=range(0, 24, 3), tz=zone))  # type: ignore[no-untyped-call]
        day.xaxis.set_major_formatter(mdates.DateFormatter("%a %H:%M", tz=zone))  # type: ignore[no-untyped-call]
        day.set_xlabel(f"local time, {time_zone}")
        whole.legend(loc="upper left", ncols=3)
        whole.margins(x=0.01, y=0.35)
        whole.set_ylim(bottom=0)
        near = np.asarray(p95_rps, dtype=np.float64)[(ahead > opens - 0.6) & (ahead < closes + 0.6)]
        if np.isfinite(near).any():
            day.set_ylim(0, 1.1 * max(float(np.nanmax(near)), threshold_rps))
        return _svg(axes, f"Load of {source} with forecast and the chosen window")


def night(record: NightRecord) -> str:
    """Draw one simulated night: load, queue and bad requests per minute, training steps, numbered events."""
    with matplotlib.rc_context(_STYLE):
        load, queue, bad, steps = axes = _figure(8.0, 5.0, (1.2, 1.0, 1.0, 0.7), share_x=True)
        minutes = np.arange(len(record.offered_per_min)) - record.lead_min
        load.step(minutes, np.array(record.offered_per_min) / 60.0, where="post", color=BLUE, lw=1)
        queue.step(minutes, record.queue_per_min, where="post", color=PURPLE, lw=1)
        bad.step(minutes, record.bad_per_min, where="post", color=VERMILLION, lw=1)
        for ax, label in (
            (load, "load\n(req/s)"),
            (queue, "queue\n(max req)"),
            (bad, "bad\n(req/min)"),
        ):
            ax.set_ylabel(label)
            ax.set_ylim(bottom=0, top=None if ax.get_ylim()[1] > 1 else 1)
            ax.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=ax is not load))
        names = list(dict.fromkeys(name for _, _, name in record.steps))
        for begin, end, name in record.steps:
            row = names.index(name)
            steps.barh(0, end - begin, left=begin, height=0.7, color=STAGES[row % len(STAGES)], alpha=0.85)
        for row, name in enumerate(names):
            steps.barh(0, 0, color=STAGES[row % len(STAGES)], alpha=0.85, label=name)
        steps.set(yticks=[0], yticklabels=["training"], ylim=(-1.5, 0.6), xlabel="minutes after the window opens")
        steps.grid(visible=False)
        if names:
            steps.legend(loc="lower left", ncols=6, borderaxespad=0)
        for ax in axes:
            ax.axvspan(0, record.window_min, color=GREEN, alpha=0.1, lw=0)
        for i, (at_min, _) in enumerate(record.events, start=1):
            for ax in axes:
                ax.axvline(at_min, color=_INK, alpha=0.5, lw=0.8, ls=":")
            load.annotate(
                str(i), (at_min, 1.0), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8
            )
        load.set_title(f"{record.scenario}, seed {record.seed} · shaded: the window · source: simulation", pad=14)
        load.set_xlim(minutes[0] if len(minutes) else 0, minutes[-1] + 1 if len(minutes) else 1)
        return _svg(axes, f"Simulated night of scenario {record.scenario}: load, queue, bad requests, training steps")


def importance(shares: dict[str, float], title: str, marked: frozenset[str] = frozenset()) -> str:
    """Draw each feature's share of the total gain; `marked` ones (drifted) are hatched and in another colour."""
    with matplotlib.rc_context({**_STYLE, "hatch.linewidth": 0.6}):
        names = sorted((n for n in shares if np.isfinite(shares[n])), key=lambda n: (shares[n], n))
        (ax,) = axes = _figure(8.0, 0.9 + 0.22 * max(1, len(names)))
        for name in names:
            drifted = name in marked
            ax.barh(name, 100 * shares[name], color=VERMILLION if drifted else BLUE, hatch="///" if drifted else None,
                    edgecolor=_INK if drifted else "none", lw=0.5)  # fmt: skip
        ax.set_xlabel("share of the model's total gain (%)")
        ax.grid(visible=False, axis="y")
        ax.set_title(title)
        return _svg(axes, title)


def calibration(
    champion: Sequence[tuple[float, float, int]], challenger: Sequence[tuple[float, float, int]], source: str
) -> str:
    """Draw what came true against what was predicted, per bin of (mean score, positive ratio, rows); area ~ rows."""
    with matplotlib.rc_context(_STYLE):
        (ax,) = axes = _figure(6.0, 4.6)
        most = max([b for _, _, b in [*champion, *challenger]], default=1) or 1
        top = max([0.05, *[v for s, r, _ in [*champion, *challenger] for v in (s, r) if np.isfinite(v)]]) * 1.08
        ax.plot([0, top], [0, top], color=_INK, alpha=0.5, lw=1, ls="--", label="as predicted")
        for bins, colour, marker, label in (
            (champion, BLUE, "o", "champion"),
            (challenger, VERMILLION, "^", "challenger"),
        ):
            x, y = [b[0] for b in bins], [b[1] for b in bins]
            ax.plot(x, y, color=colour, lw=1, alpha=0.7)
            sizes = [12 + 110 * b[2] / most for b in bins]
            ax.scatter(x, y, s=sizes, color=colour, marker=marker, alpha=0.8, label=label)
        ax.set(xlim=(0, top), ylim=(0, top), xlabel="mean predicted probability, per bin")
        ax.set_ylabel("share that said yes, per bin")
        ax.set_title(f"Calibration · {source}; area grows with rows")
        ax.legend(loc="upper left", markerscale=0.8)
        return _svg(axes, "Calibration of champion and challenger")


def scores(edges: Sequence[float], champion: Sequence[int], challenger: Sequence[int], source: str) -> str:
    """Draw how both models spread their scores over the same rows, as counts between `edges`."""
    with matplotlib.rc_context(_STYLE):
        (ax,) = axes = _figure(8.0, 3.2)
        ax.stairs(champion, edges, color=BLUE, fill=True, alpha=0.3, label="champion")
        ax.stairs(champion, edges, color=BLUE, lw=1)
        ax.stairs(challenger, edges, color=VERMILLION, lw=1.6, label="challenger")
        ax.set(xlabel="predicted probability", ylabel="rows", ylim=(0, None))
        ax.set_title(f"How the scores are spread · {source}")
        ax.legend(loc="upper right")
        return _svg(axes, "Distribution of scores of champion and challenger")


def answered(by_slot: dict[str, int]) -> str:
    """Draw how many requests each slot answered."""
    with matplotlib.rc_context(_STYLE):
        (ax,) = axes = _figure(8.0, 0.9 + 0.35 * max(1, len(by_slot)))
        for slot, n in sorted(by_slot.items(), reverse=True):
            ax.barh(slot, n, color={"blue": BLUE, "green": GREEN}.get(slot, PURPLE), height=0.6)
            ax.annotate(f" {n:,}", (n, slot), va="center", fontsize=9)
        ax.margins(x=0.15)
        ax.set(xlabel="requests answered during the promotion")
        ax.grid(visible=False, axis="y")
        ax.set_title("Which slot answered · source: the gateway's log")
        return _svg(axes, "Requests answered by each slot")
