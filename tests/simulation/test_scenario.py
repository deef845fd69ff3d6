"""Scenarios: the ready ones read, and each thing that cannot be played is refused with its place."""

from pathlib import Path

import pytest

from simulation.errors import InvalidScenario
from simulation.scenario import Scenario, read_scenario, ready_scenarios
from tests.simulation.plans import small_plan


def write(tmp_path: Path, events: str, name: str = "mine") -> Path:
    path = tmp_path / "scenario.yaml"
    path.write_text(f"name: {name}\nquestion: What then?\nevents:\n{events}", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ready_scenarios())
def test_each_ready_scenario_reads_under_its_own_name_and_fits_the_small_plan(name: str) -> None:
    scenario = read_scenario(name)
    assert scenario.name == name
    assert scenario.question.endswith("?")
    scenario.check_against(small_plan())


def test_a_scenario_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, "  - {kind: surge, at_min: 5, minutes: 3, factor: 2}\n")
    assert read_scenario(path).events[0].kind == "surge"


@pytest.mark.parametrize(
    ("events", "sentence"),
    [
        ("  - {kind: flood, at_min: 5}\n", "flood"),
        ("  - {kind: surge, at_min: 5, minutes: 3}\n", "factor: is missing; add it"),
        ("  - {kind: surge, at_min: 5, minutes: 3, factr: 2}\n", "factr: no such key; did you mean 'factor'?"),
        ("  - {kind: surge, at_min: 5, minutes: -3, factor: 2}\n", "greater than 0"),
        ("  - {kind: slow_serving, at_min: 0, minutes: 3, factor: 0.5}\n", "greater than or equal to 1"),
        ("  - {kind: replica_lost, at_min: 0, minutes: 3, running_work: explode}\n", "running_work"),
        ("  - {kind: stage_fails, stage: train, after_ratio: 1.5}\n", "less than or equal to 1"),
        ("  - {kind: late_data, minutes: -1}\n", "greater than or equal to 0"),
        ("  - [\n", "not valid YAML"),
    ],
)
def test_an_event_that_cannot_be_is_refused_with_its_place(tmp_path: Path, events: str, sentence: str) -> None:
    path = write(tmp_path, events)
    with pytest.raises(InvalidScenario) as refusal:
        read_scenario(path)
    assert str(refusal.value).startswith(str(path))
    assert sentence in str(refusal.value)


def test_an_unknown_name_is_refused_with_the_ready_ones() -> None:
    with pytest.raises(InvalidScenario, match=r"no scenario is called 'flood' .* ones are as-forecast, backup-runs"):
        read_scenario("flood")


def test_a_stage_that_the_plan_lacks_is_refused() -> None:
    scenario = Scenario.model_validate(
        {"name": "s", "question": "?", "events": [{"kind": "stage_fails", "stage": "tune"}]}
    )
    with pytest.raises(InvalidScenario, match=r"events\[0\]\.stage: the plan has no stage 'tune'; it has load, train"):
        scenario.check_against(small_plan())


def test_more_lost_replicas_than_there_are_are_refused() -> None:
    event = {"kind": "replica_lost", "at_min": 0, "minutes": 1, "replicas": 3}
    scenario = Scenario.model_validate({"name": "s", "question": "?", "events": [event]})
    with pytest.raises(InvalidScenario, match="3 replicas cannot be lost of 2; lower the number"):
        scenario.check_against(small_plan())
    scenario.check_against(small_plan(serving__replicas=3))


def test_a_file_that_is_too_large_for_a_scenario_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(InvalidScenario, match=r"large\.yaml: is larger than 1 MiB"):
        read_scenario(path)
