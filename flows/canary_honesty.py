"""
How honest the rollout's rule is, by simulation: `make canary-honesty`.

Plays canaries with a look every second and counts false alarms where both models are the same, and how long it takes to
find one that is not; beside a fixed limit and a fixed 5 % test at every look, on the same requests. Start at `study`.
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from flows.domain.rollout import loss_halves
from flows.domain.sequential import (
    means_log_evidence,
    scores_log_evidence,
    share_log_evidence,
    shares_log_evidence,
    split_log_evidence,
)
from simulation.plan import Rollout
from simulation.statistics import probability_interval

FloatArray = NDArray[np.float64]

PLAN = Rollout(max_failed_ratio=0.02)  # twice what the champion fails: a generous fixed limit
STEPS = ((0.1, 300), (0.5, 900))  # share of green, seconds
REQUESTS_PER_S = 100
LOOKS = sum(seconds for _, seconds in STEPS)
CAP_MS = 150.0  # latencies are lognormal around 30 ms
N_CHECKS = 5  # failures against blue and against the limit, split, latency, losses
SURE = 0.999  # confidence in the false alarms of a study
_POOL = 1 << 16
_CHUNK = 20  # canaries at once: some tens of MB
RULES = ("always valid", "5 % test at each look", "fixed limit")


@dataclass(frozen=True)
class Effect:
    """How green differs from blue: in failures, latencies, the slope of its scores, the share it is really sent."""

    name: str
    failed: float = 1.0
    slower: float = 1.0
    slope: float = 1.0
    sent: float = 1.0

    @property
    def is_none(self) -> bool:
        """Whether both models are the same, and the split is what was set."""
        return (self.failed, self.slower, self.slope, self.sent) == (1.0, 1.0, 1.0, 1.0)


EFFECTS = (
    Effect("none (A/A)"),
    Effect("failures +20 %", failed=1.2),
    Effect("failures ×2", failed=2.0),
    Effect("failures ×5", failed=5.0),
    Effect("calibration slope 0.8", slope=0.8),
    Effect("latency +10 %", slower=1.1),
    Effect("latency +30 %", slower=1.3),
    Effect("split 12 % for 10 %", sent=1.2),
)


@dataclass(frozen=True)
class Row:
    """One effect under one rule: how many canaries raised an alarm, and after how many seconds."""

    effect: Effect
    rule: str
    n: int
    alarms_s: tuple[int, ...]

    @property
    def ratio(self) -> float:
        """Share of canaries with an alarm."""
        return len(self.alarms_s) / self.n

    @property
    def median_s(self) -> float:
        """Seconds to the alarm in half of all canaries; NaN if fewer raised one."""
        times = sorted(self.alarms_s) + [math.inf] * (self.n - len(self.alarms_s))
        middle = times[(self.n - 1) // 2]
        return middle if math.isfinite(middle) else math.nan


@dataclass(frozen=True)
class Play:
    """Sums since the start at each look, shape (canaries, looks); per slot first green, then blue."""

    taken: tuple[FloatArray, FloatArray]
    failed: tuple[FloatArray, FloatArray]
    total: tuple[FloatArray, FloatArray]
    squares: tuple[FloatArray, FloatArray]
    surprise: tuple[FloatArray, FloatArray]
    losses: tuple[FloatArray, FloatArray, FloatArray]  # sum, squares, surprise over all requests


def study(n_null: int = 1000, n_effect: int = 300, seed: int = 1) -> Iterator[Row]:
    """Yield one row per effect and rule; the same seed gives the same rows."""
    for effect in EFFECTS:
        n = n_null if effect.is_none else n_effect
        alarms: dict[str, list[int]] = {rule: [] for rule in RULES}
        # One stream per chunk and the same for each effect: rows differ by their effect, not by their draws.
        for k, begin in enumerate(range(0, n, _CHUNK)):
            seen = play(np.random.default_rng([seed, k]), effect, min(_CHUNK, n - begin))
            for rule, first in first_alarms(seen).items():
                alarms[rule] += [int(at) + 1 for at in first if at < LOOKS]
        yield from (Row(effect, rule, n, tuple(alarms[rule])) for rule in RULES)


def play(rng: np.random.Generator, effect: Effect, n: int) -> Play:
    """Play n canaries; each request has a slot, a latency, two scores, an outcome, and is answered or not."""
    latencies, halves = _pools(effect)
    ratio = np.repeat([share for share, _ in STEPS], [seconds for _, seconds in STEPS])
    is_green = rng.random((n, LOOKS, REQUESTS_PER_S), dtype=np.float32) < (ratio * effect.sent)[:, None]
    picks = rng.integers(0, _POOL, is_green.shape, dtype=np.uint16)
    taken: list[FloatArray] = []
    failed: list[FloatArray] = []
    total: list[FloatArray] = []
    squares: list[FloatArray] = []
    surprise: list[FloatArray] = []
    for slot, mask, slower, worse in ((0, is_green, effect.slower, effect.failed), (1, ~is_green, 1.0, 1.0)):
        values = np.minimum(latencies * slower / CAP_MS, 1.0)[picks] * mask
        n_s = mask.sum(axis=2)
        base = PLAN.evidence.base_failed_ratio * worse
        # A stream of its own: how many draws a binomial takes depends on its chance.
        own = np.random.default_rng([int(rng.integers(2**62)), slot])
        failed.append(np.cumsum(own.binomial(n_s, base), axis=1).astype(np.float64))
        for kept, found in zip((taken, total, squares, surprise),
                               _summed(n_s, values.sum(axis=2), (values**2).sum(axis=2)), strict=True):  # fmt: skip
            kept.append(found)
    lost = halves[rng.integers(0, _POOL, is_green.shape, dtype=np.uint16)]
    all_s = np.full((n, LOOKS), REQUESTS_PER_S)
    return Play(
        (taken[0], taken[1]), (failed[0], failed[1]), (total[0], total[1]), (squares[0], squares[1]),
        (surprise[0], surprise[1]), _summed(all_s, lost.sum(axis=2), (lost**2).sum(axis=2))[1:],
    )  # fmt: skip


def _pools(effect: Effect) -> tuple[FloatArray, FloatArray]:
    """Return what requests are drawn from: latencies in ms, and losses of green against blue as `loss_halves`."""
    rng = np.random.default_rng(99)
    latencies = rng.lognormal(math.log(30.0) - 0.18, 0.6, _POOL)
    logits = rng.normal(-1.5, 1.2, _POOL // 2)
    noise = rng.normal(0.0, 0.1, (2, _POOL // 2))
    labels = (rng.random(_POOL // 2) < _share(logits)).astype(np.float64)
    green, blue = _share(effect.slope * logits + noise[0]), _share(logits + noise[1])
    # Both ways round in the A/A case, so that its true difference is nought and not nearly so.
    other = (
        (blue, green) if effect.slope == 1.0 else (_share(effect.slope * logits + noise[1]), _share(logits + noise[0]))
    )
    return latencies, np.concatenate([loss_halves(labels, green, blue), loss_halves(labels, *other)])


def _share(logits: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-logits)))


def _summed(
    n: FloatArray, total: FloatArray, squares: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return running counts, sums, squares and surprises, as `sequential.add_scores` adds up one batch a second."""
    whole_n, whole, all_squares = (np.cumsum(x, axis=1, dtype=np.float64) for x in (n, total, squares))
    guess = np.full_like(whole, 0.5)
    np.divide(whole[:, :-1], whole_n[:, :-1], out=guess[:, 1:], where=whole_n[:, :-1] > 0)
    return whole_n, whole, all_squares, np.cumsum(squares - 2 * guess * total + n * guess**2, axis=1)


# The rules --------------------------------------------------------------------------------------------------------


def first_alarms(seen: Play) -> dict[str, NDArray[np.int64]]:
    """Return the look of each canary's first alarm by rule, `LOOKS` where there is none; shape (canaries,)."""
    return {
        "always valid": _always_valid(seen),
        "5 % test at each look": _fixed_test(seen),
        "fixed limit": _limit(seen),
    }


def _always_valid(seen: Play) -> NDArray[np.int64]:
    """Return the first look at which one of the five checks of `judge_rollout` raises an alarm."""
    enough = math.log(N_CHECKS / PLAN.evidence.alpha)
    g, b = 0, 1
    failures = shares_log_evidence(seen.taken[g], seen.failed[g], seen.taken[b], seen.failed[b])
    limit = share_log_evidence(seen.taken[g], seen.failed[g], PLAN.max_failed_ratio)
    losses = scores_log_evidence(seen.taken[g] + seen.taken[b], seen.losses[0], seen.losses[2], 0.5)
    alarm = (failures >= enough) | (limit >= enough) | (losses >= enough) | (_split_evidence(seen) >= enough)
    return np.minimum(_first(alarm), _first_slower(seen, enough))


def _split_evidence(seen: Play) -> FloatArray:
    """Return the log evidence that the split is not the one set, summed over the steps."""
    evidence, ended = np.zeros_like(seen.taken[0]), 0
    for share, seconds in STEPS:
        before = [n[:, ended - 1 : ended] if ended else 0.0 for n in seen.taken]
        counts = [n[:, ended : ended + seconds] - was for n, was in zip(seen.taken, before, strict=True)]
        found = split_log_evidence(share, counts[0], counts[1])
        evidence[:, ended : ended + seconds] += found
        evidence[:, ended + seconds :] += found[:, -1:]
        ended += seconds
    return evidence


def _first_slower(seen: Play, enough: float) -> NDArray[np.int64]:
    """Return the first look at which green is surely slower."""
    sums = [(seen.taken[i], seen.total[i], seen.surprise[i]) for i in (0, 1)]
    weights = [n**2 / (surprise + 1.0) for n, _, surprise in sums]
    means = [total / np.maximum(n, 1.0) for n, total, _ in sums]
    middle = (weights[0] * means[0] + weights[1] * means[1]) / (weights[0] + weights[1])
    # The evidence is the least over all common means; at any one of them it is an upper bound, and cheap.
    upper = scores_log_evidence(*sums[0], middle)
    upper = upper + scores_log_evidence(sums[1][0], sums[1][0] - sums[1][1], sums[1][2], 1.0 - middle)
    may = upper >= enough
    first = np.full(len(may), LOOKS)
    open_rows = np.flatnonzero(may.any(axis=1))
    while open_rows.size:
        looks = may[open_rows].argmax(axis=1)
        found = means_log_evidence(*(part[open_rows, looks] for group in sums for part in group)) >= enough
        first[open_rows[found]] = looks[found]
        may[open_rows, looks] = False
        open_rows = open_rows[~found]
        open_rows = open_rows[may[open_rows].any(axis=1)]
    return first


def _fixed_test(seen: Play) -> NDArray[np.int64]:
    """Return the first look at which an ordinary one-sided test of failures, latency or losses is significant."""
    (n_g, n_b), (f_g, f_b), (t_g, t_b), (q_g, q_b) = seen.taken, seen.failed, seen.total, seen.squares
    enough = stats.norm.ppf(1 - PLAN.evidence.alpha / 3)
    pooled = (f_g + f_b) / (n_g + n_b)
    with np.errstate(divide="ignore", invalid="ignore"):
        failures = (f_g / n_g - f_b / n_b) / np.sqrt(pooled * (1 - pooled) * (1 / n_g + 1 / n_b))
        variance = (q_g / n_g - (t_g / n_g) ** 2) / n_g + (q_b / n_b - (t_b / n_b) ** 2) / n_b
        slower = (t_g / n_g - t_b / n_b) / np.sqrt(variance)
        n, (total, squares, _) = n_g + n_b, seen.losses
        worse = (total / n - 0.5) / np.sqrt((squares / n - (total / n) ** 2) / n)
        alarm = (failures > enough) | (slower > enough) | (worse > enough)
    return _first(alarm & (n_g >= PLAN.requests_per_step))


def _limit(seen: Play) -> NDArray[np.int64]:
    """Return the first look at which green has its requests and has failed more than the fixed limit."""
    over = seen.failed[0] > PLAN.max_failed_ratio * seen.taken[0]
    return _first(over & (seen.taken[0] >= PLAN.requests_per_step))


def _first(alarm: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.where(alarm.any(axis=1), alarm.argmax(axis=1), LOOKS)


# The table --------------------------------------------------------------------------------------------------------


def is_honest(row: Row) -> bool:
    """Whether the false alarms of an A/A row are surely (99.9 %) at or below alpha."""
    return probability_interval(len(row.alarms_s), row.n, SURE).high <= PLAN.evidence.alpha


def line(row: Row) -> str:
    """Return a row of the table."""
    found = probability_interval(len(row.alarms_s), row.n, SURE)
    median = "–" if math.isnan(row.median_s) else f"{row.median_s:,.0f} s"
    spread = f"{found.low:.1%} to {found.high:.1%}"
    return f"{row.effect.name:<24}{row.rule:<24}{row.n:>6}{row.ratio:>9.1%}  {spread:<18}{median:>8}"


def main() -> int:
    """Print the table; 0 if the rule that is used keeps its risk."""
    shares = ", then ".join(f"{share:.0%} of traffic for {seconds} s" for share, seconds in STEPS)
    print(f"{REQUESTS_PER_S} requests a second, {shares}; a look every second; {PLAN.evidence.base_failed_ratio:.0%} "
          f"fail, limit {PLAN.max_failed_ratio:.0%}; alpha {PLAN.evidence.alpha:g} over the whole canary")  # fmt: skip
    print(f"{'effect on green':<24}{'rule':<24}{'n':>6}{'alarms':>9}  {'99.9 % either way':<18}{'median':>8}")
    honest = True
    for row in study():
        print(line(row), flush=True)
        if row.effect.is_none and row.rule == RULES[0]:
            honest = is_honest(row)
    print("alarms of an effect are alarms of any kind, false ones too; losses need outcomes, known here at once")
    print("the always-valid rule keeps its risk" if honest else "the always-valid rule does NOT keep its risk")
    return 0 if honest else 1


if __name__ == "__main__":
    sys.exit(main())
