"""A certificate as a file: read whole and recognised, or refused in a sentence."""

import json
from pathlib import Path
from typing import Any

from simulation.verdict import InvalidCertificate


def read_certificate(path: Path) -> dict[str, Any]:
    """Return a certificate's plain data; raise `InvalidCertificate` if the file is missing or is not one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidCertificate(f"{path}: there is no certificate; run `lull simulate` on the plan first") from None
    except OSError as problem:
        raise InvalidCertificate(f"{path}: cannot be read ({problem}); check the path and its permissions") from None
    except ValueError as problem:
        raise InvalidCertificate(
            f"{path}: is not a certificate ({problem}); run `lull simulate` on the plan again"
        ) from None
    if not isinstance(content, dict) or not {"digest", "answer", "provenance", "expires_at"} <= set(content):
        raise InvalidCertificate(f"{path}: is not a certificate; run `lull simulate` on the plan again")
    return content
