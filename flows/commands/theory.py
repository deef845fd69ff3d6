"""`lull simulate --check-theory`: the simulator beside queueing theory, value by value."""

from pathlib import Path
from typing import Any

from flows.commands.printing import print_json, print_table
from simulation.errors import InvalidPlan
from simulation.theory_check import TheoryRow, check_theory


def run(plan: Path | None, seed: int, as_json: bool, *, names: str = "") -> int:
    """Return 0 if every row agrees, else 1; ``names`` keeps the studies whose name contains it."""
    if plan is not None:
        raise InvalidPlan(f"--check-theory tests the simulator itself and takes no plan; leave {plan} out")
    rows = check_theory(seed, names)
    apart = [row for row in rows if not row.agrees]
    if as_json:
        print_json({"seed": seed, "agrees": not apart, "rows": [_plain(row) for row in rows]})
        return int(bool(apart))
    print_table(["value", "theory", "observed", "std. error", "z", "seconds"], [_cells(row) for row in rows])
    print("\nA row agrees within 4 standard errors, each at most 1 % of the value (2 % of values under 0.02).")
    print("The seconds are those of the study that the row comes from; rows without a standard error are exact.")
    if apart:
        print(f"{len(apart)} of {len(rows)} rows disagree: " + "; ".join(row.name for row in apart))
    else:
        print(f"All {len(rows)} rows agree.")
    return int(bool(apart))


def _cells(row: TheoryRow) -> list[str]:
    mark = "" if row.agrees else "  <- disagrees"
    numbers = (f"{row.expected:.6g}", f"{row.observed:.6g}", f"{row.standard_error:.2g}", f"{row.z:+.2f}")
    return [row.name, *numbers, f"{row.seconds:.1f}{mark}"]


def _plain(row: TheoryRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "theory": row.expected,
        "observed": row.observed,
        "standard_error": row.standard_error,
        "z": row.z,
        "seconds": row.seconds,
        "agrees": row.agrees,
    }
