"""Variations: ranges written out, plans changed by name and by nothing else, nonsense refused with its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.errors import InvalidPlan
from simulation.planning.variation import Variation, changed, combinations, read_variation
from tests.simulation.plans import small_plan


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("serving.replicas=3..6", (3, 4, 5, 6)),
        ("serving.replicas=3..8/2", (3, 5, 7)),
        ("a.b=0.5..0.8/0.1", (0.5, 0.6, 0.7, 0.8)),
        ("a.b=-1..1", (-1, 0, 1)),
        ("window.start=00:00..01:30/30m", ("00:00", "00:30", "01:00", "01:30")),
        ("window.start=23:00..01:00/1h", ("23:00", "00:00", "01:00")),
        ("a.b=1,2.5,three,true,null", (1, 2.5, "three", True, None)),
        ("a.b=02:00", ("02:00",)),
        ("a.b=4..4", (4,)),
    ],
)
def test_the_values_of_a_variation_are_written_out(text: str, values: tuple[object, ...]) -> None:
    assert read_variation(text).values == values


@given(st.integers(-50, 50), st.integers(0, 40), st.integers(1, 7))
def test_a_range_is_what_python_counts(low: int, length: int, step: int) -> None:
    assert read_variation(f"x={low}..{low + length}/{step}").values == tuple(range(low, low + length + 1, step))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("serving.replicas", "is no variation"),
        ("=3", "is no variation"),
        ("a=", "is no variation"),
        ("a=3..1", "holds 0 values"),
        ("a=0..1/0", "holds 0 values"),
        ("a=0..1e9", "holds 1,000,000,001 values"),
        ("a=x..y", "is no range of numbers or clock times"),
        ("a=1,1", "names a value twice"),
        ("window.start=00:00..05:00", "needs a step such as /30m"),
        ("window.start=00:00..25:99/1h", "holds no such time of day"),
    ],
)
def test_what_is_no_variation_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InvalidPlan, match=sentence):
        read_variation(text)


def test_combinations_come_in_order_the_last_name_changing_fastest() -> None:
    found = list(combinations([Variation("a", (1, 2)), Variation("b", ("x", "y"))]))
    assert found == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}]
    assert list(combinations([])) == [{}]
    with pytest.raises(InvalidPlan, match="a is varied twice"):
        list(combinations([Variation("a", (1,)), Variation("a", (2,))]))


def test_a_plan_is_changed_by_name_and_in_nothing_else() -> None:
    plan = small_plan()
    after = changed(
        plan, {"serving.replicas": 5, "training.stages.train.minutes_p95": 20, "window.starts_at_local": "04:00"}
    )
    assert after.serving.replicas == 5
    assert after.stage("train").minutes_p95 == 20
    assert after.window.starts_at_local == "04:00"
    back = changed(
        after, {"serving.replicas": 2, "training.stages.1.minutes_p95": 15, "window.starts_at_local": "02:00"}
    )
    assert back.digest() == plan.digest()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("serving.replica", 3, "serving.replica: the plan has no such field; did you mean 'replicas'"),
        ("training.stages.trian.minutes_p50", 3, "did you mean 'train'"),
        ("serving.replicas.more", 3, "serving.replicas.more: the plan has no such field; known are none"),
        ("serving.replicas", 0, "serving.replicas: input should be greater than or equal to 1"),
        ("window.duration_min", 2000, "window.duration_min: input should be less than or equal to 1440"),
    ],
)
def test_a_field_that_is_not_there_or_a_value_that_cannot_be_is_refused(
    name: str, value: object, sentence: str
) -> None:
    with pytest.raises(InvalidPlan, match=sentence):
        changed(small_plan(), {name: value})


def test_a_field_that_a_plan_does_not_use_can_be_varied() -> None:
    plan = small_plan()
    assert "max_concurrent" not in plan.to_dict()["training"]
    assert changed(plan, {"training.max_concurrent": 2}).training.max_concurrent == 2
    assert changed(plan, {"training.max_concurrent": 1}).digest() == plan.digest()
