"""Which code computed a result: by git where it tracks the files, by their digest where it does not."""

import re
import subprocess
from pathlib import Path

import pytest

from simulation import code_version
from simulation.code_version import code_commit
from simulation.experiment import provenance
from tests.simulation.plans import OPENS_AT, small_plan


def git(folder: Path, *arguments: str) -> str:
    told = subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return told.stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package in a repository of its own, committed."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    return folder


def test_a_tracked_package_has_its_commit_and_says_when_it_was_changed(package: Path) -> None:
    commit = git(package, "rev-parse", "HEAD")
    assert re.fullmatch(r"[0-9a-f]{40}", commit)
    (package.parent / "elsewhere.txt").write_text("not the package")
    assert code_commit(package) == commit
    (package / "new.py").write_text("")
    assert code_commit(package) == f"{commit}+changes"


def test_an_untracked_package_inside_a_repository_does_not_take_its_commit(package: Path) -> None:
    installed = package.parent / "venv"
    installed.mkdir()
    (installed / "__init__.py").write_text("")
    assert code_commit(installed) is None


def test_outside_git_and_without_git_there_is_no_commit_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert code_commit(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_commit() is None


def test_without_a_commit_the_files_name_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_version, "_git", lambda *_: None)
    made = provenance(small_plan(), OPENS_AT, 1, 2)
    assert made["code_commit"] == f"no commit, files {made['code_digest']}"
