"""
The environment, read once: where Lull keeps its files, and where its servers listen.

Start at `Settings.from_environment`. Child processes (Prefect's server and worker, MLflow, the gateway) get
`quiet_environment`, which carries the same answers on, turns telemetry off, and tunes the embedded Prefect server.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from simulation.errors import LullError


class InvalidSettings(LullError):
    """An environment variable that cannot be used; the message names it, its value and the remedy."""


@dataclass(frozen=True)
class Settings:
    """
    What every command needs to know about this machine.

    Attributes
    ----------
    home : the one directory that Lull writes to
    gateway_host, gateway_port : where the gateway listens
    prefect_api_url : the Prefect server, the embedded one on `prefect_port` unless PREFECT_API_URL says another
    mlflow_uri : MLflow's tracking store and registry
    """

    home: Path
    gateway_host: str
    gateway_port: int
    prefect_port: int
    prefect_api_url: str
    mlflow_uri: str

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, *, home: Path | None = None) -> "Settings":
        """
        Return the settings that `environ` (default: this process's) describes.

        Parameters
        ----------
        environ : LULL_HOME, LULL_GATEWAY_HOST, LULL_GATEWAY_PORT, LULL_PREFECT_PORT, PREFECT_API_URL and
            MLFLOW_TRACKING_URI are read; an empty value counts as not set
        home : goes before LULL_HOME, for commands that take `--home`

        Raises
        ------
        InvalidSettings
            If a port is not a number from 1 to 65535, or gateway and Prefect share one on the same host.
        """
        env = os.environ if environ is None else environ
        place = (home or Path(env.get("LULL_HOME") or "lull-home")).expanduser().absolute()
        gateway_host = env.get("LULL_GATEWAY_HOST") or "127.0.0.1"
        gateway_port = _port(env, "LULL_GATEWAY_PORT", 8480)
        prefect_port = _port(env, "LULL_PREFECT_PORT", 4280)
        if gateway_port == prefect_port:
            raise InvalidSettings(
                f"LULL_GATEWAY_PORT and LULL_PREFECT_PORT are both {gateway_port}; give each a port of its own"
            )
        return cls(
            home=place,
            gateway_host=gateway_host,
            gateway_port=gateway_port,
            prefect_port=prefect_port,
            prefect_api_url=env.get("PREFECT_API_URL") or f"http://127.0.0.1:{prefect_port}/api",
            mlflow_uri=env.get("MLFLOW_TRACKING_URI") or f"sqlite:///{place / 'mlflow.db'}",
        )

    @property
    def gateway_url(self) -> str:
        """Where clients reach the gateway."""
        host = f"[{self.gateway_host}]" if ":" in self.gateway_host else self.gateway_host
        return f"http://{host}:{self.gateway_port}"

    @property
    def has_own_prefect(self) -> bool:
        """Whether Prefect is the embedded server on this machine, which `lull up` starts and stops."""
        return self.prefect_api_url == f"http://127.0.0.1:{self.prefect_port}/api"

    @property
    def cycles(self) -> Path:
        """One folder per retraining cycle, with its saved results."""
        return self.home / "cycles"

    @property
    def reports(self) -> Path:
        """The report pages, `index.html` first."""
        return self.home / "reports"

    @property
    def models(self) -> Path:
        """Model packages that the gateway may load."""
        return self.home / "models"

    @property
    def logs(self) -> Path:
        """What the servers and workers say."""
        return self.home / "logs"

    @property
    def audit_file(self) -> Path:
        """The audit log: every decision, before it takes effect."""
        return self.home / "audit.jsonl"

    @property
    def flag_file(self) -> Path:
        """The flag file that says which slot takes traffic; it lies where the gateway looks for it."""
        return self.home / "gateway" / "flags.json"

    @property
    def prefect_home(self) -> Path:
        """The embedded Prefect server's database, storage and profile."""
        return self.home / "prefect"

    @property
    def mlflow_artifacts(self) -> Path:
        """Where MLflow keeps files beside its SQLite database."""
        return self.home / "mlartifacts"


# Measured with 4 flow processes on SQLite: worst flow 61-128 s and "database is locked" as shipped, 7 s and none so.
_EMBEDDED_PREFECT = {
    "PREFECT_SERVER_DATABASE_SQLALCHEMY_POOL_SIZE": "1",
    "PREFECT_SERVER_DATABASE_SQLALCHEMY_MAX_OVERFLOW": "0",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
    # A new deployment's runs are there after a second, not five: `lull deploy` waits to see them.
    "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
    # Leases in memory leak when the server restarts: a deployment limited to one run would never run again.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}

TELEMETRY_OFF = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "true",  # the word: MLflow ignores DO_NOT_TRACK=1
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def quiet_environment(settings: Settings) -> dict[str, str]:
    """
    Return the variables that child processes are started with, to be laid over the parent's own.

    Telemetry is off. The tuning of Prefect's server concerns the embedded SQLite only, and is left out
    when PREFECT_API_URL names another server.
    """
    variables = {
        **TELEMETRY_OFF,
        "LULL_HOME": str(settings.home),
        "LULL_GATEWAY_HOST": settings.gateway_host,
        "LULL_GATEWAY_PORT": str(settings.gateway_port),
        "LULL_PREFECT_PORT": str(settings.prefect_port),
        "PREFECT_HOME": str(settings.prefect_home),
        "PREFECT_API_URL": settings.prefect_api_url,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # seconds; a lost run is noticed after three missed beats
        "MLFLOW_TRACKING_URI": settings.mlflow_uri,
    }
    return {**variables, **_EMBEDDED_PREFECT} if settings.has_own_prefect else variables


def _port(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise InvalidSettings(f"{name} is {text!r}; give a port from 1 to 65535, or unset it for {default}")
    return int(text)
