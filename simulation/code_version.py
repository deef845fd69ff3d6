"""Which code computed a result: a digest over the simulator's files, the git commit, the versions of the packages."""

import hashlib
import subprocess
from importlib import metadata, resources
from pathlib import Path

_PACKAGES = ("numpy", "numba", "simpy", "scipy")
_GIT_S = 10


def code_digest() -> str:
    """Return the SHA-256 over the simulator's own source files, by name."""
    root = resources.files("simulation")
    digest = hashlib.sha256()
    pending = [("simulation", root)]
    files = []
    while pending:
        name, folder = pending.pop()
        for entry in folder.iterdir():
            if entry.is_dir() and entry.name != "__pycache__":
                pending.append((f"{name}/{entry.name}", entry))
            elif entry.name.endswith((".py", ".yaml")):
                files.append((f"{name}/{entry.name}", entry))
    for name, entry in sorted(files, key=lambda item: item[0]):
        digest.update(name.encode() + b"\0" + entry.read_bytes())
    return digest.hexdigest()


def code_commit(folder: Path | None = None) -> str | None:
    """
    Return the git commit of the simulator's files, with "+changes" where they differ from it.

    None where they are not tracked by git (an installed package, even inside somebody's repository), or git is not
    there to ask; `code_digest` names the code then.
    """
    place = Path(__file__).parent if folder is None else folder
    if _git(place, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = _git(place, "rev-parse", "HEAD")
    changes = _git(place, "status", "--porcelain", "--", ".")
    if commit is None or changes is None:
        return None
    return f"{commit}+changes" if changes else commit


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that a trial's bytes may depend on."""
    return {name: metadata.version(name) for name in _PACKAGES}


def _git(place: Path, *arguments: str) -> str | None:
    """Return what git says in a folder, None if it fails or is absent."""
    try:
        done = subprocess.run(
            ["git", "-C", str(place), *arguments], capture_output=True, text=True, check=False, timeout=_GIT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
