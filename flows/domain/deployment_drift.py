"""Whether what runs on the orchestrator is what was deployed: `drift` compares both, field by field, in sentences."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def drift(written: Sequence[Mapping[str, Any]], served: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """
    Return a sentence for each difference between the deployments of a prefect.yaml and those of the server.

    Parameters
    ----------
    written : as they stand under ``deployments`` in prefect.yaml
    served : as the server describes them

    Notes
    -----
    Deployments are matched by entrypoint. Values that are filled in when they are deployed (``{{ … }}``) are not
    compared, for nobody can say what they were filled with.
    """
    known = {str(one.get("entrypoint")): one for one in served}
    found: list[str] = []
    for one in written:
        entrypoint = str(one["entrypoint"])
        there = known.pop(entrypoint, None)
        if there is None:
            found.append(f"{entrypoint} is not on the server any more")
            continue
        found += [f"{entrypoint}: {sentence}" for sentence in _differences(one, there)]
    found += [f"{entrypoint} is on the server and not in prefect.yaml" for entrypoint in sorted(known)]
    return tuple(found)


def _differences(written: Mapping[str, Any], served: Mapping[str, Any]) -> Iterator[str]:
    pool = written["work_pool"]
    pairs: list[tuple[str, Any, Any]] = [
        ("parameters", dict(written["parameters"]), dict(served.get("parameters") or {})),
        ("tags", sorted(written["tags"]), sorted(served.get("tags") or ())),
        ("work pool", pool["name"], served.get("work_pool_name")),
        ("work queue", pool["work_queue_name"], served.get("work_queue_name")),
        ("schedules", _written_schedules(written), _served_schedules(served)),
        ("concurrency limit", written["concurrency_limit"]["limit"], _limit(served)),
        ("paused", False, bool(served.get("paused"))),
    ]
    there = (served.get("job_variables") or {}).get("env") or {}
    for name, value in pool["job_variables"]["env"].items():
        if "{{" not in str(value):
            pairs.append((f"variable {name}", str(value), str(there.get(name))))
    for name, was, now in pairs:
        if was != now:
            yield f"{name} was deployed as {was} and is {now}"


def _written_schedules(written: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [(one.get("cron"), one.get("timezone"), bool(one.get("active", True))) for one in written["schedules"]]


def _served_schedules(served: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    found = []
    for one in served.get("schedules") or ():
        schedule = one.get("schedule") or {}
        found.append((schedule.get("cron"), schedule.get("timezone"), bool(one.get("active", True))))
    return found


def _limit(served: Mapping[str, Any]) -> Any:
    """Return the limit, which newer servers keep apart from the deployment."""
    apart = served.get("global_concurrency_limit") or {}
    return apart.get("limit", served.get("concurrency_limit"))
