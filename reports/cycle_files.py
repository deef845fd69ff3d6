"""What a cycle's directory holds: each saved result is there, has not happened yet, or cannot be read (and why)."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from reports.records import (
    DriftRecord,
    EvaluationRecord,
    InvalidRecord,
    PlanRecord,
    PromotionRecord,
    ReplayRecord,
    TrainingRecord,
    load_record,
)
from simulation.verdict import certificate_digest

Record = TypeVar("Record")

CERTIFICATE_KEYS = {
    "plan", "answer", "reasons", "is_calibrated", "scenarios", "history_digest", "provenance", "issued_at",
    "expires_at", "digest",
}  # fmt: skip


@dataclass(frozen=True)
class Saved(Generic[Record]):
    """One saved result: `record` if it could be read, else `problem` if it was refused, else it has not happened."""

    record: Record | None = None
    problem: str | None = None


@dataclass(frozen=True)
class CycleFiles:
    """Everything that is known of one cycle; `folder` as the reader would type it."""

    name: str
    folder: Path
    plan: Saved[PlanRecord]
    certificate: Saved[dict[str, Any]]
    training: Saved[TrainingRecord]
    evaluation: Saved[EvaluationRecord]
    promotion: Saved[PromotionRecord]
    drift: Saved[DriftRecord]
    replay: Saved[ReplayRecord] = Saved()


def read_cycle(folder: Path) -> CycleFiles:
    """Read every saved result in a cycle's directory; nothing is raised for a missing or a broken one."""
    return CycleFiles(
        name=folder.name,
        folder=folder,
        plan=_saved(PlanRecord, folder / "plan.json"),
        certificate=_certificate(folder / "certificate.json"),
        training=_saved(TrainingRecord, folder / "training.json"),
        evaluation=_saved(EvaluationRecord, folder / "evaluation.json"),
        promotion=_saved(PromotionRecord, folder / "promotion.json"),
        drift=_saved(DriftRecord, folder / "drift.json"),
        replay=_saved(ReplayRecord, folder / "replay.json"),
    )


def cycle_folders(home: Path) -> list[Path]:
    """Return the directories of all cycles under `home`, the newest name first."""
    folder = home / "cycles"
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), reverse=True)


def _saved(kind: type[Record], path: Path) -> Saved[Record]:
    try:
        record = load_record(kind, path)
        if record is not None:
            # load_record checks names; a page also needs the types, or it would break off in the middle.
            TypeAdapter(kind).validate_python(asdict(record))  # type: ignore[call-overload]
    except InvalidRecord as problem:
        return Saved(problem=str(problem))
    except ValidationError as problem:
        first = problem.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"][0].lower() + first["msg"][1:]
        return Saved(problem=f"{path}: {place}: {message}; delete the file and run the step again")
    except (AttributeError, OSError) as problem:
        return Saved(problem=f"{path}: cannot be read ({problem}); delete it and run the step again")
    return Saved(record)


def _certificate(path: Path) -> Saved[dict[str, Any]]:
    """Read a certificate and check that it is whole; whether it still covers a plan is for `lull deploy` to say."""
    if not path.is_file():
        return Saved()
    remedy = "run `lull simulate` on the plan again"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        return Saved(problem=f"{path}: is not a certificate ({problem}); {remedy}")
    missing = CERTIFICATE_KEYS - set(data) if isinstance(data, dict) else CERTIFICATE_KEYS
    if missing:
        return Saved(problem=f"{path}: is not a certificate (lacks {', '.join(sorted(missing))}); {remedy}")
    if data["digest"] != certificate_digest(data):
        return Saved(problem=f"{path}: the certificate was changed after it was issued; {remedy}")
    return Saved(data)
