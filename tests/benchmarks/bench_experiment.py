"""
How long a whole experiment takes: nights of eight hours at 200 requests per second, under every ready scenario.

Run `PYTHONPATH=. python tests/benchmarks/bench_experiment.py --full` from the root of the repository, on a machine with
nothing else to do: 20 scenarios × 10 seeds, 1.15e9 requests, with verdict. Without `--full` one seed each is played.
"""

import argparse
import datetime as dt
import time

import numpy as np

from flows.domain.gates import judge_canary
from flows.domain.triggers import make_rules
from simulation.experiment import simulate
from simulation.plan import Plan
from simulation.scenario import read_scenario, ready_scenarios
from simulation.traffic.forecast import LEVELS, Forecast
from simulation.verdict import judge

OPENS_AT = dt.datetime(2026, 3, 10, 1, 0, tzinfo=dt.UTC)
HOURS, LOAD_RPS = 8, 200.0


def plan() -> Plan:
    """Return a pool of twelve servers at half its load, with timeouts, a retry, and triggers that look every 10 s."""
    return Plan.model_validate(
        {
            "name": "long-night",
            "serving": {
                "pool": "bench", "replicas": 3, "servers_per_replica": 4, "queue_limit": 500,
                "service_time": {"mean_ms": 30.0, "scv": 1.0, "distribution": "lognormal", "calibrated": True},
                "client": {"timeout_ms": 2000.0, "retries": 1, "backoff_ms": 100.0, "jitter_ratio": 0.5},
                "slo": {"latency_ms": 500.0, "good_ratio": 0.99, "user_impact": "the answer comes late"},
            },
            "traffic": {"history": "worldcup98", "time_zone": "UTC"},
            # Half an hour before and after it is played too: eight hours in all.
            "window": {"time_zone": "UTC", "starts_at_local": "01:00", "duration_min": 60 * (HOURS - 1),
                       "threshold_rps": 300.0},
            "training": {
                "model": "bench", "data": "bench",
                "stages": [{"name": "train", "minutes_p50": 120, "minutes_p95": 180, "pausable": True,
                            "serving_slowdown": 1.3, "checkpoint_every_min": 10}],
                "envelope": {"minutes": 400},
            },
            "triggers": [
                {"name": "pause-when-users-wait", "observe": "p99_ms", "above": 400.0, "clears_below": 250.0,
                 "for_s": 20, "clears_for_s": 120},
            ],
            "evaluation": {"gates": [{"metric": "log_loss", "role": "success"}]},
        }
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="10 seeds per scenario instead of 1")
    seeds = 10 if parser.parse_args().full else 1
    night = plan()
    loads = np.full((HOURS * 6 + 24, len(LEVELS)), LOAD_RPS)
    load = Forecast(OPENS_AT - dt.timedelta(hours=2), 600, LEVELS, loads)
    scenarios = [read_scenario(name) for name in ready_scenarios()]
    rules = make_rules(night.triggers)
    began = time.perf_counter()
    simulate(night, scenarios[:1], load=load, opens_at=OPENS_AT, rules=rules, replications=1)
    print(f"first night, kernels loaded with it: {time.perf_counter() - began:.1f} s")
    for threads in (1, 2):
        began, cpu = time.perf_counter(), time.process_time()
        experiment = simulate(
            night, scenarios, load=load, opens_at=OPENS_AT, rules=rules, step_rule=judge_canary,
            replications=seeds if threads == 2 else 1, threads=threads,
        )  # fmt: skip
        verdict = judge(night, experiment)
        took, used = time.perf_counter() - began, time.process_time() - cpu
        n = sum(sum(trial.offered_per_min) for trial in experiment.trials)
        print(
            f"{threads} thread(s): {len(experiment.trials)} nights, {n:.3e} requests in {took:.1f} s "
            f"({used:.1f} s of CPU, {1e9 * used / n:.0f} ns of CPU per request), verdict: {verdict.answer.value}"
        )


if __name__ == "__main__":
    main()
