"""`lull recommend`: search for the plan that costs least, or renews the model soonest, and holds."""

import datetime as dt
import sys
from pathlib import Path
from typing import Any

from flows.commands.printing import print_json, print_table
from flows.domain.gates import judge_canary
from flows.domain.triggers import make_rules
from flows.openings_ahead import plan_calendar
from flows.planning_run import plan_forecast, plan_scenarios, plan_traffic, soonest_opening_after
from simulation.errors import InvalidPlan
from simulation.plan import Plan
from simulation.plan_file import read_plan, write_plan
from simulation.planning.candidates import SearchSpace
from simulation.planning.recommend import recommend
from simulation.planning.recommendation import Judged, Recommendation, Refusal
from simulation.planning.variation import read_variation
from simulation.result import Trial
from simulation.scenario import read_scenario
from simulation.verdict import Answer

EXIT_CODES = {Answer.FAILS: 1, Answer.UNDECIDED: 3}


def run(
    path: Path,
    given: dict[str, str | None],
    objective: str,
    scenarios: list[str],
    replications: int | None,
    seed: int,
    threads: int,
    write: Path | None,
    as_json: bool,
) -> int:
    """Return 0 with a recommendation, 1 with a refusal, 3 without enough evidence."""
    plan = read_plan(path)
    if objective not in ("cost", "staleness"):
        raise InvalidPlan(f"--objective: {objective!r} is none; use cost or staleness")
    space = _space(given)
    _can_be_written(write)
    history = plan_traffic(plan)
    load = plan_forecast(plan, history)
    chosen = tuple(read_scenario(name) for name in scenarios) or plan_scenarios(plan)
    counter = _Counter()
    found = recommend(
        plan, load, after=soonest_opening_after(history), search=space, scenarios=chosen,
        objective="staleness" if objective == "staleness" else "cost",
        calendar=plan_calendar(plan, path.parent, load.start, load.end + dt.timedelta(days=1)),
        rules_of=lambda variant: make_rules(variant.triggers), step_rule=judge_canary,
        replications=replications, threads=threads, first_seed=seed, on_trial=counter,
    )  # fmt: skip
    counter.clear()
    written = _write(found, write)
    if as_json:
        print_json({**found.to_dict(), "plan": plan.name, "plan_digest": plan.digest(), "written": written})
    else:
        _print(plan, found, written)
    return 0 if isinstance(found, Recommendation) else EXIT_CODES[found.answer]


class _Counter:
    """Counts nights on a terminal's stderr; how many there will be is not known beforehand."""

    def __init__(self) -> None:
        self.done, self.is_shown = 0, sys.stderr.isatty()

    def __call__(self, trial: Trial) -> None:
        self.done += 1
        if self.is_shown:
            print(f"\r{self.done} nights, {trial.scenario:<24}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self.is_shown:
            print("\r" + " " * 60 + "\r", end="", file=sys.stderr, flush=True)


def _space(given: dict[str, str | None]) -> SearchSpace:
    """Return what may be chosen, from the texts of the options."""
    return SearchSpace(
        starts_local=tuple(str(value) for value in _values(given, "start")),
        durations_min=_numbers(given, "duration", whole=False),
        replicas=tuple(int(value) for value in _numbers(given, "replicas", whole=True)),
        envelope_cpus=_numbers(given, "cpus", whole=False),
        max_concurrent=tuple(int(value) for value in _numbers(given, "concurrent", whole=True)),
    )


def _numbers(given: dict[str, str | None], option: str, *, whole: bool) -> tuple[float, ...]:
    values = _values(given, option)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            kind = "whole number" if whole else "number"
            raise InvalidPlan(f"--{option}: {value!r} is no {kind}; write LOW..HIGH/STEP or VALUE,VALUE")
    return tuple(values)


def _values(given: dict[str, str | None], option: str) -> tuple[Any, ...]:
    """Return the values that an option names, in the way of `--vary`."""
    text = given.get(option)
    if text is None:
        return ()
    try:
        return read_variation(f"{option}={text}").values
    except InvalidPlan as problem:
        told = str(problem).removeprefix("--vary: ").replace(f"{option}={text}", text)
        raise InvalidPlan(f"--{option}: {told.replace('NAME=', '')}") from None


def _can_be_written(path: Path | None) -> None:
    """Raise `InvalidPlan` before minutes of simulation, not after."""
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise InvalidPlan(f"--write: no plan can be written to {path}; name a file in a folder that is there")


def _write(found: Recommendation | Refusal, path: Path | None) -> str | None:
    """Write the recommended plan with the reason for its window, and return where; nothing for a refusal."""
    if path is None or isinstance(found, Refusal):
        return None
    chosen = found.best.candidate.plan
    window = chosen.window.model_copy(update={"reason": " ".join(found.sentences())})
    write_plan(chosen.model_copy(update={"window": window}), path)
    return str(path)


def _print(plan: Plan, found: Recommendation | Refusal, written: str | None) -> None:
    for sentence in found.sentences():
        print(sentence)
    if isinstance(found, Recommendation):
        held = [found.best, *([found.runner_up] if found.runner_up else []), *found.others]
        print()
        print_table(
            ["", "choice", "night (UTC)", f"{found.objective.kind}, {found.objective.unit}", "P(SLO missed) <",
             "P(done in time) >"],
            [_row(name, one) for name, one in zip(["best", "runner-up", *["also"] * len(found.others)], held,
                                                  strict=True)],
            left=3,
        )  # fmt: skip
    told = found.counts
    print(
        f"\n{told.combinations} combinations: {told.no_plan} are no plan, {told.ruled_out} ruled out by arithmetic, "
        f"{told.by_formula} left out by formula, {told.dominated} worse in every way than one that does not hold, "
        f"{told.holding} hold, {told.failing} fail, {told.undecided} undecided, {told.not_reached} not reached."
    )
    if not plan.serving.service_time.calibrated:
        print("uncalibrated: the service model was never fitted on the real pool.")
    if written is not None:
        print(f"Written: {written}; run `lull simulate {written}` for its certificate.")


def _row(name: str, one: Judged) -> list[str]:
    found = one.verdict.scenarios
    return [
        name,
        one.candidate.label,
        f"{one.candidate.opens_at:%Y-%m-%d %H:%M}",
        f"{one.objective.value:,.4g}",
        f"{max(v.breach.high for v in found):.0%}",
        f"{min(v.finish.low for v in found):.0%}",
    ]
