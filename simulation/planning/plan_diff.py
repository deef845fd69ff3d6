"""
What changes for users between two plans, in sentences. Start at `diff_plans`.

Every value that differs is told exactly once: what reaches users in words, the rest with its name.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from simulation.plan import Plan
from simulation.planning.job_order import work_p95_min

Kind = Literal["users", "night", "other"]
TITLES: dict[Kind, str] = {
    "users": "What users may notice",
    "night": "What changes in the night",
    "other": "What reaches nobody by itself",
}


@dataclass(frozen=True)
class Difference:
    """A sentence, whom it concerns, and the values of the plan that it tells of, by dotted name."""

    kind: Kind
    sentence: str
    names: tuple[str, ...]


def diff_plans(before: Plan, after: Plan) -> list[Difference]:
    """Return what differs from `before` to `after`: first what users may notice, then the night, then the rest."""
    left = {name: (a, b) for name, a, b in _leaves(before.to_dict(), after.to_dict())}
    found: list[Difference] = []
    for teller in _TELLERS:
        for kind, sentence, names in teller(before, after):
            told = tuple(name for name in left if any(name == n or name.startswith(f"{n}.") for n in names))
            if told:
                found.append(Difference(kind, sentence, told))
                for name in told:
                    del left[name]
    for name, (a, b) in left.items():
        found.append(Difference(_kind_of(name), f"{name}: {_change(a, b)}.", (name,)))
    order = list(TITLES)
    return sorted(found, key=lambda difference: order.index(difference.kind))


_ORDERED = ("training.stages", "training.jobs", "triggers", "evaluation.gates", "secondary")  # lists of named parts
Told = Iterator[tuple[Kind, str, tuple[str, ...]]]


def _promise(before: Plan, after: Plan) -> Told:
    a, b = before.serving.slo, after.serving.slo
    names = ("serving.slo.latency_ms", "serving.slo.good_ratio")
    if (a.latency_ms, a.good_ratio) != (b.latency_ms, b.good_ratio):
        sentence = (
            f"The promise changes: {b.good_ratio:.3%} of requests are to be answered within {b.latency_ms:g} ms, "
            f"where it was {a.good_ratio:.3%} within {a.latency_ms:g} ms"
            f"{_per_million(a.good_ratio, b.good_ratio)}."
        )
        yield "users", sentence, names
    if a.user_impact != b.user_impact:
        yield (
            "users",
            (f"What a broken promise means is said anew: {b.user_impact!r} instead of {a.user_impact!r}."),
            ("serving.slo.user_impact",),
        )


def _pool(before: Plan, after: Plan) -> Told:
    a, b = before.serving, after.serving
    names = ("serving.replicas", "serving.servers_per_replica", "serving.service_time.mean_ms")
    if a.capacity_rps != b.capacity_rps:
        more = "higher" if b.capacity_rps > a.capacity_rps else "lower"
        sentence = (
            f"The pool can finish {b.capacity_rps:,.1f} requests/s instead of {a.capacity_rps:,.1f}: users wait at "
            f"{more} loads than before."
        )
        yield "users", sentence, names
    if a.client.timeout_ms != b.client.timeout_ms:
        yield (
            "users",
            (f"Callers wait {_patience(b.client.timeout_ms)} instead of {_patience(a.client.timeout_ms)}."),
            ("serving.client.timeout_ms",),
        )


def _window(before: Plan, after: Plan) -> Told:
    a, b = before.window, after.window
    names = ("window.time_zone", "window.starts_at_local", "window.duration_min", "window.weekdays")
    if _rule(before) != _rule(after):
        sentence = (
            f"Training runs beside serving {_rule(after)} instead of {_rule(before)}: users of those hours may notice "
            "it, those of the old hours no more."
        )
        yield "users", sentence, names
    if a.threshold_rps != b.threshold_rps:
        word = "busier" if b.threshold_rps > a.threshold_rps else "quieter"
        sentence = (
            f"Hours are called quiet up to {b.threshold_rps:g} requests/s instead of {a.threshold_rps:g}: training may "
            f"meet {word} hours."
        )
        yield "users", sentence, ("window.threshold_rps",)
    if a.rollback_reserve_min != b.rollback_reserve_min:
        sentence = (
            f"{b.rollback_reserve_min:g} minutes instead of {a.rollback_reserve_min:g} are kept free at the window's "
            "end for a way back from a bad model."
        )
        yield "users", sentence, ("window.rollback_reserve_min",)


def _slowdown(before: Plan, after: Plan) -> Told:
    a, b = _worst(before), _worst(after)
    names = tuple(f"training.stages.{stage}.serving_slowdown" for stage in (a[1], b[1]))
    if a != b:
        sentence = (
            f"While {b[1]} runs, answers take {b[0]:g} times as long as without training; it was {a[0]:g} times "
            f"while {a[1]} ran."
        )
        yield "users", sentence, names


def _work(before: Plan, after: Plan) -> Told:
    a, b = work_p95_min(before.training), work_p95_min(after.training)
    old = {stage.name: stage.minutes_p95 for stage in before.training.stages}
    changed = [stage for stage in after.training.stages if old.get(stage.name) not in (None, stage.minutes_p95)]
    if a != b and changed:
        cutoff = after.window.duration_min - after.window.rollback_reserve_min - b
        each = ", ".join(f"{stage.name} {stage.minutes_p95:g} instead of {old[stage.name]:g}" for stage in changed)
        sentence = (
            f"Training takes {b:g} minutes at its p95 instead of {a:g} ({each}); it may start up to {cutoff:g} minutes "
            "after the window opens."
        )
        yield "night", sentence, tuple(f"training.stages.{stage.name}.minutes_p95" for stage in changed)


def _rollout(before: Plan, after: Plan) -> Told:
    a, b = before.rollout, after.rollout
    if a.canary_ratios != b.canary_ratios:
        sentence = (
            f"A new model is shown to {_shares(b.canary_ratios)} of users before all, instead of "
            f"{_shares(a.canary_ratios)}."
        )
        yield "users", sentence, ("rollout.canary_ratios",)
    if a.max_failed_ratio != b.max_failed_ratio:
        sentence = (
            f"A new model is taken back once {b.max_failed_ratio:.2%} of its answers fail, instead of "
            f"{a.max_failed_ratio:.2%}."
        )
        yield "users", sentence, ("rollout.max_failed_ratio",)
    if a.keep_warm_min != b.keep_warm_min:
        yield (
            "users",
            (f"The old model stays ready to return for {b.keep_warm_min:g} minutes instead of {a.keep_warm_min:g}."),
            ("rollout.keep_warm_min",),
        )


def _named(part: str, what: str, kind: Kind) -> Callable[[Plan, Plan], Told]:
    """Return a teller of parts that come and go as a whole: stages, triggers, gates, jobs, denials, secondaries."""

    def tell(before: Plan, after: Plan) -> Told:
        a, b = _items(before.to_dict(), part), _items(after.to_dict(), part)
        for name in [name for name in a if name not in b]:
            yield kind, f"{what} {name} is gone{_meaning(part, a[name])}.", (f"{part}.{name}",)
        for name in [name for name in b if name not in a]:
            yield kind, f"{what} {name} is new{_meaning(part, b[name])}.", (f"{part}.{name}",)
        for name in [name for name in a if name in b and a[name] != b[name]]:
            fields = [f"{key} {_change(a[name].get(key), b[name].get(key))}"
                      for key in sorted({*a[name], *b[name]}) if a[name].get(key) != b[name].get(key)]  # fmt: skip
            if part != "training.stages":
                yield kind, f"{what} {name} changes: {', '.join(fields)}.", (f"{part}.{name}",)

    return tell


_TELLERS: tuple[Callable[[Plan, Plan], Told], ...] = (
    _promise,
    _pool,
    _window,
    _slowdown,
    _work,
    _rollout,
    _named("triggers", "The trigger", "users"),
    _named("evaluation.gates", "The gate", "users"),
    _named("calendar.denials", "The denial", "night"),
    _named("training.jobs", "The job", "night"),
    _named("secondary", "The secondary plan", "night"),
    _named("training.stages", "The stage", "night"),
)


def _meaning(part: str, item: Any) -> str:
    """Say what a part does, where that can be said from its values."""
    if part == "triggers":
        return f": {item['action']} when {item['observe']} passes {item['above']:g}"
    if part == "evaluation.gates":
        return f": {item['role']} with margin {item['margin']:g}"
    if part == "calendar.denials":
        return f": {item['reason'].rstrip('.')}"
    return ""


def _kind_of(name: str) -> Kind:
    """Return whom a value concerns that has no words of its own."""
    if name.startswith(("serving.", "rollout.", "evaluation.", "approvals.")):
        return "users"
    if name.startswith(("window.", "training.", "calendar", "triggers", "secondary")) and not name.endswith("reason"):
        return "night"
    return "other"


def _leaves(a: Any, b: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted name and both values of all that differs; parts of a list go by name, metric, model or rule."""
    a, b = _as_mapping(a), _as_mapping(b)
    if _is_empty(a) and _is_empty(b):
        return
    a, b = ({} if _is_empty(x) and isinstance(y, dict) else x for x, y in ((a, b), (b, a)))
    if isinstance(a, dict) and isinstance(b, dict):
        both = [key for key in a if key in b]
        if name in _ORDERED and both != [key for key in b if key in a]:
            yield f"{name}.order", both, [key for key in b if key in a]
        for key in [*a, *(key for key in b if key not in a)]:
            yield from _leaves(a.get(key), b.get(key), f"{name}.{key}" if name else str(key))
    elif a != b:
        yield name, a, b


def _as_mapping(value: Any) -> Any:
    """Return a list of named parts as a mapping by those names; anything else as it is."""
    if isinstance(value, list | tuple) and value and all(isinstance(item, dict) for item in value):
        names = [_name_of(item, i) for i, item in enumerate(value)]
        if len(set(names)) < len(names):
            names = [str(i) for i in range(len(value))]
        return dict(zip(names, value, strict=True))
    return value


def _is_empty(value: Any) -> bool:
    return value is None or value in ([], {})


def _name_of(item: dict[str, Any], index: int) -> str:
    key = next((key for key in ("name", "metric", "rule", "model", "path") if key in item), None)
    return str(item[key]) if key is not None else str(index)


def _items(data: dict[str, Any], part: str) -> dict[str, Any]:
    """Return the named parts of a plan by name; none if the plan has no such section."""
    here: Any = data
    for key in part.split("."):
        here = (here or {}).get(key)
    found = _as_mapping(here)
    return found if isinstance(found, dict) else {}


def _change(a: Any, b: Any) -> str:
    if a is None or a == []:
        return f"{_shown(b)} is new"
    return f"{_shown(a)} is gone" if b is None or b == [] else f"{_shown(b)} instead of {_shown(a)}"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(_shown(item) for item in value)
    if isinstance(value, dict):
        return "; ".join(f"{key} {_shown(item)}" for key, item in value.items())
    return str(value)


def _rule(plan: Plan) -> str:
    window = plan.window
    days = "every day" if len(window.weekdays) == 7 else f"on {', '.join(window.weekdays)}"
    return f"from {window.starts_at_local} {window.time_zone} {days} for {window.duration_min:g} minutes"


def _worst(plan: Plan) -> tuple[float, str]:
    """Return the largest slowdown of serving and the stage that causes it."""
    stage = max(plan.training.stages, key=lambda stage: stage.serving_slowdown)
    return stage.serving_slowdown, stage.name


def _per_million(a: float, b: float) -> str:
    more = round((a - b) * 1e6)
    return f"; of a million requests {abs(more):,} {'more' if more > 0 else 'fewer'} may be bad" if more else ""


def _shares(ratios: Sequence[float]) -> str:
    return " then ".join(f"{ratio:.0%}" for ratio in ratios) or "none"


def _patience(value: float | None) -> str:
    return "without limit" if value is None else f"at most {value:g} ms"
