"""`lull plan schema | new | check | diff`: what plans may say, a first one, what is wrong with one, what changed."""

import datetime as dt
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flows.commands.printing import print_json
from flows.domain.window_in_force import window_in_force
from flows.openings_ahead import next_openings, plan_calendar
from simulation.errors import InvalidPlan, LullError
from simulation.plan import Plan
from simulation.plan_file import plan_problems, read_plan, write_plan
from simulation.planning.new_plan import COMMENTS, Answers, draft_plan
from simulation.planning.openings import Opening
from simulation.planning.plan_diff import TITLES, diff_plans
from simulation.planning.plan_lint import lint_plan
from simulation.traffic.read_history import read_history


def schema() -> int:
    """Print the JSON Schema of plans; return 0."""
    print_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **Plan.model_json_schema()})
    return 0


def check(path: Path, as_json: bool) -> int:
    """List everything that is wrong with a plan, a sentence each; return 1 if anything is, else 0."""
    problems = plan_problems(path)
    plan = None if problems else read_plan(path)
    now = dt.datetime.now(dt.UTC)
    opening = None
    if plan is not None:
        problems = lint_plan(plan)
        try:
            opening = next_openings(plan, plan_calendar(plan, path.parent, now), now, 1)[0]
        except LullError as problem:
            problems.append(str(problem))
    if as_json:
        print_json(_as_data(path, plan, problems, opening))
    elif plan is None or problems:
        print(f"{path}: {len(problems)} problem{'s' if len(problems) > 1 else ''}:")
        for sentence in problems:
            print(f"  {sentence}")
    else:
        print(f"{path}: plan {plan.name} is valid (digest {plan.digest()[:12]}).")
        print(window_in_force(plan, now, calendar=plan_calendar(plan, path.parent, now)).reason + ".")
    return 1 if problems else 0


def diff(before: Path, after: Path, as_json: bool) -> int:
    """Say in sentences what changes for users from one plan to another; return 0."""
    old, new = read_plan(before), read_plan(after)
    found = diff_plans(old, new)
    if as_json:
        print_json(
            {
                "before": old.digest(),
                "after": new.digest(),
                "differences": [{"kind": d.kind, "sentence": d.sentence, "names": d.names} for d in found],
            }
        )
        return 0
    if not found:
        print("The plans say the same.")
    for kind, title in TITLES.items():
        sentences = [d.sentence for d in found if d.kind == kind]
        if sentences:
            print(f"{title}:")
            for sentence in sentences:
                print(f"  {sentence}")
    if found and not any(d.kind == "users" for d in found):
        print("Nothing changes for users while training keeps to its window.")
    return 0


@dataclass(frozen=True)
class Question:
    """What is asked when a flag is missing: the flag, the words, and how to read the answer."""

    flag: str
    words: str
    read: Callable[[str], Any]


QUESTIONS = {
    "name": Question("--name", "Name of the plan, in small letters and dashes", str),
    "history": Question("--history", "Request history: CSV or Parquet file, or worldcup98", str),
    "time_zone": Question("--timezone", "IANA zone of its users, such as Europe/Paris", str),
    "duration_min": Question("--duration", "Length of the window in minutes", float),
    "model": Question("--model", "Name of the model in the registry", str),
    "data": Question("--data", "Training data: a file, or bank_marketing_2008_2010", str),
    "replicas": Question("--replicas", "Replicas of the serving pool", int),
    "service_ms": Question("--service-ms", "Milliseconds that one request takes on an idle server", float),
    "slo_ms": Question("--slo-ms", "Milliseconds within which users were promised an answer", float),
    "good_ratio": Question("--good-ratio", "Share of requests for which the promise holds, such as 0.99", float),
    "user_impact": Question("--user-impact", "What a user notices when it is broken, in a sentence", str),
}


def new(path: Path, given: dict[str, Any], *, force: bool) -> int:
    """Write a first plan from the flags, asking on a terminal for what is missing; return 0."""
    if path.exists() and not force:
        raise InvalidPlan(f"{path}: is there already; choose another name, or write over it with --force")
    answers = _ask(given)
    history = read_history(answers.history, time_zone=answers.time_zone)
    try:
        draft = draft_plan(answers, history)
    except ValidationError as problem:
        first = problem.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidPlan(f"{place}: {first['msg'].removeprefix('Value error, ')}; give another value") from None
    if force and path.exists():
        path.unlink()  # its comments belong to another plan
    comments = {name: text for name, text in COMMENTS.items() if name != "calendar" or draft.plan.calendar}
    write_plan(draft.plan, path, comments=comments)
    print(f"{path}: plan {draft.plan.name}; opens at {draft.reason}")
    print(f"Assumed: how long stages take and what they do to serving. Next: `lull plan check {path}`, then simulate.")
    return 0


def _ask(given: dict[str, Any]) -> Answers:
    """Return all answers; ask on a terminal, refuse anywhere else with every missing flag at once."""
    answers = {name: value for name, value in given.items() if value is not None}
    missing = [name for name in QUESTIONS if name not in answers]
    if missing and not sys.stdin.isatty():
        flags = ", ".join(QUESTIONS[name].flag for name in missing)
        raise InvalidPlan(f"plan new: {flags} {'is' if len(missing) == 1 else 'are'} missing, and nobody can be asked")
    for name in missing:
        answers[name] = _answer(QUESTIONS[name])
    return Answers(**answers)


def _answer(question: Question) -> Any:
    """Ask until the answer can be read."""
    while True:
        try:
            text = input(f"{question.words}: ").strip()
        except EOFError:
            raise InvalidPlan(f"plan new: no answer was given; use {question.flag}") from None
        try:
            if text:
                return question.read(text)
        except ValueError:
            print(f"  {text!r} is no number; try again")


def _as_data(path: Path, plan: Plan | None, problems: list[str], opening: Opening | None) -> dict[str, Any]:
    """Return the answer of `check` as plain data."""
    told: dict[str, Any] = {"file": str(path), "is_valid": not problems, "problems": problems}
    if plan is not None:
        told |= {"plan": plan.name, "digest": plan.digest()}
    if opening is not None:
        told["window"] = {"opens_at": opening.opens_at.isoformat(), "closes_at": opening.closes_at.isoformat()}
    return told
