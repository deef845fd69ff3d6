"""`lull up`: Prefect's server, a worker, MLflow and the gateway on this machine, until Ctrl-C."""

import signal
import threading
from typing import Any

from flows.home_lock import hold_home
from flows.services import Services, StopAsked
from flows.settings import Settings

_MLFLOW_PORT = 5480


def run(settings: Settings) -> int:
    """Start everything, say where it is, and stop all of it on Ctrl-C or SIGTERM, during the start too."""
    stop = threading.Event()

    def ask(_: int, __: Any) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    with hold_home(settings.home, "lull up"), Services(settings, stop) as services:
        try:
            _start(services)
            while not stop.wait(1.0):
                dead = services.died()
                if dead is not None:
                    print(f"lull: {dead}")
                    return 1
        except StopAsked:
            pass  # said below, as after the start
    print("stopped")
    return 0


def _start(services: Services) -> None:
    settings = services.settings
    services.refuse_used_ports()
    services.start_prefect()
    services.start_gateway()
    services.start_mlflow(_MLFLOW_PORT)
    services.start_worker()
    with services.gateway() as gateway:
        live = gateway.state().live
    print(f"Prefect   {settings.prefect_api_url.removesuffix('/api')}")
    print(f"MLflow    http://127.0.0.1:{_MLFLOW_PORT}")
    print(f"gateway   {settings.gateway_url} ({f'{live} is live' if live else 'no slot is live yet'})")
    print("Ctrl-C stops all of them.", flush=True)
