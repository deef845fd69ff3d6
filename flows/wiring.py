"""The one place that chooses adapters."""

import os
from dataclasses import dataclass

from flows.adapters.audit import AuditFile
from flows.adapters.data_store import FrameStore, open_store
from flows.adapters.gateway_client import GatewayClient
from flows.adapters.model_registry import MlflowRegistry
from flows.cycle import Cycle, open_cycle
from flows.gateway.settings import GatewaySettings, read_token
from flows.openings_ahead import plan_calendar
from flows.settings import Settings
from simulation.traffic.calendar import Calendar


@dataclass(frozen=True)
class Wired:
    """A cycle and the outside systems that its flows talk to."""

    settings: Settings
    cycle: Cycle
    registry: MlflowRegistry
    audit: AuditFile

    def store(self) -> FrameStore:
        """Open the plan's data."""
        return open_store(self.cycle.plan.training.data)

    def calendar(self) -> Calendar:
        """Read the plan's calendar as it stands now; absolute files are read where they lie."""
        return plan_calendar(self.cycle.plan, self.cycle.directory, self.cycle.now())

    def gateway(self, *, timeout_s: float = 70.0) -> GatewayClient:
        """Return a client of the running gateway."""
        return gateway_client(self.settings, timeout_s=timeout_s)


def wire(cycle: str, simulated_now: str | None) -> Wired:
    """Return everything a flow needs, from the environment and the cycle's name."""
    settings = Settings.from_environment(os.environ)
    opened = open_cycle(settings.home, cycle, simulated_now, settings.mlflow_uri)
    return Wired(settings, opened, registry(settings, opened.plan.training.model), AuditFile(settings.audit_file))


def registry(settings: Settings, name: str) -> MlflowRegistry:
    """Return the registry of one model."""
    return MlflowRegistry(name, settings.mlflow_uri, settings.models, settings.home / "mlartifacts")


def gateway_settings(settings: Settings) -> GatewaySettings:
    """Return how the gateway of this home is started."""
    return GatewaySettings(home=settings.home, host=settings.gateway_host, port=settings.gateway_port)


def gateway_client(settings: Settings, timeout_s: float = 70.0) -> GatewayClient:
    """Return a client of this home's gateway; loading a package may take a minute, everything else milliseconds."""
    return GatewayClient(settings.gateway_url, read_token(gateway_settings(settings)), timeout_s=timeout_s)
