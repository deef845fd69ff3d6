"""`lull rollback`: all traffic back to the slot that had it before; needs neither Prefect nor MLflow."""

import datetime as dt

from flows.adapters.audit import AuditFile
from flows.settings import Settings
from flows.wiring import gateway_client


def run(settings: Settings, reason: str) -> int:
    """Roll back, then write it down; the log must not stand in the way of a rollback."""
    with gateway_client(settings) as gateway:
        back = gateway.rollback(reason=reason)
    AuditFile(settings.audit_file).append(
        "rollback", at=dt.datetime.now(dt.UTC), reason=reason, from_slot=back.bad_slot, from_version=back.bad_version
    )
    print(f"{back.action}: {back.state.live} is live again after {back.took_ms:.0f} ms")
    print("The registry's champion still is the version that was promoted; `lull status` shows it beside what is live.")
    return 0
