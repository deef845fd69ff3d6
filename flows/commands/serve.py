"""`lull serve`: the gateway alone."""

from flows.gateway.server import serve
from flows.gateway.settings import GatewaySettings
from flows.settings import Settings


def run(settings: Settings, host: str | None, port: int | None) -> int:
    """Serve until stopped."""
    chosen = GatewaySettings(home=settings.home, host=host or settings.gateway_host, port=port or settings.gateway_port)
    serve(chosen)
    return 0
