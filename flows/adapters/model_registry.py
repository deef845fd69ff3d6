"""The MLflow registry behind one small port: versions, the champion alias, packages as artifacts; and its twin."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from flows.domain.features import FeatureSchema
from flows.gateway.model_package import save_package
from simulation.errors import LullError

if TYPE_CHECKING:
    from flows.training import TrainedModel  # loads LightGBM and scikit-learn, seconds that only training needs

CHAMPION = "champion"


class RegistryUnreachable(LullError):
    """MLflow cannot be reached; the message names the address and the remedy."""


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of the model, the run behind it, and where its package lies on this machine."""

    version: str
    run_id: str
    package: Path


class ModelRegistry(Protocol):
    """Where model versions live."""

    def champion(self) -> str | None:
        """Return the version that is champion, or None before the first one."""
        ...

    def register(
        self, model: "TrainedModel", schema: FeatureSchema, canary: list[dict[str, Any]], facts: Mapping[str, str]
    ) -> RegisteredVersion:
        """Register a version with its package, once per model and cycle; `facts` become tags."""
        ...

    def package(self, version: str) -> Path:
        """Return the directory of a version's package on this machine, fetching it if need be."""
        ...

    def set_champion(self, version: str) -> None:
        """Make that version the champion."""
        ...

    def log_metrics(self, version: str, metrics: Mapping[str, float]) -> None:
        """Write metrics to the run behind a version."""
        ...


class MlflowRegistry:
    """MLflow through its client; packages are kept under `packages/<name>/<version>` for the gateway."""

    def __init__(self, name: str, uri: str, packages: Path, artifacts: Path) -> None:
        self.name, self.uri, self.packages, self._artifacts = name, uri, packages, artifacts

    def champion(self) -> str | None:
        """Return the version that is champion, or None before the first one."""
        return next((v.version for v in self._versions() if CHAMPION in self._aliases(v.version)), None)

    def register(
        self, model: "TrainedModel", schema: FeatureSchema, canary: list[dict[str, Any]], facts: Mapping[str, str]
    ) -> RegisteredVersion:
        """
        Log the booster to a run, register a version of it, and add its package.

        A version of the same model and cycle is found again, never made twice, and finished if a killed run left it
        without its package.
        """
        import mlflow

        client = self._client()
        mlflow.set_tracking_uri(self.uri)
        found = self._found(client, model.digest, facts)
        made = found or self._create(client, model, facts)
        directory = self.packages / self.name / made.version
        if found is None or "package_digest" not in found.tags:
            # A version number that a lost registry hands out again must not meet an old package.
            shutil.rmtree(directory, ignore_errors=True)
            digest = save_package(
                directory, name=self.name, version=made.version, model_text=model.text, schema=schema, canary=canary,
                calibration=model.calibration, notes={**facts, "run_id": made.run_id},
            )  # fmt: skip
            client.log_artifacts(made.run_id, str(directory), "package")
            client.set_model_version_tag(self.name, made.version, "package_digest", digest)
        return RegisteredVersion(made.version, made.run_id, self.package(made.version))

    def _create(self, client: Any, model: "TrainedModel", facts: Mapping[str, str]) -> "_Version":
        """Log the booster and make a version that carries its facts from its first moment."""
        import lightgbm as lgb
        import mlflow

        with mlflow.start_run(experiment_id=self._experiment(client), run_name=facts.get("cycle")) as run:
            mlflow.log_params({key: facts[key] for key in ("data_from", "data_until", "rounds") if key in facts})
            mlflow.log_metrics({f"seconds_{step}": seconds for step, seconds in model.seconds.items()})
            info = mlflow.lightgbm.log_model(
                lgb.Booster(model_str=model.text), name="model", pip_requirements=["lightgbm==4.7.0"]
            )
        tags = {**facts, "model_digest": model.digest}
        made = mlflow.register_model(info.model_uri, self.name, tags=tags)
        return _Version(str(made.version), str(run.info.run_id), tags)

    def _found(self, client: Any, digest: str, facts: Mapping[str, str]) -> "_Version | None":
        """Return the version of this model and cycle, if there is one."""
        wanted = {"model_digest": digest, **{key: facts[key] for key in ("cycle",) if key in facts}}
        return next((v for v in self._versions() if wanted.items() <= v.tags.items()), None)

    def package(self, version: str) -> Path:
        """Return the directory of a version's package, fetched from MLflow's artifacts when it is not here yet."""
        directory = self.packages / self.name / version
        if not directory.is_dir():
            import mlflow

            self._client()
            mlflow.set_tracking_uri(self.uri)
            run_id = self._run_of(version)
            with tempfile.TemporaryDirectory(dir=self._made(self.packages)) as temporary:
                got = mlflow.artifacts.download_artifacts(f"runs:/{run_id}/package", dst_path=temporary)
                directory.parent.mkdir(parents=True, exist_ok=True)
                Path(got).rename(directory)
        return directory

    def set_champion(self, version: str) -> None:
        """Point the champion alias at that version: one write; an unknown version raises `RegistryUnreachable`."""
        self._run_of(version)
        self._client().set_registered_model_alias(self.name, CHAMPION, version)

    def log_metrics(self, version: str, metrics: Mapping[str, float]) -> None:
        """Write metrics to the run behind a version."""
        client = self._client()
        run_id = self._run_of(version)
        for key, value in metrics.items():
            client.log_metric(run_id, key, value)

    def _run_of(self, version: str) -> str:
        found = next((v for v in self._versions() if v.version == version), None)
        if found is None:
            known = ", ".join(v.version for v in self._versions()) or "none"
            raise RegistryUnreachable(f"{self.uri}: model {self.name} has no version {version}; it has {known}")
        return str(found.run_id)

    def _versions(self) -> list[Any]:
        versions = self._client().search_model_versions(f"name = '{self.name}'")
        return [_Version(str(v.version), str(v.run_id), dict(v.tags)) for v in versions]

    def _aliases(self, version: str) -> list[str]:
        return list(self._client().get_model_version(self.name, version).aliases)

    def _client(self) -> Any:
        import mlflow
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        # Its seven retries take four minutes to say that nobody is there; the flow has retries of its own.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        try:
            client = mlflow.MlflowClient(self.uri, self.uri)
            client.search_registered_models(max_results=1)
        except (MlflowException, SQLAlchemyError, OSError) as problem:
            first = str(problem).splitlines()[0][:200]
            raise RegistryUnreachable(f"{self.uri}: MLflow cannot be reached ({first}); check the address") from problem
        return client

    def _experiment(self, client: Any) -> str:
        found = client.get_experiment_by_name(self.name)
        if found is not None:
            return str(found.experiment_id)
        location = self._made(self._artifacts).resolve().as_uri() if self.uri.startswith("sqlite") else None
        return str(client.create_experiment(self.name, artifact_location=location))

    @staticmethod
    def _made(directory: Path) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        return directory


@dataclass(frozen=True)
class _Version:
    version: str
    run_id: str
    tags: dict[str, str]


class InMemoryRegistry:
    """The twin without MLflow: packages on disk, the rest in memory."""

    def __init__(self, name: str, packages: Path) -> None:
        self.name, self.packages = name, packages
        self.metrics: dict[str, dict[str, float]] = {}
        self._champion: str | None = None
        self._made: dict[tuple[str, str | None], RegisteredVersion] = {}

    def champion(self) -> str | None:
        """Return the version that is champion, or None before the first one."""
        return self._champion

    def register(
        self, model: "TrainedModel", schema: FeatureSchema, canary: list[dict[str, Any]], facts: Mapping[str, str]
    ) -> RegisteredVersion:
        """Keep a version and write its package; the same model and cycle give the same version."""
        key = (model.digest, facts.get("cycle"))
        if key in self._made:
            return self._made[key]
        version = str(len(self._made) + 1)
        directory = self.packages / self.name / version
        save_package(
            directory, name=self.name, version=version, model_text=model.text, schema=schema, canary=canary,
            calibration=model.calibration, notes=dict(facts),
        )  # fmt: skip
        self.metrics[version] = {}
        self._made[key] = RegisteredVersion(version, f"run-{version}", directory)
        return self._made[key]

    def package(self, version: str) -> Path:
        """Return the directory of a version's package."""
        self._must_know(version)
        return self.packages / self.name / version

    def set_champion(self, version: str) -> None:
        """Make that version the champion."""
        self._must_know(version)
        self._champion = version

    def log_metrics(self, version: str, metrics: Mapping[str, float]) -> None:
        """Keep metrics of a version."""
        self._must_know(version)
        self.metrics[version].update(metrics)

    def _must_know(self, version: str) -> None:
        if version not in self.metrics:
            known = ", ".join(self.metrics) or "none"
            raise RegistryUnreachable(f"memory: model {self.name} has no version {version}; it has {known}")
