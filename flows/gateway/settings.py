"""What a gateway can be told when it starts: where it listens, where its files lie, and its limits."""

import os
import secrets
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from simulation.errors import LullError

TOKEN_VARIABLE = "LULL_GATEWAY_TOKEN"
DEFAULT_PORT = 8400

Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]


class InvalidGatewaySettings(LullError):
    """A gateway that cannot be started as it was told to; the message names the setting, port or directory."""


class GatewaySettings(BaseModel):
    """Settings of one gateway; `home` is the only one without a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = DEFAULT_PORT
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    model_root: Path | None = Field(None, description="packages are loaded from below here only; none: home/models")
    token: SecretStr | None = Field(
        None, description=f"for control calls; none: {TOKEN_VARIABLE}, or home's token file"
    )
    flag_provider: str | None = Field(
        None, description="module:callable of an OpenFeature provider; none: flagd's file"
    )
    poll_s: Positive = Field(0.2, description="how often flag file and slot state are looked at for changes by others")
    max_body_bytes: Count = 1_048_576
    max_batch_rows: Count = 1000
    max_waiting: Count = Field(256, description="requests read but not answered; more are shed with 503")
    max_reading: Count = Field(1024, description="requests whose body is still arriving; more are shed with 503")
    body_timeout_s: Positive = Field(5.0, description="how long a client may take to send its body")
    rate_limit_rps: Positive | None = Field(None, description="requests per second and client address; none: no limit")
    rate_burst: Count = 100
    log_rows_per_file: Count = 20_000
    log_max_age_s: Positive = Field(20.0, description="buffered rows are written at the latest after this time")
    log_max_buffered_rows: Count = 100_000
    log_max_bytes: Count = Field(1 << 30, description="oldest log files are removed beyond this size, per log")
    shadow_max_waiting: Count = 1000

    @property
    def directory(self) -> Path:
        """Where the gateway keeps its own files."""
        return self.home / "gateway"

    @property
    def models(self) -> Path:
        """Directory below which model packages may lie."""
        return self.model_root or self.home / "models"

    @property
    def flag_path(self) -> Path:
        """The flag file that says which slot takes traffic."""
        return self.directory / "flags.json"

    @property
    def state_path(self) -> Path:
        """The file that says what is in the slots."""
        return self.directory / "slots.json"

    @property
    def token_path(self) -> Path:
        """The token that a gateway makes for itself when it was given none; readable by its owner only."""
        return self.directory / "token"


def read_token(settings: GatewaySettings, *, create: bool = False) -> str:
    """
    Return the token of control calls: from the settings, from the environment, or from home's token file.

    Raises
    ------
    InvalidGatewaySettings
        If there is none and `create` is false, or the file cannot be read or made, or others may read it.
    """
    given = settings.token.get_secret_value() if settings.token else os.environ.get(TOKEN_VARIABLE, "")
    if given:
        return given
    path = settings.token_path
    try:
        if create and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(secrets.token_urlsafe(32))
        if path.stat().st_mode & 0o077:
            raise InvalidGatewaySettings(f"{path} can be read by others; run `chmod 600 {path}`")
        token = path.read_text().strip()
    except FileNotFoundError as error:
        raise InvalidGatewaySettings(
            f"no token for control calls: start the gateway once with `lull serve`, or set {TOKEN_VARIABLE}"
        ) from error
    except OSError as error:
        raise InvalidGatewaySettings(f"{path} cannot be used ({error.strerror}); check its owner and rights") from error
    if not token:
        raise InvalidGatewaySettings(f"{path} is empty; remove it and start the gateway again")
    return token
