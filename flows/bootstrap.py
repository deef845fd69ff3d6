"""Day one: a champion trained on the oldest rows, and registered: `python -m flows.bootstrap CYCLE NOW UNTIL`."""

import datetime as dt
import sys

from flows.challenger import fit, model_lease, register_model, training_record
from flows.domain.features import bank_marketing_schema
from flows.training_run import Watch
from flows.wiring import wire
from reports.records import save_record
from simulation.errors import LullError


def bootstrap(cycle: str, simulated_now: str | None, until: dt.datetime) -> str:
    """Register a champion trained on the rows before `until`, unless there is one; return the champion's version."""
    wired = wire(cycle, simulated_now)
    champion = wired.registry.champion()
    if champion is not None:
        return champion
    store = wired.store()
    snapshot = store.snapshot(store.months()[0], until)
    schema = bank_marketing_schema(store.frame)
    with model_lease(wired) as lease:
        model = fit(wired, snapshot, lease, Watch(), name="bootstrap")
        registered = register_model(wired, model, snapshot, schema)
    wired.audit.append("bootstrap champion", at=wired.cycle.now(), cycle=cycle, version=registered.version,
                       model_digest=model.digest)  # fmt: skip
    wired.registry.set_champion(registered.version)
    reason = "day one: there was no champion yet"
    record = training_record(wired, snapshot, model, registered, is_bootstrap=True, reason=reason)
    save_record(record, wired.cycle.path("bootstrap.json"))
    return registered.version


if __name__ == "__main__":
    try:
        print(bootstrap(sys.argv[1], sys.argv[2] or None, dt.datetime.fromisoformat(sys.argv[3])))
    except LullError as problem:
        sys.exit(str(problem))  # the demo shows this last line
