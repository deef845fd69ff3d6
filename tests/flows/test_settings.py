"""The environment is read once: defaults, overrides, refusals, and what child processes are given."""

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from flows.gateway.settings import GatewaySettings
from flows.settings import InvalidSettings, Settings, quiet_environment


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    settings = Settings.from_environment({})
    assert settings.home == Path.cwd() / "lull-home"
    assert (settings.gateway_url, settings.prefect_api_url) == ("http://127.0.0.1:8480", "http://127.0.0.1:4280/api")
    assert settings.mlflow_uri == f"sqlite:///{Path.cwd() / 'lull-home' / 'mlflow.db'}"


def test_every_variable_is_heard(tmp_path: Path) -> None:
    settings = Settings.from_environment(
        {
            "LULL_HOME": str(tmp_path),
            "LULL_GATEWAY_HOST": "::1",
            "LULL_GATEWAY_PORT": "8500",
            "PREFECT_API_URL": "http://prefect.example:4200/api",
            "MLFLOW_TRACKING_URI": "postgresql://registry.example/mlflow",
        }
    )
    assert settings.home == tmp_path
    assert settings.gateway_url == "http://[::1]:8500"
    assert settings.prefect_api_url == "http://prefect.example:4200/api"
    assert settings.mlflow_uri == "postgresql://registry.example/mlflow"


def test_an_option_for_home_goes_before_the_environment(tmp_path: Path) -> None:
    settings = Settings.from_environment({"LULL_HOME": "/elsewhere"}, home=tmp_path)
    assert settings.home == tmp_path
    assert settings.mlflow_uri == f"sqlite:///{tmp_path}/mlflow.db"


def test_an_empty_value_counts_as_not_set() -> None:
    assert Settings.from_environment({"LULL_HOME": "", "LULL_GATEWAY_PORT": ""}) == Settings.from_environment({})


@pytest.mark.parametrize("text", ["http", "0", "65536", "-1", "80.5", "²"])
def test_a_port_that_is_none_is_refused_by_the_variable_s_name(text: str) -> None:
    with pytest.raises(InvalidSettings, match=r"LULL_GATEWAY_PORT is .* give a port from 1 to 65535"):
        Settings.from_environment({"LULL_GATEWAY_PORT": text})


@pytest.mark.parametrize("text", ["1", "65535"])
def test_the_outermost_ports_are_taken(text: str) -> None:
    assert Settings.from_environment({"LULL_GATEWAY_PORT": text}).gateway_port == int(text)


def test_gateway_and_prefect_cannot_share_a_port() -> None:
    with pytest.raises(InvalidSettings, match="both 4280"):
        Settings.from_environment({"LULL_GATEWAY_PORT": "4280"})


def test_settings_cannot_be_changed_once_read() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings.from_environment({}).gateway_port = 1  # type: ignore[misc]


def test_everything_that_lull_writes_lies_in_its_home(tmp_path: Path) -> None:
    s = Settings.from_environment({}, home=tmp_path)
    places = [s.cycles, s.reports, s.models, s.logs, s.audit_file, s.flag_file, s.prefect_home, s.mlflow_artifacts]
    assert all(place.is_relative_to(tmp_path) for place in places)
    assert len(set(places)) == len(places)


def test_the_flag_file_and_the_models_lie_where_the_gateway_looks_for_them(tmp_path: Path) -> None:
    settings, gateway = Settings.from_environment({}, home=tmp_path), GatewaySettings(home=tmp_path)
    assert settings.flag_file == gateway.flag_path
    assert settings.models == gateway.models


def test_children_are_quiet_and_the_embedded_server_is_tuned() -> None:
    variables = quiet_environment(Settings.from_environment({}))
    assert variables["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert variables["DO_NOT_TRACK"] == variables["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert variables["PREFECT_SERVER_DATABASE_SQLALCHEMY_POOL_SIZE"] == "1"
    assert variables["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"].endswith(".filesystem")
    assert variables["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"


def test_children_read_the_same_settings_again(tmp_path: Path) -> None:
    settings = Settings.from_environment({"LULL_HOME": str(tmp_path), "LULL_GATEWAY_PORT": "8500"})
    assert Settings.from_environment(quiet_environment(settings)) == settings


def test_a_team_s_own_prefect_server_is_not_tuned_from_here() -> None:
    variables = quiet_environment(Settings.from_environment({"PREFECT_API_URL": "http://prefect.example:4200/api"}))
    assert variables["PREFECT_API_URL"] == "http://prefect.example:4200/api"
    assert not any(name.startswith("PREFECT_SERVER_DATABASE") for name in variables)


@pytest.mark.prefect
def test_prefect_knows_every_variable_that_it_is_given() -> None:
    from prefect.settings.legacy import _get_settings_fields
    from prefect.settings.models.root import Settings as PrefectSettings

    known = set(_get_settings_fields(PrefectSettings))
    given = {name for name in quiet_environment(Settings.from_environment({})) if name.startswith("PREFECT_")}
    assert given <= known
