"""
The openings to come: occurrences of a window rule, less what the calendar denies, each with its cutoff.

Start at `openings`. Denials cut pieces out of an occurrence; it opens at the first piece that holds the work at its
p95 and the rollback reserve, and is denied when none does.
"""

import datetime as dt
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from simulation.plan import Plan
from simulation.plan_file import window_rule
from simulation.planning.job_order import work_p95_min
from simulation.planning.window_rule import WindowRule
from simulation.traffic.calendar import Calendar

N_OPENINGS = 12  # how many are shown, and scheduled ahead


@dataclass(frozen=True)
class Opening:
    """
    One occurrence of the window rule as the calendar leaves it.

    Attributes
    ----------
    opens_at, closes_at : UTC, [opens_at, closes_at), the piece to use; of a denied one, the whole occurrence
    cutoff : UTC, the last moment at which all of the work may start; None when denied
    denied_by : the rules, with their reasons, that leave no piece long enough; empty when it opens
    shortened_by : the rules that took something of it away though it opens
    """

    opens_at: dt.datetime
    closes_at: dt.datetime
    cutoff: dt.datetime | None
    denied_by: tuple[str, ...] = ()
    shortened_by: tuple[str, ...] = ()

    @property
    def is_denied(self) -> bool:
        """Whether nothing may start in it."""
        return bool(self.denied_by)


def openings(plan: Plan, calendar: Calendar, after: dt.datetime, count: int | None = None) -> Iterator[Opening]:
    """
    Yield the plan's openings, denied ones among them, whose chance to start is still to come at `after` (UTC).

    They end where the calendar ends: what it does not cover is not promised.
    """
    found = openings_of(
        window_rule(plan), calendar, after,
        work_min=work_p95_min(plan.training), reserve_min=plan.window.rollback_reserve_min,
    )  # fmt: skip
    return itertools.islice(found, count)


def openings_of(
    rule: WindowRule, calendar: Calendar, after: dt.datetime, *, work_min: float, reserve_min: float
) -> Iterator[Opening]:
    """Yield the openings of a rule for work of that length at p95; see `openings`."""
    needed = dt.timedelta(minutes=work_min + reserve_min)
    for opens_at, closes_at in rule.occurrences(after):
        if closes_at > calendar.until:
            return
        entries = calendar.denials(opens_at, closes_at)
        rules = tuple(dict.fromkeys(entry.sentence() for entry in entries))
        pieces = calendar.clear(opens_at, closes_at)
        # Without a denial a window that is too short still opens, with a cutoff before it: `lull plan check` says so.
        piece = next((p for p in pieces if p[1] - p[0] >= needed and p[0] > after), None)
        if not entries and opens_at > after:
            yield Opening(opens_at, closes_at, closes_at - needed)
        elif piece is not None:
            yield Opening(*piece, piece[1] - needed, (), rules)
        elif entries and opens_at > after:
            yield Opening(opens_at, closes_at, None, rules)


def next_opening(plan: Plan, calendar: Calendar, after: dt.datetime) -> Opening | None:
    """Return the first opening after `after` that nothing denies, or None within the calendar's span."""
    return next((opening for opening in openings(plan, calendar, after) if not opening.is_denied), None)


def next_whole_opening(plan: Plan, calendar: Calendar, after: dt.datetime) -> Opening | None:
    """Return the first opening after `after` of which nothing is denied: a night can be played as the plan says it."""
    found = openings(plan, calendar, after)
    return next((o for o in found if not o.is_denied and not o.shortened_by and o.opens_at > after), None)
