"""Exact per-request queueing: one algorithm per file, arrays in, arrays out, draws passed in."""

from simulation.data_plane.fcfs import Outcome, QueueResult, serve_queue

__all__ = ["Outcome", "QueueResult", "serve_queue"]
