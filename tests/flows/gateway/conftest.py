"""Small real models in packages, and gateways that run in this process or in one of their own."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
import uvicorn

from flows.adapters.gateway_client import GatewayClient
from flows.domain.features import FeatureSchema, encode_frame, infer_schema
from flows.gateway.app import create_app
from flows.gateway.model_package import canary_rows, save_package
from flows.gateway.predictor import Calibration
from flows.gateway.server import _config, listen
from flows.gateway.settings import GatewaySettings

TOKEN = "a token for tests"


@dataclass(frozen=True)
class Trained:
    """Training rows, their schema, and two models that score them differently."""

    frame: pd.DataFrame
    schema: FeatureSchema
    first: lgb.Booster
    second: lgb.Booster

    def rows(self, n: int) -> list[dict[str, Any]]:
        """Return the first n rows as the gateway gets them."""
        return self.frame[list(self.schema.names)].head(n).to_dict("records")


@pytest.fixture(scope="session")
def trained() -> Trained:
    rng = np.random.default_rng(5)
    n = 2000
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, n),
            "emp.var.rate": rng.normal(size=n).round(3),
            "job": rng.choice(["admin.", "retired", "student"], n),
            "y": 0,
        }
    )
    frame["y"] = (rng.random(n) < 1 / (1 + np.exp(-frame["emp.var.rate"] - (frame["job"] == "student")))).astype(int)
    schema = infer_schema(frame, label="y")
    features = encode_frame(frame, schema)

    def fit(n_rounds: int) -> lgb.Booster:
        data = lgb.Dataset(
            features, frame["y"], feature_name=list(schema.names), categorical_feature=schema.categorical_indices
        )
        return lgb.train({"objective": "binary", "num_leaves": 7, "verbose": -1, "num_threads": 1}, data, n_rounds)

    return Trained(frame, schema, fit(10), fit(30))


@pytest.fixture
def pack(trained: Trained, tmp_path: Path) -> Callable[..., str]:
    """Write a package of the first or second model below the model root; return its digest."""

    def write(
        version: str,
        *,
        booster: lgb.Booster | None = None,
        schema: FeatureSchema | None = None,
        calibration: Calibration | None = None,
    ) -> str:
        return save_package(
            tmp_path / "models" / "bank" / version,
            name="bank",
            version=version,
            model_text=(booster or trained.first).model_to_string(),
            schema=schema or trained.schema,
            canary=canary_rows(trained.frame, schema or trained.schema, n_rows=8),
            calibration=calibration,
        )

    return write


@dataclass
class Running:
    """A gateway that answers at `url`, and its client."""

    url: str
    port: int
    settings: GatewaySettings
    client: GatewayClient
    runtime: Any = None

    def go_live(self, slot: str, version: str, path: str | None = None) -> None:
        """Load, warm and switch."""
        self.client.load(slot, version, path or f"bank/{version}")
        self.client.warm(slot)
        self.client.switch(slot)

    def ready(self, slot: str, version: str) -> None:
        """Load and warm."""
        self.client.load(slot, version, f"bank/{version}")
        self.client.warm(slot)


@contextmanager
def running_gateway(home: Path, **settings: Any) -> Iterator[Running]:
    """Run a gateway in a thread of this process, on a free port."""
    made = GatewaySettings(home=home, port=0, token=TOKEN, **settings)
    listener = listen(made.host, 0)
    port = listener.getsockname()[1]
    app = create_app(made)
    server = uvicorn.Server(_config(app))
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True)
    thread.start()
    wait_until(lambda: server.started, 10)
    url = f"http://127.0.0.1:{port}"
    client = GatewayClient(url, TOKEN)
    try:
        yield Running(url, port, made, client, app.state.runtime)
    finally:
        client.close()
        server.should_exit = True
        thread.join(10)
        listener.close()


@pytest.fixture
def no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the trial of packages in a child process, 0.4 s each: it has tests of its own."""
    monkeypatch.setattr("flows.gateway.slots.try_package", lambda path: None)


@pytest.fixture
def gateway(tmp_path: Path, no_child: None) -> Iterator[Running]:
    with running_gateway(tmp_path) as running:
        yield running


@pytest.fixture
def live_gateway(gateway: Running, pack: Callable[..., str], trained: Trained) -> Running:
    """Version 1 live in blue, version 2 warm in green."""
    pack("1")
    pack("2", booster=trained.second)
    gateway.go_live("blue", "1")
    gateway.ready("green", "2")
    return gateway


@dataclass
class Process:
    """A gateway in a process of its own."""

    process: subprocess.Popen[str]
    url: str
    client: GatewayClient

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        """Send the signal and return the exit code."""
        self.process.send_signal(with_signal)
        return self.process.wait(10)


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start `python -m flows.gateway` and wait until it answers."""
    started: list[Process] = []

    def start(*more: str, home: Path | None = None) -> Process:
        port = free_port()
        command = [sys.executable, "-m", "flows.gateway", "--home", str(home or tmp_path), "--port", str(port), *more]
        process = subprocess.Popen(
            command, text=True, stderr=subprocess.PIPE, env=os.environ | {"LULL_GATEWAY_TOKEN": TOKEN}
        )
        url = f"http://127.0.0.1:{port}"
        running = Process(process, url, GatewayClient(url, TOKEN))
        started.append(running)

        def answers() -> bool:
            assert process.poll() is None, process.stderr.read()
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
            except OSError:
                return False
            return running.client._http.get("/healthz").status_code == 200

        wait_until(answers, 20)
        return running

    yield start
    for running in started:
        running.client.close()
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait(10)
        running.process.stderr.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(is_true: Callable[[], bool], timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline_s, f"not within {timeout_s} s"
        time.sleep(0.02)


@pytest.fixture(name="wait_until")
def wait_until_fixture() -> Callable[[Callable[[], bool], float], None]:
    return wait_until


@pytest.fixture(name="running_gateway")
def running_gateway_fixture(tmp_path: Path, no_child: None) -> Callable[..., Any]:
    """Make gateways with settings of one's own."""
    return lambda home=None, **settings: running_gateway(home or tmp_path, **settings)
