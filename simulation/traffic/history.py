"""A request history: counts per step in UTC, gaps marked as gaps and never as zeros. Read one with `read_history`."""

import datetime as dt
import hashlib
from dataclasses import dataclass, field, replace

import numpy as np

from simulation.errors import InvalidHistory
from simulation.traffic.outages import FloatArray as FloatArray  # the name that other modules import from here
from simulation.traffic.outages import recurring_holes


@dataclass(frozen=True)
class HistoryQuality:
    """
    What was found, and mended or marked, while a history was read; all are counts, `notes` are sentences.

    Rows are lines of the file, steps are places on the regular grid of the history.
    """

    n_rows: int
    n_duplicates: int = 0
    n_conflicts: int = 0
    n_unsorted: int = 0
    n_skipped_hour_rows: int = 0
    n_doubled_hour_rows: int = 0
    n_gap_steps: int = 0
    n_flagged_steps: int = 0
    n_outage_steps: int = 0
    n_frozen_steps: int = 0
    notes: tuple[str, ...] = ()

    @property
    def n_unknown_steps(self) -> int:
        """Steps whose load is unknown, for whatever reason."""
        return self.n_gap_steps + self.n_flagged_steps + self.n_outage_steps + self.n_frozen_steps

    def sentences(self) -> list[str]:
        """Say what was found, worst first; one sentence when there was nothing."""
        told = [
            (self.n_outage_steps, "zero steps amid busy traffic are marked as an outage, not taken for quiet"),
            (self.n_frozen_steps, "steps repeat one value improbably often and are marked as a frozen counter"),
            (self.n_gap_steps, "steps are absent and marked as gaps"),
            (self.n_flagged_steps, "steps are flagged as missing by the file, or empty, and marked as gaps"),
            (self.n_skipped_hour_rows, "rows carry a local time that clocks skipped and were left out: check the zone"),
            (self.n_doubled_hour_rows, "rows carry a local time that clocks showed twice: told apart by their order"),
            (self.n_conflicts, "rows repeat a time with another count and were added up"),
            (self.n_duplicates, "rows were exact repeats and were dropped"),
            (self.n_unsorted, "rows were out of order and were sorted"),
        ]
        found = [f"{n:,} {text}." for n, text in told if n] + list(self.notes)
        return found or ["No gap, repeat or disorder was found."]


@dataclass(frozen=True)
class RequestHistory:
    """
    Requests per step.

    Attributes
    ----------
    name : what messages and reports call it
    start : UTC, the beginning of the first step
    step_s : seconds
    counts : shape (n,), requests in each step, >= 0, NaN where nothing is known
    quality : what was mended or marked on reading; of the whole file, also after a cut

    Raises
    ------
    InvalidHistory
        If `start` has no zone, `step_s` is not positive, or `counts` is empty, negative or infinite.
    """

    name: str
    start: dt.datetime
    step_s: int
    counts: FloatArray
    quality: HistoryQuality = field(default_factory=lambda: HistoryQuality(0))

    def __post_init__(self) -> None:
        if self.start.tzinfo is None:
            raise InvalidHistory(f"{self.name}: start has no time zone; give it in UTC")
        if self.step_s <= 0:
            raise InvalidHistory(f"{self.name}: a step of {self.step_s} s cannot be; use 1 or more")
        if self.counts.size == 0:
            raise InvalidHistory(f"{self.name}: holds no steps; give at least one")
        if np.isinf(self.counts).any() or (self.counts < 0).any():
            raise InvalidHistory(f"{self.name}: holds a negative or infinite count; a count is 0 or more, or NaN")

    @property
    def end(self) -> dt.datetime:
        """The end of the last step."""
        return self.start + dt.timedelta(seconds=self.step_s * self.counts.size)

    @property
    def notes(self) -> list[str]:
        """What reading the history found, in sentences."""
        return self.quality.sentences()

    def load_rps(self) -> FloatArray:
        """Return requests per second in each step, shape (n,), NaN in gaps."""
        return self.counts / self.step_s

    def digest(self) -> str:
        """Return the SHA-256 over start, step and counts."""
        head = f"{self.start.astimezone(dt.UTC).isoformat()} {self.step_s} ".encode()
        # One NaN for all: NaNs differ in their bits by where they came from.
        counts = np.where(np.isnan(self.counts), np.nan, self.counts).astype("<f8")
        return hashlib.sha256(head + counts.tobytes()).hexdigest()

    def shifted(self, weeks: int) -> "RequestHistory":
        """Return the history moved forward by whole weeks, so that weekdays keep their place."""
        return replace(self, start=self.start + dt.timedelta(weeks=weeks))

    def between(self, since: dt.datetime, until: dt.datetime) -> "RequestHistory":
        """Return the whole steps inside [since, until); raise `InvalidHistory` when there is none."""
        first = max(0, -int((self.start - since).total_seconds() // self.step_s))
        last = min(self.counts.size, int((until - self.start).total_seconds() // self.step_s))
        if last <= first:
            raise InvalidHistory(
                f"{self.name}: has nothing between {since:%Y-%m-%d %H:%M %Z} and {until:%Y-%m-%d %H:%M %Z}; "
                f"it covers {self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M} UTC"
            )
        start = self.start + dt.timedelta(seconds=first * self.step_s)
        return replace(self, start=start, counts=self.counts[first:last])

    def until(self, utc: dt.datetime) -> "RequestHistory":
        """Return what was known at `utc`: the steps that had ended by then."""
        return self.between(self.start, utc)

    def thinned(self, keep_ratio: float) -> "RequestHistory":
        """Return the expected counts when each request is kept with probability `keep_ratio`, over 0 and at most 1."""
        if not 0 < keep_ratio <= 1:
            raise InvalidHistory(f"keep_ratio: {keep_ratio:g} is no share; use more than 0, at most 1")
        return self if keep_ratio == 1.0 else replace(self, counts=self.counts * keep_ratio)

    def resampled(self, step_s: int) -> "RequestHistory":
        """
        Return the history in longer steps, aligned to multiples of `step_s` since the epoch.

        A step with at least half of its parts known gets their mean times their number; else it is a gap, as is one
        that touches a hole which recurs on most days, however small: a window beside a hole must not reach into it.
        Parts of a step at either end are left out.
        """
        if step_s <= 0 or step_s % self.step_s:
            raise InvalidHistory(
                f"{self.name}: steps of {self.step_s} s do not add up to {step_s} s; use a multiple of {self.step_s}"
            )
        if step_s == self.step_s:
            return self
        n_parts = step_s // self.step_s
        lead_s = int(-self.start.timestamp() % step_s)
        lead = -(-lead_s // self.step_s)
        n_steps = (self.counts.size - lead) // n_parts
        if n_steps < 1:
            raise InvalidHistory(f"{self.name}: is shorter than one step of {step_s} s; use a shorter step")
        parts = self.counts[lead : lead + n_steps * n_parts].reshape(n_steps, n_parts)
        n_known = np.isfinite(parts).sum(axis=1)
        sums = np.where(np.isfinite(parts), parts, 0.0).sum(axis=1)
        counts = np.where(2 * n_known >= n_parts, sums * (n_parts / np.maximum(n_known, 1)), np.nan)
        start = self.start + dt.timedelta(seconds=lead * self.step_s)
        begins = (int(start.timestamp()) + step_s * np.arange(n_steps)) % 86_400
        for first, last, _ in recurring_holes(self.counts, int(self.start.timestamp()), self.step_s):
            counts[(begins < last) & (begins + step_s > first)] = np.nan
        return replace(self, start=start, step_s=step_s, counts=counts)
