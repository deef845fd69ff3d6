"""`lull simulate`: play a plan's night many times, print the verdict, write the certificate."""

import datetime as dt
import json
import tempfile
from pathlib import Path

from flows.commands.printing import Counter, print_json, print_table
from flows.planning_run import ValidatedPlan, plan_scenarios, validate_plan
from simulation.errors import InvalidPlan
from simulation.plan import Plan
from simulation.plan_file import read_plan, write_whole
from simulation.planning.packing import finish_by_job, pack
from simulation.scenario import read_scenario
from simulation.statistics import Estimate
from simulation.verdict import Answer, ScenarioVerdict

EXIT_CODES = {Answer.HOLDS: 0, Answer.FAILS: 1, Answer.UNDECIDED: 3}


def run(
    path: Path,
    scenarios: list[str],
    replications: int | None,
    first_seed: int,
    threads: int,
    opens_at: str | None,
    certificate: Path | None,
    dask: str | None,
    as_json: bool,
) -> int:
    """Return 0 if the plan holds, 1 if it fails, 3 without enough evidence; the certificate says the same."""
    plan = read_plan(path)
    opening = None if opens_at is None else _moment(opens_at)
    target = path.parent / "certificate.json" if certificate is None else certificate
    _can_write(target)  # before minutes of simulation, not after
    chosen = tuple(read_scenario(name) for name in scenarios) or plan_scenarios(plan)
    n = plan.acceptance.replications if replications is None else replications
    counter = Counter((len(chosen) + sum(s.scenario is not None for s in plan.secondary)) * n)
    result = validate_plan(
        plan, opens_at=opening, scenarios=chosen, replications=replications,
        first_seed=first_seed, threads=threads, folder=path.parent, dask=dask, on_trial=counter,
    )  # fmt: skip
    counter.clear()
    write_whole(target, json.dumps(result.certificate, indent=1, ensure_ascii=False) + "\n")
    if as_json:
        print_json({**result.certificate, "certificate_file": str(target)})
    else:
        _print(plan, result, target)
    return EXIT_CODES[result.verdict.answer]


def _print(plan: Plan, result: ValidatedPlan, target: Path) -> None:
    mark = "" if result.verdict.is_calibrated else " [uncalibrated]"
    closes = result.opens_at + dt.timedelta(minutes=plan.window.duration_min)
    print(f"Plan {plan.name}, night of {result.opens_at:%Y-%m-%d %H:%M} to {closes:%H:%M} UTC")
    print_table(
        [
            "scenario",
            "answer",
            "nights",
            "P(SLO missed)",
            "P(done in time)",
            "p99 ms",
            "bad requests",
            "longest out min",
            "cost",
        ],
        [_row(verdict) for verdict in result.verdict.scenarios],
        left=2,
    )
    if plan.training.jobs:
        _print_jobs(plan, result)
    confidence = f"{plan.acceptance.confidence:.0%}"
    print(f"In brackets: bounds at {confidence} confidence, one-sided for probabilities, two-sided for p99.")
    print(f"\nVerdict: {result.verdict.answer.value}{mark}")
    for reason in result.verdict.reasons:
        print(f"  {reason}")
    outlook = result.certificate["outlook"]
    for sentence in (*outlook["metastability"]["reasons"], outlook["decidability"]["reason"]):
        print(f"  {sentence}")
    if not result.verdict.is_calibrated:
        print("  uncalibrated: the service model was never fitted on the real pool.")
    print(f"Certificate: {target}")


def _print_jobs(plan: Plan, result: ValidatedPlan) -> None:
    """Print when each model trains and how likely it is done in time, and which are deferred."""
    packing, chances = pack(plan), finish_by_job(result.experiment, plan.acceptance.confidence)
    print("\nModels in this window, P(done in time) by scenario:")
    rows = [
        [slot.job.model, f"{slot.begins_min:g} to {slot.ends_min:g} min"]
        + [_with_bounds(chances[name][slot.job.model], ".0%") for name in chances]
        for slot in packing.slots
    ]
    print_table(["model", "at its p95", *chances], rows, left=2)
    for deferred in packing.deferred:
        print(f"{deferred.reason}.")


def _row(verdict: ScenarioVerdict) -> list[str]:
    return [
        verdict.scenario,
        verdict.answer.value,
        str(verdict.n_trials),
        _with_bounds(verdict.breach, ".0%"),
        _with_bounds(verdict.finish, ".0%"),
        _with_bounds(verdict.p99_ms, ",.0f"),
        f"{verdict.expected_bad_requests.value:,.1f}",
        f"{verdict.recovery_min_p95:,.0f}",
        f"{verdict.cost.value:,.2f}",
    ]


def _with_bounds(estimate: Estimate, form: str) -> str:
    return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"


def _moment(text: str) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidPlan(f"--opens-at: {text!r} is no time; write it such as 2026-03-28T01:30:00Z") from None


def _can_write(target: Path) -> None:
    """Raise `InvalidPlan` if no file can be written at `target`; leaves nothing behind."""
    if target.is_dir():
        raise InvalidPlan(f"--certificate: {target} is a folder; name a file in it")
    place = next(folder for folder in target.absolute().parents if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as problem:
        trouble = (problem.strerror or str(problem)).lower()
        raise InvalidPlan(
            f"{target.parent}: no certificate can be written there ({trouble}); use --certificate"
        ) from None
