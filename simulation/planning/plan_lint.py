"""
What is wrong with a plan that is valid: every problem as a sentence with its place and its remedy.

Start at `lint_plan`. Each rule is a function from a plan to sentences; a plan without problems gives none.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from simulation.plan import Plan, Trigger
from simulation.planning.job_order import order_jobs, together, work_p95_min

_PLACEHOLDERS = ("tbd", "to be defined", "to be decided", "n/a", "unknown", "none yet", "lorem", "placeholder")


def lint_plan(plan: Plan) -> list[str]:
    """Return the problems of a plan, in the order of its sections; secondary plans are held to the same rules."""
    problems = [sentence for rule in RULES for sentence in rule(plan)]
    for secondary in plan.secondary:
        changed = [sentence for rule in RULES for sentence in rule(plan.under(secondary.name))]
        problems += [f"secondary.{secondary.name}: {said}" for said in changed if said not in problems]
    return problems


def paths_overlap(one: str, other: str) -> bool:
    """
    Say whether two storage paths are the same place or one lies inside the other.

    Compared part by part: "serving" and "serving-logs" are apart, "serving" and "./serving//models" are not. A path
    that goes up out of its base with ".." is taken to overlap with everything there.

    Examples
    --------
    >>> paths_overlap("data/serving", "data/serving-logs"), paths_overlap("data", "data/serving")
    (False, True)
    """
    a, b = _parts(one), _parts(other)
    shared = min(len(a), len(b))
    return a[:shared] == b[:shared] or ".." in (a[:1] + b[:1])


def _slo(plan: Plan) -> Iterator[str]:
    """The promise says what a user notices, and can be kept at all."""
    slo, service = plan.serving.slo, plan.serving.service_time
    text = slo.user_impact.strip().lower()
    if len(text.split()) < 3 or any(word in text for word in _PLACEHOLDERS):
        yield (
            f"serving.slo.user_impact: {slo.user_impact!r} does not say what a user notices; write it as users would "
            "tell it, such as 'the page shows no offers'"
        )
    if slo.latency_ms <= service.mean_ms:
        yield (
            f"serving.slo.latency_ms: {slo.latency_ms:g} ms is no more than one request takes on an idle pool "
            f"({service.mean_ms:g} ms on average); promise more time or make service faster"
        )
    timeout = plan.serving.client.timeout_ms
    if timeout is not None and timeout < slo.latency_ms:
        yield (
            f"serving.client.timeout_ms: callers give up after {timeout:g} ms, before the promised "
            f"{slo.latency_ms:g} ms; the promise cannot be seen to hold, so lower latency_ms or raise the timeout"
        )


def _storage(plan: Plan) -> Iterator[str]:
    """Training writes nowhere that serving reads, and no two jobs write to one place."""
    serving, jobs = plan.serving.storage_path, plan.training.all_jobs()
    for job in jobs:
        if paths_overlap(job.storage_path, serving):
            yield (
                f"{_place(plan, job.model)}.storage_path: {job.storage_path!r} and serving.storage_path {serving!r} "
                "overlap; give training a folder that is not above, below or equal to serving's"
            )
    for one, other in itertools.combinations(jobs, 2):
        if paths_overlap(one.storage_path, other.storage_path):
            yield (
                f"{_place(plan, other.model)}.storage_path: {other.storage_path!r} overlaps with that of {one.model} "
                f"({one.storage_path!r}); two jobs that write to one place spoil each other"
            )


def _threshold(plan: Plan) -> Iterator[str]:
    """A load called quiet leaves the pool, slowed by training, room to breathe."""
    slowdown = max(stage.serving_slowdown for job in plan.training.all_jobs() for stage in job.stages)
    capacity, quiet = plan.serving.capacity_rps, plan.window.threshold_rps
    beside = f" beside training, which slows it {slowdown:g} times" if slowdown > 1 else ""
    if quiet >= capacity / slowdown:
        yield (
            f"window.threshold_rps: {quiet:g} requests/s is called quiet, but the pool can finish only "
            f"{capacity / slowdown:,.1f}{beside}; lower the threshold or add replicas"
        )


def _window(plan: Plan) -> Iterator[str]:
    """The work fits into the window at its p95, in the order in which jobs share it."""
    slots, window = order_jobs(plan.training), plan.window
    work, room = work_p95_min(plan.training), window.duration_min - window.rollback_reserve_min
    if work > room:
        jobs = f" for {len(slots)} jobs, {plan.training.max_concurrent} at a time" if len(slots) > 1 else ""
        yield (
            f"window.duration_min: {window.duration_min:g} less the reserve of {window.rollback_reserve_min:g} is "
            f"{room:g} minutes, but the stages take {work:g} at their p95{jobs}: every start would come after its "
            "cutoff; lengthen the window or shorten the work"
        )
    late = [slot for slot in slots if slot.job.start_after_min >= window.duration_min]
    for slot in late:
        yield (
            f"{_place(plan, slot.job.model)}.start_after_min: {slot.job.start_after_min:g} lies past the window's end; "
            "lower it"
        )


def _envelope(plan: Plan) -> Iterator[str]:
    """Limits let the stages do what they are said to take, and leave the pool its processors."""
    for job in plan.training.all_jobs():
        place, envelope = _place(plan, job.model), job.envelope
        for stage in job.stages:
            for what, takes, limit in (
                ("cpus", stage.cpus, envelope.cpus), ("memory_gib", stage.memory_gib, envelope.memory_gib)
            ):  # fmt: skip
                if takes > limit:
                    yield (
                        f"{place}.envelope.{what}: {limit:g} is less than stage {stage.name} takes ({takes:g}); raise "
                        "the limit or make the stage smaller"
                    )
        work = sum(stage.minutes_p95 for stage in job.stages)
        if envelope.minutes < work:
            yield (
                f"{place}.envelope.minutes: {envelope.minutes:g} ends the job before its stages do at their p95 "
                f"({work:g}); raise it"
            )
    for _, jobs in together(order_jobs(plan.training)):
        cpus = sum(job.envelope.cpus for job in jobs)
        shares = any(stage.serving_slowdown > 1 for job in jobs for stage in job.stages)
        if shares and cpus >= plan.serving.servers:
            who = " and ".join(job.model for job in jobs)
            yield (
                f"training.envelope.cpus: {who} may take {cpus:g} processors, and the pool that it slows has "
                f"{plan.serving.servers} servers on {plan.serving.replicas} replica(s): none is sure to be left; lower "
                "cpus or max_concurrent, or add replicas"
            )
            return


def _triggers(plan: Plan) -> Iterator[str]:
    """Every trigger can act, can let go, and acts before the promise is broken."""
    is_pausable = any(stage.pausable for stage in plan.training.stages)
    for trigger in plan.triggers:
        place = f"triggers.{trigger.name}"
        never = _never_fires(plan, trigger)
        if never:
            yield f"{place}.above: {never}, so it can never act; lower it"
        if trigger.for_s >= plan.window.duration_min * 60:
            yield (
                f"{place}.for_s: {trigger.for_s:g} s is as long as the window ({plan.window.duration_min:g} minutes), "
                "so it can never act; shorten it"
            )
        if trigger.action == "pause" and not is_pausable:
            yield (
                f"{place}.action: no stage of training is pausable, so pausing does nothing; set pausable on a stage "
                "or let it stop"
            )
        if trigger.observe == "p99_ms" and trigger.above < plan.serving.service_time.mean_ms:
            yield (
                f"{place}.above: {trigger.above:g} ms is less than one request takes ("
                f"{plan.serving.service_time.mean_ms:g} ms on average), so it always acts; raise it"
            )
        if trigger.observe == "p99_ms" and trigger.above > plan.serving.slo.latency_ms and not never:
            yield (
                f"{place}.above: {trigger.above:g} ms lies over the promised {plan.serving.slo.latency_ms:g} ms, so it "
                "acts when the promise is broken already; lower it"
            )


def _never_fires(plan: Plan, trigger: Trigger) -> str:
    """Say why the observed value can never pass the limit, or return nothing."""
    serving = plan.serving
    if trigger.observe in ("bad_ratio", "error_ratio") and trigger.above >= 1:
        return f"a share never passes {trigger.above:g}"
    if trigger.observe == "queue_length" and serving.queue_limit is not None and trigger.above >= serving.queue_limit:
        return f"the queue never holds more than its {serving.queue_limit} places"
    timeout = serving.client.timeout_ms
    if trigger.observe == "p99_ms" and timeout is not None and trigger.above >= timeout:
        return f"callers give up after {timeout:g} ms, no finished request takes {trigger.above:g}"
    return ""


RULES: tuple[Callable[[Plan], Iterator[str]], ...] = (_slo, _storage, _window, _threshold, _envelope, _triggers)


def _place(plan: Plan, model: str) -> str:
    """Return where a job stands in the plan."""
    for i, job in enumerate(plan.training.jobs):
        if job.model == model:
            return f"training.jobs.{i}"
    return "training"


def _parts(path: str) -> tuple[str, ...]:
    """Return the parts of a path with "." and inner ".." resolved; what leads out of its base keeps its ".."."""
    parts: list[str] = []
    for part in PurePosixPath(path.replace("\\", "/")).parts:
        if part == ".." and parts and parts[-1] not in ("..", "/"):
            parts.pop()
        elif part == "..":
            parts += [] if parts[-1:] == ["/"] else [".."]
        elif part != "//":
            parts.append(part)
        else:
            parts.append("/")
    return tuple(parts)
