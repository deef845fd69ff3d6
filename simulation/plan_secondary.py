"""Secondary plans: the values to change when a foreseen thing happens. `Plan.under` returns such a plan in full."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from simulation.section import Section

_CHANGEABLE = ("training.", "window.", "rollout.", "serving.replicas", "serving.queue_limit")
# Which model, whose data, and when a bad model is taken back are not a matter of the night.
_FIXED = ("training.model", "training.jobs", "personal_data_regions", "rollout.max_failed_ratio")


class Secondary(Section):
    """
    What the plan becomes when a foreseen thing happens: the values to change, by dotted name.

    It may make training smaller, later or longer and the pool larger. It may not touch what was promised to users,
    what protects them, what judges the model, or who must agree: less traffic or data lowers the power of a decision,
    never its rigour.
    """

    name: Annotated[str, Field(min_length=1, pattern=r"^[a-z0-9][a-z0-9-]*$")]
    when: Literal["data_surge", "failed_component"]
    reason: Annotated[str, Field(min_length=10, description="what has happened, and why this answers it")]
    scenario: str | None = Field(None, description="the scenario that this must withstand")
    changes: Annotated[dict[str, Any], Field(min_length=1, description="value by dotted name: training.rounds: 60")]

    @model_validator(mode="after")
    def _leaves_promises_alone(self) -> Self:
        for name in self.changes:
            if not name.startswith(_CHANGEABLE) or name.endswith(_FIXED):
                raise ValueError(
                    f"changes.{name}: a secondary plan may not change it; it may change names that begin with "
                    f"{', '.join(_CHANGEABLE)}, but not {', '.join(_FIXED)}"
                )
        return self


def set_by_name(data: dict[str, Any], name: str, value: Any, place: str) -> None:
    """Set a value in plain data by dotted name; parts of a list are chosen by number, `name` or `model`."""
    *parents, key = name.split(".")
    here: Any = data
    for part in parents:
        here = _part(here, part, f"{place}.{name}")
    if isinstance(here, list):
        here[here.index(_part(here, key, f"{place}.{name}"))] = value
    elif isinstance(here, dict):
        here[key] = value
    else:
        raise ValueError(f"{place}.{name}: nothing in the plan has this name; check the dots")


def _part(here: Any, part: str, place: str) -> Any:
    if isinstance(here, dict) and part in here:
        return here[part]
    if isinstance(here, list):
        for i, item in enumerate(here):
            if part == str(i) or (isinstance(item, dict) and part in (item.get("name"), item.get("model"))):
                return item
    raise ValueError(f"{place}: nothing in the plan has this name; there is no {part!r}")
