"""`python -m flows.gateway --home DIR [--port N]`: the gateway alone, without the rest of Lull."""

import argparse
import sys
from pathlib import Path

from pydantic import ValidationError

from flows.gateway.settings import DEFAULT_PORT, GatewaySettings
from simulation.errors import LullError


def main(arguments: list[str] | None = None) -> int:
    """Serve until stopped; return 0, or 2 when the gateway could not be started."""
    parser = argparse.ArgumentParser(prog="python -m flows.gateway", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="directory for models, slots, flags and logs")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args(arguments)
    try:
        settings = GatewaySettings(home=given.home, host=given.host, port=given.port, workers=given.workers)
        # Imported late: a wrong argument is answered at once.
        from flows.gateway.server import serve

        serve(settings)
    except ValidationError as error:
        first = error.errors()[0]
        print(f"lull gateway: {'.'.join(map(str, first['loc']))}: {first['msg']}", file=sys.stderr)
        return 2
    except LullError as error:
        print(f"lull gateway: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
