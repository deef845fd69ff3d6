"""Drift between prefect.yaml and the server: nothing where both agree, one sentence for each field that was changed."""

import copy
from typing import Any

import pytest

from flows.deployments import deployments_of
from flows.domain.deployment_drift import drift
from tests.simulation.plans import small_plan

WRITTEN: list[dict[str, Any]] = deployments_of(small_plan())["deployments"]


def served() -> list[dict[str, Any]]:
    """Return what a server says of the deployments right after they were made."""
    return [
        {
            "entrypoint": one["entrypoint"],
            "parameters": dict(one["parameters"]),
            "tags": list(reversed(one["tags"])),
            "work_pool_name": one["work_pool"]["name"],
            "work_queue_name": one["work_pool"]["work_queue_name"],
            "job_variables": {"env": one["work_pool"]["job_variables"]["env"] | {"LULL_HOME": "filled in"}},
            "schedules": [
                {"active": s["active"], "schedule": {"cron": s["cron"], "timezone": s["timezone"]}}
                for s in one["schedules"]
            ],
            "global_concurrency_limit": {"limit": one["concurrency_limit"]["limit"]},
            "paused": False,
        }
        for one in WRITTEN
    ]


def test_what_was_just_deployed_has_not_drifted() -> None:
    assert drift(WRITTEN, served()) == ()


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        (
            "parameters",
            {"cycle": "2009-05"},
            "was deployed as {'cycle': 'next'} and is {'cycle': '2009-05'}",
        ),
        ("tags", ["lull"], "tags was deployed as"),
        ("work_pool_name", "serving", "work pool was deployed as lull-training and is serving"),
        ("work_queue_name", "default", "work queue was deployed as training and is default"),
        ("schedules", [{"schedule": {"cron": "0 2 * * *", "timezone": "UTC"}}], "schedules was deployed as [] and is"),
        ("global_concurrency_limit", {"limit": 9}, "concurrency limit was deployed as 1 and is 9"),
        ("paused", True, "paused was deployed as False and is True"),
        ("job_variables", {"env": {"OMP_NUM_THREADS": "64"}}, "variable OMP_NUM_THREADS was deployed as 1 and is 64"),
    ],
)
def test_each_field_that_was_changed_is_told(field: str, value: object, sentence: str) -> None:
    changed = copy.deepcopy(served())
    changed[0][field] = value
    found = drift(WRITTEN, changed)
    assert found
    assert all(text.startswith("flows.retrain.retrain: ") for text in found)
    assert any(sentence in text for text in found)


def test_a_deployment_that_is_gone_or_new_is_told() -> None:
    assert drift(WRITTEN, served()[1:]) == ("flows.retrain.retrain is not on the server any more",)
    extra = [*served(), {"entrypoint": "mine.flow"}]
    assert drift(WRITTEN, extra) == ("mine.flow is on the server and not in prefect.yaml",)
