"""
`lull doctor`: what is wrong with this installation, in sentences.

Each check is a function from settings and environment to one or more findings; `run` prints them all.
"""

import ctypes
import datetime as dt
import http.client
import importlib.metadata
import os
import platform
import shutil
import socket
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from flows.commands.printing import print_json
from flows.settings import TELEMETRY_OFF, Settings
from simulation.errors import LullError
from simulation.planning.window_rule import load_zone

MIN_FREE_GIB = 1.0
_RELEASED = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)  # a clock before this is wrong: Lull did not exist


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: whether it is well, and a sentence with the remedy if it is not."""

    check: str
    is_well: bool
    sentence: str


def run(settings: Settings, as_json: bool) -> int:
    """Print every finding; return 0 if all is well, 1 if something is wrong."""
    findings = examine(settings, os.environ)
    wrong = [finding for finding in findings if not finding.is_well]
    if as_json:
        print_json({"is_well": not wrong, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            print(f"{'ok   ' if finding.is_well else 'WRONG'} {finding.check}: {finding.sentence}")
        n = len(wrong)
        print("All is well." if not wrong else f"{n} thing{'s are' if n > 1 else ' is'} wrong, see above.")
    return 1 if wrong else 0


def examine(settings: Settings, environ: Mapping[str, str]) -> list[Finding]:
    """Return the findings of all checks; nothing is left on disk, only loopback and set addresses are asked."""
    requirements, python = declared()
    return [
        check_python(python, platform.python_version()),
        *check_versions(requirements, installed_version),
        check_openmp(),
        check_home(settings.home),
        check_space(settings.home),
        check_port("gateway port", settings.gateway_host, settings.gateway_port, "/healthz", "LULL_GATEWAY_PORT"),
        *([check_port("Prefect port", "127.0.0.1", settings.prefect_port, "/api/health", "LULL_PREFECT_PORT")]
          if settings.has_own_prefect
          else [check_address("Prefect", f"{settings.prefect_api_url.rstrip('/')}/health", "PREFECT_API_URL")]),
        check_registry(settings),
        check_zones(available_timezones()),
        check_local_zone(environ),
        check_clock(dt.datetime.now(dt.UTC)),
        *check_telemetry(environ),
    ]  # fmt: skip


def declared() -> tuple[list[Requirement], str]:
    """Return Lull's own dependencies and Python range: of the installed package, else of the source tree around it."""
    try:
        meta = importlib.metadata.metadata("lull")
        lines, python = importlib.metadata.requires("lull") or [], meta["Requires-Python"] or ""
    except importlib.metadata.PackageNotFoundError:
        path = Path(__file__).parents[2] / "pyproject.toml"
        if not path.is_file():
            raise LullError("lull is not installed and there is no pyproject.toml; run `pip install .`") from None
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        lines, python = project["dependencies"], project["requires-python"]
    requirements = [Requirement(line) for line in lines]
    # Extras carry a marker that is false here; so do other platforms' packages.
    return [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})], python


def installed_version(name: str) -> str | None:
    """Return the version of an installed package without importing it, None if there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_python(wanted: str, version: str) -> Finding:
    """Hold this Python against the range that Lull is tried on."""
    if SpecifierSet(wanted).contains(version):
        return Finding("Python", True, f"{version} at {sys.executable} is within {wanted}.")
    return Finding("Python", False, f"{version} is outside {wanted}; make the environment with another Python.")


def check_versions(requirements: list[Requirement], version_of: Callable[[str], str | None]) -> Iterator[Finding]:
    """Hold every dependency against its pin; one finding for all that fit, one for each that does not."""
    n_fit = 0
    for requirement in requirements:
        found = version_of(requirement.name)
        if found is None:
            sentence = f"{requirement.name} is not installed; run `make demo` or `pip install '{requirement}'`."
        elif not requirement.specifier.contains(found, prereleases=True):
            sentence = (
                f"{requirement.name} {found} is outside {requirement.specifier}; run `pip install '{requirement}'`."
            )
        else:
            n_fit += 1
            continue
        yield Finding("versions", False, sentence)
    if n_fit:
        yield Finding("versions", True, f"{n_fit} of {len(requirements)} packages are within their pins.")


def check_openmp() -> Finding:
    """Look for the library that LightGBM's wheel expects of a Linux system."""
    if sys.platform != "linux":
        return Finding("OpenMP", True, "comes with the wheels on this system.")
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        return Finding("OpenMP", False, "libgomp.so.1 is missing, LightGBM needs it; run `apt-get install libgomp1`.")
    return Finding("OpenMP", True, "libgomp.so.1 is there.")


def check_home(home: Path) -> Finding:
    """Try to write where Lull will; makes no folder that was not there."""
    place = _nearest_existing(home)
    if not place.is_dir():
        return Finding("home", False, f"{home}: {place} is a file, not a folder; set LULL_HOME to another place.")
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as problem:
        trouble = (problem.strerror or str(problem)).lower()
        return Finding("home", False, f"{place} cannot be written to ({trouble}); set LULL_HOME to another place.")
    return Finding("home", True, f"{home} can be written to{'' if place == home else ' and will be made'}.")


def check_space(home: Path) -> Finding:
    """Look for room for models, logs and pages."""
    free_gib = shutil.disk_usage(_nearest_existing(home)).free / 2**30
    if free_gib < MIN_FREE_GIB:
        remedy = f"free {MIN_FREE_GIB:g} GiB or set LULL_HOME to another disk"
        return Finding("disk", False, f"{free_gib:.2f} GiB are free for {home}; {remedy}.")
    return Finding("disk", True, f"{free_gib:,.0f} GiB are free for {home}.")


def check_port(check: str, host: str, port: int, health_path: str, variable: str) -> Finding:
    """See whether a port can be listened on, and if not, whether it is our own server that answers there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections are still closing counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as problem:
            return _taken(check, host, port, health_path, variable, problem)
    return Finding(check, True, f"{host}:{port} is free.")


def check_address(check: str, url: str, variable: str) -> Finding:
    """Ask an address that a variable names; whatever answers without an error is taken for what it should be."""
    remedy = f"start that server, mend {variable}, or unset it"
    no_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with no_proxy.open(url, timeout=3):
            return Finding(check, True, f"{url} answers.")
    except urllib.error.HTTPError as error:
        return Finding(check, False, f"{variable}: {url} answers {error.code}; {remedy}.")
    except (OSError, http.client.HTTPException, ValueError) as problem:
        return Finding(check, False, f"{variable}: {url} cannot be reached ({problem}); {remedy}.")


def check_registry(settings: Settings) -> Finding:
    """Look for MLflow where MLFLOW_TRACKING_URI says it is: a server that answers, or a file whose folder is there."""
    uri, variable = settings.mlflow_uri, "MLFLOW_TRACKING_URI"
    if uri.startswith(("http://", "https://")):
        return check_address("MLflow", f"{uri.rstrip('/')}/health", variable)
    if uri.startswith("sqlite:///"):
        folder = Path(uri.removeprefix("sqlite:///")).absolute().parent
        if folder != settings.home and not folder.is_dir():
            return Finding("MLflow", False, f"{variable}: {folder} is no folder; make it, or unset {variable}.")
        return Finding("MLflow", True, f"{uri} is a file on this machine.")
    address = urllib.parse.urlsplit(uri)
    if not address.hostname:
        return Finding("MLflow", True, f"{uri} names no server that could be asked.")
    return check_listener("MLflow", address.hostname, address.port or 5432, variable)


def check_listener(check: str, host: str, port: int, variable: str) -> Finding:
    """See whether anybody listens at a database's address; its password is not shown."""
    try:
        with socket.create_connection((host, port), timeout=3):
            return Finding(check, True, f"{host}:{port} answers.")
    except OSError as problem:
        remedy = f"start that database, mend {variable}, or unset it"
        return Finding(check, False, f"{variable}: {host}:{port} cannot be reached ({problem}); {remedy}.")


def _taken(check: str, host: str, port: int, health_path: str, variable: str, problem: OSError) -> Finding:
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}{health_path}"
    no_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with no_proxy.open(url, timeout=2):
            return Finding(check, True, f"{host}:{port} answers {health_path}: it is running already.")
    except urllib.error.HTTPError as error:
        said = f"answers {error.code}"
    except (OSError, http.client.HTTPException):
        said = "does not answer as ours would"
    trouble = (problem.strerror or str(problem)).lower()
    remedy = f"stop the other program or set {variable} to a free port"
    return Finding(check, False, f"{host}:{port} cannot be used ({trouble}) and what is there {said}; {remedy}.")


def check_zones(zones: set[str]) -> Finding:
    """Look for the IANA database, from the system or from the package tzdata."""
    if "Europe/Paris" not in zones:
        return Finding("time zones", False, "the IANA database is missing; run `pip install tzdata`.")
    summer = dt.datetime(2026, 7, 1, tzinfo=ZoneInfo("Europe/Paris")).utcoffset()
    if summer != dt.timedelta(hours=2):
        return Finding("time zones", False, "the database has no summer time for Paris; run `pip install tzdata`.")
    return Finding("time zones", True, f"{len(zones)} zones are known.")


def check_local_zone(environ: Mapping[str, str]) -> Finding:
    """Name the machine's own zone; a TZ that the database does not know silently means UTC."""
    name = environ.get("TZ", "").removeprefix(":")
    if name and not name.startswith("/"):
        try:
            load_zone(name)
        except LullError as problem:
            remedy = "programs fall back to UTC without a word; mend TZ or unset it"
            return Finding("local zone", False, f"TZ: {str(problem).rstrip('?')}? As it is, {remedy}.")
    offset = dt.datetime.now(dt.UTC).astimezone().strftime("%z")
    return Finding("local zone", True, f"{time.tzname[0]}, {offset}; Lull counts in UTC and in the plan's zone.")


def check_clock(now: dt.datetime) -> Finding:
    """See whether the clock can be right at all; windows and certificates rest on it."""
    if now < _RELEASED:
        return Finding("clock", False, f"{now:%Y-%m-%d %H:%M} UTC is before Lull was written; set the clock, by NTP.")
    return Finding("clock", True, f"{now:%Y-%m-%d %H:%M:%S} UTC.")


def check_telemetry(environ: Mapping[str, str]) -> Iterator[Finding]:
    """See whether the packages below would report to their makers."""
    loud = [(name, environ.get(name), value) for name, value in TELEMETRY_OFF.items() if environ.get(name) != value]
    for name, found, wanted in loud:
        said = "is not set" if found is None else f"is {found!r}"
        yield Finding("telemetry", False, f"{name} {said}; set it to {wanted} or unset it, and `lull` sets it itself.")
    if not loud:
        yield Finding("telemetry", True, f"off: {', '.join(f'{k}={v}' for k, v in TELEMETRY_OFF.items())}.")


def _nearest_existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that is there."""
    return next(place for place in (path, *path.parents) if place.exists())
