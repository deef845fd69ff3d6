"""What Prefect's own schedules would start, held against the window: the failure that keeps us from using them."""

import datetime as dt
import json
import sys
from functools import partial
from typing import Literal

import pytest

from flows.adapters.orchestrator import prefect_starts
from flows.commands.against_prefect import run as against_prefect
from simulation.errors import InvalidPlan
from simulation.planning.clock_changes import differing_starts
from simulation.planning.window_rule import WindowRule

UTC = dt.UTC
SINCE, UNTIL = dt.datetime(2026, 1, 1, tzinfo=UTC), dt.datetime(2027, 1, 1, tzinfo=UTC)
NEW_YORK = WindowRule("America/New_York", "02:30", 60)
Kind = Literal["cron", "rrule"]
KINDS: tuple[Kind, ...] = ("cron", "rrule")


@pytest.mark.parametrize("kind", KINDS)
def test_prefect_misses_new_york_s_half_past_two_on_the_night_that_skips_it(kind: Kind) -> None:
    (difference,) = differing_starts(NEW_YORK, partial(prefect_starts, kind, NEW_YORK), SINCE, UNTIL)
    assert difference.day == dt.date(2026, 3, 8)
    assert difference.ours == dt.datetime(2026, 3, 8, 7, tzinfo=UTC)  # 03:00 summer time, when the gap ends
    # 01:30 in winter time, an hour before; from Python 3.13 on cron gives 03:30 summer time.
    is_late = kind == "cron" and sys.version_info >= (3, 13)
    assert difference.theirs == (dt.datetime(2026, 3, 8, 7 if is_late else 6, 30, tzinfo=UTC),)


@pytest.mark.parametrize("kind", KINDS)
def test_away_from_a_change_of_clocks_both_start_with_the_window_on_its_weekdays(kind: Kind) -> None:
    rule = WindowRule("America/New_York", "02:30", 60, ("mon", "thu"))
    begin, end = dt.datetime(2026, 6, 1, tzinfo=UTC), dt.datetime(2026, 7, 1, tzinfo=UTC)
    assert prefect_starts(kind, rule, begin, end) == [opens for opens, _ in rule.occurrences(begin, 9)]
    assert len(prefect_starts(kind, rule, begin, end)) == 9


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_starts_in_utc_differ_nowhere(kind: Kind) -> None:
    rule = WindowRule("UTC", "02:30", 60)
    assert differing_starts(rule, partial(prefect_starts, kind, rule), SINCE, UNTIL) == []


def test_the_command_says_1_where_they_part_and_0_where_they_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert against_prefect(None, "America/New_York", "02:30", None, 1, False) == 1
    said = capsys.readouterr().out
    assert "Prefect starts" in said
    assert "the window opens" in said
    assert against_prefect(None, "Asia/Tokyo", "02:30", "mon,tue", 1, False) == 0
    assert "start with the window on every one" in capsys.readouterr().out
    assert against_prefect(None, "America/New_York", "02:30", None, 1, True) == 1
    told = json.loads(capsys.readouterr().out)
    assert {d["schedule"] for d in told["differences"]} == {"cron", "rrule"}
    assert all(d["prefect_starts_at"] != [d["window_opens_at"]] for d in told["differences"])


def test_without_a_rule_it_says_what_is_missing() -> None:
    with pytest.raises(InvalidPlan, match="give --plan PLAN, or --timezone and --starts-at"):
        against_prefect(None, "UTC", None, None, 1, False)
    with pytest.raises(InvalidPlan, match="weekdays: 'payday' given"):
        against_prefect(None, "UTC", "02:30", "mon,payday", 1, False)
