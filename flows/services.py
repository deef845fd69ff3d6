"""The servers of one machine: Prefect, a worker, MLflow and the gateway; started together, stopped together."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from flows.adapters.gateway_client import GatewayClient, GatewayRefused, GatewayUnreachable
from flows.adapters.orchestrator import Orchestrator, OrchestratorUnreachable, stop
from flows.gateway.settings import InvalidGatewaySettings, read_token
from flows.settings import Settings, quiet_environment
from flows.wiring import gateway_client, gateway_settings
from simulation.errors import LullError

_GATEWAY_START_S = 30.0
_PROBE_S = 5.0  # a gateway answers in milliseconds; whoever keeps a probe waiting is no gateway


class PortInUse(LullError):
    """A port that something else listens on; the message names it and the variable that changes it."""


class ServiceDied(LullError):
    """A server that ended by itself; the message names it, how it ended and its log."""


class StopAsked(LullError):
    """Somebody asked to stop while something was waited for."""


class Services:
    """
    Starts what is not running yet and stops exactly what it started; use it as a context manager.

    Parameters
    ----------
    stop_asked : once it is set, whatever is waited for ends with `StopAsked`
    """

    def __init__(self, settings: Settings, stop_asked: threading.Event | None = None) -> None:
        self.settings = settings
        self._stop_asked = stop_asked or threading.Event()
        self._environment = {**os.environ, **quiet_environment(settings)}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self.orchestrator = Orchestrator(settings.prefect_api_url, self._environment, settings.logs)

    def __enter__(self) -> "Services":
        for directory in (self.settings.home, self.settings.logs, self.settings.models, self.settings.cycles):
            directory.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self._children.values()):
            stop(child)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that every child process gets."""
        return dict(self._environment)

    def look_around(self) -> None:
        """Raise `StopAsked` or `ServiceDied` if there is no point in waiting any longer."""
        if self._stop_asked.is_set():
            raise StopAsked("asked to stop")
        dead = self.died()
        if dead is not None:
            raise ServiceDied(dead)

    def refuse_used_ports(self) -> None:
        """Raise in a sentence if a server that is yet to be started would find its port or address wrong."""
        if not self._answers_as_our_gateway():
            refuse_used_port(self.settings.gateway_host, self.settings.gateway_port, "LULL_GATEWAY_PORT")
        if not self._answers_as_our_prefect():
            refuse_used_port("127.0.0.1", self.settings.prefect_port, "LULL_PREFECT_PORT")

    def start_prefect(self) -> None:
        """Start the embedded Prefect server, unless this home's answers already or another one is configured."""
        if self._answers_as_our_prefect():
            return
        refuse_used_port("127.0.0.1", self.settings.prefect_port, "LULL_PREFECT_PORT")
        self._children["prefect-server"] = self.orchestrator.start_server()

    def _answers_as_our_prefect(self) -> bool:
        """Tell whether Prefect answers; raise if it never will, or serves another home."""
        settings = self.settings
        is_up = self.orchestrator.is_up()
        if not settings.has_own_prefect:
            if not is_up:
                raise OrchestratorUnreachable(
                    f"PREFECT_API_URL is {settings.prefect_api_url} and no Prefect answers there; start that server, "
                    "or unset PREFECT_API_URL and `lull` starts one of its own"
                )
            return True
        other = prefect_of_another_home(settings, self.orchestrator) if is_up else None
        if other is not None:
            raise PortInUse(
                f"the Prefect on port {settings.prefect_port} belongs to {other}; stop it, or set LULL_PREFECT_PORT "
                "to another port"
            )
        return is_up

    def start_worker(self) -> None:
        """Wait for Prefect, make the work pool, and start a worker on it."""
        self.orchestrator.wait_until_up(self.look_around)
        self.orchestrator.ensure_pool()
        self._children["prefect-worker"] = self.orchestrator.start_worker()

    def start_gateway(self) -> None:
        """Start the gateway, unless this home's gateway answers already."""
        read_token(gateway_settings(self.settings), create=True)
        if self._answers_as_our_gateway():
            return
        refuse_used_port(self.settings.gateway_host, self.settings.gateway_port, "LULL_GATEWAY_PORT")
        arguments = ["-m", "flows.gateway", "--home", str(self.settings.home), "--host", self.settings.gateway_host,
                     "--port", str(self.settings.gateway_port)]  # fmt: skip
        self.start("gateway", arguments)

    def _answers_as_our_gateway(self) -> bool:
        """Tell whether this home's gateway answers."""
        # Another home's gateway refuses our token: for us its port is simply in use.
        nobody = suppress(GatewayUnreachable, GatewayRefused, InvalidGatewaySettings)
        with nobody, gateway_client(self.settings, _PROBE_S) as client:
            client.state()
            return True
        return False

    def gateway(self) -> GatewayClient:
        """Return a client once the gateway answers."""
        deadline = time.monotonic() + _GATEWAY_START_S
        while True:
            client = gateway_client(self.settings)
            try:
                client.state()
                return client
            except GatewayUnreachable:
                client.close()
                self.look_around()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def start_mlflow(self, port: int) -> None:
        """Start MLflow's server on this home's database, for people to look at."""
        refuse_used_port("127.0.0.1", port, "--mlflow-port")
        arguments = ["-m", "mlflow", "server", "--backend-store-uri", self.settings.mlflow_uri, "--host", "127.0.0.1",
                     "--port", str(port), "--artifacts-destination", str(self.settings.mlflow_artifacts)]  # fmt: skip
        self._environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
        self.start("mlflow", arguments)

    def start(self, name: str, arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
        """Start a Python child with its own log file; it is stopped with the others."""
        self.settings.logs.mkdir(parents=True, exist_ok=True)
        with (self.settings.logs / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, *arguments], env=self._environment, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        self._children[name] = child
        return child

    def died(self) -> str | None:
        """Say which child ended by itself, how, and where its words are; None while all run."""
        for name, child in self._children.items():
            if child.poll() is not None:
                how = f"was killed by signal {-child.returncode}" if child.returncode < 0 else (
                    f"ended by itself with exit code {child.returncode}"
                )  # fmt: skip
                return f"{name} {how}; see {self.settings.logs / f'{name}.log'} and run the command again"
        return None


def prefect_of_another_home(settings: Settings, orchestrator: Orchestrator) -> str | None:
    """Return which home the embedded Prefect that answers belongs to, None if to this one or if it does not say."""
    home = orchestrator.server_home()
    if home is None or Path(home).resolve() == settings.prefect_home.resolve():
        return None
    return str(Path(home).parent)


def refuse_used_port(host: str, port: int, variable: str) -> None:
    """Raise `PortInUse` if something listens there."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        if probe.connect_ex((host, port)) == 0:
            raise PortInUse(f"port {port} on {host} is in use; stop what listens there, or set {variable} to another")
