"""Services: a port in use is one sentence before anything starts, and what was started ends with the block."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from flows.adapters.orchestrator import OrchestratorUnreachable
from flows.services import PortInUse, ServiceDied, Services, StopAsked, refuse_used_port
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
        log = tmp_path / "logs" / "brief.log"
        assert services.died() == f"brief ended by itself with exit code 3; see {log} and run the command again"
        with pytest.raises(ServiceDied, match="brief ended by itself"):
            services.look_around()


def test_a_killed_gateway_is_noticed_while_a_run_is_waited_for(tmp_path: Path) -> None:
    with Services(settings(tmp_path)) as services:
        state = {"state": {"type": "RUNNING", "name": "Running"}}
        services.orchestrator._request = lambda *_, **__: SimpleNamespace(json=lambda: state)  # type: ignore[method-assign,assignment,return-value]  # a run that goes on for ever
        services.start("gateway", ["-c", "import time; time.sleep(60)"]).kill()
        with pytest.raises(
            ServiceDied, match=r"gateway was killed by signal 9; see .*gateway\.log and run the command"
        ):
            services.orchestrator.wait("promote", "1", timeout_s=20.0, look_around=services.look_around)


def test_whoever_asks_to_stop_is_heard_while_something_is_waited_for(tmp_path: Path) -> None:
    stop = threading.Event()
    with Services(settings(tmp_path), stop) as services:
        services.look_around()
        stop.set()
        with pytest.raises(StopAsked):
            services.orchestrator.wait_until_up(services.look_around)


def test_a_prefect_that_is_configured_and_does_not_answer_is_named_by_its_variable(tmp_path: Path) -> None:
    elsewhere = Settings.from_environment({"LULL_HOME": str(tmp_path), "PREFECT_API_URL": "http://127.0.0.1:1/api"})
    with Services(elsewhere) as services, pytest.raises(OrchestratorUnreachable) as refusal:
        services.start_prefect()
    assert str(refusal.value) == (
        "PREFECT_API_URL is http://127.0.0.1:1/api and no Prefect answers there; start that server, or unset "
        "PREFECT_API_URL and `lull` starts one of its own"
    )


def test_the_prefect_of_another_home_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    with Services(settings(tmp_path)) as services:
        services.orchestrator.is_up = lambda: True  # type: ignore[method-assign]  # somebody's server
        services.orchestrator.server_home = lambda: "/srv/other/prefect"  # type: ignore[method-assign]  # not ours
        with pytest.raises(PortInUse, match="belongs to /srv/other; stop it, or set LULL_PREFECT_PORT"):
            services.start_prefect()
        services.orchestrator.server_home = lambda: str(tmp_path / "prefect")  # type: ignore[method-assign]  # ours
        services.start_prefect()
        assert services.died() is None


def test_a_gateway_port_held_by_a_silent_listener_is_refused_soon(
    tmp_path: Path, used_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.services._PROBE_S", 0.2)
    monkeypatch.setenv("LULL_GATEWAY_TOKEN", "known")
    with (
        Services(settings(tmp_path, LULL_GATEWAY_PORT=used_port)) as services,
        pytest.raises(PortInUse, match="LULL_GATEWAY_PORT"),
    ):
        services.refuse_used_ports()


def test_children_hear_where_home_is(tmp_path: Path) -> None:
    with Services(settings(tmp_path)) as services:
        services.start("asker", ["-c", "import os; print(os.environ['LULL_HOME'])"]).wait()
    assert (tmp_path / "logs" / "asker.log").read_text(encoding="utf-8").strip() == str(tmp_path)
