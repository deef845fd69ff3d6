"""`lull report`: render the pages from what the cycles saved."""

from flows.commands.printing import print_json
from flows.settings import Settings
from simulation.errors import LullError


class NothingToReport(LullError):
    """No cycle has been saved yet."""


def run(settings: Settings, as_json: bool) -> int:
    """Print where the index page lies; return 0."""
    if not settings.cycles.is_dir() or not any(settings.cycles.iterdir()):
        raise NothingToReport(f"{settings.cycles}: no cycle is saved there; run `lull demo` first, or set LULL_HOME")
    from reports.publish import publish  # here, for matplotlib takes a second that the refusal above need not wait for

    index = publish(settings.home)
    if as_json:
        print_json({"index": str(index)})
    else:
        print(index)
    return 0
