"""Runs a gateway until it is told to stop: `serve` is what `lull serve` calls."""

import errno
import os
import socket
import sys
from pathlib import Path

import uvicorn

from flows.gateway.app import create_app
from flows.gateway.settings import GatewaySettings, InvalidGatewaySettings, read_token

# In-flight requests are answered within this time after SIGTERM; idle connections are closed at once.
_GRACE_S = 1
# A thread that writes a log or shadows gives the interpreter back this soon; Python's own 5 ms would be the p99.
_SWITCH_INTERVAL_S = 0.0005
_SETTINGS_VARIABLE = "LULL_GATEWAY_SETTINGS"


def serve(settings: GatewaySettings) -> None:
    """
    Answer requests until SIGTERM or SIGINT.

    Raises
    ------
    InvalidGatewaySettings
        If the port is taken, the address is not this machine's, or the home directory cannot be written.
    """
    check_writable(settings.directory)
    read_token(settings, create=True)
    listener = listen(settings.host, settings.port)
    say_where(settings)  # now that it is so
    if settings.workers > 1:
        _serve_workers(settings, listener)
        return
    config = _config(create_app(settings))
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    with listener:
        uvicorn.Server(config).run(sockets=[listener])


def create_worker_app() -> object:
    """Make the application of one worker process from the settings that its parent left in the environment."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    return create_app(GatewaySettings.model_validate_json(os.environ[_SETTINGS_VARIABLE]))


def listen(host: str, port: int) -> socket.socket:
    """Return a bound socket; raise `InvalidGatewaySettings` with the port and a way out when that cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise InvalidGatewaySettings(
                f"port {port} on {host} is in use; stop what listens there, or choose another with --port"
            ) from error
        raise InvalidGatewaySettings(f"cannot listen on {host}:{port} ({error.strerror})") from error
    listener.set_inheritable(True)
    return listener


def check_writable(directory: Path) -> None:
    """Raise `InvalidGatewaySettings` if files cannot be made in a directory, which is created if need be."""
    probe = directory / f".probe-{os.getpid()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InvalidGatewaySettings(
            f"{directory} cannot be written ({error.strerror}); choose another home (LULL_HOME) or mend its rights"
        ) from error


def _config(app: object, **more: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        access_log=False,
        log_level="warning",
        server_header=False,
        # A header must not choose the address that the rate limit counts.
        proxy_headers=False,
        lifespan="on",
        timeout_graceful_shutdown=_GRACE_S,
        # Longer than callers pool connections, so that none is closed under a request that is on its way.
        timeout_keep_alive=75,
        backlog=2048,
        **more,  # type: ignore[arg-type]
    )


def _serve_workers(settings: GatewaySettings, listener: socket.socket) -> None:
    from uvicorn.supervisors import Multiprocess

    os.environ[_SETTINGS_VARIABLE] = settings.model_dump_json(exclude={"token"})
    if settings.token is not None:
        os.environ["LULL_GATEWAY_TOKEN"] = settings.token.get_secret_value()
    config = _config("flows.gateway.server:create_worker_app", factory=True, workers=settings.workers)
    Multiprocess(config, sockets=[listener]).run()


def say_where(settings: GatewaySettings) -> None:
    """Tell on standard error where the gateway listens and where its files lie."""
    print(f"gateway on http://{settings.host}:{settings.port}, files in {settings.directory}", file=sys.stderr)
