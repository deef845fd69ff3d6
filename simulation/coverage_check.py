"""
Measure how often nominal 95 % intervals hold the truth, over many cheap runs of the exact queue: `make coverage`.

Start at `check_coverage`. The truths are exact: closed forms, or the chain of what the n-th request finds.
"""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import optimize, special

from simulation import theory
from simulation.data_plane.fcfs import serve_queue
from simulation.errors import InvalidSample
from simulation.quantile_interval import quantile_interval, stationary_quantile_interval
from simulation.statistics import (
    Estimate,
    FloatArray,
    difference_interval,
    mean_interval,
    share_interval,
    stationary_mean_interval,
    unbounded,
)
from simulation.stopping import run_until
from simulation.warm_up import without_warm_up

CONFIDENCE = 0.95
BUSY, CALM = 0.8, 0.5  # load of one server; the memory of waits grows as 1 / (1 − load)² and more
N_RUNS = 1000
_BAND = (0.92, 0.97)
_NIGHTS, _SHORT, _LONG = 60, 1000, 3000  # requests in a night: one or the other, by chance
_PAIRS = 200  # differences of nights are skewed: 60 pairs were covered at 91.8 %, at load 0.5 at 94.3 %
_RUN = 200_000
_START_UP = 3000  # requests: thirty times what this queue remembers
_SLOWER = 1.01
_CHANCE = 0.1

Estimates = dict[str, Estimate]
QuantileInterval = Callable[[list[FloatArray], float, float], Estimate]


@dataclass(frozen=True)
class CoverageRow:
    """How often the interval of one value held its truth, among the runs whose data could bound it."""

    name: str
    truth: float
    n_covered: int
    n_bounded: int
    n_runs: int
    low: float
    high: float

    @property
    def coverage(self) -> float:
        """Share of the bounded runs whose interval held the truth, NaN without any."""
        return self.n_covered / self.n_bounded if self.n_bounded else float("nan")

    @property
    def keeps(self) -> bool:
        """Whether the coverage is within its limits and at most a twentieth of the runs could not be bounded."""
        return self.low <= self.coverage <= self.high and 20 * self.n_bounded >= 19 * self.n_runs


@dataclass(frozen=True)
class CoverageStudy:
    """Values that come out of the same runs: `play` makes one run and returns an estimate for each truth."""

    name: str
    truths: Callable[[], dict[str, float]]
    play: Callable[[np.random.Generator], Estimates]
    band: tuple[float, float] = _BAND

    def rows(self, n_runs: int, seed: int) -> list[CoverageRow]:
        """Play the runs and return one row per value; the same seed gives the same rows, whatever the threads do."""
        truths = self.truths()
        children = np.random.SeedSequence([seed, *self.name.encode()]).spawn(n_runs)
        with ThreadPoolExecutor(2) as pool:
            runs = list(pool.map(lambda child: self.play(np.random.Generator(np.random.SFC64(child))), children))
        rows = []
        for what, truth in truths.items():
            found = [run[what] for run in runs]
            bounded = [estimate for estimate in found if np.isfinite(estimate.low + estimate.high)]
            n_covered = sum(estimate.low <= truth <= estimate.high for estimate in bounded)
            rows.append(CoverageRow(f"{self.name}: {what}", truth, n_covered, len(bounded), n_runs, *self.band))
        return rows


def check_coverage(n_runs: int = N_RUNS, seed: int = 1, names: str = "") -> list[CoverageRow]:
    """Return the coverage of every kind of interval whose study's name contains `names`; fixed by the seed."""
    return [row for study in coverage_studies() if names in study.name for row in study.rows(n_runs, seed)]


def coverage_studies() -> Iterator[CoverageStudy]:
    """Yield what is measured."""
    for load, levels in ((BUSY, (0.5, 0.95, 0.99)), (CALM, (0.95, 0.99, 0.999))):
        yield CoverageStudy(
            f"{_NIGHTS} nights from empty, load {load:g}",
            partial(_night_truths, load, levels),
            partial(play_nights, load=load, levels=levels),
        )
    yield CoverageStudy("one stationary run", _stationary_truths, play_stationary)
    yield CoverageStudy("one run from empty, MSER-5 cut", _stationary_mean, _play_cut)
    yield CoverageStudy(f"{_PAIRS} nights of two plans, same seeds", _difference_truth, _play_pair)
    yield CoverageStudy("nights until ±10 %", _short_night_truth, _play_until)
    # Exact intervals of shares cover more than they say, never less: no upper limit.
    yield CoverageStudy("zeros and ones until ±0.05", lambda: {"share": _CHANCE}, _play_share, (_BAND[0], 1.0))


# Runs ------------------------------------------------------------------------------------------------------------


def waits_from_empty(rng: np.random.Generator, n: int, load: float = BUSY, slower: float = 1.0) -> FloatArray:
    """Return the waits of the first n requests of an M/M/1 queue, `load` a second, with mean service `slower` s."""
    arrivals_s = np.cumsum(rng.standard_exponential(n) / load)
    return serve_queue(arrivals_s, slower * rng.standard_exponential(n), 1).waits_s


def play_nights(
    rng: np.random.Generator, load: float, levels: tuple[float, ...], interval: QuantileInterval = quantile_interval
) -> Estimates:
    """Return the mean of the nights' mean waits, and quantiles over all requests as `interval` bounds them."""
    nights = [waits_from_empty(rng, n, load) for n in np.where(rng.random(_NIGHTS) < 0.5, _SHORT, _LONG).tolist()]
    means = np.array([night.mean() for night in nights])
    return {"mean": mean_interval(means, CONFIDENCE)} | {
        _label(level): interval(nights, level, CONFIDENCE) for level in levels
    }


def play_stationary(rng: np.random.Generator) -> Estimates:
    """Return the mean wait and its quantiles from one long run whose start-up was left out."""
    waits = waits_from_empty(rng, _RUN + _START_UP)[_START_UP:]
    return {"mean": stationary_mean_interval(waits, CONFIDENCE)} | {
        _label(level): stationary_quantile_interval(waits, level, CONFIDENCE) for level in (0.5, 0.95, 0.99)
    }


def _play_cut(rng: np.random.Generator) -> Estimates:
    waits = waits_from_empty(rng, _RUN)
    try:
        return {"mean": stationary_mean_interval(without_warm_up(waits), CONFIDENCE)}
    except InvalidSample:  # not settled by its half: a run that cannot be bounded, and is counted as such
        return {"mean": unbounded(float(waits.mean()))}


def _play_pair(rng: np.random.Generator) -> Estimates:
    seeds = rng.integers(2**63, size=_PAIRS)
    slow, fast = (
        [waits_from_empty(np.random.default_rng(seed), _SHORT, slower=slower).mean() for seed in seeds]
        for slower in (_SLOWER, 1.0)
    )
    return {"difference": difference_interval(slow, fast, CONFIDENCE)}


def _play_until(rng: np.random.Generator) -> Estimates:
    stopped = run_until(
        lambda n: [waits_from_empty(rng, _SHORT).mean() for _ in range(n)],
        half_width=0.1, is_relative=True, cap=2000, confidence=CONFIDENCE,
    )  # fmt: skip
    return {"mean": stopped.estimate}


def _play_share(rng: np.random.Generator) -> Estimates:
    stopped = run_until(
        lambda n: rng.random(n) < _CHANCE, half_width=0.05, cap=2000, confidence=CONFIDENCE, interval=share_interval
    )
    return {"share": stopped.estimate}


# Truths ----------------------------------------------------------------------------------------------------------


def found_by_requests(n: int, load: float = BUSY, slower: float = 1.0, most: int = 400) -> FloatArray:
    """
    Return how often each number in the system is found by the first n requests of an empty M/M/1 queue, shape (most,).

    The number found is a Markov chain: it grows by the request itself and falls by a geometric number of departures
    until the next arrival. Numbers from `most` on have a chance under 1e-30 at the loads used here.
    """
    arrives = load / (load + 1 / slower)
    here = np.arange(most)
    departures = here[:, None] + 1 - here  # row: found now; column: found by the next
    steps = np.where(departures >= 0, arrives * (1 - arrives) ** np.maximum(departures, 0), 0.0)
    steps[:, 0] = (1 - arrives) ** (here + 1)
    found, total = np.zeros(most), np.zeros(most)
    found[0] = 1.0
    for _ in range(n):
        total += found
        found = found @ steps
    return total / n


def wait_quantile_s(found: FloatArray, level: float) -> float:
    """Return the quantile of the wait of a request that finds j others with chance `found[j]`, service mean 1 s."""
    jobs = np.arange(1, found.size)
    return float(optimize.brentq(lambda t: found[1:] @ special.gammaincc(jobs, t) - (1 - level), 0.0, 1000.0))


def _mean_wait_s(found: FloatArray, slower: float = 1.0) -> float:
    return float(slower * found @ np.arange(found.size))


def _night_truths(load: float, levels: tuple[float, ...]) -> dict[str, float]:
    short, long = found_by_requests(_SHORT, load), found_by_requests(_LONG, load)
    pooled = (_SHORT * short + _LONG * long) / (_SHORT + _LONG)
    return {"mean": (_mean_wait_s(short) + _mean_wait_s(long)) / 2} | {
        _label(level): wait_quantile_s(pooled, level) for level in levels
    }


def _stationary_truths() -> dict[str, float]:
    queue = theory.MMc(BUSY, 1.0, 1)
    return _stationary_mean() | {_label(level): queue.wait_quantile_s(level) for level in (0.5, 0.95, 0.99)}


def _stationary_mean() -> dict[str, float]:
    return {"mean": theory.MMc(BUSY, 1.0, 1).mean_wait_s}


def _difference_truth() -> dict[str, float]:
    slow, fast = (_mean_wait_s(found_by_requests(_SHORT, slower=slower), slower) for slower in (_SLOWER, 1.0))
    return {"difference": slow - fast}


def _short_night_truth() -> dict[str, float]:
    return {"mean": _mean_wait_s(found_by_requests(_SHORT))}


def _label(level: float) -> str:
    return f"p{100 * level:g}"


def table(rows: list[CoverageRow]) -> str:
    """Return the rows as text."""
    lines = [
        f"{'nominal ' + format(CONFIDENCE, '.0%') + ' interval of':<48}{'truth':>10}{'covers':>9}{'unbounded':>11}"
    ]
    for row in rows:
        mark = "" if row.keeps else f"   outside {row.low:.0%} to {row.high:.0%}"
        n_open = row.n_runs - row.n_bounded
        lines.append(f"{row.name:<48}{row.truth:>10.4f}{row.coverage:>9.1%}{n_open:>6} of {row.n_runs}{mark}")
    return "\n".join(lines)


def main() -> int:
    """Print the table; return 1 if a row is outside its limits."""
    rows = check_coverage()
    print(table(rows))
    return 0 if all(row.keeps for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
