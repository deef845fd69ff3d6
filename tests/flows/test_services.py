"""Services: a port in use is one sentence before anything starts, and what was started ends with the block."""

import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows.services import PortInUse, Services, refuse_used_port
from flows.settings import Settings


@pytest.fixture
def used_port() -> Iterator[int]:
    """Return a port that this test listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def settings(tmp_path: Path, **ports: int) -> Settings:
    """Return a home of its own."""
    environment = {"LULL_HOME": str(tmp_path), **{name: str(port) for name, port in ports.items()}}
    return Settings.from_environment(environment)


def test_a_port_in_use_is_one_sentence_with_its_variable(used_port: int) -> None:
    with pytest.raises(PortInUse) as refusal:
        refuse_used_port("127.0.0.1", used_port, "LULL_GATEWAY_PORT")
    assert str(refusal.value) == (
        f"port {used_port} on 127.0.0.1 is in use; stop what listens there, or set LULL_GATEWAY_PORT to another"
    )


def test_a_free_port_is_not_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    refuse_used_port("127.0.0.1", port, "LULL_GATEWAY_PORT")


def test_prefect_and_mlflow_start_nothing_beside_another_listener(tmp_path: Path, used_port: int) -> None:
    with Services(settings(tmp_path, LULL_PREFECT_PORT=used_port)) as services:
        services.orchestrator.is_up = lambda: False  # type: ignore[method-assign]  # a listener that is no Prefect
        with pytest.raises(PortInUse, match="LULL_PREFECT_PORT"):
            services.start_prefect()
        with pytest.raises(PortInUse, match="--mlflow-port"):
            services.start_mlflow(used_port)
        assert services.died() is None
    assert not list((tmp_path / "logs").iterdir())


def test_a_child_is_stopped_with_the_block_and_its_words_are_kept(tmp_path: Path) -> None:
    with Services(settings(tmp_path)) as services:
        child = services.start("sleeper", ["-c", "import time; print('here', flush=True); time.sleep(60)"])
        assert services.died() is None
        while b"here" not in (tmp_path / "logs" / "sleeper.log").read_bytes():
            assert child.poll() is None
    assert child.poll() is not None
    assert not psutil.pid_exists(child.pid)


def test_a_child_that_ends_by_itself_is_named(tmp_path: Path) -> None:
    with Services(settings(tmp_path)) as services:
        services.start("brief", ["-c", "raise SystemExit(3)"]).wait()
        assert "raise SystemExit(3)" in (services.died() or "")


def test_children_hear_where_home_is(tmp_path: Path) -> None:
    with Services(settings(tmp_path)) as services:
        services.start("asker", ["-c", "import os; print(os.environ['LULL_HOME'])"]).wait()
    assert (tmp_path / "logs" / "asker.log").read_text(encoding="utf-8").strip() == str(tmp_path)
