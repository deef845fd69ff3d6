"""
What all processes of a simulated night share: the clock, the pool, and the order of what happens at one instant.

Start at `Rank`. Requests that end by an instant come first (the pool is played up to it), then what SimPy decides, in
the order of the ranks and within one rank in the order in which it was scheduled; what a change lets start or leave
at that instant follows, in the order that `simulation.data_plane.pool_kernel` gives.
"""

import math
from collections.abc import Generator, Iterable
from enum import IntEnum
from typing import Any

import numpy as np
import simpy

from simulation.control_plane.traffic import Arrivals
from simulation.data_plane.pool import Overloaded, ServingPool
from simulation.data_plane.pool_settings import BLUE, PoolSettings, RunningWork

SimEvents = Generator[simpy.Event, Any, Any]
Replica = tuple[int, int]  # version and number

# Arrivals are handed to the pool in pieces of this length: long enough to cost nothing, short enough to stay in cache.
_PIECE_S = 120.0


class Rank(IntEnum):
    """
    Who goes first at one instant: what breaks, then who adds or removes machines, then the training job, then the
    rollout, and last the controller, who sees the instant's changes in nothing but later answers.
    """

    FAULT = 2
    SCALING = 3
    TRAINING = 4
    ROLLOUT = 5
    CONTROLLER = 6


class Moment(simpy.Event):
    """An event after a delay, in seconds, that keeps its rank among the events of its instant."""

    def __init__(self, env: simpy.Environment, delay_s: float, rank: Rank):
        super().__init__(env)
        self._ok = True
        self._value = None
        env.schedule(self, priority=rank, delay=delay_s)  # type: ignore[arg-type]  # any whole number orders


class World:
    """
    The clock, the pool and its arrivals, and the notes of one night.

    Parameters
    ----------
    lead_s : when the window opens, in seconds of the play
    """

    def __init__(self, settings: PoolSettings, seed: int, arrivals: Arrivals, lead_s: float):
        self.env = simpy.Environment()
        self.pool = ServingPool(settings, seed)
        self.settings, self.seed, self.lead_s = settings, seed, lead_s
        self.notes: list[tuple[float, str]] = []
        self.capacity_steps: list[tuple[float, float]] = []  # minute, requests per second at nominal service
        self._arrivals, self._offered_until_s = arrivals, 0.0
        self._slowdowns: list[dict[str, float]] = [{} for _ in settings.versions]
        self._down: dict[tuple[int, int], set[str]] = {}
        self.live = BLUE  # the version whose replicas faults and the autoscaler mean
        self._replica_slowdown: dict[tuple[int, int], float] = {}
        self._replicas = [version.replicas for version in settings.versions]
        self._spans: list[tuple[float, int]] = [(self.minute, sum(self._replicas))]  # since when, replicas paid for
        self.note_capacity()

    @property
    def now_s(self) -> float:
        """Seconds since the play began."""
        return float(self.env.now)

    @property
    def minute(self) -> float:
        """Minutes since the window opened; negative before."""
        return (self.now_s - self.lead_s) / 60

    def after(self, delay_s: float, rank: Rank) -> simpy.Event:
        """Return the event that comes in so many seconds, in its rank."""
        return Moment(self.env, delay_s, rank)

    def note(self, text: str) -> None:
        """Write down what happens now."""
        self.notes.append((self.minute, text))

    def play(self, until_s: float | None = None) -> None:
        """
        Play every request before `until_s` (now, if None).

        Raises
        ------
        Overloaded
            If more is inside than the pool can ever finish.
        """
        end_s = self.now_s if until_s is None else until_s
        while self._offered_until_s < end_s:
            self._offered_until_s = max(end_s, self._offered_until_s + _PIECE_S)
            self.pool.offer(self._arrivals.until(self._offered_until_s))
        self.pool.advance(end_s)
        if self.pool.overloaded_at_s is not None:
            at_min = (self.pool.overloaded_at_s - self.lead_s) / 60
            raise Overloaded(
                f"overloaded at minute {at_min:,.1f}: over {self.settings.max_in_system:,} attempts are inside, "
                "and more come than can leave"
            )

    # Capacity ----------------------------------------------------------------------------------------------------

    def replicas(self, version: int) -> int:
        """Return how many replicas a version has, broken ones included."""
        return self._replicas[version]

    def set_replicas(self, n: int, *, version: int) -> None:
        """Open replicas of a version now, cold, or close and drain those with the highest numbers."""
        self.play()
        self._replicas[version] = n
        self._spans.append((self.minute, sum(self._replicas)))
        self.pool.set_capacity(version=version, replicas=n, running_work="drain", cold=True)
        self.note_capacity()

    def take_down(self, replicas: Iterable[Replica], cause: str, running_work: RunningWork) -> None:
        """Take replicas down now; one that is down for two causes comes back when both are over."""
        self.play()
        for version, number in replicas:
            self._down.setdefault((version, number), set()).add(cause)
            self.pool.set_replica(number, version=version, up=False, running_work=running_work)
        self.note_capacity()

    def bring_back(self, replicas: Iterable[Replica], cause: str) -> None:
        """Open replicas again, cold, unless another cause still holds them down."""
        self.play()
        for version, number in replicas:
            causes = self._down[(version, number)]
            causes.discard(cause)
            if not causes:
                self.pool.set_replica(number, version=version, up=True, cold=True)
        self.note_capacity()

    def replica_spans(self, until_min: float) -> list[tuple[float, float, int]]:
        """Return from when to when how many replicas were paid for, from the opening to `until_min`."""
        ends = [minute for minute, _ in self._spans[1:]] + [math.inf]
        return [
            (max(0.0, begin), min(until_min, end), replicas)
            for (begin, replicas), end in zip(self._spans, ends, strict=True)
            if end > 0.0 and begin < until_min
        ]

    def replicas_up(self, version: int) -> list[Replica]:
        """Return the replicas of a version that take requests."""
        return [(version, n) for n in range(self._replicas[version]) if not self._down.get((version, n))]

    def slow(self, cause: str, factor: float, *, versions: Iterable[int] | None = None) -> None:
        """Let a cause make service take `factor` times as long from now on; causes multiply, 1 ends one."""
        chosen = range(len(self._slowdowns)) if versions is None else versions
        changed = [v for v in chosen if self._slowdowns[v].get(cause, 1.0) != factor]
        if not changed:
            return
        self.play()
        for version in changed:
            self._slowdowns[version][cause] = factor
            self.pool.set_slowdown(float(np.prod(list(self._slowdowns[version].values()))), version=version)
        self.note_capacity()

    def slow_replica(self, replica: Replica, factor: float) -> None:
        """Let one replica take `factor` times as long from now on."""
        version, number = replica
        self.play()
        self.pool.set_replica(number, version=version, slowdown=factor)
        self._replica_slowdown[replica] = factor
        self.note_capacity()

    def note_capacity(self) -> None:
        """Write down the requests per second that the open replicas can finish from now on."""
        rps = 0.0
        for version, settings in enumerate(self.settings.versions):
            factor = float(np.prod(list(self._slowdowns[version].values())))
            paces = sum(1.0 / self._replica_slowdown.get(replica, 1.0) for replica in self.replicas_up(version))
            rps += paces * settings.servers_per_replica / (self.settings.service.mean_s * factor)
        if not self.capacity_steps or self.capacity_steps[-1][1] != rps:
            self.capacity_steps.append((self.minute, rps))
