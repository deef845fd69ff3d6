"""
Choosing the best of many plans or windows under common random numbers, with a guarantee. Start at `select_best`.

Comparing m separate intervals is not that: the chance that one of them misleads grows with m.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from simulation.errors import InvalidSample
from simulation.statistics import Estimate, FloatArray, checked_confidence, difference_interval

Draw = Callable[[Sequence[int], int, int], ArrayLike]


@dataclass(frozen=True)
class Selection:
    """
    The best of several systems and how sure that is.

    Attributes
    ----------
    best : position of the system that was kept, or that leads where the cap ended the contest
    runner_up : position of the one that held out longest against it
    is_decided : whether all others were ruled out; if not, the cap was reached and nothing is guaranteed
    confidence : P(the best is chosen) is at least this when it leads all others by the indifference or more;
        NaN if not decided
    lead : mean by which `best` is better than `runner_up`, over the replications that both played, with Student's
        paired interval at `confidence`. It says how large the lead is; the guarantee does not rest on it
    means : shape (k,), of what each system played
    replications : per system, how many it played before it was ruled out or chosen
    survivors : positions not ruled out, `best` among them
    """

    best: int
    runner_up: int
    is_decided: bool
    confidence: float
    lead: Estimate
    means: FloatArray
    replications: tuple[int, ...]
    survivors: tuple[int, ...]


def select_best(
    draw: Draw,
    n_systems: int,
    *,
    indifference: float,
    cap: int,
    confidence: float = 0.95,
    first_n: int = 20,
    batch: int = 10,
    is_larger_better: bool = False,
) -> Selection:
    """
    Play systems side by side, drop those that are clearly worse, until one is left.

    Parameters
    ----------
    draw : (systems, first, last) -> shape (len(systems), last − first)
        Values of replications first … last − 1 of these systems; replication r meets the same randomness in all.
    n_systems : at least 2
    indifference : > 0, in the unit of the values; a lead below it is not worth telling apart
    cap : >= first_n, the most replications per system
    first_n : >= 3, replications of all systems from which the spread of their differences is learned
    batch : >= 1, replications that are drawn at once; the choice does not depend on it
    is_larger_better : default: smaller values are better, as for waits

    Raises
    ------
    InvalidSample
        If a setting is outside of what is said above, or `draw` returns another shape or a value that is not finite.

    Notes
    -----
    Assumes that the replications are independent, and normal together across systems; means over a night are near
    to it, its maxima are not. Dependence between systems is allowed and helps: only the spread of differences
    counts. After replication r system i is dropped if another one l leads it by more than
    max(0, δ / 2 × (h² S² / δ² − r) / r), S² the variance of their difference over the first replications and
    h² = (n₀ − 1) ((2 α / (k − 1))^(−2 / (n₀ − 1)) − 1).

    References
    ----------
    Kim and Nelson (2001), "A fully sequential procedure for indifference-zone selection in simulation", with c = 1.
    """
    _check(n_systems, indifference, cap, first_n, batch)
    alpha = 1 - checked_confidence(confidence)
    sign = 1.0 if is_larger_better else -1.0
    contest = _Contest(draw, n_systems, batch, cap, sign)
    contest.fill(first_n)
    start = contest.values[:, :first_n]
    variances = np.array([[np.var(one - other, ddof=1) for other in start] for one in start])
    h_squared = (first_n - 1) * ((2 * alpha / (n_systems - 1)) ** (-2 / (first_n - 1)) - 1)
    reach = h_squared * variances / indifference**2  # replications after which the margin of a pair is used up
    r = first_n
    while True:
        contest.drop(r, indifference, reach)
        if len(contest.alive) == 1 or r == cap:
            break
        r += 1
        contest.fill(r)
    return contest.result(r, confidence)


class _Contest:
    """Values so far, larger is better, and who is still in; row i is system i, NaN after it was dropped."""

    def __init__(self, draw: Draw, n_systems: int, batch: int, cap: int, sign: float):
        self.draw, self.batch, self.cap, self.sign = draw, batch, cap, sign
        self.values = np.full((n_systems, 0), np.nan)
        self.alive = list(range(n_systems))
        self.played = [0] * n_systems
        self.last_dropped: list[int] = []

    def fill(self, r: int) -> None:
        """See that replications 0 … r − 1 of those still in are there."""
        first = self.values.shape[1]
        if r <= first:
            return
        last = min(self.cap, max(r, first + self.batch))
        fresh = np.asarray(self.draw(tuple(self.alive), first, last), dtype=np.float64)
        if fresh.shape != (len(self.alive), last - first) or not np.isfinite(fresh).all():
            raise InvalidSample(
                f"draw({tuple(self.alive)}, {first}, {last}) must return {len(self.alive)} × {last - first} finite "
                f"values, got shape {fresh.shape}"
            )
        more = np.full((self.values.shape[0], last - first), np.nan)
        more[self.alive] = self.sign * fresh
        self.values = np.concatenate((self.values, more), axis=1)

    def drop(self, r: int, indifference: float, reach: FloatArray) -> None:
        """Rule out whoever trails another by more than the margin of their pair; the best mean always stays."""
        means = {i: float(self.values[i, :r].mean()) for i in self.alive}
        best = max(self.alive, key=lambda i: means[i])
        worse = [
            i
            for i in self.alive
            if i != best
            and any(
                means[i] < means[other] - max(0.0, indifference / 2 * (reach[i, other] - r) / r)
                or (r > reach[i, other] and other == best)  # margin used up: the mean alone decides, ties too
                for other in self.alive
                if other != i
            )
        ]
        for i in self.alive:
            self.played[i] = r
        if worse:
            self.last_dropped = sorted(worse, key=lambda i: -means[i])
            self.alive = [i for i in self.alive if i not in worse]

    def result(self, r: int, confidence: float) -> Selection:
        """Return who won after r replications."""
        ordered = sorted(self.alive, key=lambda i: -float(self.values[i, :r].mean()))
        best, is_decided = ordered[0], len(self.alive) == 1
        runner_up = self.last_dropped[0] if is_decided else ordered[1]
        both = min(self.played[best], self.played[runner_up])
        lead = difference_interval(self.values[best, :both], self.values[runner_up, :both], confidence)
        means = np.array([self.sign * self.values[i, :n].mean() for i, n in enumerate(self.played)])
        return Selection(
            best=best,
            runner_up=runner_up,
            is_decided=is_decided,
            confidence=confidence if is_decided else float("nan"),
            lead=lead,
            means=means,
            replications=tuple(self.played),
            survivors=tuple(ordered),
        )


def _check(n_systems: int, indifference: float, cap: int, first_n: int, batch: int) -> None:
    rules = [
        ("n_systems", n_systems, n_systems >= 2, "2 or more"),
        ("indifference", indifference, 0 < indifference < math.inf, "over 0"),
        ("first_n", first_n, first_n >= 3, "3 or more"),
        ("cap", cap, cap >= first_n, f"first_n ({first_n}) or more"),
        ("batch", batch, batch >= 1, "1 or more"),
    ]
    for name, value, is_right, needed in rules:
        if not is_right:
            raise InvalidSample(f"{name}: {value:g} must be {needed}")
