"""
A model as the gateway takes it: a directory of text files with digests and a canary batch; no pickle anywhere.

`save_package` writes it (retraining), `load_package` checks all of it and returns a `Model`, `try_package` lets a child
process do so first: a broken tree makes LightGBM abort the process that reads it.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from flows.domain.features import FeatureSchema, InvalidFeatures, encode_values
from flows.gateway.predictor import Calibration, InvalidModel, Predictor
from simulation.errors import LullError

if TYPE_CHECKING:
    import pandas as pd

MODEL, SCHEMA, CALIBRATION, MANIFEST = "model.txt", "schema.json", "calibration.json", "package.json"
# The same text gives the same bits on one machine; another processor's exp() may differ in the last place.
CANARY_TOLERANCE = 1e-9
REFUSED = 3  # exit code of the child: unlike 1 and 2, no crash of Python itself ends so
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class InvalidPackage(LullError):
    """A model package that must not go live; the message names the directory and what is wrong with it."""


class Canary(BaseModel):
    """Rows and the scores that the model gave them when it was packed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    rows: tuple[dict[str, Any], ...]
    scores: tuple[float, ...]


class Manifest(BaseModel):
    """What `package.json` says; its own SHA-256 is the digest of the package."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal[1]
    name: str
    version: str
    files: dict[str, str]
    schema_digest: str
    canary: Canary
    notes: dict[str, str] = {}


@dataclass(frozen=True)
class Model:
    """A package that was read and found whole: ready to score."""

    name: str
    version: str
    digest: str
    path: Path
    size_bytes: int
    schema: FeatureSchema
    canary: Canary
    predictor: Predictor

    def score(self, row: Mapping[str, Any]) -> float:
        """Return the score of one raw row."""
        return self.predictor.predict_one(encode_values(row, self.schema))

    def check_canary(self) -> None:
        """
        Score the canary batch anew.

        Raises
        ------
        InvalidPackage
            If a score is not what it was when the model was packed.
        """
        encoded = [encode_values(row, self.schema) for row in self.canary.rows]
        one_by_one = [self.predictor.predict_one(values) for values in encoded]
        together = self.predictor.predict_many(np.array(encoded, dtype=np.float64))
        for scores in (one_by_one, together.tolist()):
            for i, (expected, got) in enumerate(zip(self.canary.scores, scores, strict=True)):
                if not abs(expected - got) <= CANARY_TOLERANCE:
                    raise InvalidPackage(
                        f"{self.path}: canary row {i} scores {got!r} here and {expected!r} when packed"
                    )


def canary_rows(
    frame: "pd.DataFrame", schema: FeatureSchema, *, n_rows: int = 32, seed: int = 0
) -> list[dict[str, Any]]:
    """Return rows drawn column by column from a frame, so that none of its real rows leaves with the package."""
    rng = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {}
    for name in schema.names:
        column = frame[name].iloc[rng.integers(0, len(frame), n_rows)].astype(object)
        columns[name] = column.where(column.notna(), None).tolist()
    return [{name: columns[name][i] for name in schema.names} for i in range(n_rows)]


def save_package(
    directory: Path,
    *,
    name: str,
    version: str,
    model_text: str,
    schema: FeatureSchema,
    canary: Sequence[Mapping[str, Any]],
    calibration: Calibration | None = None,
    notes: Mapping[str, str] | None = None,
) -> str:
    """
    Write a package, all of it or nothing, and return its digest.

    Parameters
    ----------
    directory : Path
        Must not exist yet; the gateway loads ``<model root>/<name>/<version>``.
    model_text : str
        ``booster.model_to_string()``.
    canary : rows of the schema
        At least one; their scores are computed here and reproduced before the model may take traffic.
    notes : text by key
        Kept as they are: run id, training data digest, whatever the reader will ask for.

    Raises
    ------
    InvalidPackage
        If the directory exists, a name cannot be a directory, or model, schema and canary do not fit each other.
    """
    for value in (name, version):
        if not _NAME.fullmatch(value):
            raise InvalidPackage(f"{value!r} cannot name a package; use letters, digits, dot, dash and underscore")
    if directory.exists():
        raise InvalidPackage(f"{directory} exists already; a version is written once")
    texts = {MODEL: model_text, SCHEMA: schema.to_json()}
    if calibration is not None:
        texts[CALIBRATION] = json.dumps({"slope": calibration.slope, "intercept": calibration.intercept})
    manifest = Manifest(
        format=1,
        name=name,
        version=version,
        files={file: _sha256(text.encode()) for file, text in texts.items()},
        schema_digest=schema.digest(),
        canary=_scored(canary, model_text, schema, calibration, directory),
        notes=dict(notes or {}),
    )
    texts[MANIFEST] = manifest.model_dump_json(indent=1)
    _write_whole(directory, texts)
    return _sha256(texts[MANIFEST].encode())


def load_package(
    path: Path, *, version: str | None = None, digest: str | None = None, schema_digest: str | None = None
) -> Model:
    """
    Read a package and check all of it: digests, schema, model and canary batch.

    Parameters
    ----------
    version, digest, schema_digest : str, optional
        What the caller expects; a package that says otherwise is refused.

    Raises
    ------
    InvalidPackage
        If anything is absent, corrupt or not what was expected.
    """
    text = _read(path / MANIFEST)
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InvalidPackage(f"{path / MANIFEST}: {where}: {first['msg']}; make the package anew") from error
    found_digest = _sha256(text)
    for what, expected, found in (
        ("version", version, manifest.version),
        ("digest", digest, found_digest),
        ("feature schema", schema_digest, manifest.schema_digest),
    ):
        if expected is not None and expected != found:
            raise InvalidPackage(f"{path}: {what} is {found}, expected {expected}; the slot stays as it was")
    texts = _checked_files(path, manifest)
    try:
        schema = FeatureSchema.from_json(texts[SCHEMA].decode())
        predictor = Predictor(texts[MODEL].decode(), _calibration(texts.get(CALIBRATION)))
        _check_fit(path, manifest, schema, predictor)
        size_bytes = sum(map(len, texts.values()))
        model = Model(
            manifest.name, manifest.version, found_digest, path, size_bytes, schema, manifest.canary, predictor
        )
        model.check_canary()
    except (InvalidFeatures, InvalidModel, UnicodeDecodeError) as error:
        raise InvalidPackage(f"{path}: {error}") from error
    return model


def try_package(path: Path) -> None:
    """
    Load a package in a child process, so that one which kills its reader does not kill a gateway.

    Raises
    ------
    InvalidPackage
        If the child refuses the package, dies of it, or is not done within 60 s.
    """
    command = [
        sys.executable,
        "-c",
        "import sys; from flows.gateway import model_package as m; sys.exit(m.main(sys.argv[1]))",
    ]
    # The child sees the modules that this process sees, and nothing of its terminal.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        child = subprocess.run(
            [*command, str(path)],
            capture_output=True,
            text=True,
            errors="replace",  # LightGBM prints what it read, and that may be anything
            timeout=60,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise InvalidPackage(f"{path}: reading it took more than 60 s; the slot stays as it was") from error
    if child.returncode == REFUSED:
        raise InvalidPackage(child.stdout.strip())
    if child.returncode != 0:
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        raise InvalidPackage(f"{path}: a process that reads it dies (code {child.returncode}: {last}); train it anew")


def main(path: str) -> int:
    """Load one package, say what is wrong with it, and return an exit code; the child's side of `try_package`."""
    try:
        load_package(Path(path))
    except InvalidPackage as error:
        print(error)
        return REFUSED
    return 0


def _scored(
    rows: Sequence[Mapping[str, Any]],
    model_text: str,
    schema: FeatureSchema,
    calibration: Calibration | None,
    directory: Path,
) -> Canary:
    if not rows:
        raise InvalidPackage(f"{directory}: a package needs at least one canary row")
    try:
        predictor = Predictor(model_text, calibration)
        if predictor.n_features != len(schema.columns):
            raise InvalidModel(f"the model reads {predictor.n_features} columns, the schema has {len(schema.columns)}")
        scores = tuple(predictor.predict_one(encode_values(row, schema)) for row in rows)
        return Canary(rows=tuple(dict(row) for row in rows), scores=scores)
    except (InvalidFeatures, InvalidModel, ValidationError) as error:
        raise InvalidPackage(f"{directory}: {error}") from error


def _write_whole(directory: Path, texts: Mapping[str, str]) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=directory.parent))
    try:
        for file, text in texts.items():
            (unfinished / file).write_text(text, encoding="utf-8", newline="")
        unfinished.chmod(0o755)
        os.rename(unfinished, directory)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _checked_files(path: Path, manifest: Manifest) -> dict[str, bytes]:
    named = set(manifest.files)
    if not {MODEL, SCHEMA} <= named <= {MODEL, SCHEMA, CALIBRATION}:
        raise InvalidPackage(f"{path / MANIFEST}: files must be {MODEL}, {SCHEMA} and perhaps {CALIBRATION}")
    if CALIBRATION not in named and (path / CALIBRATION).exists():
        raise InvalidPackage(f"{path / CALIBRATION} is not named in {MANIFEST}; make the package anew")
    texts = {file: _read(path / file) for file in sorted(named)}
    for file, text in texts.items():
        if _sha256(text) != manifest.files[file]:
            raise InvalidPackage(f"{path / file} is corrupt: its SHA-256 is not the one in {MANIFEST}")
    return texts


def _check_fit(path: Path, manifest: Manifest, schema: FeatureSchema, predictor: Predictor) -> None:
    if schema.digest() != manifest.schema_digest:
        raise InvalidPackage(f"{path / SCHEMA} is not the schema that {MANIFEST} names; make the package anew")
    if predictor.n_features != len(schema.columns):
        raise InvalidPackage(
            f"{path}: the model reads {predictor.n_features} columns, its schema has {len(schema.columns)}"
        )
    if not manifest.canary.rows or len(manifest.canary.rows) != len(manifest.canary.scores):
        raise InvalidPackage(f"{path / MANIFEST}: the canary batch needs rows, and one score for each")


def _calibration(text: bytes | None) -> Calibration | None:
    if text is None:
        return None
    try:
        whole = json.loads(text)
        return Calibration(float(whole["slope"]), float(whole["intercept"]))
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise InvalidModel(f"{CALIBRATION} needs slope and intercept as numbers ({error})") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidPackage(f"{path} cannot be read ({error.strerror}); is the package complete?") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
