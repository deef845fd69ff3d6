"""Request histories that come with Lull, found by name; origin and licence stand beside each in SOURCE.md."""

from importlib import resources
from pathlib import Path

_FILES = {"worldcup98": "requests_per_minute.parquet"}


def shipped_histories() -> tuple[str, ...]:
    """Return the names of the request histories that come with Lull."""
    return tuple(sorted(_FILES))


def shipped_path(name: str) -> Path | None:
    """Return the file of a shipped history, or None if no history has that name."""
    if name not in _FILES:
        return None
    return Path(str(resources.files("simulation") / "datasets" / name / _FILES[name]))
