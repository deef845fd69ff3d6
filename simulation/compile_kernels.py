"""
Compile the kernels now, so that nobody waits for it later: ``python -m simulation.compile_kernels``.

numba keeps what it compiled beside the sources, and compiles anew only what has changed. Without this the first night
that somebody simulates pays for it.
"""

import time

import numpy as np

from simulation import randomness
from simulation.data_plane.arrivals import MergedArrivals, PoissonArrivals
from simulation.data_plane.changing_capacity import CapacityStep, serve_schedule
from simulation.data_plane.fcfs import serve_queue
from simulation.data_plane.fluid_queue import fluid_line
from simulation.data_plane.histogram import LatencyHistogram
from simulation.data_plane.pool import ServingPool
from simulation.data_plane.pool_settings import Client, Distribution, PoolSettings, Version


def compile_all() -> float:
    """Call each compiled entry point once, in every form that is compiled apart; return the seconds that it took."""
    began = time.perf_counter()
    arrivals, services = np.arange(8.0), np.ones(8)
    for options in ({}, {"room": 1}, {"patience_s": 1.0}, {"room": 1, "patience_s": 1.0}):
        serve_queue(arrivals, services, 2, **options)
    serve_schedule(arrivals, services, [CapacityStep(0.0, 2), CapacityStep(3.0, 1, 2.0)])
    randomness.uniforms(1, [0], 0, 0)
    streams = [PoissonArrivals([0.0, 5.0], [2.0], 1, stream) for stream in (0, 1)]
    MergedArrivals(streams).take(100)
    LatencyHistogram.of(arrivals)
    steps = np.ones(4)
    fluid_line(steps, steps, steps, step_s=60.0, exceeds=np.zeros(2), timeout_s=1.0, retries=1)
    _play_pool()
    return time.perf_counter() - began


def _play_pool() -> None:
    """Play a pool through every kind of change."""
    settings = PoolSettings(
        service=Distribution("lognormal", 0.5, 1.0),
        versions=(Version(2, 1), Version(1, 1)),
        client=Client(timeout_s=1.0, retries=1, patience=Distribution("exponential", 1.0)),
        green_share=0.2,
    )
    pool = ServingPool(settings, seed=1, records=True, minute_latencies=True)
    look = pool.look()
    pool.offer(np.arange(40) / 8.0)
    pool.advance(1.0)
    pool.set_slowdown(2.0)
    pool.set_capacity(replicas=1, running_work="evict_and_requeue")
    pool.advance(3.0)
    pool.set_replica(0, up=False, running_work="fail")
    pool.advance(4.0)
    pool.set_replica(0, up=True, cold=True)
    look.take()
    pool.observe()
    pool.finish()
    pool.check_conservation()
    pool.fingerprint()
    apart = ServingPool(PoolSettings(Distribution("exponential", 1.0), (Version(2, 1),), routing="round_robin"), seed=1)
    apart.offer(np.zeros(8))
    apart.advance(0.5)
    apart.set_replica(1, up=False, running_work="fail")
    apart.finish()


if __name__ == "__main__":
    print(f"kernels are compiled ({compile_all():.0f} s)")
