"""A night as numbers per step: load, servers, slowdown, and who calls. Start at `ServingNight` and `night_of`."""

import datetime as dt
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulation.data_plane.pool_settings import Distribution
from simulation.errors import InvalidPlan, InvalidWorkload
from simulation.plan import Plan
from simulation.planning.retry_feedback import Callers
from simulation.traffic.forecast import Forecast

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

STEP_S = 60.0
TAIL_MIN = 30.0  # looked at after the window closes, as the simulated night is


@dataclass(frozen=True)
class ServingNight:
    """
    What a pool goes through: load and capacity per step, and who calls.

    Attributes
    ----------
    step_s : > 0 seconds
    load_rps : shape (n,), first attempts per second, >= 0
    servers : shape (n,), requests worked on at once, >= 0
    slowdown : shape (n,), factor on service times, > 0
    callers : clients, services, queue limit
    """

    step_s: float
    load_rps: FloatArray
    servers: IntArray
    slowdown: FloatArray
    callers: Callers

    def __post_init__(self) -> None:
        n = self.load_rps.shape
        if len(n) != 1 or not n[0] or self.servers.shape != n or self.slowdown.shape != n:
            raise InvalidWorkload(
                f"load_rps {n}, servers {self.servers.shape} and slowdown {self.slowdown.shape}; give one per step each"
            )
        if not 0.0 < self.step_s < np.inf:
            raise InvalidWorkload(f"step_s is {self.step_s!r}; give seconds above 0")
        for name, least in (("load_rps", 0.0), ("servers", 0), ("slowdown", 1e-9)):
            array = getattr(self, name)
            is_good = (array >= least) & (array < np.inf)
            if not is_good.all():
                at = int(np.argmin(is_good))
                raise InvalidWorkload(f"{name}[{at}] is {array[at]:g}; give finite numbers from {least:g} on")

    @classmethod
    def of(
        cls, step_s: float, load_rps: ArrayLike, servers: ArrayLike, callers: Callers, slowdown: ArrayLike = 1.0
    ) -> "ServingNight":
        """Return the night in which numbers stand for as many equal steps as the longest of the arrays has."""
        load, many, slow = np.broadcast_arrays(
            np.asarray(load_rps, np.float64), np.asarray(servers, np.int64), np.asarray(slowdown, np.float64)
        )
        return cls(step_s, load.copy(), many.copy(), slow.copy(), callers)

    @property
    def end_s(self) -> float:
        """When the last step ends."""
        return float(self.step_s * self.load_rps.shape[0])

    @property
    def capacity_rps(self) -> FloatArray:
        """Requests per second that can be served, shape (n,)."""
        return np.asarray(self.servers / (self.callers.service.mean_s * self.slowdown), np.float64)

    @property
    def starts_s(self) -> FloatArray:
        """When each step begins, shape (n,)."""
        return np.asarray(self.step_s * np.arange(self.load_rps.shape[0]), np.float64)

    def refined(self, parts: int) -> "ServingNight":
        """Return the same night in steps of a ``parts``-th of the length."""
        return replace(
            self,
            step_s=self.step_s / parts,
            load_rps=np.repeat(self.load_rps, parts),
            servers=np.repeat(self.servers, parts),
            slowdown=np.repeat(self.slowdown, parts),
        )

    def without_training_from(self, stop_s: float, slowdown: float = 1.0) -> "ServingNight":
        """Return the night with training stopped at that second: services as slow as ``slowdown`` from then on."""
        return replace(self, slowdown=np.where(self.starts_s >= stop_s, slowdown, self.slowdown))


@dataclass(frozen=True)
class Surge:
    """More requests for a while: ``factor`` times the load on [at_s, at_s + length_s)."""

    at_s: float
    length_s: float
    factor: float

    def __post_init__(self) -> None:
        if not (0.0 <= self.at_s < np.inf and 0.0 < self.length_s < np.inf and 1.0 <= self.factor < np.inf):
            raise InvalidWorkload(f"{self}: at_s is 0 or more, length_s above 0, factor 1 or more")

    def factors(self, night: ServingNight) -> FloatArray:
        """Return the factor on the load of each step, shape (n,): shared out where a step is touched in part."""
        starts = night.starts_s
        inside = np.minimum(starts + night.step_s, self.at_s + self.length_s) - np.maximum(starts, self.at_s)
        return np.asarray(1.0 + (self.factor - 1.0) * np.clip(inside, 0.0, None) / night.step_s, np.float64)


def callers_of(plan: Plan) -> Callers:
    """Return what of the plan decides about retries."""
    client, service = plan.serving.client, plan.serving.service_time
    return Callers(
        service=Distribution(service.distribution, service.mean_ms / 1000.0, service.scv),
        timeout_s=None if client.timeout_ms is None else client.timeout_ms / 1000.0,
        retries=client.retries,
        budget_ratio=client.retry_budget_ratio,
        queue_limit=plan.serving.queue_limit,
        backoff_s=client.backoff_ms / 1000.0,
        jitter_ratio=client.jitter_ratio,
    )


def training_slowdown(plan: Plan, times_s: FloatArray) -> FloatArray:
    """
    Return the factor on service times at each moment since the opening, shape as `times_s`.

    A stage may be running from when the ones before it are done in half of all nights to when it is done in 95 of 100;
    where two may be, the slower counts.
    """
    slowdown = np.ones(times_s.shape)
    earliest = latest = 0.0
    for stage in plan.training.stages:
        latest += 60.0 * stage.minutes_p95
        may_run = (times_s + STEP_S > earliest) & (times_s < latest)
        slowdown[may_run] = np.maximum(slowdown[may_run], stage.serving_slowdown)
        earliest += 60.0 * stage.minutes_p50
    return slowdown


def night_of(
    plan: Plan, forecast: Forecast, opens_at: dt.datetime, *, level: float = 0.95, lost_replicas: int = 0
) -> ServingNight:
    """
    Return the night as the pool will have it: load of that quantile, and capacity beside training, per minute.

    Raises
    ------
    InvalidPlan
        If the forecast does not cover the window and half an hour after it, or no replica is left.
    InvalidHistory
        If the level was not forecast.
    """
    n = int(np.ceil(plan.window.duration_min + TAIL_MIN))
    times_s = np.asarray(STEP_S * np.arange(n), np.float64)
    place = np.floor(((opens_at - forecast.start).total_seconds() + times_s) / forecast.step_s).astype(np.int64)
    known = forecast.at(level)
    if place[0] < 0 or place[-1] >= len(known) or not np.isfinite(known[place]).all():
        raise InvalidPlan(
            f"the forecast from {forecast.start:%Y-%m-%d %H:%M} to {forecast.end:%Y-%m-%d %H:%M} UTC does not cover "
            f"{opens_at:%Y-%m-%d %H:%M} and {n} minutes after it; choose an opening inside it"
        )
    if not 0 <= lost_replicas < plan.serving.replicas:
        raise InvalidPlan(f"lost_replicas {lost_replicas}: of {plan.serving.replicas} replicas one must be left")
    servers = (plan.serving.replicas - lost_replicas) * plan.serving.servers_per_replica
    return ServingNight.of(STEP_S, known[place], servers, callers_of(plan), training_slowdown(plan, times_s))
