"""
A key for compiled kernels that changes with every file they are made of; start at `digest_of`.

numba's cache notices a change of the file that a kernel stands in and of no other. A kernel that calls helpers in other
files therefore closes over this digest, which numba makes part of the kernel's name in the cache.
"""

import hashlib
from pathlib import Path
from types import ModuleType


def digest_of(*parts: ModuleType | str) -> int:
    """Return a number made from the text of these modules, or files: 7 bytes of SHA-256, to fit a signed integer."""
    files = [Path(str(part if isinstance(part, str) else part.__file__)) for part in parts]
    text = b"\0".join(file.read_bytes() for file in files)
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "big")
