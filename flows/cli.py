"""
`lull`: the command line. Thin on purpose: it reads arguments, calls `flows/commands/<name>.run`, returns the exit code.

Exit codes: 0 yes, 1 a clear no, 2 a wrong call, 3 undecided. Nothing heavy is imported before a command needs it.
"""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from flows.settings import TELEMETRY_OFF, Settings
from simulation.errors import LullError

EXIT_INTERRUPTED = 130
_ASIDE = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="lull",
    help="Retrain models in the quiet hours, and prove beforehand that nobody will notice.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: Rich costs a quarter of the time that `lull --help` may take
    pretty_exceptions_enable=False,
    context_settings=_ASIDE,
)
plan_app = typer.Typer(help="Write a first plan, check one, compare two, or print their schema.", no_args_is_help=True)
app.add_typer(plan_app, name="plan")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
HistoryFile = Annotated[
    str, typer.Argument(metavar="HISTORY", help="CSV, Parquet, Prometheus JSON, request log, or worldcup98.")
]
TimeColumn = Annotated[str | None, typer.Option(help="Column of the times, if not obvious.")]
CountColumn = Annotated[str | None, typer.Option(help="Column of the counts, if not obvious.")]
Holidays = Annotated[str, typer.Option(metavar="CODE", help="Country, such as US; zone: that of the zone; or none.")]
By = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column that tells several series apart.")]
ZoneColumn = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column with the zone of each series.")]
PlanFile = Annotated[Path, typer.Argument(metavar="PLAN", help="The plan's YAML file.")]


def minutes(text: str) -> float:
    """Return an option's number of minutes; say what is wanted when it carries a unit."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no plain number of minutes; two hours are 120") from None


def example(*lines: str) -> str:
    """Return the examples of a command as its help shows them, line breaks kept."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


@app.command(epilog=example(
    "lull windows worldcup98 --timezone Europe/Paris --duration 120",
    "lull windows requests.csv --timezone UTC --duration 90 --threshold 40 --json",
    "lull windows --plan plan.yaml",
    "lull windows --against-prefect --timezone America/New_York --starts-at 02:30",
))  # fmt: skip
def windows(
    history: Annotated[
        str | None, typer.Argument(metavar="[HISTORY]", help="CSV or Parquet file, or the shipped worldcup98.")
    ] = None,
    timezone: Annotated[
        str | None, typer.Option(help="IANA zone of the windows, and of times that carry none.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option(parser=minutes, metavar="MIN", help="Length in minutes, at most 1440.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(metavar="RPS", help="Load called quiet, requests/s.")] = None,
    count: Annotated[int, typer.Option(min=1, max=28, help="How many windows to show.")] = 7,
    time_column: TimeColumn = None,
    count_column: CountColumn = None,
    holidays: Holidays = "zone",
    by: By = None,
    zone_column: ZoneColumn = None,
    plan: Annotated[
        Path | None, typer.Option(help="A plan: its windows, denials, next 12 openings and clock changes.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", metavar="ISO", help="Openings after this moment, with a zone. Default: now.")
    ] = None,
    against_prefect: Annotated[
        bool, typer.Option("--against-prefect", help="Where Prefect's own schedules would start instead; exit 1 if so.")
    ] = False,
    starts_at: Annotated[
        str | None, typer.Option(metavar="HH:MM", help="Local start to compare, without a plan.")
    ] = None,
    weekdays: Annotated[str | None, typer.Option(metavar="DAYS", help="Of these days, such as mon,tue.")] = None,
    years: Annotated[int, typer.Option(min=1, max=20, help="How many years to compare.")] = 2,
    json: AsJson = False,
) -> None:
    """Find the quietest windows to come.

    They lie in the 7 days after the request history ends. With --plan also the next openings, which rule denies
    which, and what clock changes do."""
    if against_prefect:
        finish("against_prefect", plan, timezone, starts_at, weekdays, years, json)
    columns = (time_column, count_column, holidays, by, zone_column)
    finish("windows", history, timezone, duration, threshold, count, *columns, json, plan, since)


@app.command(epilog=example("lull backtest worldcup98 --timezone UTC --last-days 59 --choices choices.csv", "lull backtest requests.csv --timezone America/Chicago --json"))  # fmt: skip  # noqa: E501
def backtest(
    history: HistoryFile,
    timezone: Annotated[str, typer.Option(help="IANA zone of the days, and of times that carry none.")],
    duration: Annotated[float, typer.Option(metavar="MIN", help="Length of the window, at most 1440.")] = 120.0,
    since: Annotated[str | None, typer.Option(metavar="DATE", help="First day to score.")] = None,
    last_days: Annotated[int | None, typer.Option(min=1, help="Score only so many days at the end.")] = None,
    choices: Annotated[Path | None, typer.Option(metavar="FILE", help="CSV to write, a row per day.")] = None,
    time_column: TimeColumn = None,
    count_column: CountColumn = None,
    holidays: Holidays = "zone",
    by: By = None,
    zone_column: ZoneColumn = None,
    json: AsJson = False,
) -> None:
    """Score past windows against hindsight.

    Each is chosen at 00:00 of its day from what was known then; simple rules are scored beside them."""
    columns = (time_column, count_column, holidays, by, zone_column)
    finish("backtest", history, timezone, duration, since, last_days, choices, *columns, json)


@plan_app.command("new", epilog=example(
    "lull plan new plan.yaml --name nightly --history requests.csv --timezone Europe/Paris --duration 120 "
    "--model scorer --data bank_marketing_2008_2010 --replicas 4 --service-ms 30 --slo-ms 500 --good-ratio 0.99 "
    "--user-impact 'the page shows no offers'",
))  # fmt: skip
def plan_new(
    plan: PlanFile,
    name: Annotated[str | None, typer.Option(help="Name of the plan.")] = None,
    history: Annotated[str | None, typer.Option(help="CSV or Parquet file of requests, or worldcup98.")] = None,
    timezone: Annotated[str | None, typer.Option(help="IANA zone of its users.")] = None,
    duration: Annotated[float | None, typer.Option(metavar="MIN", help="Length of the window.")] = None,
    model: Annotated[str | None, typer.Option(help="Name of the model in the registry.")] = None,
    data: Annotated[str | None, typer.Option(help="Training data: a file or a shipped name.")] = None,
    replicas: Annotated[int | None, typer.Option(min=1, max=1000, help="Replicas of the serving pool.")] = None,
    servers_per_replica: Annotated[int, typer.Option(min=1, max=1000, help="Requests that one works on at once.")] = 1,
    service_ms: Annotated[float | None, typer.Option(metavar="MS", help="One request on an idle server.")] = None,
    slo_ms: Annotated[float | None, typer.Option(metavar="MS", help="The promised time to an answer.")] = None,
    good_ratio: Annotated[float | None, typer.Option(metavar="RATIO", help="For which share it holds.")] = None,
    user_impact: Annotated[str | None, typer.Option(help="What a user notices when it is broken.")] = None,
    threshold: Annotated[float | None, typer.Option(metavar="RPS", help="Load called quiet.")] = None,
    train_p50: Annotated[float, typer.Option(metavar="MIN", help="Median minutes of training.")] = 20.0,
    train_p95: Annotated[float, typer.Option(metavar="MIN", help="95 % quantile of them.")] = 30.0,
    country: Annotated[str | None, typer.Option(help="ISO code whose holidays are shown beside windows.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a first plan.

    Its window comes from the forecast. On a terminal it asks for what is missing."""
    given = {
        "name": name, "history": history, "time_zone": timezone, "duration_min": duration, "model": model,
        "data": data, "replicas": replicas, "servers_per_replica": servers_per_replica, "service_ms": service_ms,
        "slo_ms": slo_ms, "good_ratio": good_ratio, "user_impact": user_impact, "threshold_rps": threshold,
        "train_p50_min": train_p50, "train_p95_min": train_p95, "country": country,
    }  # fmt: skip
    finish("plan", plan, given, force=force, function="new")


@plan_app.command("diff", epilog=example("lull plan diff plan.yaml next-plan.yaml"))
def plan_diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="The plan as it was.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="The plan as it shall be.")],
    json: AsJson = False,
) -> None:
    """Say what changes for users from plan A to plan B."""
    finish("plan", before, after, json, function="diff")


@plan_app.command("schema", epilog=example("lull plan schema > plan.schema.json"))
def plan_schema() -> None:
    """Print the JSON Schema of plans."""
    finish("plan", function="schema")


@plan_app.command("check", epilog=example("lull plan check plan.yaml"))
def plan_check(plan: PlanFile, json: AsJson = False) -> None:
    """List everything that is wrong with a plan.

    Exit 1 if anything is; if nothing, it says when the window opens next."""
    finish("plan", plan, json, function="check")


@app.command(epilog=example("lull simulate plan.yaml", "lull simulate plan.yaml --scenario flash-crowd --scenario my-scenario.yaml --replications 100", "lull simulate --check-theory"))  # fmt: skip  # noqa: E501
def simulate(
    plan: Annotated[Path | None, typer.Argument(metavar="PLAN", help="The plan's YAML file.")] = None,
    scenario: Annotated[
        list[str] | None,
        typer.Option(help="Ready name or YAML file; may be repeated. Default: the plan's, else all ready ones."),
    ] = None,
    replications: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Nights per scenario. Default: the plan's.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The first seed; the others follow it.")] = 1,
    threads: Annotated[int, typer.Option(min=1, max=256, help="The result does not depend on it.")] = 2,
    opens_at: Annotated[
        str | None,
        typer.Option(metavar="ISO", help="Opening to play, with a zone. Default: the first after the history."),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it. Default: certificate.json beside the plan.")
    ] = None,
    dask: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Dask scheduler that plays the nights; same result.")
    ] = None,
    check_theory: Annotated[
        bool, typer.Option("--check-theory", help="Instead, hold the simulator against queueing theory; takes no PLAN.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Try a plan's night; write the certificate.

    Replays the night under what may go wrong and prints the verdict: exit 0 holds, 1 fails, 3 not enough evidence."""
    if check_theory:
        finish("theory", plan, seed, json)
    if plan is None:
        leave("simulate needs a PLAN, such as `lull simulate plan.yaml`, or --check-theory", 2)
    finish("simulate", plan, scenario or [], replications, seed, threads, opens_at, certificate, dask, json)


@app.command(epilog=example("lull whatif plan.yaml --vary serving.replicas=3..8 --scenario flash-crowd", "lull whatif plan.yaml --vary window.start=00:00..05:00/30m --page whatif.html --csv whatif.csv"))  # fmt: skip  # noqa: E501
def whatif(
    plan: PlanFile,
    vary: Annotated[
        list[str],
        typer.Option(metavar="NAME=VALUES", help="LOW..HIGH, LOW..HIGH/STEP or A,B,C; may be repeated."),
    ],
    scenario: Annotated[
        list[str] | None,
        typer.Option(help="Ready name or YAML file; may be repeated. Default: the plan's, else all ready ones."),
    ] = None,
    replications: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Nights per plan and scenario. Default: the plan's.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The first seed; every plan meets the same nights.")] = 1,
    threads: Annotated[int, typer.Option(min=1, max=256, help="The result does not depend on it.")] = 2,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the table there too.")] = None,
    page: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with pictures there.")] = None,
    json: AsJson = False,
) -> None:
    """Try a plan's night with fields changed.

    Plays every combination on the same nights: exit 0 if one holds, 1 if none does."""
    finish("whatif", plan, vary, scenario or [], replications, seed, threads, csv, page, json)


@app.command(epilog=example(
    "lull recommend plan.yaml --replicas 2..6 --duration 60..180/30 --start 00:00..05:00/30m --write next.yaml",
    "lull recommend plan.yaml --objective staleness --json",
))  # fmt: skip
def recommend(
    plan: PlanFile,
    replicas: Annotated[str | None, typer.Option(metavar="A..B", help="Replicas to try.")] = None,
    duration: Annotated[str | None, typer.Option(metavar="A..B/STEP", help="Lengths of the window, minutes.")] = None,
    start: Annotated[
        str | None,
        typer.Option(metavar="A..B/STEP", help="Local starts, such as 00:00..05:00/30m. Default: the quietest."),
    ] = None,
    cpus: Annotated[str | None, typer.Option(metavar="A..B/STEP", help="CPUs of the training envelope.")] = None,
    concurrent: Annotated[str | None, typer.Option(metavar="A..B", help="Training jobs at a time.")] = None,
    objective: Annotated[str, typer.Option(help="What shall be least: cost or staleness.")] = "cost",
    scenario: Annotated[
        list[str] | None, typer.Option(help="Ready name or YAML file; may be repeated. Default: the plan's.")
    ] = None,
    replications: Annotated[
        int | None, typer.Option(min=2, max=100_000, help="Nights per scenario. Default: as many as are needed.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The first seed; the others follow it.")] = 1,
    threads: Annotated[int, typer.Option(min=1, max=256, help="The result does not depend on it.")] = 2,
    write: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to write the recommended plan.")] = None,
    json: AsJson = False,
) -> None:
    """Search for the best plan that holds.

    Least cost or least staleness over starts, lengths, replicas and envelopes; exit 0 with a plan, 1 if none holds and
    why, 3 if more nights are needed to tell."""
    given = {"replicas": replicas, "duration": duration, "start": start, "cpus": cpus, "concurrent": concurrent}
    finish("recommend", plan, given, objective, scenario or [], replications, seed, threads, write, json)


@app.command(epilog=example("lull demo", "lull demo --home /tmp/lull --fast"))
def demo(
    home: Annotated[
        Path | None, typer.Option(help="Directory for everything. Default: LULL_HOME, ./lull-home.")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Fewer simulated nights; the verdict is then weaker.")] = False,
) -> None:
    """Run the whole loop on shipped data.

    Plan, simulate, deploy, retrain, evaluate, promote, report; run again, it makes the next cycle."""
    finish("demo", settings=settings_now(home), fast=fast)


@app.command(epilog=example("lull deploy plan.yaml", "lull deploy plan.yaml --certificate certificate.json"))
def deploy(
    plan: PlanFile,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Default: certificate.json beside the plan.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Deploy though the server has drifted from what was deployed.")
    ] = False,
) -> None:
    """Deploy a plan's flows to Prefect.

    Refused without a certificate that holds for this plan, or if somebody changed the deployments on the server."""
    finish("deploy", settings=settings_now(), plan=plan, certificate=certificate, overwrite=overwrite)


@app.command(epilog=example("lull up"))
def up() -> None:
    """Run everything on this machine.

    Prefect's server, a worker, MLflow and the gateway, until Ctrl-C stops all of them."""
    finish("up", settings=settings_now())


@app.command(epilog=example("lull serve", "lull serve --port 8500"))
def serve(
    host: Annotated[str | None, typer.Option(help="Default: LULL_GATEWAY_HOST, 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: LULL_GATEWAY_PORT, 8480.")] = None,
) -> None:
    """Run the gateway.

    It is the model server with a blue and a green slot."""
    finish("serve", settings=settings_now(), host=host, port=port)


@app.command(epilog=example("lull status", "lull status --json"))
def status(json: AsJson = False) -> None:
    """Say what serves, ran, and comes next."""
    finish("status", settings=settings_now(), json=json)


@app.command(epilog=example("lull rollback --reason 'complaints from the call centre'"))
def rollback(
    reason: Annotated[str, typer.Option(help="Why, in a sentence; it stands in the audit log.")],
) -> None:
    """Give traffic back to the slot before."""
    finish("rollback", settings=settings_now(), reason=reason)


@app.command(epilog=example("lull report", 'xdg-open "$(lull report)"'))
def report(json: AsJson = False) -> None:
    """Render the report pages.

    Prints where the index lies."""
    finish("report", settings_now(), json)


@app.command(epilog=example("lull doctor", "lull doctor --json"))
def doctor(json: AsJson = False) -> None:
    """Say what is wrong with this installation.

    Looks at versions, write access, ports, clock, zones and telemetry; exit 1 if something is wrong."""
    finish("doctor", settings_now(), json)


def settings_now(home: Path | None = None) -> Settings:
    """Return the settings of this process's environment."""
    return Settings.from_environment(os.environ, home=home)


def finish(command: str, *arguments: object, function: str = "run", **keywords: object) -> NoReturn:
    """Import the command, call it, and leave with the code that it returns."""
    try:
        code = getattr(import_module(f"flows.commands.{command}"), function)(*arguments, **keywords)
    except KeyboardInterrupt:
        leave("interrupted", EXIT_INTERRUPTED)  # here, for Typer itself would end without a word
    raise typer.Exit(code)


def main() -> NoReturn:
    """Run `lull`; expected trouble is one sentence on stderr and exit code 2, never a traceback."""
    for name, value in TELEMETRY_OFF.items():
        os.environ.setdefault(name, value)
    try:
        app()
    except LullError as problem:
        leave(" ".join(str(problem).split()), 2)
    except OSError as problem:
        # A full disk, a folder that cannot be written, a port that is taken: the caller's to mend.
        leave(_sentence(problem), 2)
    sys.exit(0)


def _sentence(problem: OSError) -> str:
    """Say an operating system's error as place, trouble and remedy."""
    trouble = (problem.strerror or str(problem)).lower()
    if problem.filename is None:
        return f"the operating system refuses: {trouble}; `lull doctor` looks at ports, disk and rights"
    return f"{problem.filename}: {trouble}; check that the path exists and may be written, or choose another"


def leave(sentence: str, code: int) -> NoReturn:
    """Print a sentence on stderr and leave."""
    print(f"lull: {sentence}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
