"""The servers of one machine: Prefect, a worker, MLflow and the gateway; started together, stopped together."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from flows.adapters.gateway_client import GatewayClient, GatewayUnreachable
from flows.adapters.orchestrator import Orchestrator, stop
from flows.gateway.settings import read_token
from flows.settings import Settings, quiet_environment
from flows.wiring import gateway_client, gateway_settings
from simulation.errors import LullError

_GATEWAY_START_S = 30.0


class PortInUse(LullError):
    """A port that something else listens on; the message names it and the variable that changes it."""


class Services:
    """Starts what is not running yet and stops exactly what it started; use it as a context manager."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._environment = {**os.environ, **quiet_environment(settings)}
        self._children: list[subprocess.Popen[bytes]] = []
        self.orchestrator = Orchestrator(settings.prefect_api_url, self._environment, settings.logs)

    def __enter__(self) -> "Services":
        for directory in (self.settings.home, self.settings.logs, self.settings.models, self.settings.cycles):
            directory.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self._children):
            stop(child)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that every child process gets."""
        return dict(self._environment)

    def start_prefect(self) -> None:
        """Start the embedded Prefect server, unless one answers already or another one is configured."""
        if self.orchestrator.is_up():
            return
        if not self.settings.has_own_prefect:
            self.orchestrator.wait_until_up()
        refuse_used_port("127.0.0.1", self.settings.prefect_port, "LULL_PREFECT_PORT")
        self._prefect = self.orchestrator.start_server()
        self._children.append(self._prefect)

    def start_worker(self) -> None:
        """Wait for Prefect, make the work pool, and start a worker on it."""
        self.orchestrator.wait_until_up(getattr(self, "_prefect", None))
        self.orchestrator.ensure_pool()
        self._children.append(self.orchestrator.start_worker())

    def start_gateway(self) -> None:
        """Start the gateway, unless this home's gateway answers already."""
        read_token(gateway_settings(self.settings), create=True)
        with suppress(GatewayUnreachable), gateway_client(self.settings) as client:
            client.state()
            return
        refuse_used_port(self.settings.gateway_host, self.settings.gateway_port, "LULL_GATEWAY_PORT")
        arguments = ["-m", "flows.gateway", "--home", str(self.settings.home), "--host", self.settings.gateway_host,
                     "--port", str(self.settings.gateway_port)]  # fmt: skip
        self._gateway = self.start("gateway", arguments)

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
                child = getattr(self, "_gateway", None)
                if time.monotonic() > deadline or (child is not None and child.poll() is not None):
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
        self._children.append(child)
        return child

    def died(self) -> str | None:
        """Return the command line of a child that ended by itself, or None while all run."""
        for child in self._children:
            if child.poll() is not None:
                return " ".join(map(str, child.args if isinstance(child.args, list) else [child.args]))
        return None


def refuse_used_port(host: str, port: int, variable: str) -> None:
    """Raise `PortInUse` if something listens there."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        if probe.connect_ex((host, port)) == 0:
            raise PortInUse(f"port {port} on {host} is in use; stop what listens there, or set {variable} to another")
