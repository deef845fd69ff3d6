"""Prints the demo's stages one by one, with the wall seconds of each, from one run in a temporary home."""

import os
import socket
import subprocess
import sys
import tempfile
import time


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    ports = {"LULL_GATEWAY_PORT": str(free_port()), "LULL_PREFECT_PORT": str(free_port())}
    with tempfile.TemporaryDirectory() as home:
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", "demo", "--home", home],
            env=os.environ | ports, capture_output=True, text=True, check=False,
        )  # fmt: skip
        print(done.stdout, done.stderr)
        print(f"whole demo, wall: {time.monotonic() - started:.0f} s, exit code {done.returncode}")
    sys.exit(done.returncode)
