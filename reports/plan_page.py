"""The plan page: which window was chosen and why, and what the simulator says of the night."""

import shlex
from typing import Any

from reports.cycle_files import CycleFiles
from reports.page import Again, Block, Bullets, Note, Page, Plot, Section, Table, Text, Tone, drawing
from reports.records import NightRecord, PlanRecord
from reports.wording import UNKNOWN, count, listed, moment, number, percent, plural, short, spread, utc
from simulation.errors import InvalidScenario
from simulation.scenario import read_scenario

TONES: dict[str, Tone] = {"holds": "good", "fails": "bad", "not enough evidence": "open"}
UNCALIBRATED = (
    "The service model is uncalibrated: its service times are assumed, not fitted on the real pool. "
    "The verdict says what follows from that assumption, not what the real pool will do."
)


def plan_page(files: CycleFiles) -> Page:
    """Return the page about a cycle's window, plan and simulated nights."""
    plan, certificate = files.plan.record, files.certificate.record
    caveats = [Note(p, "bad") for p in (files.plan.problem, files.certificate.problem) if p]
    if certificate is not None and not certificate["is_calibrated"]:
        caveats.append(Note(UNCALIBRATED))
    if plan is not None:
        caveats += _clock_caveats(plan)
    sections: list[Section] = []
    if plan is not None:
        sections += [_window_section(plan), _history_section(plan)]
    sections.append(_verdict_section(files))
    if certificate is not None and certificate.get("outlook"):
        sections.append(_outlook_section(certificate["outlook"]))
    if plan is not None and plan.nights:
        sections.append(_nights_section(plan))
    return Page(
        name="plan",
        title=f"Plan · cycle {files.name}",
        question="When may the model be retrained, and will anybody notice?",
        answer=_answer(files),
        tone=TONES.get(certificate["answer"], "open") if certificate is not None else "open",
        caveats=tuple(caveats),
        sections=tuple(sections),
        again=_again(files),
    )


def verdict_words(certificate: dict[str, Any]) -> str:
    """Return the simulator's verdict in words, never without saying that its service model is uncalibrated."""
    mark = "" if certificate["is_calibrated"] else " (uncalibrated)"
    return f"{certificate['answer']}{mark}"


def _answer(files: CycleFiles) -> str:
    plan, certificate = files.plan.record, files.certificate.record
    if plan is None:
        text = "The plan's record cannot be read." if files.plan.problem else "Planning has not happened yet."
    elif not plan.windows:
        text = "No window was found."
    else:
        first = plan.windows[0]
        text = (
            f"In the window that opens {moment(first.opens_at, plan.time_zone)} ({plan.time_zone}) "
            f"and closes {moment(first.closes_at, plan.time_zone)}."
        )
    if certificate is None:
        state = "cannot be read" if files.certificate.problem else "has not been issued yet"
        return f"{text} The simulator's certificate {state}."
    return f"{text} The simulator's verdict: {verdict_words(certificate)}."


def _outlook_section(outlook: dict[str, Any]) -> Section:
    """Return what was worked out beside the nights: how near they are to tipping, what the rollout can decide."""
    blocks: list[Block] = []
    if "metastability" in outlook:
        blocks.append(Bullets(tuple(outlook["metastability"]["reasons"])))
    if "decidability" in outlook:
        decides = outlook["decidability"]
        rows = tuple(
            (
                step["name"],
                count(step["needed"]),
                UNKNOWN if step["decided_at"] is None else moment(step["decided_at"]),
                UNKNOWN if step["decided_late_at"] is None else moment(step["decided_late_at"]),
                "yes" if step["lasts_enough"] else "no",
            )
            for step in decides["steps"]
        )
        columns = (
            "Step",
            "Requests needed",
            "Come by, expected load",
            "Come by, low load",
            "Its minimum comes in time",
        )
        blocks.append(Text(decides["reason"]))
        blocks.append(Table("What each step of the rollout needs to decide.", columns, rows, ("Requests needed",)))
    return Section("Could it tip, and can the rollout decide?", tuple(blocks))


def _clock_caveats(plan: PlanRecord) -> list[Note]:
    notes = []
    if plan.is_clock_simulated:
        notes.append(
            Note(f"The clock of this cycle is simulated: it stood at {moment(plan.now)} when the plan was made.")
        )
    if plan.history_shift_weeks:
        weeks = plural(plan.history_shift_weeks, "whole week")
        notes.append(
            Note(f"The request history is real but older: it was moved forward by {weeks}, so weekdays and hours keep.")
        )
    return notes


def _window_section(plan: PlanRecord) -> Section:
    rows = tuple(
        (
            str(i),
            w.opens_local if plan.time_zone in w.opens_local else moment(w.opens_at, plan.time_zone),
            moment(w.opens_at).removesuffix(" UTC"),
            number(w.mean_load_rps),
            number(w.p95_load_rps),
            percent(w.probability_below),
            count(w.expected_requests),
        )
        for i, w in enumerate(plan.windows, start=1)
    )
    numeric = ("Rank", "Median load (requests/s)", "95 % load (requests/s)", "P(below threshold)", "Requests expected")
    table = Table(
        f"The best window of each coming day, quietest first; the first was chosen. "
        f"Quiet means below {number(plan.threshold_rps)} requests/s.",
        ("Rank", f"Opens ({plan.time_zone})", "Opens (UTC)", *numeric[1:]),
        rows,
        (*numeric, f"Opens ({plan.time_zone})", "Opens (UTC)"),
        tuple("good" if i == 0 else "plain" for i in range(len(rows))),
    )
    blocks: list[Block] = [Text(f"The first one was chosen: {plan.windows[0].reason}")] if plan.windows else []
    blocks.append(table)
    if plan.windows:
        first = plan.windows[0]
        draw = drawing(
            "load_and_windows",
            history_start=utc(plan.history_load_start),
            history_rps=plan.history_load_rps,
            forecast_start=utc(plan.forecast_start),
            forecast_step_s=plan.forecast_step_s,
            p05_rps=plan.forecast_p05_rps,
            p50_rps=plan.forecast_p50_rps,
            p95_rps=plan.forecast_p95_rps,
            threshold_rps=plan.threshold_rps,
            window=(utc(first.opens_at), utc(first.closes_at)),
            time_zone=plan.time_zone,
            source=plan.history_name,
        )
        blocks.append(
            Plot(
                draw,
                "Load seen and forecast in requests per second; the band reaches from the 5 % to the 95 % "
                "quantile, the green stripe is the chosen window. Two upper panels: logarithmic.",
            )
        )
    if plan.next_openings:
        opens = "; ".join(moment(text, plan.time_zone) for text in plan.next_openings)
        blocks.append(Text(f"The plan's window rule opens next ({plan.time_zone}): {opens}."))
    return Section("Which window, and why", tuple(blocks))


def _history_section(plan: PlanRecord) -> Section:
    blocks: list[Block] = [
        Text(
            f"{plan.history_name}: requests per {plan.history_step_s} s from {moment(plan.history_start)} "
            f"to {moment(plan.history_end)}."
        )
    ]
    if plan.history_quality:
        blocks.append(Bullets(tuple(plan.history_quality)))
    return Section("The request history", tuple(blocks))


def _verdict_section(files: CycleFiles) -> Section:
    certificate = files.certificate.record
    if certificate is None:
        text = files.certificate.problem or "The plan has not been simulated yet."
        return Section("What the simulator says", (Note(text),))
    rows, tones = [], []
    for s in certificate["scenarios"]:
        p99 = s["p99_ms"]
        rows.append(
            (
                s["scenario"],
                s["answer"] + ("" if certificate["is_calibrated"] else " (uncalibrated)"),
                _share(s["p_slo_breach"]),
                _share(s["p_finish_in_window"]),
                f"{number(p99['value'])} ({spread(number(p99['low']), number(p99['high']))})",
                number(s["expected_bad_requests"]["value"]),
                number(s["finish_min_p95"]),
                number(s["paused_min"]),
                number(s.get("recovery_min_p95")),
                number(s["cost"]["value"]) if "cost" in s else UNKNOWN,
            )
        )
        tones.append(TONES.get(s["answer"], "open"))
    columns = (
        "Scenario", "Verdict", "P(SLO missed)", "P(done in time)", "p99 (ms)", "Bad requests per night",
        "Done by, 95 % (min)", "Paused (min)", "Longest without service, 95 % (min)", "Cost",
    )  # fmt: skip
    nights = listed(sorted({count(s["n_trials"]) for s in certificate["scenarios"]}))
    asked = [(s["scenario"], words) for s in certificate["scenarios"] for words in _question(s["scenario"])]
    questions = [Bullets(tuple(f"{name}: {words}" for name, words in asked))] if asked else []
    return Section(
        "What the simulator says",
        (
            Text(f"Verdict: {verdict_words(certificate)}."),
            Bullets(tuple(certificate["reasons"])),
            Table(
                f"Each scenario over its simulated nights ({nights}); in brackets intervals at the plan's confidence. "
                "Minutes count from the opening of the window.",
                columns, tuple(rows), columns[2:], tuple(tones),
            ),
            *_alike(files),
            Text("What each scenario asks:"),
            *questions,
            Text("The bounds that decide:"),
            Bullets(_bounds(certificate["scenarios"])),
        ),
    )  # fmt: skip


def _bounds(scenarios: list[dict[str, Any]]) -> tuple[str, ...]:
    """Return each scenario's reasons, those of scenarios with the same ones said once."""
    by_reasons: dict[tuple[str, ...], list[str]] = {}
    for s in scenarios:
        by_reasons.setdefault(tuple(s["reasons"]), []).append(s["scenario"])
    return tuple(f"{listed(names)}: {' '.join(reasons)}" for reasons, names in by_reasons.items())


def _alike(files: CycleFiles) -> list[Text]:
    """Say which scenarios are hardly to be told from the first one, and how much of the capacity the load takes."""
    certificate = files.certificate.record
    first, *others = certificate["scenarios"] if certificate is not None else [{}]
    names = [s["scenario"] for s in others if _are_alike(first, s)]
    if not names:
        return []
    verb = "gives" if len(names) == 1 else "give"
    why = _why_alike(files.plan.record, [first["scenario"], *names])
    return [Text(f"{listed(names)} {verb} nearly the same figures as {first['scenario']}{why}.")]


def _are_alike(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Tell whether b's means lie in a's intervals and all else agrees within 1 %."""
    means = all(
        a[key]["low"] <= b[key]["value"] <= a[key]["high"] for key in ("p99_ms", "expected_bad_requests")
    )  # fmt: skip
    shares = all(a[key]["value"] == b[key]["value"] for key in ("p_slo_breach", "p_finish_in_window"))
    times = [(a[key], b[key]) for key in ("finish_min_p95", "paused_min")]
    return means and shares and all(x == y or (x and y and abs(x - y) <= 0.01 * x) for x, y in times)


def _why_alike(plan: PlanRecord | None, names: list[str]) -> str:
    nights = [n for n in plan.nights if n.scenario in names and n.capacity_steps] if plan is not None else []
    if not nights:
        return ""
    share = max(max(n.offered_per_min) / 60 / min(rps for _, rps in n.capacity_steps) for n in nights)
    return (
        f": in the nights shown the busiest minute takes {percent(share)} of the smallest capacity, so what they "
        "change is not felt"
    )


def _share(estimate: dict[str, float | None]) -> str:
    return f"{percent(estimate['value'])} ({spread(percent(estimate['low']), percent(estimate['high']))})"


def _question(name: str) -> tuple[str, ...]:
    """Return what a ready scenario asks; a planner's own scenario is not kept in the certificate."""
    try:
        return (read_scenario(name).question,)
    except InvalidScenario:
        return ()


def _nights_section(plan: PlanRecord) -> Section:
    blocks: list[Block] = [
        Text(
            "Simulated nights by the minute: for each scenario the one with the middling count of bad requests, and "
            "the worst one too if it missed the SLO. A request (req) is bad if it fails or is too late. Dotted lines "
            "are events, numbered as in the list below each picture."
        )
    ]
    for night in plan.nights:
        blocks.append(Plot(drawing("night", night), _night_words(night)))
        if night.events:
            told = (f"{i}. {at:+.1f} min: {text}" for i, (at, text) in enumerate(night.events, start=1))
            blocks.append(Bullets(tuple(told)))
    return Section("The simulated nights", tuple(blocks))


def _night_words(night: NightRecord) -> str:
    bad, offered = sum(night.bad_per_min), sum(night.offered_per_min)
    done = f"the last training step ended after {max(e for _, e, _ in night.steps):.0f} min" if night.steps else (
        "no training step ran"
    )  # fmt: skip
    return (
        f"{night.scenario}, seed {night.seed}: {count(bad)} of {count(offered)} requests bad, "
        f"longest queue {count(max(night.queue_per_min, default=0))}, {done}.{_worst_words(night)}"
    )


def _worst_words(night: NightRecord) -> str:
    if night.choice == "worst" or night.worst_bad is None or night.worst_seed == night.seed:
        return ""
    return f" The worst night, seed {night.worst_seed}, had {count(night.worst_bad)} bad requests."


def _again(files: CycleFiles) -> Again:
    plan, certificate = files.plan.record, files.certificate.record
    commands = [
        "lull demo --home DIR   # a fresh directory begins with the first month",
        f"lull simulate {shlex.quote(str(files.folder / 'plan.yaml'))} --certificate again.json",
    ]
    facts: list[tuple[str, str]] = []
    if plan is not None:
        commands.insert(1, f"lull windows {shlex.quote(plan.history_name)} --timezone {plan.time_zone} "
                           f"--duration {_minutes(plan)}")  # fmt: skip
        facts += [("plan", plan.plan_name), ("plan digest", short(plan.plan_digest))]
        facts += [("seed of the nights shown", ", ".join(f"{n.scenario} {n.seed}" for n in plan.nights) or UNKNOWN)]
    if certificate is not None:
        made = certificate["provenance"]
        facts += [
            ("scenarios", ", ".join(s["scenario"] for s in certificate["scenarios"])),
            ("seeds", f"{made.get('first_seed', UNKNOWN)} and up, {made.get('replications', UNKNOWN)} per scenario"),
            ("night simulated", moment(made["opens_at"]) if "opens_at" in made else UNKNOWN),
            ("history digest", short(certificate["history_digest"])),
            ("simulator's code digest", short(made.get("code_digest"))),
            ("certificate digest", short(certificate["digest"])),
            (
                "certificate valid",
                f"{moment(certificate['issued_at'])} to {moment(certificate['expires_at'])}; this limits "
                "deploying only, what is deployed then runs in later windows too",
            ),
        ]
    return Again(tuple(commands), tuple(facts))


def _minutes(plan: PlanRecord) -> str:
    if not plan.windows:
        return "120"
    first = plan.windows[0]
    return f"{(utc(first.closes_at) - utc(first.opens_at)).total_seconds() / 60:g}"
