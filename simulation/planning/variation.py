"""
What-if by name: ``serving.replicas=3..8`` as plans that differ in nothing else; start at `read_variation`.

Values of a range are written out, so that a row of a table names the very value that was tried.
"""

import datetime as dt
import difflib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from simulation.errors import InvalidPlan
from simulation.plan import Plan
from simulation.plan_file import first_problem

_ALIASES = {"window.start": "window.starts_at_local", "window.duration": "window.duration_min"}
_MOST_VALUES = 1000
_CLOCK = re.compile(r"^\d\d:\d\d$")


@dataclass(frozen=True)
class Variation:
    """A field of a plan, by dotted name, and the values that it takes in turn."""

    name: str
    values: tuple[Any, ...]


def read_variation(text: str) -> Variation:
    """
    Return the variation that a text names.

    Parameters
    ----------
    text : ``NAME=LOW..HIGH`` (whole numbers), ``NAME=LOW..HIGH/STEP`` (numbers, or clock times with a step such as
        30m or 1h; a range of times may pass midnight), or ``NAME=VALUE,VALUE,…``

    Raises
    ------
    InvalidPlan
        If the text is none of these.

    Examples
    --------
    >>> read_variation("window.start=23:00..01:00/1h").values
    ('23:00', '00:00', '01:00')
    >>> read_variation("serving.replicas=3..5").values
    (3, 4, 5)
    """
    name, sign, spec = text.partition("=")
    name = name.strip()
    if not sign or not name or not spec.strip():
        raise InvalidPlan(f"--vary: {text!r} is no variation; write NAME=LOW..HIGH/STEP or NAME=VALUE,VALUE")
    values = _range(text, spec) if ".." in spec else tuple(_value(part.strip()) for part in spec.split(","))
    if len(set(map(str, values))) != len(values):
        raise InvalidPlan(f"--vary: {text!r} names a value twice; name each once")
    return Variation(_ALIASES.get(name, name), values)


def combinations(variations: Sequence[Variation]) -> Iterator[dict[str, Any]]:
    """Yield each combination of values by name, the last variation changing fastest; one empty one for none."""
    names = [variation.name for variation in variations]
    if len(set(names)) != len(names):
        raise InvalidPlan(f"--vary: {max(names, key=names.count)} is varied twice; name it once")
    for values in itertools.product(*(variation.values for variation in variations)):
        yield dict(zip(names, values, strict=True))


def changed(plan: Plan, changes: Mapping[str, Any]) -> Plan:
    """
    Return the plan with fields changed by dotted name; members of a list go by number or by their name.

    Raises
    ------
    InvalidPlan
        If there is no such field, or the changed plan breaks a rule; the sentence names the field.
    """
    data = _whole(plan)
    for name, value in changes.items():
        place, key = _place(data, name)
        place[key] = value
    try:
        return Plan.model_validate(data)
    except ValidationError as problem:
        raise InvalidPlan(first_problem(problem, Plan)) from None


def _whole(section: BaseModel) -> dict[str, Any]:
    """Return a section as plain data with every field: a plan that does not use one leaves it out of its own form."""
    data = section.model_dump(mode="json")
    for name, value in section:
        if isinstance(value, BaseModel):
            data[name] = _whole(value)
        elif name not in data:
            data[name] = list(value) if isinstance(value, tuple) else value
    return data


def _place(data: Any, name: str) -> tuple[Any, Any]:
    """Return the container and the key of a dotted name."""
    place, parts = data, name.split(".")
    for depth, part in enumerate(parts):
        key = _key(place, part)
        if key is None:
            known = _known(place)
            near = difflib.get_close_matches(part, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known) or 'none'}"
            raise InvalidPlan(f"--vary: {'.'.join(parts[: depth + 1])}: the plan has no such field; {hint}")
        if depth == len(parts) - 1:
            return place, key
        place = place[key]
    raise InvalidPlan("--vary: the name is empty; write one such as serving.replicas")


def _key(place: Any, part: str) -> Any:
    if isinstance(place, dict):
        return part if part in place else None
    if isinstance(place, list):
        if part.isdigit() and int(part) < len(place):
            return int(part)
        named = (k for k, member in enumerate(place) if isinstance(member, dict) and member.get("name") == part)
        return next(named, None)
    return None


def _known(place: Any) -> list[str]:
    if isinstance(place, dict):
        return [str(key) for key in place]
    members = place if isinstance(place, list) else []
    return [str(member["name"]) for member in members if isinstance(member, dict) and "name" in member]


def _value(text: str) -> Any:
    """Return a number, true, false or null as such, everything else as text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, dict | list) or (isinstance(value, float) and not math.isfinite(value)) else value


def _range(text: str, spec: str) -> tuple[Any, ...]:
    ends, _, step = spec.partition("/")
    low, _, high = (part.strip() for part in ends.partition(".."))
    step = step.strip()
    if _CLOCK.match(low) and _CLOCK.match(high):
        return _clock_range(text, low, high, step)
    try:
        first, last, by = float(low), float(high), float(step) if step else 1.0
    except ValueError:
        raise InvalidPlan(f"--vary: {text!r} is no range of numbers or clock times; write LOW..HIGH/STEP") from None
    n = math.floor((last - first) / by + 1e-9) + 1 if by > 0 and math.isfinite(last - first) else 0
    if not 1 <= n <= _MOST_VALUES:
        raise InvalidPlan(
            f"--vary: {text!r} holds {max(0, n):,} values; give LOW <= HIGH, a step above 0, {_MOST_VALUES} at most"
        )
    whole = all(part.lstrip("+-").isdigit() for part in (low, high, step or "1"))
    return tuple(int(low) + k * int(by) if whole else round(first + k * by, 9) for k in range(n))


def _clock_range(text: str, low: str, high: str, step: str) -> tuple[str, ...]:
    found = re.fullmatch(r"(\d+)\s*(m|min|h)", step)
    minutes = 0 if found is None else int(found[1]) * (60 if found[2] == "h" else 1)
    try:
        first, last = (dt.datetime.strptime(end, "%H:%M") for end in (low, high))
    except ValueError:
        raise InvalidPlan(f"--vary: {text!r} holds no such time of day; write HH:MM") from None
    if minutes < 1:
        raise InvalidPlan(f"--vary: {text!r} needs a step such as /30m or /1h")
    span = int((last - first).total_seconds() // 60) % 1440
    return tuple(f"{first + dt.timedelta(minutes=k):%H:%M}" for k in range(0, span + 1, minutes))
