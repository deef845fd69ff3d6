"""Triggers take hold above a limit, let go at or below the lower one, and never flap in between."""

import math
import pickle
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.domain.triggers import make_rules
from simulation.plan import Trigger
from simulation.rules import Action, Observation

CALM = Observation(
    at_s=0.0, span_s=10.0, n_finished=100, load_rps=10.0, p50_ms=20.0, p99_ms=100.0, bad_ratio=0.0, error_ratio=0.0,
    queue_length=0.0, is_training=True, is_paused=False, seconds_to_cutoff=3600.0,
)  # fmt: skip
SLOW = Trigger(name="slow", observe="p99_ms", above=400.0, clears_below=250.0, for_s=20.0, clears_for_s=60.0)
AT_ONCE = Trigger(name="at-once", observe="p99_ms", above=400.0, clears_below=250.0, clears_for_s=0.0)


def actions(triggers: list[Trigger], seen: list[tuple[float, float]]) -> list[Action]:
    """Return what the rules decide for (second, p99 in ms), one after the other."""
    judge, memory, found = make_rules(triggers), None, []
    for at_s, p99_ms in seen:
        decision, memory = judge(replace(CALM, at_s=at_s, p99_ms=p99_ms), memory)
        found.append(decision.action)
    return found


@pytest.mark.parametrize(
    ("p99_ms", "expected"),
    [(399.9, Action.CONTINUE), (400.0, Action.CONTINUE), (400.1, Action.PAUSE), (math.nan, Action.CONTINUE)],
)
def test_a_trigger_acts_above_its_limit_and_not_at_it(p99_ms: float, expected: Action) -> None:
    assert actions([AT_ONCE], [(0, p99_ms)]) == [expected]


@pytest.mark.parametrize(
    ("p99_ms", "expected"),
    [(400.1, Action.PAUSE), (400.0, Action.PAUSE), (250.1, Action.PAUSE), (250.0, Action.CONTINUE),
     (math.nan, Action.PAUSE)],
)  # fmt: skip
def test_a_trigger_that_holds_lets_go_at_the_lower_limit_and_not_above_it(p99_ms: float, expected: Action) -> None:
    assert actions([AT_ONCE], [(0, 500.0), (10, p99_ms)])[-1] == expected


@pytest.mark.parametrize(("second", "expected"), [(19.9, Action.CONTINUE), (20.0, Action.PAUSE)])
def test_the_limit_must_stay_passed_for_the_whole_span(second: float, expected: Action) -> None:
    assert actions([SLOW], [(0, 500.0), (second, 500.0)])[-1] == expected


@pytest.mark.parametrize(("second", "expected"), [(89.9, Action.PAUSE), (90.0, Action.CONTINUE)])
def test_it_must_stay_calm_for_the_whole_span_before_training_goes_on(second: float, expected: Action) -> None:
    assert actions([SLOW], [(0, 500.0), (20, 500.0), (30, 250.0), (second, 250.0)])[-1] == expected


def test_one_calm_look_starts_the_waiting_anew() -> None:
    seen = [(0, 500.0), (10, 400.0), (20, 500.0), (39, 500.0), (40, 500.0)]
    assert actions([SLOW], seen) == [Action.CONTINUE] * 4 + [Action.PAUSE]


def test_a_value_nobody_measured_starts_the_waiting_anew() -> None:
    assert actions([SLOW], [(0, 500.0), (19, math.nan), (20, 500.0), (39, 500.0)]) == [Action.CONTINUE] * 4
    assert actions([SLOW], [(0, 500.0), (20, 500.0), (30, 100.0), (80, math.nan), (95, 100.0)])[-1] is Action.PAUSE


def test_a_load_that_swings_between_the_two_limits_does_not_flap() -> None:
    swing = [(float(10 * i), 251.0 if i % 2 else 399.0) for i in range(40)]
    assert set(actions([AT_ONCE], swing)) == {Action.CONTINUE}
    assert set(actions([AT_ONCE], [(0.0, 401.0), *swing[1:]])) == {Action.PAUSE}


def test_stop_beats_pause_whatever_their_order_and_names_its_trigger() -> None:
    stop = AT_ONCE.model_copy(update={"name": "enough", "above": 900.0, "action": "stop"})
    for triggers in ([AT_ONCE, stop], [stop, AT_ONCE]):
        assert actions(triggers, [(0, 500.0), (10, 950.0)]) == [Action.PAUSE, Action.STOP]
        decision, _ = make_rules(triggers)(replace(CALM, p99_ms=950.0), None)
        assert decision.reason.startswith("enough: p99_ms is 950, acts above 900, clears ")


def test_the_rules_are_data_that_can_be_sent_and_judge_the_same_there() -> None:
    rules = make_rules([SLOW, AT_ONCE])
    sent = pickle.loads(pickle.dumps(rules))
    assert sent == rules
    memory = there = None
    for at_s in range(0, 100, 10):
        seen = replace(CALM, at_s=float(at_s), p99_ms=500.0 if at_s < 50 else 100.0)
        decision, memory = rules(seen, memory)
        decision_there, there = sent(seen, there)
        assert (decision_there, there) == (decision, memory)


def test_no_trigger_means_never_an_action() -> None:
    assert actions([], [(0, 1e9)]) == [Action.CONTINUE]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0.0, 1000.0) | st.just(math.nan), min_size=1, max_size=60))
def test_the_rules_equal_a_plain_reading_of_the_definition(values: list[float]) -> None:
    """The plain twin looks back over everything seen since the state last changed, at each step."""
    on, since, expected = False, 0, []
    for i in range(len(values)):
        run = i
        while run >= since and (values[run] <= 250.0 if on else values[run] > 400.0):
            run -= 1
        length_s = 10.0 * (i - run - 1)
        if run < i and length_s >= (60.0 if on else 20.0):
            on, since = not on, i + 1
        expected.append(Action.PAUSE if on else Action.CONTINUE)
    assert actions([SLOW], [(10.0 * i, value) for i, value in enumerate(values)]) == expected
