"""Prefect as Lull uses it: a server, a work pool, a worker, deployments, and runs with their end."""

import asyncio
import datetime as dt
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx

from flows.deployments import POOL
from simulation.errors import LullError
from simulation.planning.window_rule import WindowRule

_START_S = 90.0
_BUSY_S = 20.0
_ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class OrchestratorUnreachable(LullError):
    """Prefect cannot be reached or did not come up; the message names the address or the log."""


class DeploymentFailed(LullError):
    """A deployment that Prefect did not take; the message carries its last line."""


@dataclass(frozen=True)
class RunEnd:
    """How a flow run ended."""

    flow: str
    run_id: str
    state: str
    message: str
    seconds: float


class Orchestrator:
    """A Prefect API at `api_url`; child processes get `environment` and write to files under `logs`."""

    def __init__(self, api_url: str, environment: Mapping[str, str], logs: Path) -> None:
        self.api_url, self.logs = api_url.rstrip("/"), logs
        self._environment = dict(environment)

    def is_up(self) -> bool:
        """Tell whether the API answers."""
        try:
            return httpx.get(f"{self.api_url}/health", timeout=2.0).status_code == 200
        except (httpx.HTTPError, httpx.InvalidURL):
            return False

    def server_home(self) -> str | None:
        """Return the PREFECT_HOME of the server that answers, None if it does not say."""
        try:
            home = httpx.get(f"{self.api_url}/admin/settings", timeout=5.0).json().get("home")
        except (httpx.HTTPError, ValueError, AttributeError):
            return None
        return None if home is None else str(home)

    def start_server(self) -> "subprocess.Popen[bytes]":
        """Start the embedded server; `wait_until_up` says when it answers."""
        url = httpx.URL(self.api_url)
        return self._start("prefect-server", ["server", "start", "--host", url.host, "--port", str(url.port)])

    def wait_until_up(self, look_around: Callable[[], None] = lambda: None) -> None:
        """Wait for the API; raise `OrchestratorUnreachable` after 90 s, or what `look_around` raises between looks."""
        deadline = time.monotonic() + _START_S
        while not self.is_up():
            look_around()
            if time.monotonic() > deadline:
                raise OrchestratorUnreachable(
                    f"{self.api_url}: Prefect did not come up; see {self.logs / 'prefect-server.log'}"
                )
            time.sleep(0.2)

    def ensure_pool(self) -> None:
        """Create the process work pool if it is not there."""
        answer = self._request("POST", "/work_pools/", json={"name": POOL, "type": "process", "base_job_template": {}})
        if answer.status_code not in (201, 409):
            raise DeploymentFailed(f"{self.api_url}: work pool {POOL} was refused ({answer.text[:200]})")

    def start_worker(self) -> "subprocess.Popen[bytes]":
        """Start a worker that looks for runs every second."""
        return self._start("prefect-worker", ["worker", "start", "--pool", POOL, "--name", "lull", "--type", "process"])

    def deploy(self, prefect_yaml: Path) -> None:
        """Deploy everything in a prefect.yaml; raise `DeploymentFailed` with Prefect's own last line."""
        command = [
            sys.executable,
            "-m",
            "prefect",
            "--no-prompt",
            "deploy",
            "--all",
            "--prefect-file",
            prefect_yaml.name,
        ]
        done = subprocess.run(
            command, cwd=prefect_yaml.parent, env=self._environment, capture_output=True, text=True, check=False
        )
        (self.logs / "prefect-deploy.log").write_text(done.stdout + done.stderr, encoding="utf-8")
        if done.returncode != 0:
            last = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-1:]
            raise DeploymentFailed(f"{prefect_yaml}: Prefect refused it: {' '.join(last)}; see {self.logs}")

    def start(self, flow: str, deployment: str, parameters: Mapping[str, Any], *, at: dt.datetime | None = None) -> str:
        """Create a run, now or at a UTC instant, and return its id; the same instant twice creates one run."""
        found = self._deployment(flow, deployment)
        body: dict[str, Any] = {"parameters": dict(parameters)}
        if at is not None:
            state = {"type": "SCHEDULED", "state_details": {"scheduled_time": at.isoformat()}}
            body |= {"state": state, "idempotency_key": f"{deployment} {at.isoformat()}"}
        answer = self._request("POST", f"/deployments/{found}/create_flow_run", json=body)
        if answer.status_code not in (200, 201):
            raise DeploymentFailed(f"{flow}/{deployment}: the run was refused ({answer.text[:200]})")
        return str(answer.json()["id"])

    def wait_until_begun(self, flow: str, run_id: str, *, look_around: Callable[[], None] = lambda: None) -> None:
        """Wait until a run is under way, or has ended already."""
        self._wait_for(("RUNNING", *_ENDED), flow, run_id, 600.0, look_around)

    def wait(
        self, flow: str, run_id: str, *, timeout_s: float = 600.0, look_around: Callable[[], None] = lambda: None
    ) -> RunEnd:
        """Wait for a run's end; raise `OrchestratorUnreachable` after `timeout_s`, or what `look_around` raises."""
        started = time.monotonic()
        state = self._wait_for(_ENDED, flow, run_id, timeout_s, look_around)
        return RunEnd(flow, run_id, state["name"], state.get("message") or "", time.monotonic() - started)

    def _wait_for(
        self, types: tuple[str, ...], flow: str, run_id: str, timeout_s: float, look_around: Callable[[], None]
    ) -> dict[str, Any]:
        """Return a run's state once it is of one of the types."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            look_around()
            state: dict[str, Any] = self._request("GET", f"/flow_runs/{run_id}").json()["state"]
            if state["type"] in types:
                return state
            time.sleep(0.2)
        raise OrchestratorUnreachable(
            f"{flow}: run {run_id} has not got on after {timeout_s:.0f} s; is a worker running?"
        )

    def scheduled_runs(self, deployment: str) -> list[tuple[str, str]]:
        """Return (flow, UTC time) of the runs of a plan that are yet to come, soonest first."""
        body = {
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
            "deployments": {"name": {"any_": [deployment]}},
            "sort": "NEXT_SCHEDULED_START_TIME_ASC",
            "limit": 100,
        }
        runs = self._request("POST", "/flow_runs/filter", json=body).json()
        flows = {d["id"]: d["entrypoint"].rsplit(".", 1)[-1].replace("_", "-") for d in self._deployments(deployment)}
        return [(flows.get(run["deployment_id"], "?"), str(run["expected_start_time"])) for run in runs]

    def planned_runs(self, flow: str, deployment: str) -> dict[dt.datetime, str]:
        """Return the ids of the runs that `start` made for an instant and that have not begun, by instant (UTC)."""
        body = {
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
            "deployments": {"name": {"any_": [deployment]}},
            "flows": {"name": {"any_": [flow]}},
            "sort": "NEXT_SCHEDULED_START_TIME_ASC",
            "limit": 200,
        }
        runs = self._request("POST", "/flow_runs/filter", json=body).json()
        ours = [run for run in runs if str(run.get("idempotency_key") or "").startswith(f"{deployment} ")]
        return {_moment(run["next_scheduled_start_time"] or run["expected_start_time"]): str(run["id"]) for run in ours}

    def withdraw(self, run_id: str) -> None:
        """Delete a run that has not begun; one that is gone already is no trouble."""
        answer = self._request("DELETE", f"/flow_runs/{run_id}")
        if answer.status_code not in (204, 404):
            raise DeploymentFailed(f"{self.api_url}: run {run_id} could not be taken back ({answer.text[:200]})")

    def check_scheduled(self, deployment: str, *, timeout_s: float = 30.0) -> int:
        """Return how many runs are scheduled; raise `DeploymentFailed` if the scheduler silently made none."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            runs = self.scheduled_runs(deployment)
            if any(flow == "report-drift" for flow, _ in runs):
                return len(runs)
            time.sleep(0.5)
        raise DeploymentFailed(
            f"{self.api_url}: deployed, but no run was scheduled within {timeout_s:.0f} s; check the server's log and "
            "that sqlalchemy is below 2.1 (`lull doctor`)"
        )

    def _deployment(self, flow: str, deployment: str) -> str:
        answer = self._request("GET", f"/deployments/name/{flow}/{deployment}")
        if answer.status_code != 200:
            raise DeploymentFailed(f"{flow}/{deployment}: is not deployed; run `lull deploy PLAN` first")
        return str(answer.json()["id"])

    def deployed(self, name: str) -> list[dict[str, Any]]:
        """Return the deployments of a plan as the server describes them, none if there are none."""
        return self._deployments(name)

    def _deployments(self, name: str) -> list[dict[str, Any]]:
        body = {"deployments": {"name": {"any_": [name]}}}
        return list(self._request("POST", "/deployments/filter", json=body).json())

    def _request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send a request; 503 means that SQLite is busy with another writer, and passes."""
        deadline = time.monotonic() + _BUSY_S
        try:
            while True:
                answer = httpx.request(method, self.api_url + path, timeout=20.0, **more)
                if answer.status_code != 503 or time.monotonic() > deadline:
                    return answer
                time.sleep(0.3)
        except httpx.HTTPError as problem:
            raise OrchestratorUnreachable(
                f"{self.api_url}: Prefect cannot be reached ({type(problem).__name__}); start it with `lull up`"
            ) from None

    def _start(self, name: str, arguments: list[str]) -> "subprocess.Popen[bytes]":
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
                env={"PREFECT_WORKER_QUERY_SECONDS": "1"} | self._environment,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip


def _moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC)


def prefect_starts(
    kind: Literal["cron", "rrule"], rule: WindowRule, begin: dt.datetime, end: dt.datetime
) -> list[dt.datetime]:
    """
    Return when Prefect's own schedule of a window rule would start runs in [begin, end), on this Python. UTC.

    It asks the class that the server's scheduler asks, and needs no server.

    Raises
    ------
    DeploymentFailed
        If Prefect does not take the schedule.
    """
    # The client's classes of the same names carry no dates; these are the server's.
    from prefect.server.schemas.schedules import CronSchedule, RRuleSchedule

    hour, minute = (int(part) for part in rule.starts_at_local.split(":"))
    schedule: CronSchedule | RRuleSchedule
    try:
        if kind == "cron":
            schedule = CronSchedule(cron=f"{minute} {hour} * * {','.join(rule.weekdays)}", timezone=rule.time_zone)
        else:
            days = ",".join(day[:2].upper() for day in rule.weekdays)
            schedule = RRuleSchedule(
                rrule=f"DTSTART:20200101T{hour:02d}{minute:02d}00\nRRULE:FREQ=WEEKLY;BYDAY={days}",
                timezone=rule.time_zone,
            )
        found = asyncio.run(schedule.get_dates(n=1000, start=begin, end=end))
    except (ValueError, TypeError) as problem:
        raise DeploymentFailed(
            f"Prefect takes no {kind} schedule for {rule.starts_at_local} {rule.time_zone} "
            f"({str(problem).splitlines()[0]}); create runs in UTC, as `lull deploy` does"
        ) from None
    starts = {dt.datetime.fromtimestamp(at.timestamp(), dt.UTC) for at in found}
    return sorted(at for at in starts if begin <= at < end)


def stop(process: "subprocess.Popen[bytes]", *, grace_s: float = 8.0) -> None:
    """End a child and all that it started: politely, then for sure."""
    import psutil

    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
