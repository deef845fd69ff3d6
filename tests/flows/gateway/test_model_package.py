"""A package that is corrupt, foreign or cannot reproduce its canary batch is refused by name, before it is loaded."""

import json
import subprocess
from pathlib import Path

import pytest

from flows.domain.features import FeatureColumn, FeatureSchema
from flows.gateway import model_package
from flows.gateway.model_package import InvalidPackage, canary_rows, load_package, save_package, try_package
from flows.gateway.predictor import Calibration


@pytest.fixture
def path(pack, tmp_path):
    pack("1")
    return tmp_path / "models" / "bank" / "1"


def repack(path: Path, **changes):
    """Change the manifest, and keep its digests of the files true."""
    manifest = json.loads((path / "package.json").read_text())
    for file in manifest["files"]:
        if (path / file).exists():
            manifest["files"][file] = model_package._sha256((path / file).read_bytes())
    manifest.update(changes)
    (path / "package.json").write_text(json.dumps(manifest))


def test_what_was_saved_scores_like_the_booster(pack, trained, tmp_path):
    digest = pack("7", booster=trained.second)
    model = load_package(tmp_path / "models/bank/7", version="7", digest=digest, schema_digest=trained.schema.digest())
    assert (model.name, model.version, model.digest) == ("bank", "7", digest)
    row = trained.rows(1)[0]
    features = [[row["age"], row["emp.var.rate"], ["admin.", "retired", "student"].index(row["job"])]]
    assert model.score(row) == trained.second.predict(features)[0]


def test_a_calibrated_package_keeps_its_calibration(pack, trained, tmp_path):
    pack("1")
    pack("2", calibration=Calibration(0.5, 1.0))
    plain, calibrated = (load_package(tmp_path / "models/bank" / v).score(trained.rows(1)[0]) for v in "12")
    assert plain != calibrated


def test_the_canary_batch_holds_no_row_of_the_frame_on_purpose(trained):
    rows = canary_rows(trained.frame, trained.schema, n_rows=50)
    real = {tuple(row.values()) for row in trained.rows(len(trained.frame))}
    assert sum(tuple(row.values()) in real for row in rows) < 5


@pytest.mark.parametrize("file", ["model.txt", "schema.json"])
def test_a_flipped_byte_is_noticed(path, file):
    content = bytearray((path / file).read_bytes())
    content[len(content) // 2] ^= 1
    (path / file).write_bytes(content)
    with pytest.raises(InvalidPackage, match=f"{file} is corrupt"):
        load_package(path)


@pytest.mark.parametrize("file", ["model.txt", "schema.json", "package.json"])
def test_a_missing_file_is_named(path, file):
    (path / file).unlink()
    with pytest.raises(InvalidPackage, match=f"{file} cannot be read"):
        load_package(path)


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ({"version": "2"}, "version is 1, expected 2"),
        ({"digest": "0" * 64}, "digest is .* expected 0000"),
        ({"schema_digest": "0" * 64}, "feature schema is .* expected 0000"),
    ],
)
def test_a_package_that_is_not_the_one_asked_for_is_refused(path, expected, said):
    with pytest.raises(InvalidPackage, match=said):
        load_package(path, **expected)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "format"),
        ({"extra": 1}, "extra"),
        ({"files": {"model.txt": "x"}}, "files must be"),
        ({"files": {"model.txt": "x", "schema.json": "x", "../../etc/passwd": "x"}}, "files must be"),
        ({"schema_digest": "0"}, "not the schema"),
        ({"canary": {"rows": [], "scores": []}}, "canary batch needs rows"),
        ({"canary": {"rows": [{"age": 1}], "scores": [0.5]}}, "'emp.var.rate' is missing"),
    ],
)
def test_a_manifest_that_contradicts_the_files_is_refused(path, changes, said):
    repack(path, **changes)
    with pytest.raises(InvalidPackage, match=said):
        load_package(path)


def test_a_canary_batch_that_does_not_reproduce_is_refused(path):
    canary = json.loads((path / "package.json").read_text())["canary"]
    canary["scores"][3] += 1e-6
    repack(path, canary=canary)
    with pytest.raises(InvalidPackage, match="canary row 3 scores"):
        load_package(path)


def test_a_calibration_that_nobody_named_is_refused(path):
    (path / "calibration.json").write_text('{"slope": 9, "intercept": 0}')
    with pytest.raises(InvalidPackage, match=r"calibration.json is not named in package.json"):
        load_package(path)


def test_a_model_of_another_width_is_refused(path):
    schema = FeatureSchema((FeatureColumn("age", "number"),), "y")
    (path / "schema.json").write_text(schema.to_json())
    repack(path, schema_digest=schema.digest())
    with pytest.raises(InvalidPackage, match="reads 3 columns, its schema has 1"):
        load_package(path)


def test_a_broken_tree_kills_the_child_and_not_the_reader(path):
    text = (path / "model.txt").read_text()
    (path / "model.txt").write_text(text[: len(text) // 2])
    repack(path)
    with pytest.raises(InvalidPackage, match="a process that reads it dies"):
        try_package(path)


def test_the_child_says_why_it_refuses_and_passes_what_is_good(path):
    try_package(path)
    (path / "schema.json").unlink()
    with pytest.raises(InvalidPackage, match=r"schema.json cannot be read"):
        try_package(path)


@pytest.mark.parametrize("version", ["", "../x", "a/b", ".hidden", "x" * 200])
def test_a_version_that_cannot_be_a_directory_is_refused(trained, tmp_path, version):
    with pytest.raises(InvalidPackage, match="cannot name a package"):
        save_package(
            tmp_path / "p", name="bank", version=version, model_text=trained.first.model_to_string(),
            schema=trained.schema, canary=trained.rows(1),
        )  # fmt: skip


def test_a_version_is_written_once(pack):
    pack("1")
    with pytest.raises(InvalidPackage, match="exists already"):
        pack("1")


@pytest.mark.parametrize("canary", [[], [{"age": "old", "emp.var.rate": 0.0, "job": "student"}]])
def test_a_canary_batch_that_cannot_be_scored_is_refused_and_nothing_is_written(trained, tmp_path, canary):
    with pytest.raises(InvalidPackage):
        save_package(
            tmp_path / "models" / "1", name="bank", version="1", model_text=trained.first.model_to_string(),
            schema=trained.schema, canary=canary,
        )  # fmt: skip
    assert not list(tmp_path.rglob("*"))


def test_what_a_dying_reader_prints_may_be_anything(path, monkeypatch):
    """LightGBM repeats what it could not read, which need not be text."""
    script = "import os; os.write(1, bytes([0xBB, 10])); os.write(2, bytes([0xBB, 10])); os.abort()"
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, **more: run([command[0], "-c", script], **more))
    with pytest.raises(InvalidPackage, match="a process that reads it dies"):
        try_package(path)
