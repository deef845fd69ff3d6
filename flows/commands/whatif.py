"""`lull whatif`: the next night of a plan under every combination of changed fields, as a table, a CSV and a page."""

import shlex
import sys
from pathlib import Path

from flows.commands.printing import Counter, print_json, print_table
from flows.domain.gates import judge_canary
from flows.domain.triggers import make_rules
from flows.planning_run import plan_forecast, plan_scenarios, plan_traffic, soonest_opening_after
from reports.html import to_html
from reports.whatif_page import best_of, whatif_page
from simulation.plan import Plan
from simulation.plan_file import read_plan, write_whole
from simulation.planning.sweep import Sweep, sweep
from simulation.planning.variation import combinations, read_variation
from simulation.rules import Rules
from simulation.scenario import read_scenario


def run(
    path: Path,
    vary: list[str],
    scenarios: list[str],
    replications: int | None,
    first_seed: int,
    threads: int,
    csv: Path | None,
    page: Path | None,
    as_json: bool,
) -> int:
    """Return 0 if one of the plans holds, 1 if none does."""
    plan = read_plan(path)
    variations = [read_variation(text) for text in vary]
    chosen = tuple(read_scenario(name) for name in scenarios) or plan_scenarios(plan)
    n = plan.acceptance.replications if replications is None else replications
    history = plan_traffic(plan)
    counter = Counter(sum(1 for _ in combinations(variations)) * len(chosen) * n)
    tried = sweep(
        plan, variations, chosen, load=plan_forecast(plan, history), after=soonest_opening_after(history),
        rules_of=_rules, step_rule=judge_canary, replications=replications, first_seed=first_seed, threads=threads,
        on_trial=counter,
    )  # fmt: skip
    counter.clear()
    frame = tried.to_frame()
    if csv is not None:
        write_whole(csv, frame.to_csv(index=False))
    if page is not None:
        write_whole(page, to_html(whatif_page(tried, plan, ["lull " + shlex.join(sys.argv[1:])])))
    if as_json:
        print_json(frame.astype(object).where(frame.notna(), None).to_dict("records"))
    else:
        _print(tried, [p for p in (csv, page) if p is not None])
    return 0 if best_of(tried) is not None else 1


def _rules(plan: Plan) -> Rules:
    return make_rules(plan.triggers)


def _print(tried: Sweep, files: list[Path]) -> None:
    names = [variation.name for variation in tried.variations]
    rows = []
    for one in tried.tried:
        changes = [str(one.changes[name]) for name in names]
        if one.verdict is None:
            rows.append([*changes, "", "refused", "", "", "", ""])
            continue
        for found in one.verdict.scenarios:
            rows.append(
                [
                    *changes, found.scenario, found.answer.value,
                    f"{found.breach.value:.0%} [{found.breach.low:.0%}, {found.breach.high:.0%}]",
                    f"{found.finish.value:.0%} [{found.finish.low:.0%}, {found.finish.high:.0%}]",
                    f"{found.p99_ms.value:,.0f}", f"{found.cost.value:,.2f}",
                ]
            )  # fmt: skip
    head = [*names, "scenario", "answer", "P(SLO missed)", "P(done in time)", "p99 ms", "cost"]
    print_table(head, rows, left=len(names) + 2)
    for one in tried.tried:
        if one.refusal is not None:
            print(f"{one.label} is refused: {one.refusal}")
    best = best_of(tried)
    print("None of these plans holds." if best is None else f"Holds at the least cost: {best.label}.")
    for file in files:
        print(f"Written: {file}")
