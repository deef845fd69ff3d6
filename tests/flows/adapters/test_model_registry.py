"""MLflow on SQLite and the in-memory twin keep one contract; a lost package is fetched from the artifacts."""

import datetime as dt
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows.adapters.data_store import FrameStore
from flows.adapters.model_registry import InMemoryRegistry, MlflowRegistry, ModelRegistry, RegistryUnreachable
from flows.domain.features import FeatureSchema, infer_schema
from flows.gateway.model_package import canary_rows, load_package
from flows.training import TrainedModel, train
from simulation.plan import Envelope
from simulation.plan_file import read_plan

FACTS = {"cycle": "first", "rounds": "3", "data_from": "2009-01-01", "plan_digest": "abc"}


@pytest.fixture(scope="module")
def trained() -> tuple[TrainedModel, FeatureSchema, pd.DataFrame]:
    """Return a model of three trees and what it was made from."""
    rng = np.random.default_rng(2)
    age = rng.integers(18, 80, 400).astype(float)
    frame = pd.DataFrame({"age": age, "label": (age + rng.normal(0, 15, 400) > 50).astype(int)})
    schema = infer_schema(frame, label="label")
    first = pd.Timestamp("2009-01-01", tz="UTC")
    frame["event_time"] = first + pd.to_timedelta(np.arange(400), unit="min")
    since = dt.datetime(2009, 1, 1, tzinfo=dt.UTC)
    snapshot = FrameStore(frame, "made").snapshot(since, since + dt.timedelta(days=9))
    training = read_plan(Path(__file__).parents[3] / "examples" / "plan.yaml").training
    small = {"rounds": 3, "segment_rounds": 3, "envelope": Envelope(nice=0)}
    model = train(snapshot, schema, training.model_copy(update=small))
    return model, schema, frame


@pytest.fixture(scope="module")
def mlflow_registry(tmp_path_factory: pytest.TempPathFactory) -> MlflowRegistry:
    """Return a registry on one database for the whole module: creating its tables takes seconds."""
    home = tmp_path_factory.mktemp("home")
    return MlflowRegistry("bank", f"sqlite:///{home / 'mlflow.db'}", home / "models", home / "mlartifacts")


@pytest.fixture(scope="module", params=["mlflow", "memory"])
def registry(
    request: pytest.FixtureRequest, mlflow_registry: MlflowRegistry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ModelRegistry]:
    if request.param == "mlflow":
        yield mlflow_registry
    else:
        yield InMemoryRegistry("bank", tmp_path_factory.mktemp("memory"))


def test_a_registry_keeps_its_contract(
    registry: ModelRegistry, trained: tuple[TrainedModel, FeatureSchema, pd.DataFrame]
) -> None:
    model, schema, frame = trained
    canary = canary_rows(frame, schema)
    assert registry.champion() is None
    with pytest.raises(RegistryUnreachable, match="model bank has no version 1; it has none"):
        registry.package("1")

    one = registry.register(model, schema, canary, FACTS)
    two = registry.register(model, schema, canary, {**FACTS, "cycle": "second"})
    assert (one.version, two.version) == ("1", "2")
    assert one.run_id != two.run_id
    assert registry.champion() is None, "registering crowns nobody"

    for found in (one, two):
        assert registry.package(found.version) == found.package
        package = load_package(found.package)
        assert package.version == found.version
        noted = json.loads((found.package / "package.json").read_text(encoding="utf-8"))["notes"]
        assert noted["cycle"] == ("first" if found is one else "second")

    registry.set_champion("1")
    assert registry.champion() == "1"
    registry.set_champion("2")
    assert registry.champion() == "2", "there is one champion at a time"
    registry.log_metrics("2", {"newest_month_auc": 0.21})
    for refused in (lambda: registry.package("3"), lambda: registry.log_metrics("3", {"auc": 0.1}),
                    lambda: registry.set_champion("3")):  # fmt: skip
        with pytest.raises(RegistryUnreachable, match="model bank has no version 3; it has"):
            refused()
    assert registry.champion() == "2"


def test_a_package_lost_from_disk_is_fetched_as_it_was(
    mlflow_registry: MlflowRegistry, trained: tuple[TrainedModel, FeatureSchema, pd.DataFrame]
) -> None:
    model, schema, frame = trained
    found = mlflow_registry.register(model, schema, canary_rows(frame, schema), FACTS)
    digest = load_package(found.package).digest
    shutil.rmtree(found.package)
    assert load_package(mlflow_registry.package(found.version)).digest == digest


def test_facts_metrics_and_digests_can_be_read_in_mlflow(
    mlflow_registry: MlflowRegistry, trained: tuple[TrainedModel, FeatureSchema, pd.DataFrame]
) -> None:
    import mlflow

    model, schema, frame = trained
    found = mlflow_registry.register(model, schema, canary_rows(frame, schema), FACTS)
    mlflow_registry.log_metrics(found.version, {"newest_month_auc": 0.21})
    client = mlflow.MlflowClient(mlflow_registry.uri, mlflow_registry.uri)
    tags = client.get_model_version("bank", found.version).tags
    assert {**FACTS, "model_digest": model.digest}.items() <= tags.items()
    assert tags["package_digest"] == load_package(found.package).digest
    run = client.get_run(found.run_id)
    assert run.data.metrics["newest_month_auc"] == 0.21
    assert run.data.params["rounds"] == "3"


def test_a_registry_that_cannot_be_reached_is_one_sentence(tmp_path: Path) -> None:
    # MLflow refuses a scheme it does not know at once; a port where nobody listens it tries a few times.
    for uri in ("ftp://registry.example", "http://127.0.0.1:9"):
        absent = MlflowRegistry("bank", uri, tmp_path, tmp_path)
        with pytest.raises(RegistryUnreachable, match="MLflow cannot be reached") as refusal:
            absent.champion()
        assert "\n" not in str(refusal.value)


def test_a_registration_cut_off_at_any_step_is_finished_as_the_same_version(
    mlflow_registry: MlflowRegistry,
    trained: tuple[TrainedModel, FeatureSchema, pd.DataFrame],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A version carries its facts from its first moment, so a repeated run knows it again."""
    from mlflow import MlflowClient

    from flows.adapters import model_registry as module

    model, schema, frame = trained
    facts = {**FACTS, "cycle": "cut off"}

    def cut(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    for place, step in (
        (module, "save_package"),
        (MlflowClient, "log_artifacts"),
        (MlflowClient, "set_model_version_tag"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, step, cut)
            with pytest.raises(KeyboardInterrupt):
                mlflow_registry.register(model, schema, canary_rows(frame, schema), facts)
    found = mlflow_registry.register(model, schema, canary_rows(frame, schema), facts)
    client = MlflowClient(mlflow_registry.uri, mlflow_registry.uri)
    versions = [v for v in client.search_model_versions("name = 'bank'") if v.tags.get("cycle") == "cut off"]
    assert [str(v.version) for v in versions] == [found.version]
    assert versions[0].tags["package_digest"] == load_package(found.package).digest
