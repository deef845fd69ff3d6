"""Reading and writing plans as YAML: one sentence for what is wrong, comments kept, nothing half-written."""

import difflib
import io
import os
import stat
import tempfile
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from simulation.errors import InvalidPlan, LullError, UnknownZone
from simulation.plan import Plan
from simulation.planning.window_rule import WindowRule, load_zone

Model = TypeVar("Model", bound=BaseModel)
MAX_BYTES = 2**20


def read_plan(path: str | Path) -> Plan:
    """
    Return the plan in a YAML file.

    Raises
    ------
    InvalidPlan
        If the file is missing, is not YAML, or breaks a rule; the sentence names file, field, value and remedy.
    UnknownZone
        If a time zone is not in the IANA database.
    """
    path = Path(path)
    plan = read_section(_text(path), Plan, place=str(path), error=InvalidPlan)
    for place, zone in _zones(plan):
        try:
            load_zone(zone)
        except UnknownZone as problem:
            raise UnknownZone(f"{path}: {place}: {problem}") from None
    return plan


def plan_problems(path: str | Path) -> list[str]:
    """
    Return every rule that the plan in a file breaks, a sentence each; none if it can be read.

    Raises
    ------
    InvalidPlan
        If the file is missing or is not YAML: then there is no plan to judge.
    """
    path = Path(path)
    data = _mapping(_text(path), place=str(path), error=InvalidPlan)
    try:
        plan = Plan.model_validate(data)
    except ValidationError as problem:
        return [_error_sentence(error, Plan) for error in _told_once(problem)]
    problems = []
    for place, zone in _zones(plan):
        try:
            load_zone(zone)
        except UnknownZone as problem:
            problems.append(f"{place}: {problem}")
    return problems


def _text(path: Path) -> str:
    """Return a plan file's text."""
    try:
        return read_small_text(path, InvalidPlan)
    except FileNotFoundError:
        raise InvalidPlan(f"{path}: there is no such file; `lull plan new` writes one") from None


def _zones(plan: Plan) -> list[tuple[str, str]]:
    """Return every time zone that the plan names, with its place."""
    found: list[tuple[str, str | None]] = [("window", plan.window.time_zone), ("traffic", plan.traffic.time_zone)]
    if plan.calendar is not None:
        calendar = plan.calendar
        found += [(f"calendar.holidays.{i}", part.time_zone) for i, part in enumerate(calendar.holidays)]
        found += [(f"calendar.files.{i}", part.time_zone) for i, part in enumerate(calendar.files)]
        found += [(f"calendar.denials.{part.rule}", part.time_zone) for part in calendar.denials]
        found.append(("calendar.prices", calendar.prices.time_zone if calendar.prices is not None else None))
    return [(place, zone) for place, zone in found if zone is not None]


def read_small_text(path: Path, error: type[LullError]) -> str:
    """Return a file's text; raise `error` if it cannot be read, or is so large that YAML takes minutes."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise error(f"{path}: is larger than {MAX_BYTES // 2**20} MiB; plans and scenarios are a few kilobytes")
        return content.decode("utf-8")
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as problem:
        raise error(f"{path}: cannot be read ({problem}); check the path and its permissions") from None


def window_rule(plan: Plan) -> WindowRule:
    """Return the plan's window as a rule that can be expanded in UTC."""
    window = plan.window
    return WindowRule(
        time_zone=window.time_zone,
        starts_at_local=window.starts_at_local,
        duration_min=window.duration_min,
        weekdays=window.weekdays,
    )


def read_section(text: str, model: type[Model], *, place: str, error: type[LullError]) -> Model:
    """Return `text` (YAML) as `model`; raise `error` with one sentence that begins with `place`."""
    data = _mapping(text, place=place, error=error)
    try:
        return model.model_validate(data)
    except ValidationError as problem:
        raise error(f"{place}: {first_problem(problem, model)}") from None


def _mapping(text: str, *, place: str, error: type[LullError]) -> dict[str, Any]:
    """Return YAML as plain data, or raise `error` with the line at which it stops being any."""
    try:
        data = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as problem:
        mark = problem.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else "an unknown line"
        raise error(f"{place}: {where}: not valid YAML ({problem.problem}); mend that line") from None
    except YAMLError as problem:
        raise error(f"{place}: not valid YAML ({str(problem).splitlines()[0]}); mend the file") from None
    if not isinstance(data, dict):
        raise error(f"{place}: holds no mapping of keys to values; write `key: value` lines")
    return data


def write_plan(plan: Plan, path: str | Path, *, comments: dict[str, str] | None = None) -> None:
    """
    Write `plan` to `path`, all of it or nothing; comments already in the file are kept.

    Parameters
    ----------
    comments
        Text to stand before a section, by dotted name ("window", "serving.slo").

    Raises
    ------
    InvalidPlan
        If there is a file already that holds something else than keys and values; it is left as it is.
    """
    path = Path(path)
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 110
    document = _existing(path, yaml)
    fresh = plan.to_dict()
    if document is None:
        stream = io.StringIO()
        yaml.dump(fresh, stream)
        document = yaml.load(stream.getvalue())
        for name, text in (comments or {}).items():
            _comment(document, name, text)
    else:
        _merge(document, fresh)
    stream = io.StringIO()
    yaml.dump(document, stream)
    write_whole(path, stream.getvalue())


def _existing(path: Path, yaml: YAML) -> Any:
    """Return the document that stands at `path` with its comments, or None."""
    if not path.is_file():
        return None
    try:
        document = yaml.load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as problem:
        raise InvalidPlan(
            f"{path}: holds no YAML ({str(problem).splitlines()[0]}) and is not written over; move it away"
        ) from None
    if document is not None and not isinstance(document, dict):
        raise InvalidPlan(f"{path}: holds no mapping of keys to values and is not written over; move it away")
    return document


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that a reader, or a crash, sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~_umask()
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, mode)  # a temporary file is closed to others
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _comment(document: Any, name: str, text: str) -> None:
    """Put a comment before the dotted key `name`."""
    *parents, key = name.split(".")
    for parent in parents:
        document = document[parent]
    document.yaml_set_comment_before_after_key(key, before=text, indent=2 * len(parents))


def _merge(old: Any, new: dict[str, Any]) -> None:
    """Bring the values of `new` into the commented mapping `old`, leaving equal ones and their comments alone."""
    for key in [key for key in old if key not in new]:
        del old[key]
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            _merge(old[key], value)
        elif _are_the_same_things(old.get(key), value):
            for before, after in zip(old[key], value, strict=True):
                _merge(before, after)
        elif key not in old or old[key] != value:
            old[key] = value


def _are_the_same_things(old: Any, new: Any) -> bool:
    """Say whether two lists hold the same stages, triggers or gates in the same order, so that comments still fit."""
    if not (isinstance(old, list) and isinstance(new, list) and len(old) == len(new)):
        return False
    if not all(isinstance(item, dict) for item in [*old, *new]):
        return False
    return all(a.get(key) == b.get(key) for a, b in zip(old, new, strict=True) for key in ("name", "metric"))


def first_problem(problem: ValidationError, model: type[BaseModel]) -> str:
    """Say the first error as place, value and remedy, and count the others."""
    errors = _told_once(problem)
    more = len(errors) - 1
    text = _error_sentence(errors[0], model)
    return text + (f" (and {more} more problem{'s' if more > 1 else ''})" if more else "")


def _told_once(problem: ValidationError) -> list[ErrorDetails]:
    """Return the errors, unknown keys first: a typo is an unknown key and a missing one, and the one explains both."""
    errors = problem.errors()
    return sorted(errors, key=lambda error: error["type"] != "extra_forbidden")


def _error_sentence(first: ErrorDetails, model: type[BaseModel]) -> str:
    """Say one error as place, value and remedy."""
    place = ".".join(str(part) for part in first["loc"]) or "the file"
    if first["type"] == "extra_forbidden":
        key = str(first["loc"][-1])
        known = _fields_at(model, first["loc"][:-1])
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        stem = [name for name in known if name.startswith(key.split("_")[0] + "_")]
        hint = f"did you mean {(near or stem)[0]!r}?" if near or stem else f"known are {', '.join(known)}"
        text = f"{place}: no such key; {hint}"
    elif first["type"] == "missing":
        text = f"{place}: is missing; add it"
    else:
        message = first["msg"].removeprefix("Value error, ")
        value = first.get("input")
        shown = f" (got {value!r})" if isinstance(value, str | int | float) else ""
        if first["type"] == "string_pattern_mismatch" and place.endswith("_local"):
            message = "a time of day is written HH:MM, from 00:00 to 23:59"
        text = f"{place}: {message[0].lower()}{message[1:]}{shown}{_unit_hint(place)}"
    return text


_UNITS = {"_min": "minutes", "_ms": "milliseconds", "_s": "seconds", "_gib": "GiB", "_rps": "requests per second"}


def _unit_hint(place: str) -> str:
    """Name the unit that the field's name carries, so that `2h` in `duration_min` explains itself."""
    unit = next((unit for ending, unit in _UNITS.items() if place.endswith(ending)), None)
    return f"; write a plain number of {unit}" if unit else ""


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are known at a place inside `model`."""
    current: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        if isinstance(current, type) and issubclass(current, BaseModel) and part in current.model_fields:
            current = _model_in(current.model_fields[part].annotation)
        else:
            current = next((m for m in _models_in(current) if _kind(m) == part), current)
    names: list[str] = []
    for found in _models_in(current):
        names += [name for name in found.model_fields if name not in names]
    return names


def _kind(model: type[BaseModel]) -> Any:
    """Return the value that tells a variant of a union apart, if it has one."""
    field = model.model_fields.get("kind")
    return typing.get_args(field.annotation)[0] if field is not None else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return every model that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, types.GenericAlias) or typing.get_args(annotation):
        return [model for argument in typing.get_args(annotation) for model in _models_in(argument)]
    return []


def _model_in(annotation: Any) -> Any:
    """Return the one model of an annotation, or the annotation itself when it is a union of several."""
    models = _models_in(annotation)
    return models[0] if len(models) == 1 else annotation
