"""
Labels that come late: joined to their requests by id, each counted once, and judged only once all had the same time.

Start at `join_outcomes`; `matured_performance` gives the metrics at a horizon.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.domain.evaluation import log_loss, one_minus_auc
from simulation.errors import LullError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class InvalidOutcomes(LullError):
    """Logs of requests or outcomes that cannot be joined; the message names the column."""


@dataclass(frozen=True)
class Requests:
    """The request log: ids, when each was scored (whole microseconds since 1970, UTC) and its score, shapes (n,)."""

    ids: Sequence[str]
    at_us: IntArray
    scores: FloatArray


@dataclass(frozen=True)
class Outcomes:
    """The outcome log in order of arrival: ids, labels, when observed and when received (µs), shapes (k,)."""

    ids: Sequence[str]
    labels: FloatArray
    observed_us: IntArray
    received_us: IntArray


@dataclass(frozen=True)
class OutcomeCounts:
    """
    What became of every line; the counts of outcomes sum to `outcomes`, those of requests to `requests`.

    Attributes
    ----------
    used : labels that were joined, one per request
    repeated : the same label for the same request again
    contradictory : lines of requests that got both labels; none of them is used
    unknown : no such request
    before_request : observed before the request was scored, so it cannot be its outcome
    unreadable : a label that is neither 0 nor 1
    repeated_requests : lines of the request log whose id had come before; the first one counts
    labelled, contradicted, waiting : distinct requests with a label, with both labels, with none so far
    out_of_order : used labels that were received before one that had been observed earlier
    """

    outcomes: int
    used: int
    repeated: int
    contradictory: int
    unknown: int
    before_request: int
    unreadable: int
    requests: int
    repeated_requests: int
    labelled: int
    contradicted: int
    waiting: int
    out_of_order: int

    def sentences(self) -> tuple[str, ...]:
        """Return what a reader must know, one sentence per kind of trouble that occurred."""
        told = (
            (self.repeated, "came again with the same label and counted once"),
            (self.contradictory, "contradict each other about one request; none of them is used"),
            (self.unknown, "name a request that is not in the log"),
            (self.before_request, "were observed before their request was scored and are not used"),
            (self.unreadable, "are neither 0 nor 1 and are not used"),
            (self.out_of_order, "came out of order, which changes nothing"),
        )
        lines = tuple(f"{n:,} of {self.outcomes:,} outcome lines {what}." for n, what in told if n)
        if self.repeated_requests:
            lines += (f"{self.repeated_requests:,} request lines repeat an id; the first line counts.",)
        return lines


@dataclass(frozen=True)
class Joined:
    """Distinct requests in order of the log, each with its label (NaN without one) and that label's age in seconds."""

    ids: tuple[str, ...]
    at_us: IntArray
    scores: FloatArray
    labels: FloatArray
    ages_s: FloatArray
    is_contradicted: NDArray[np.bool_]
    counts: OutcomeCounts


@dataclass(frozen=True)
class MaturedPerformance:
    """
    Metrics on the requests that had `horizon_s` for their label by now, with the labels that came within it.

    Attributes
    ----------
    too_young : requests that have not had their time yet, whether or not a label has come
    late : labels of old enough requests that came after the horizon; not used, or old months would look better known
    unlabelled : old enough requests with no label within the horizon (late and contradicted ones included)
    least_positive, most_positive : share of positives if every missing label were 0, and if every one were 1
    """

    horizon_s: float
    matured: int
    labelled: int
    unlabelled: int
    late: int
    too_young: int
    auc: float
    log_loss: float
    positive_share: float
    least_positive: float
    most_positive: float

    def sentence(self) -> str:
        """Return the result with its horizon; says so when there is nothing to judge."""
        days = self.horizon_s / 86_400
        if not self.labelled:
            return f"No request has a label within its horizon of {days:g} days, so nothing can be said yet."
        return (
            f"With labels of up to {days:g} days: AUC {self.auc:.3f}, log loss {self.log_loss:.3f} on "
            f"{self.labelled:,} of {self.matured:,} requests that are old enough; {self.too_young:,} are too young, "
            f"{self.late:,} labels came later."
        )


def join_outcomes(requests: Requests, outcomes: Outcomes) -> Joined:
    """
    Join outcomes to requests by id; every line is counted in exactly one class, and no label twice.

    Raises
    ------
    InvalidOutcomes
        If columns of one log differ in length.

    Notes
    -----
    The age is from the score to the receipt. The order of the outcome lines changes nothing but which of two equal
    labels is the repeat: the one received first is used. A request with both labels is set aside whole: which one
    is right is for a person to say.
    """
    _check_lengths(requests, outcomes)
    row_of: dict[str, int] = {}
    firsts: list[int] = []
    for line, request_id in enumerate(requests.ids):
        if request_id not in row_of:
            row_of[request_id] = len(firsts)
            firsts.append(line)
    at_us, scores = requests.at_us[firsts], requests.scores[firsts]
    unknown, early, unreadable, lines = _sort_lines(outcomes, row_of, at_us)
    labels, received = np.full(len(firsts), np.nan), np.zeros(len(firsts), dtype=np.int64)
    used: list[int] = []
    contradictory = repeated = 0
    is_contradicted = np.zeros(len(firsts), dtype=np.bool_)
    for row, of_row in lines.items():
        if len({outcomes.labels[line] for line in of_row}) > 1:
            contradictory += len(of_row)
            is_contradicted[row] = True
            continue
        first = min(of_row, key=lambda line: (outcomes.received_us[line], line))
        labels[row], received[row] = outcomes.labels[first], outcomes.received_us[first]
        repeated += len(of_row) - 1
        used.append(first)
    by_receipt = sorted(used, key=lambda line: (outcomes.received_us[line], line))
    observed = outcomes.observed_us[by_receipt]
    latest = np.maximum.accumulate(observed) if used else observed
    counts = OutcomeCounts(
        outcomes=len(outcomes.ids), used=len(used), repeated=repeated, contradictory=contradictory, unknown=unknown,
        before_request=early, unreadable=unreadable, requests=len(firsts),
        repeated_requests=len(requests.ids) - len(firsts), labelled=len(used), contradicted=int(is_contradicted.sum()),
        waiting=len(firsts) - len(lines), out_of_order=int((observed < latest).sum()),
    )  # fmt: skip
    ages_s = np.where(np.isnan(labels), np.nan, (received - at_us) / 1e6)
    return Joined(tuple(row_of), at_us, scores, labels, ages_s, is_contradicted, counts)


def matured_performance(joined: Joined, now_us: int, horizon_s: float) -> MaturedPerformance:
    """
    Judge the requests whose label has had `horizon_s` to come, by the labels that came within it.

    Younger requests are left out even when labelled: labels that come quickly are of another kind than those that
    take their time, and would tilt the metrics.

    Raises
    ------
    InvalidOutcomes
        If the horizon is not above 0.
    """
    if not horizon_s > 0:
        raise InvalidOutcomes(f"a horizon of {horizon_s:g} s leaves no time for labels; give the usual delay")
    old_enough = (now_us - joined.at_us) / 1e6 >= horizon_s
    in_time = joined.ages_s <= horizon_s  # NaN compares false
    known = old_enough & in_time
    labels, scores = joined.labels[known], joined.scores[known]
    matured, labelled = int(old_enough.sum()), int(known.sum())
    positives, nan = float(labels.sum()), float("nan")
    return MaturedPerformance(
        horizon_s=horizon_s,
        matured=matured,
        labelled=labelled,
        unlabelled=matured - labelled,
        late=int((old_enough & (joined.ages_s > horizon_s)).sum()),
        too_young=int((~old_enough).sum()),
        auc=1 - one_minus_auc(labels, scores) if labelled else nan,
        log_loss=log_loss(labels, scores) if labelled else nan,
        positive_share=positives / labelled if labelled else nan,
        least_positive=positives / matured if matured else nan,
        most_positive=(positives + matured - labelled) / matured if matured else nan,
    )


def _sort_lines(
    outcomes: Outcomes, row_of: dict[str, int], at_us: IntArray
) -> tuple[int, int, int, dict[int, list[int]]]:
    """Return counts of unknown, too early and unreadable lines, and the usable lines of each request's row."""
    unknown = early = unreadable = 0
    lines: dict[int, list[int]] = {}
    for line, request_id in enumerate(outcomes.ids):
        row = row_of.get(request_id)
        if row is None:
            unknown += 1
        elif outcomes.labels[line] not in (0.0, 1.0):
            unreadable += 1
        elif outcomes.observed_us[line] < at_us[row]:
            early += 1
        else:
            lines.setdefault(row, []).append(line)
    return unknown, early, unreadable, lines


def _check_lengths(requests: Requests, outcomes: Outcomes) -> None:
    for log, names in ((requests, ("at_us", "scores")), (outcomes, ("labels", "observed_us", "received_us"))):
        for name in names:
            if len(getattr(log, name)) != len(log.ids):
                raise InvalidOutcomes(f"column {name} has {len(getattr(log, name))} rows, ids {len(log.ids)}")
