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
plan_app = typer.Typer(help="Print the schema of plans, or check one.", no_args_is_help=True)
app.add_typer(plan_app, name="plan")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
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


@app.command(epilog=example("lull windows worldcup98 --timezone Europe/Paris --duration 120", "lull windows requests.csv --timezone UTC --duration 90 --threshold 40 --json"))  # fmt: skip  # noqa: E501
def windows(
    history: Annotated[str, typer.Argument(metavar="HISTORY", help="CSV or Parquet file, or the shipped worldcup98.")],
    timezone: Annotated[str, typer.Option(help="IANA zone of the windows, and of times that carry none.")],
    duration: Annotated[float, typer.Option(parser=minutes, metavar="MIN", help="Length in minutes, at most 1440.")],
    threshold: Annotated[float | None, typer.Option(metavar="RPS", help="Load called quiet, requests/s.")] = None,
    count: Annotated[int, typer.Option(min=1, max=28, help="How many windows to show.")] = 7,
    time_column: Annotated[str | None, typer.Option(help="Column of the times, if not obvious.")] = None,
    count_column: Annotated[str | None, typer.Option(help="Column of the counts, if not obvious.")] = None,
    json: AsJson = False,
) -> None:
    """Find the quietest windows to come.

    They lie in the 7 days after the request history ends."""
    finish("windows", history, timezone, duration, threshold, count, time_column, count_column, json)


@plan_app.command("schema", epilog=example("lull plan schema > plan.schema.json"))
def plan_schema() -> None:
    """Print the JSON Schema of plans."""
    finish("plan", function="schema")


@plan_app.command("check", epilog=example("lull plan check plan.yaml"))
def plan_check(plan: PlanFile, json: AsJson = False) -> None:
    """Say whether a plan is valid.

    If so, also when its window opens next."""
    finish("plan", plan, json, function="check")


@app.command(epilog=example("lull simulate plan.yaml", "lull simulate plan.yaml --scenario flash-crowd --scenario my-scenario.yaml --replications 100"))  # fmt: skip  # noqa: E501
def simulate(
    plan: PlanFile,
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
    json: AsJson = False,
) -> None:
    """Try a plan's night; write the certificate.

    Replays the night under what may go wrong and prints the verdict: exit 0 holds, 1 fails, 3 not enough evidence."""
    finish("simulate", plan, scenario or [], replications, seed, threads, opens_at, certificate, json)


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
) -> None:
    """Deploy a plan's flows to Prefect.

    Refused without a certificate that holds for this plan."""
    finish("deploy", settings=settings_now(), plan=plan, certificate=certificate)


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
