"""An experiment on a Dask cluster of one process: the same nights as in threads, byte for byte (needs `lull[dask]`)."""

import datetime as dt

import numpy as np
from distributed import Client, LocalCluster

from simulation import Plan, judge, simulate
from simulation.scenario import read_scenario
from simulation.traffic.forecast import LEVELS, Forecast

OPENS_AT = dt.datetime(2026, 3, 10, 2, 0, tzinfo=dt.UTC)
PLAN = {
    "name": "nightly",
    "serving": {
        "pool": "scorer", "replicas": 2, "servers_per_replica": 2, "service_time": {"mean_ms": 50, "calibrated": True},
        "slo": {"latency_ms": 1000, "good_ratio": 0.99, "user_impact": "the answer takes longer than a page view"},
    },
    "traffic": {"history": "worldcup98", "time_zone": "UTC"},
    "window": {"time_zone": "UTC", "starts_at_local": "02:00", "duration_min": 60, "threshold_rps": 30},
    "training": {"model": "m", "data": "d", "stages": [{"name": "train", "minutes_p50": 15, "minutes_p95": 20}]},
    "evaluation": {"gates": [{"metric": "log_loss", "role": "success"}]},
}  # fmt: skip


def main() -> None:
    """Play two scenarios with fourteen seeds each, once here and once on the cluster."""
    plan = Plan.model_validate(PLAN)
    load = Forecast(OPENS_AT - dt.timedelta(hours=1), 600, LEVELS, np.full((18, len(LEVELS)), 20.0))
    scenarios = [read_scenario(name) for name in ("as-forecast", "replica-lost")]
    here = simulate(plan, scenarios, load=load, opens_at=OPENS_AT, replications=14)
    with LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster, Client(cluster) as client:
        there = simulate(plan, scenarios, load=load, opens_at=OPENS_AT, replications=14, dask=client)
    same = [a.fingerprint == b.fingerprint for a, b in zip(here.trials, there.trials, strict=True)]
    print(f"{sum(same)} of {len(same)} nights have the same fingerprint")
    for found in judge(plan, there).scenarios:
        print(f"{found.scenario}: {found.answer.value}, p99 {found.p99_ms.value:.0f} ms, {found.reasons[0]}")


if __name__ == "__main__":
    main()
