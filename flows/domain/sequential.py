"""
Statistics that may be looked at as often as one likes: the risk of a false alarm holds for the whole soak.

Each kind of evidence has a frozen state, one function that adds to it and one that judges it: `Shares` (failed or not,
two slots), `Scores` (bounded numbers of one slot), `Discordances` (the same requests, both models), `Split` (who was
sent where). Start at `add_shares` and `share_difference`.

Notes
-----
All are mixtures of likelihoods (or of their exponential bounds) over a fixed prior, divided by the best that the null
hypothesis can do: at most an e-process under it, so that by Ville's inequality the chance of ever reaching 1 / alpha is
at most alpha, whatever the looks, and whatever the shares of traffic, as long as they are chosen without looking ahead.
Requests are taken as independent given their slot; a caller who repeats himself counts once (distinct requests).

References
----------
Robbins (1970), "Statistical methods related to the law of the iterated logarithm": mixtures and Ville's inequality.
Johari, Koomen, Pekelis, Walsh (2017), "Peeking at A/B tests": the mixture sequential probability ratio test.
Howard, Ramdas, McAuliffe, Sekhon (2021), "Time-uniform, nonparametric, nonasymptotic confidence sequences".
Kaufmann, Koolen (2021), "Mixture martingales revisited with applications to sequential tests and confidence
intervals": products over arms. Lindon, Malek (2022), "Anytime-valid inference for multinomial count data".
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from simulation.errors import InvalidSample
from simulation.statistics import Estimate

FloatArray = NDArray[np.float64]

# Any prior keeps the risk; this one costs little where about one request in a hundred or fewer fails, and finds a slot
# that fails half of them. Weight, and the beta distribution's counts of failed and answered requests.
_PRIOR = ((0.8, 1.0, 99.0), (0.2, 0.5, 1.0))
_ONLY_ONE, _BOTH = 1.0, 98.0  # Dirichlet weights of: green alone failed, blue alone failed, neither or both
_SPLIT = 100.0  # requests' worth of trust in the share that was set
_RHO = 10.0  # gamma-exponential mixture: narrowest at a summed variance near 80, for alpha 0.05 (Howard et al., 3.5)
_GOLDEN = (math.sqrt(5) - 1) / 2
_SHRINKS = 40  # golden sections: to 4e-9 of the first bracket
_GRID, _ROUNDS = 33, 4  # a bound is found to within 2 / 32^4, on the safe side


@dataclass(frozen=True)
class Shares:
    """Requests that each slot took, and how many of them it failed."""

    green: int = 0
    green_failed: int = 0
    blue: int = 0
    blue_failed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.green_failed <= self.green and 0 <= self.blue_failed <= self.blue):
            raise InvalidSample(f"{self}: failed requests must lie between 0 and all requests of their slot")


@dataclass(frozen=True)
class Scores:
    """
    Numbers from 0 to 1 of one slot, or of pairs: how many, their sum, and the sum of squared surprises.

    A surprise is the distance from the mean of all scores before the batch (0.5 before the first).
    """

    n: int = 0
    total: float = 0.0
    surprise: float = 0.0

    @property
    def mean(self) -> float:
        """Mean score, 0.5 without any."""
        return self.total / self.n if self.n else 0.5


@dataclass(frozen=True)
class Discordances:
    """Requests that both models were given: all, those that green alone failed, those that blue alone failed."""

    n: int = 0
    only_green: int = 0
    only_blue: int = 0

    def __post_init__(self) -> None:
        if min(self.only_green, self.only_blue) < 0 or self.only_green + self.only_blue > self.n:
            raise InvalidSample(f"{self}: discordant requests must lie between 0 and all requests")


@dataclass(frozen=True)
class Split:
    """Entities that were sent to each slot while one share of green was set."""

    ratio: float
    green: int
    blue: int

    def __post_init__(self) -> None:
        if not 0.0 < self.ratio < 1.0 or min(self.green, self.blue) < 0:
            raise InvalidSample(f"{self}: a split needs a share between 0 and 1 and counts of 0 or more")


# Two shares ------------------------------------------------------------------------------------------------------


def add_shares(state: Shares, *, green: int = 0, green_failed: int = 0, blue: int = 0, blue_failed: int = 0) -> Shares:
    """Return the state with further requests of both slots; raise `InvalidSample` if more failed than were taken."""
    new = Shares(green, green_failed, blue, blue_failed)
    return Shares(
        state.green + new.green, state.green_failed + new.green_failed,
        state.blue + new.blue, state.blue_failed + new.blue_failed,
    )  # fmt: skip


def share_difference(state: Shares, alpha: float) -> Estimate:
    """
    Return green's failed share less blue's, with bounds that each ever miss the truth with a chance of `alpha` at most.

    Bounds are −1 and 1 as long as nothing is known. Raises `InvalidSample` if alpha is not between 0 and 1.
    """
    counts = (state.green, state.green_failed, state.blue, state.blue_failed)
    swapped = (*counts[2:], *counts[:2])
    low = _largest_refuted(lambda margin: shares_log_evidence(*counts, margin), -1.0, 1.0, alpha)
    high = -_largest_refuted(lambda margin: shares_log_evidence(*swapped, margin), -1.0, 1.0, alpha)
    return Estimate(_share(*counts[:2][::-1]) - _share(*counts[2:][::-1]), low, high)


def share_bounds(n: int, failed: int, alpha: float) -> Estimate:
    """Return one slot's failed share with bounds that each ever miss the truth with a chance of `alpha` at most."""

    def under(limit: FloatArray) -> FloatArray:
        answered, most = np.float64(n - failed), np.minimum(limit, 1.0 - failed / n if n else 1.0)
        return np.asarray(_mixture(np.float64(n), np.float64(failed)) - _log_likelihood(n, answered, most))

    low = max(0.0, _largest_refuted(lambda limit: share_log_evidence(n, failed, limit), 0.0, 1.0, alpha))
    high = min(1.0, 1.0 - _largest_refuted(under, 0.0, 1.0, alpha))
    return Estimate(_share(failed, n), low, high)


def share_log_evidence(n: ArrayLike, failed: ArrayLike, limit: ArrayLike) -> FloatArray:
    """Return the log evidence that a slot's failed share lies over `limit`, any shape."""
    whole, hits, most = (np.asarray(x, dtype=np.float64) for x in np.broadcast_arrays(n, failed, limit))
    free = np.divide(hits, whole, out=np.zeros_like(whole), where=whole > 0)
    return np.asarray(_mixture(whole, hits) - _log_likelihood(whole, hits, np.minimum(most, free)))


def shares_log_evidence(
    green: ArrayLike, green_failed: ArrayLike, blue: ArrayLike, blue_failed: ArrayLike, margin: ArrayLike = 0.0
) -> FloatArray:
    """
    Return the log evidence that green's failed share exceeds blue's by more than `margin`, any shape.

    Refutes "not worse by more than the margin" at alpha once it reaches log(1 / alpha).
    """
    n_g, f_g, n_b, f_b, least = (
        np.asarray(x, dtype=np.float64) for x in np.broadcast_arrays(green, green_failed, blue, blue_failed, margin)
    )
    mixture = _mixture(n_g, f_g) + _mixture(n_b, f_b)
    free_g, free_b = (np.divide(f, n, out=np.full_like(n, 0.5), where=n > 0) for f, n in ((f_g, n_g), (f_b, n_b)))
    best = _log_likelihood(n_g, f_g, free_g) + _log_likelihood(n_b, f_b, free_b)
    # Without requests of its own a slot's share is whatever suits the null hypothesis.
    allowed = (free_g - free_b <= least) | (n_g == 0) | (n_b == 0)
    if not np.any(least):
        pooled = np.divide(f_g + f_b, n_g + n_b, out=np.full_like(n_g, 0.5), where=n_g + n_b > 0)
        bound = _log_likelihood(n_g, f_g, pooled) + _log_likelihood(n_b, f_b, pooled)
    else:

        def loss(share: FloatArray) -> FloatArray:
            return -_log_likelihood(n_g, f_g, share + least) - _log_likelihood(n_b, f_b, share)

        bound = -_smallest(loss, np.maximum(0.0, -least), np.minimum(1.0, 1.0 - least))
    return np.asarray(mixture - np.where(allowed, best, bound))


def _mixture(n: ArrayLike, failed: ArrayLike) -> FloatArray:
    """Return the log likelihood of a sequence with so many failures, mixed over the prior of its share."""
    parts = [
        math.log(weight) + special.betaln(np.add(failed, a), np.subtract(n, failed) + b) - special.betaln(a, b)
        for weight, a, b in _PRIOR
    ]
    return np.asarray(np.logaddexp(*parts))


def _log_likelihood(n: ArrayLike, hits: ArrayLike, share: FloatArray) -> FloatArray:
    return np.asarray(special.xlogy(hits, share) + special.xlog1py(np.subtract(n, hits), -share))


# The same requests, both models --------------------------------------------------------------------------------


def add_discordances(state: Discordances, *, n: int, only_green: int = 0, only_blue: int = 0) -> Discordances:
    """Return the state with further requests that both models were given."""
    new = Discordances(n, only_green, only_blue)
    return Discordances(state.n + new.n, state.only_green + new.only_green, state.only_blue + new.only_blue)


def paired_difference(state: Discordances, alpha: float) -> Estimate:
    """Return green's failed share less blue's over the same requests, bounds as those of `share_difference`."""
    counts = (state.n, state.only_green, state.only_blue)
    low = _largest_refuted(lambda margin: discordant_log_evidence(*counts, margin), -1.0, 1.0, alpha)
    swapped = (state.n, state.only_blue, state.only_green)
    high = -_largest_refuted(lambda margin: discordant_log_evidence(*swapped, margin), -1.0, 1.0, alpha)
    return Estimate(_share(state.only_green - state.only_blue, state.n), low, high)


def discordant_log_evidence(
    n: ArrayLike, only_green: ArrayLike, only_blue: ArrayLike, margin: ArrayLike = 0.0
) -> FloatArray:
    """Return the log evidence that green alone fails more often than blue alone by over `margin`, any shape."""
    whole, g, b, least = (
        np.asarray(x, dtype=np.float64) for x in np.broadcast_arrays(n, only_green, only_blue, margin)
    )
    same = whole - g - b
    mixture = (
        special.gammaln(_ONLY_ONE + g) + special.gammaln(_ONLY_ONE + b) + special.gammaln(_BOTH + same)
        - special.gammaln(2 * _ONLY_ONE + _BOTH + whole)
        - 2 * special.gammaln(_ONLY_ONE) - special.gammaln(_BOTH) + special.gammaln(2 * _ONLY_ONE + _BOTH)
    )  # fmt: skip

    def likelihood(green_share: FloatArray, blue_share: FloatArray) -> FloatArray:
        rest = np.maximum(0.0, 1.0 - green_share - blue_share)
        return np.asarray(
            special.xlogy(g, green_share) + special.xlogy(b, blue_share) + special.xlogy(same, rest)
        )  # fmt: skip

    size = np.maximum(whole, 1.0)
    best = likelihood(g / size, b / size)
    if not np.any(least):
        bound = likelihood((g + b) / 2 / size, (g + b) / 2 / size)
    else:
        bound = -_smallest(
            lambda share: -likelihood(share + least, share), np.maximum(0.0, -least), (1.0 - least) / 2
        )  # fmt: skip
    allowed = ((g - b) / size <= least) | (whole == 0)
    return np.asarray(mixture - np.where(allowed, best, bound))


# Bounded scores --------------------------------------------------------------------------------------------------


def add_scores(state: Scores, *, n: int, total: float, squares: float) -> Scores:
    """
    Return the state with a batch of scores from 0 to 1: how many, their sum, and the sum of their squares.

    Raises
    ------
    InvalidSample
        If no scores from 0 to 1 have these sums.
    """
    slack = 1e-9 * max(n, 1)
    if n < 0 or not (-slack <= squares <= total + slack and total <= n + slack and total**2 <= n * squares + slack * n):
        raise InvalidSample(f"{n} scores with sum {total:g} and squares {squares:g} do not lie between 0 and 1")
    guess = state.mean
    surprise = max(0.0, squares - 2 * guess * total + n * guess**2)
    return Scores(state.n + n, state.total + total, state.surprise + surprise)


def mean_bounds(state: Scores, alpha: float) -> Estimate:
    """Return the mean score with bounds that each ever miss the truth with a chance of `alpha` at most."""

    def over(limit: FloatArray) -> FloatArray:
        return scores_log_evidence(state.n, state.total, state.surprise, limit)

    def under(limit: FloatArray) -> FloatArray:
        return scores_log_evidence(state.n, state.n - state.total, state.surprise, limit)

    low = max(0.0, _largest_refuted(over, 0.0, 1.0, alpha))
    return Estimate(state.mean, low, min(1.0, 1.0 - _largest_refuted(under, 0.0, 1.0, alpha)))


def mean_difference(green: Scores, blue: Scores, alpha: float) -> Estimate:
    """Return green's mean less blue's, of different requests; bounds as those of `share_difference`."""
    g, b = (green.n, green.total, green.surprise), (blue.n, blue.total, blue.surprise)
    low = _largest_refuted(lambda margin: means_log_evidence(*g, *b, margin), -1.0, 1.0, alpha)
    high = -_largest_refuted(lambda margin: means_log_evidence(*b, *g, margin), -1.0, 1.0, alpha)
    return Estimate(green.mean - blue.mean, low, high)


def scores_log_evidence(n: ArrayLike, total: ArrayLike, surprise: ArrayLike, limit: ArrayLike) -> FloatArray:
    """
    Return the log evidence that the mean of scores from 0 to 1 lies over `limit`, any shape.

    Notes
    -----
    Empirical Bernstein: the sum less n times its mean is sub-exponential in the summed squared surprises (Howard et
    al., theorem 4); the mixture over the slope is gamma-exponential (their proposition 9).
    """
    excess = np.asarray(total, dtype=np.float64) - np.asarray(n) * np.asarray(limit, dtype=np.float64)
    shape = np.asarray(surprise, dtype=np.float64) + _RHO
    rate = excess + shape
    front = _RHO * math.log(_RHO) - special.gammaln(_RHO) - math.log(special.gammainc(_RHO, _RHO)) + rate - _RHO
    # Where the integral underflows or its rate is negative: Jensen's bound, which never overstates the evidence.
    jensen = -np.log(shape) - rate * shape / (shape + 1)
    positive = np.maximum(rate, 1e-12)
    tail = special.gammainc(shape, positive)
    exact = special.gammaln(shape) + np.log(np.maximum(tail, 1e-300)) - shape * np.log(positive)
    return np.asarray(front + np.where((rate > 0) & (tail > 1e-290), exact, jensen))


def means_log_evidence(
    green: ArrayLike, green_total: ArrayLike, green_surprise: ArrayLike,
    blue: ArrayLike, blue_total: ArrayLike, blue_surprise: ArrayLike, margin: ArrayLike = 0.0,
) -> FloatArray:  # fmt: skip
    """Return the log evidence that green's mean score exceeds blue's by more than `margin`, any shape."""
    n_g, t_g, v_g, n_b, t_b, v_b, least = (
        np.asarray(x, dtype=np.float64)
        for x in np.broadcast_arrays(green, green_total, green_surprise, blue, blue_total, blue_surprise, margin)
    )

    def evidence(blue_mean: FloatArray) -> FloatArray:
        over = scores_log_evidence(n_g, t_g, v_g, blue_mean + least)
        return np.asarray(over + scores_log_evidence(n_b, n_b - t_b, v_b, 1.0 - blue_mean))

    return _smallest(evidence, np.maximum(0.0, -least), np.minimum(1.0, 1.0 - least))


# Who was sent where ----------------------------------------------------------------------------------------------


def split_p_value(splits: tuple[Split, ...]) -> float:
    """
    Return an always-valid p-value of "entities were split as was set", over all shares set one after another.

    Reject at alpha as soon as it is at or below alpha; counts are distinct entities, as a split is drawn once for each.
    """
    evidence = sum(float(split_log_evidence(s.ratio, s.green, s.blue)) for s in splits)
    return min(1.0, math.exp(-max(evidence, 0.0)))


def split_log_evidence(ratio: ArrayLike, green: ArrayLike, blue: ArrayLike) -> FloatArray:
    """Return the log evidence that green's share of entities is not `ratio`, any shape (Lindon and Malek 2022)."""
    r, g, b = (np.asarray(x, dtype=np.float64) for x in np.broadcast_arrays(ratio, green, blue))
    a, c = _SPLIT * r, _SPLIT * (1 - r)
    return np.asarray(special.betaln(a + g, c + b) - special.betaln(a, c) - g * np.log(r) - b * np.log1p(-r))


# Shared ----------------------------------------------------------------------------------------------------------


def _share(hits: float, n: int) -> float:
    return hits / n if n else float("nan")


def _largest_refuted(
    evidence: Callable[[FloatArray], FloatArray], low: float, high: float, alpha: float
) -> float:  # fmt: skip
    """Return the largest limit that the evidence, falling in it, refutes at alpha; `low` if it refutes none."""
    if not 0.0 < alpha < 1.0:
        raise InvalidSample(f"alpha is {alpha:g}; it must lie between 0 and 1")
    for _ in range(_ROUNDS):
        grid = np.linspace(low, high, _GRID)
        refuted = np.flatnonzero(evidence(grid) >= -math.log(alpha))
        last = int(refuted[-1]) if refuted.size else 0
        low, high = float(grid[last]), float(grid[min(last + 1, _GRID - 1)])
    return low


def _smallest(loss: Callable[[FloatArray], FloatArray], low: FloatArray, high: FloatArray) -> FloatArray:
    """Return the smallest values of convex functions between their limits, by golden section, elementwise."""
    low, high = low.astype(np.float64), np.maximum(high, low).astype(np.float64)
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    best = np.minimum(np.minimum(loss(low), loss(high)), np.minimum(at_left, at_right))
    for _ in range(_SHRINKS):
        goes_left = at_left <= at_right
        low, high = np.where(goes_left, low, left), np.where(goes_left, right, high)
        new_left, new_right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        asked = np.where(goes_left, new_left, new_right)
        value = loss(asked)
        at_left, at_right = np.where(goes_left, value, at_right), np.where(goes_left, at_left, value)
        left, right = new_left, new_right
        best = np.minimum(best, value)
    return best
