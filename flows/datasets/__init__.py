"""Model data that comes with Lull, found by name; origin and licence stand beside each in SOURCE.md."""

from importlib import resources
from pathlib import Path

_FILES = {"bank_marketing_2008_2010": "bank_additional_full.parquet"}


def shipped_data_path(name: str) -> Path | None:
    """Return the file of a shipped data set, or None if none has that name."""
    if name not in _FILES:
        return None
    return Path(str(resources.files("flows") / "datasets" / name / _FILES[name]))
