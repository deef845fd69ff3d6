"""What `prefect.yaml` says for a plan: five deployments on one process work pool, and nothing that names a machine."""

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from flows.cycle import NEXT
from simulation.errors import LullError
from simulation.plan import Plan
from simulation.plan_file import write_whole

POOL = "lull-training"
FLOWS = {
    "retrain": "flows.retrain.retrain",
    "evaluate": "flows.evaluate.evaluate",
    "promote": "flows.promote.promote",
    "report-drift": "flows.report_drift.report_drift",
    "top-up": "flows.top_up.top_up",
}
_HEADER = """\
# Written by `lull deploy` from a plan whose certificate holds. Deploy it again with that command, not by hand.
# Windows are one-off runs in UTC: neither cron nor RRULE schedules survive daylight saving on every Python.
# The drift report runs every day at 05:00 UTC, which no clock change moves; top-up keeps runs for the next openings.
"""
_UTC_SCHEDULES = {"report-drift": "0 5 * * *", "top-up": "17 */6 * * *"}


class DeploymentDrift(LullError):
    """What runs on the server is not what was deployed; the sentence says what differs and what to do."""


def deployments_of(plan: Plan) -> dict[str, Any]:
    """Return the content of prefect.yaml for a plan."""
    envelope = plan.training.envelope
    limits = {
        "OMP_NUM_THREADS": str(envelope.threads),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "LULL_HOME": "{{ $LULL_HOME }}",
    }
    deployments = []
    for name, entrypoint in FLOWS.items():
        deployments.append(
            {
                "name": plan.name,
                "entrypoint": entrypoint,
                "description": f"{name} of plan {plan.name}",
                "tags": ["lull", plan.name],
                "parameters": {} if name == "top-up" else {"cycle": NEXT},
                "schedules": [{"cron": _UTC_SCHEDULES[name], "timezone": "UTC", "active": True}]
                if name in _UTC_SCHEDULES
                else [],
                "concurrency_limit": {"limit": 1, "collision_strategy": "ENQUEUE"},
                "work_pool": {
                    "name": POOL,
                    "work_queue_name": "training" if name == "retrain" else "default",
                    "job_variables": {"env": limits},
                },
            }
        )
    return {
        "name": "lull",
        "build": None,
        "push": None,
        "pull": [{"prefect.deployments.steps.set_working_directory": {"directory": "{{ $LULL_HOME }}"}}],
        "deployments": deployments,
    }


def write_prefect_yaml(plan: Plan, path: Path) -> None:
    """Write prefect.yaml, all of it or nothing."""
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.ignore_aliases = lambda data: True  # the environments are written out, not linked
    stream = io.StringIO()
    yaml.dump(deployments_of(plan), stream)
    write_whole(path, _HEADER + stream.getvalue())


def read_prefect_yaml(path: Path) -> list[dict[str, Any]]:
    """
    Return the deployments that stand in a prefect.yaml, none if there is no such file.

    Raises
    ------
    DeploymentDrift
        If the file is not what Lull writes: somebody has edited it.
    """
    if not path.is_file():
        return []
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        deployments = content["deployments"]
        return [{**one, "entrypoint": str(one["entrypoint"])} for one in deployments]
    except (YAMLError, UnicodeDecodeError, KeyError, TypeError) as problem:
        raise DeploymentDrift(
            f"{path}: is not as Lull wrote it ({type(problem).__name__}); remove it, or deploy with --overwrite"
        ) from None
