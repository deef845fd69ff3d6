"""
Pictures as inline SVG: readable on light and dark, by colour-blind readers, and the same bytes on every run.

Lines, text and ticks take the colour of the page's text (`currentColor`); data take colours of Okabe and Ito (2008),
"Color Universal Design", those with a contrast over 3 on both white and near-black.
"""

import datetime as dt
import hashlib
import io
import math
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
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from reports.records import NightRecord

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_WIDTH_IN = 5.6  # the text of a picture this wide can be read on a telephone, to whose width it shrinks
_INK = "#010203"  # stands for the page's text colour until the SVG is written
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "lull",
    "svg.fonttype": "none",  # real text: small, selectable, read aloud
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
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
    text = _with_steady_clips(text.replace(_INK, "currentColor"))
    label = words.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _with_steady_clips(text: str) -> str:
    """Name the clip paths after what is written: matplotlib's names hang on the layout solver's last, varying bits."""
    names = list(dict.fromkeys(re.findall(r'<clipPath id="([^"]+)"', text)))
    for i, name in enumerate(names):
        text = text.replace(name, f"clip-{i}-")
    prefix = hashlib.sha256(text.encode()).hexdigest()[:10]  # pictures of one page must not share a name
    return re.sub(r"clip-(\d+)-", rf"clip-\1-{prefix}", text)


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
    Draw the load of the last weeks, the forecast of the coming one, and the day around the chosen window.

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
        past, week, day = axes = _figure(_WIDTH_IN, 7.0, (1.0, 1.0, 1.0))
        hours = _day(history_start) + np.arange(len(history_rps)) / 24
        seen = np.array([np.nan if v is None else v for v in history_rps], dtype=np.float64)
        ahead = _day(forecast_start) + np.arange(len(p50_rps)) * forecast_step_s / 86400
        past.plot(hours, seen, color=_INK, alpha=0.7, lw=0.9)
        for ax in (week, day):
            ax.fill_between(ahead, p05_rps, p95_rps, color=BLUE, alpha=0.3, lw=0, label="forecast, 5 % to 95 %")
            ax.plot(ahead, p50_rps, color=BLUE, lw=1.2, label="forecast, median")
            ax.axvspan(opens, closes, color=GREEN, alpha=0.35, lw=0, label="chosen window")
        for ax in axes:
            ax.axhline(threshold_rps, color=VERMILLION, lw=1.2, ls="--", label="quiet below")
            ax.set_ylabel("requests/s")
        for ax in (past, week):
            ax.set_yscale("log")  # a crowd of a thousand times the night's load would press all else onto the axis
            ax.margins(x=0.01)
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            ax.yaxis.set_minor_formatter(NullFormatter())
        day.set_xlim(opens - 0.5, closes + 0.5)
        past.set_title(f"The last four weeks, hourly means · {source}")
        week.set_title("The coming week")
        day.set_title("Half a day before and after the chosen window")
        past.xaxis.set_major_locator(mdates.WeekdayLocator(byweekday=mdates.MO, tz=zone))  # type: ignore[no-untyped-call]
        past.xaxis.set_major_formatter(mdates.DateFormatter("%a %d %b", tz=zone))  # type: ignore[no-untyped-call]
        week.xaxis.set_major_locator(mdates.DayLocator(tz=zone))  # type: ignore[no-untyped-call]
        week.xaxis.set_major_formatter(mdates.DateFormatter("%a %d", tz=zone))  # type: ignore[no-untyped-call]
        day.xaxis.set_major_locator(mdates.HourLocator(byhour=range(0, 24, 6), tz=zone))  # type: ignore[no-untyped-call]
        day.xaxis.set_major_formatter(mdates.DateFormatter("%a %H:%M", tz=zone))  # type: ignore[no-untyped-call]
        day.set_xlabel(f"local time, {time_zone}")
        day.figure.legend(*day.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        near = np.asarray(p95_rps, dtype=np.float64)[(ahead > opens - 0.6) & (ahead < closes + 0.6)]
        top = 1.1 * max(float(np.nanmax(near)) if np.isfinite(near).any() else 0.0, threshold_rps)
        day.set_ylim(0, top)
        return _svg(axes, f"Load of {source} with forecast and the chosen window")


def night(record: NightRecord) -> str:
    """Draw one simulated night: load under capacity, queue, bad requests per minute, training stages, events."""
    with matplotlib.rc_context(_STYLE):
        names = list(dict.fromkeys(name for _, _, name in record.steps))
        heights = (1.3, 1.0, 1.0, 0.35 + 0.2 * max(2, len(names)))
        load, queue, bad, steps = axes = _figure(_WIDTH_IN, 6.2, heights, share_x=True)
        played = int(record.lead_min + record.window_min + 30)  # the minute after the end was not played
        edges = np.arange(len(record.offered_per_min[:played]) + 1) - record.lead_min
        load.stairs(
            np.array(record.offered_per_min[:played]) / 60.0, edges, baseline=None, color=BLUE, lw=1.2, label="load"
        )
        queue.stairs(record.queue_per_min[:played], edges, baseline=None, color=PURPLE, lw=1.2)
        bad.stairs(record.bad_per_min[:played], edges, baseline=None, color=VERMILLION, lw=1.2)
        for ax, label in ((load, "load\n(req/s)"), (queue, "queue\n(max req)"), (bad, "bad\n(req/min)")):
            ax.set_ylabel(label)
            ax.set_ylim(bottom=0, top=None if ax.get_ylim()[1] > 1 else 1)
            ax.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=ax is not load))
        _capacity(load, record, float(edges[0]), float(edges[-1]))
        for begin, end, name in record.steps:
            steps.barh(names.index(name), end - begin, left=begin, height=0.7, color=BLUE, alpha=0.85)
        steps.set(yticks=range(len(names)), yticklabels=names, xlabel="minutes after the window opens")
        steps.invert_yaxis()
        steps.grid(visible=False, axis="y")
        for ax in axes:
            ax.axvspan(0, record.window_min, color=GREEN, alpha=0.1, lw=0)
            for at_min, _ in record.events:
                ax.axvline(at_min, color=_INK, alpha=0.5, lw=0.8, ls=":")
        for at_min, label in _marks([at for at, _ in record.events], float(edges[-1] - edges[0]) / 25):
            load.annotate(
                label, (at_min, 1.0), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8
            )
        chosen = f", {record.choice} night" if record.choice else ""
        load.set_title(f"{record.scenario}{chosen}, seed {record.seed} · shaded: the window", pad=14)
        load.set_xlim(edges[0], edges[-1])
        return _svg(axes, f"Simulated night of scenario {record.scenario}: load, queue, bad requests, training stages")


def _capacity(load: Axes, record: NightRecord, begin_min: float, end_min: float) -> None:
    """Draw what the open replicas could finish above the load, and when the new model went live."""
    if math.isfinite(record.promoted_min):
        load.axvline(record.promoted_min, color=GREEN, lw=2, label="new model live")
    if record.capacity_steps:
        at = [max(begin_min, minute) for minute, _ in record.capacity_steps] + [end_min]
        could = [rps for _, rps in record.capacity_steps]
        load.step(at, [*could, could[-1]], where="post", color=_INK, lw=1.2, ls="--", label="capacity")
        if max(could) > 6 * max([1, *record.offered_per_min]) / 60:
            least = min((n for n in record.offered_per_min if n), default=60) / 60
            load.set_yscale("log")  # so that a load far below its capacity keeps its shape
            load.set_ylim(0.6 * least, 2 * max(could))
            load.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            load.yaxis.set_minor_formatter(NullFormatter())
        else:
            load.set_ylim(0, None)
        load.legend(loc="center right")


def _marks(at_min: Sequence[float], apart_min: float) -> list[tuple[float, str]]:
    """Return where to write the events' numbers: those too close to stand side by side become ``2–4``."""
    groups: list[list[int]] = []
    for i, at in enumerate(at_min):
        if groups and at - at_min[groups[-1][0]] < apart_min:
            groups[-1].append(i)
        else:
            groups.append([i])
    return [(at_min[g[0]], str(g[0] + 1) if len(g) == 1 else f"{g[0] + 1}–{g[-1] + 1}") for g in groups]


def importance(shares: dict[str, float], title: str, marked: frozenset[str] = frozenset()) -> str:
    """Draw each feature's share of the total gain; `marked` ones (drifted) are hatched and in another colour."""
    with matplotlib.rc_context({**_STYLE, "hatch.linewidth": 0.6}):
        names = sorted((n for n in shares if np.isfinite(shares[n])), key=lambda n: (shares[n], n))
        (ax,) = axes = _figure(_WIDTH_IN, 0.9 + 0.22 * max(1, len(names)))
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
        (ax,) = axes = _figure(_WIDTH_IN, 4.6)
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
        (ax,) = axes = _figure(_WIDTH_IN, 3.2)
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
        (ax,) = axes = _figure(_WIDTH_IN, 0.9 + 0.35 * max(1, len(by_slot)))
        for slot, n in sorted(by_slot.items(), reverse=True):
            ax.barh(slot, n, color={"blue": BLUE, "green": GREEN}.get(slot, PURPLE), height=0.6)
            ax.annotate(f" {n:,}", (n, slot), va="center", fontsize=9)
        ax.margins(x=0.15)
        ax.set(xlabel="requests answered during the promotion")
        ax.grid(visible=False, axis="y")
        ax.set_title("Which slot answered · source: the gateway's log")
        return _svg(axes, "Requests answered by each slot")
