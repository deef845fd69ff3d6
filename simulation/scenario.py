"""
Scenarios: what may go wrong in a night, as data.

A scenario is a name and a list of events; times are minutes after the window opens, factors multiply.
The ready ones stand in `simulation/scenarios/*.yaml`; `read_scenario` takes such a name or a file.
"""

from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from simulation.errors import InvalidScenario
from simulation.plan import NonNegative, Plan, Positive, Ratio, Section
from simulation.plan_file import read_section, read_small_text

Minutes = Annotated[float, Field(ge=-1440.0, le=2880.0)]


class Surge(Section):
    """More requests than forecast for a while; `factor` 3 means three times as many."""

    kind: Literal["surge"]
    at_min: Minutes
    minutes: Positive
    factor: Positive


class ReplicaLost(Section):
    """Replicas go away and come back; their running requests fail over, finish, or are lost."""

    kind: Literal["replica_lost"]
    at_min: Minutes
    minutes: Positive
    replicas: Annotated[int, Field(ge=1)] = 1
    running_work: Literal["drain", "evict_and_requeue", "hand_over"] = "evict_and_requeue"


class ZoneLost(Section):
    """All replicas of one zone go away at once and come back together; see `serving.zones`."""

    kind: Literal["zone_lost"]
    at_min: Minutes
    minutes: Positive
    zone: Annotated[int, Field(ge=0)] = 0
    running_work: Literal["evict_and_requeue", "hand_over", "fail"] = "fail"


class ReplicasFail(Section):
    """
    Every replica fails and is repaired at random, each on its own: exponential times to failure, lognormal repairs.

    The defaults were read off 23,739 node failures of 23 systems at Los Alamos, 1996 to 2005 (LA-UR-05-7318): the
    middling system lost a node every 7,500 node-hours; half of the repairs took up to an hour, 5 % over 625 minutes.
    """

    kind: Literal["replicas_fail"]
    mean_hours_between: Positive = 7500.0
    repair_min_p50: Positive = 60.0
    repair_min_p95: Positive = 625.0
    running_work: Literal["evict_and_requeue", "hand_over", "fail"] = "fail"

    @model_validator(mode="after")
    def _quantiles_in_order(self) -> Self:
        if self.repair_min_p95 < self.repair_min_p50:
            raise ValueError(f"repair_min_p95 {self.repair_min_p95:g} is below repair_min_p50 {self.repair_min_p50:g}")
        return self


class SlowReplica(Section):
    """One replica answers, but slowly: a failing disk, a noisy neighbour."""

    kind: Literal["slow_replica"]
    at_min: Minutes
    minutes: Positive
    replica: Annotated[int, Field(ge=0)] = 0
    factor: Annotated[float, Field(ge=1.0)]


class Maintenance(Section):
    """Replicas are drained, restarted and opened cold, one after the other: a rolling update of the pool."""

    kind: Literal["maintenance"]
    at_min: Minutes
    minutes_each: Positive
    replicas: Annotated[int, Field(ge=1)]


class SlowServing(Section):
    """Service takes longer for a while: a slow replica, a stalled dependency, a cold cache."""

    kind: Literal["slow_serving"]
    at_min: Minutes
    minutes: Positive
    factor: Annotated[float, Field(ge=1.0)]
    cause: Literal["slow_replica", "dependency_stall", "cold_cache", "backup"] = "dependency_stall"


class MoreData(Section):
    """The training data have grown: every stage takes `factor` times as long."""

    kind: Literal["more_data"]
    factor: Positive


class LateData(Section):
    """The data arrive late: the first stage cannot start before `minutes` after the window opens."""

    kind: Literal["late_data"]
    minutes: NonNegative


class StageFails(Section):
    """A stage dies part of the way and is tried again after a pause."""

    kind: Literal["stage_fails"]
    stage: str
    after_ratio: Ratio = 0.5
    times: Annotated[int, Field(ge=1, le=10)] = 1
    retry_after_min: NonNegative = 1.0


class WorkerKilled(Section):
    """The training process is killed and started again elsewhere; it goes on from its last checkpoint."""

    kind: Literal["worker_killed"]
    at_min: Minutes
    restart_after_min: NonNegative = 2.0


class PriceSpike(Section):
    """Machines cost `factor` times as much for a while; it changes the night's cost and nothing else."""

    kind: Literal["price_spike"]
    at_min: Minutes
    minutes: Positive
    factor: Positive


class ClientsRetry(Section):
    """Callers behave worse than the plan says: shorter patience, more and quicker retries."""

    kind: Literal["clients_retry"]
    timeout_ms: Positive
    retries: Annotated[int, Field(ge=1, le=20)]
    backoff_ms: NonNegative = 0.0


class BadModel(Section):
    """The promoted model answers slower or with errors until it is rolled back."""

    kind: Literal["bad_model"]
    slowdown: Annotated[float, Field(ge=1.0)] = 1.0
    error_ratio: Ratio = 0.0
    noticed_after_min: Positive = 5.0


Event = Annotated[
    Surge
    | ReplicaLost
    | ZoneLost
    | ReplicasFail
    | SlowReplica
    | Maintenance
    | SlowServing
    | MoreData
    | LateData
    | StageFails
    | WorkerKilled
    | PriceSpike
    | ClientsRetry
    | BadModel,
    Field(discriminator="kind"),
]


class Scenario(Section):
    """A named list of events; with none it is the night as forecast."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[a-z0-9][a-z0-9-]*$")]
    question: Annotated[str, Field(min_length=1, description="what the planner wants to know")]
    events: tuple[Event, ...] = ()

    def check_against(self, plan: Plan) -> None:
        """Raise `InvalidScenario` if an event names a part that the plan does not have."""
        stages = [stage.name for stage in plan.training.stages]
        for i, event in enumerate(self.events):
            place = f"scenario {self.name}: events[{i}]"
            if isinstance(event, StageFails) and event.stage not in stages:
                raise InvalidScenario(
                    f"{place}.stage: the plan has no stage {event.stage!r}; it has {', '.join(stages)}"
                )
            n = plan.serving.replicas
            if isinstance(event, ReplicaLost | Maintenance) and event.replicas > n:
                raise InvalidScenario(
                    f"{place}.replicas: {event.replicas} replicas cannot be lost of {n}; lower the number"
                )
            if isinstance(event, SlowReplica) and event.replica >= n:
                raise InvalidScenario(
                    f"{place}.replica: the plan has no replica {event.replica}; it has replicas 0 to {n - 1}"
                )
            if isinstance(event, ZoneLost) and event.zone >= plan.serving.zones:
                raise InvalidScenario(
                    f"{place}.zone: the plan has no zone {event.zone}; serving.zones is {plan.serving.zones}"
                )
            if isinstance(event, Surge) and event.factor < 1:
                raise InvalidScenario(f"{place}.factor: {event.factor:g} is below 1; a surge adds requests")


def ready_scenarios() -> tuple[str, ...]:
    """Return the names of the scenarios that come with Lull, in alphabetical order."""
    folder = resources.files("simulation") / "scenarios"
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def read_scenario(name_or_path: str | Path) -> Scenario:
    """
    Return the scenario of that ready name, or in that YAML file.

    Raises
    ------
    InvalidScenario
        If there is no such scenario, or the file does not describe one.
    """
    if str(name_or_path) in ready_scenarios():
        text = (resources.files("simulation") / "scenarios" / f"{name_or_path}.yaml").read_text(encoding="utf-8")
        return read_section(text, Scenario, place=f"scenario {name_or_path}", error=InvalidScenario)
    path = Path(name_or_path)
    if not path.is_file():
        raise InvalidScenario(
            f"no scenario is called {str(name_or_path)!r} and there is no such file; "
            f"ready ones are {', '.join(ready_scenarios())}"
        )
    return read_section(read_small_text(path, InvalidScenario), Scenario, place=str(path), error=InvalidScenario)
