"""
One night under SimPy: traffic, the training job, faults, the controller, and a model switch at the end.

Start at `simulate_trial`. SimPy decides what changes and when; between two changes the data plane plays every request.
At one instant, requests that end come first, then what SimPy scheduled first: faults, training, controller.
"""

import datetime as dt
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy
from scipy.stats import norm

from simulation.data_plane.retrial_kernel import M_BAD, M_DONE, M_OFFERED, M_QUEUE_MAX
from simulation.data_plane.retrial_pool import Overloaded, RetrialPool, histogram_quantile
from simulation.errors import InvalidScenario
from simulation.plan import Client, Plan, Stage
from simulation.result import Trial
from simulation.rules import Action, Observation, Rules
from simulation.scenario import (
    BadModel,
    ClientsRetry,
    LateData,
    MoreData,
    ReplicaLost,
    Scenario,
    SlowServing,
    StageFails,
    Surge,
)
from simulation.traffic.forecast import Forecast
from simulation.traffic.history import FloatArray

LEAD_S = 1800.0  # played before the window opens, so that the queue is in its true state by then
TAIL_S = 1800.0  # judged after it closes: a night that leaves a backlog has not ended well
LOOK_S = 10.0  # the controller sees the last ten seconds, ten seconds late
_Z95 = 1.6448536269514722
SimEvents = Generator[simpy.Event, Any, None]


@dataclass
class _Job:
    """What the training job is doing; changed by its own process and by the controller only."""

    stage: str | None = None
    is_paused: bool = False
    is_stopped: bool = False
    finished_s: float = float("nan")
    paused_s: float = 0.0
    steps: list[tuple[float, float, str]] = field(default_factory=list)  # begin, end, stage


class Night:
    """The SimPy world of one trial; `run` plays it and returns the `Trial`."""

    def __init__(self, plan: Plan, scenario: Scenario, load: Forecast, opens_at: dt.datetime, seed: int, rules: Rules):
        scenario.check_against(plan)
        self.plan, self.scenario, self.seed, self.rules = plan, scenario, seed, rules
        self.window_s = plan.window.duration_min * 60
        self.end_s = LEAD_S + self.window_s + TAIL_S
        begin = opens_at - dt.timedelta(seconds=LEAD_S)
        end = begin + dt.timedelta(seconds=self.end_s)
        step = dt.timedelta(seconds=load.step_s)
        first = load.start + (begin - load.start) // step * step  # the step that holds the beginning
        self.load = load.between(first, end)
        if begin < load.start or load.end < end or not np.isfinite(self.load.load_rps).all():
            raise InvalidScenario(
                f"the forecast from {load.start:%Y-%m-%d %H:%M} to {load.end:%Y-%m-%d %H:%M} UTC does not cover "
                f"the night around {opens_at:%Y-%m-%d %H:%M} UTC; choose an opening inside it"
            )
        places = np.arange(len(self.load.load_rps) + 1, dtype=np.float64)
        self.edges_s: FloatArray = (first - begin).total_seconds() + places * load.step_s
        client = plan.serving.client
        for event in scenario.events:
            if isinstance(event, ClientsRetry):
                client = Client(timeout_ms=event.timeout_ms, retries=event.retries, backoff_ms=event.backoff_ms)
        self.pool = RetrialPool(
            servers=plan.serving.servers,
            service=plan.serving.service_time,
            client=client,
            queue_limit=plan.serving.queue_limit,
            slo_s=plan.serving.slo.latency_ms / 1000,
            seed=seed,
            n_minutes=int(self.end_s // 60) + 1,
        )
        self.env = simpy.Environment()
        self.job = _Job()
        self.slowdowns: dict[str, float] = {}
        self.events: list[tuple[float, str]] = []
        self.lost_replicas = 0
        self._seen_histogram = self.pool.histogram.copy()
        self._seen = self.pool.counts()
        self._seen_failed = 0
        self._at_open = self.pool.histogram.copy()

    def run(self) -> Trial:
        """Play the night to its end."""
        self.pool.offer(self._arrivals())
        for event in self.scenario.events:
            self._add_fault(event)
        self.env.process(self._training())
        self.env.process(self._controller())
        overloaded = False
        try:
            self.env.run(until=self.end_s)
            self.pool.advance(self.end_s)
        except Overloaded as problem:
            overloaded = True
            self._note(str(problem))
        return self._trial(overloaded)

    # Traffic ---------------------------------------------------------------------------------------------------

    def _arrivals(self) -> FloatArray:
        """Draw the night's load from the forecast, then Poisson arrivals from the load; surges are added streams."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed, 1]))
        n = len(self.load.load_rps)
        # One factor for the whole night and one that wanders: forecast errors hang together in time.
        night, noise = rng.standard_normal(), rng.standard_normal(n)
        wander = np.empty(n)
        wander[0] = noise[0]
        for i in range(1, n):
            wander[i] = 0.9 * wander[i - 1] + np.sqrt(1 - 0.81) * noise[i]
        levels = norm.cdf(0.8 * night + 0.6 * wander)
        path = [np.interp(u, self.load.levels, row) for u, row in zip(levels, self.load.load_rps, strict=True)]
        rates = np.array(path)
        arrivals = [_poisson(rng, rates, self.edges_s, 0.0, self.end_s)]
        for j, event in enumerate(self.scenario.events):
            if isinstance(event, Surge):
                if event.factor < 1:
                    raise InvalidScenario(
                        f"scenario {self.scenario.name}: events[{j}].factor {event.factor:g} is below 1"
                    )
                extra = np.random.Generator(np.random.Philox(key=[self.seed, 100 + j]))
                begin, end = _span_s(event)
                more = _poisson(extra, rates * (event.factor - 1), self.edges_s, begin, min(end, self.end_s))
                arrivals.append(more)
        return np.sort(np.concatenate(arrivals))

    # Faults ----------------------------------------------------------------------------------------------------

    def _add_fault(self, event: Any) -> None:
        if isinstance(event, ReplicaLost | SlowServing) and _span_s(event)[1] <= 0:
            return  # over before the play begins
        if isinstance(event, ReplicaLost):
            self.env.process(self._lose_replicas(event))
        elif isinstance(event, SlowServing):
            self.env.process(self._slow(event))

    def _lose_replicas(self, event: ReplicaLost) -> SimEvents:
        begin, end = _span_s(event)
        yield self.env.timeout(begin)
        self._change_replicas(event.replicas, event.running_work)
        self._note(f"{event.replicas} replica(s) lost, running work: {event.running_work}")
        yield self.env.timeout(end - begin)
        self._change_replicas(-event.replicas, "drain")
        self._note(f"{event.replicas} replica(s) back")

    def _change_replicas(self, lost: int, running_work: Any) -> None:
        self.lost_replicas += lost
        serving = self.plan.serving
        self.pool.advance(self.env.now)
        self.pool.set_servers(max(0, serving.replicas - self.lost_replicas) * serving.servers_per_replica, running_work)

    def _slow(self, event: SlowServing) -> SimEvents:
        begin, end = _span_s(event)
        yield self.env.timeout(begin)
        self._set_slowdown(event.cause, event.factor)
        self._note(f"serving {event.factor:g} times slower: {event.cause.replace('_', ' ')}")
        yield self.env.timeout(end - begin)
        self._set_slowdown(event.cause, 1.0)
        self._note(f"serving recovers: {event.cause.replace('_', ' ')}")

    def _set_slowdown(self, cause: str, factor: float) -> None:
        self.slowdowns[cause] = factor
        self.pool.advance(self.env.now)
        self.pool.set_slowdown(float(np.prod(list(self.slowdowns.values()))))

    # Training --------------------------------------------------------------------------------------------------

    def _training(self) -> SimEvents:
        """Run the stages inside the window; nothing starts after its cutoff."""
        late = sum(event.minutes for event in self.scenario.events if isinstance(event, LateData))
        factor = float(np.prod([e.factor for e in self.scenario.events if isinstance(e, MoreData)]))
        yield self.env.timeout(LEAD_S + late * 60)
        for index, stage in enumerate(self.plan.training.stages):
            if not self._may_start(index):
                return
            work = _duration_s(stage, self.seed, index) * factor
            failures = [e for e in self.scenario.events if isinstance(e, StageFails) and e.stage == stage.name]
            for failure in failures:
                for n in range(failure.times):
                    yield from self._work(stage, work * failure.after_ratio)
                    self._note(f"{stage.name} failed at {failure.after_ratio:.0%}")
                    if n >= stage.retries or self.job.is_stopped:
                        self._note(f"{stage.name} given up after {n + 1} attempt(s)")
                        return
                    yield self.env.timeout(failure.retry_after_min * 60)
                    if not self._may_start(index):  # another attempt is another start
                        return
            yield from self._work(stage, work)
            if self.job.is_stopped:
                return
        self.job.finished_s = self.env.now
        self._note("training done")
        yield from self._promote()

    def _may_start(self, index: int) -> bool:
        late_s = self.env.now - self._cutoff_s(index)
        if late_s > 0:
            self._note(f"{self.plan.training.stages[index].name} not started: {late_s:,.0f} s after its cutoff")
        return late_s <= 0

    def _cutoff_s(self, index: int) -> float:
        """The last moment stage `index` may start: the window's end less p95 of what is left and the reserve."""
        left = sum(stage.minutes_p95 for stage in self.plan.training.stages[index:])
        return LEAD_S + self.window_s - 60 * (left + self.plan.window.rollback_reserve_min)

    def _work(self, stage: Stage, seconds: float) -> SimEvents:
        """Spend `seconds` of work on a stage, in looks of the controller, standing still while paused."""
        left, begun = seconds, self.env.now
        self.job.stage = stage.name
        while left > 0 and not self.job.is_stopped:
            paused = self.job.is_paused and stage.pausable
            self._set_slowdown("training", 1.0 if paused else stage.serving_slowdown)
            span = LOOK_S if paused else min(LOOK_S, left)
            yield self.env.timeout(span)
            if paused:
                self.job.paused_s += span
            else:
                left -= span
        self.job.steps.append((begun, self.env.now, stage.name))
        self.job.stage = None
        self._set_slowdown("training", 1.0)

    def _promote(self) -> SimEvents:
        """Switch to the new model; a bad one is noticed and taken back."""
        for event in self.scenario.events:
            if isinstance(event, BadModel):
                self._set_slowdown("bad model", event.slowdown)
                self.pool.set_error_ratio(event.error_ratio)
                self._note("the new model goes live, and is bad")
                yield self.env.timeout(event.noticed_after_min * 60)
                self._set_slowdown("bad model", 1.0)
                self.pool.set_error_ratio(0.0)
                self._note("rolled back to the old model")

    # Control ---------------------------------------------------------------------------------------------------

    def _controller(self) -> SimEvents:
        """Let the rules judge what a real controller could have seen: the span before the last one."""
        memory: Any = None
        yield self.env.timeout(LEAD_S)
        self.pool.advance(self.env.now)
        self._at_open = self.pool.histogram.copy()
        self._observe()
        pending = None
        while True:
            yield self.env.timeout(LOOK_S)
            self.pool.advance(self.env.now)
            seen, pending = pending, self._observe()
            if seen is None:
                continue
            decision, memory = self.rules(seen, memory)
            self._obey(decision.action, decision.reason)

    def _obey(self, action: Action, reason: str) -> None:
        if action is Action.PAUSE and not self.job.is_paused:
            self.job.is_paused = True
            self._note(f"pause: {reason}")
        elif action is Action.CONTINUE and self.job.is_paused:
            self.job.is_paused = False
            self._note(f"continue: {reason}")
        elif action is Action.STOP and not self.job.is_stopped:
            self.job.is_stopped = True
            self._note(f"stop: {reason}")

    def _observe(self) -> Observation:
        counts, histogram = self.pool.counts(), self.pool.histogram
        fresh = histogram - self._seen_histogram
        before = self._seen
        failed = counts.rejected + counts.timed_out + counts.failed
        n_failed = failed - self._seen_failed
        n = counts.served - before.served + n_failed
        n_good = counts.good - before.good
        self._seen, self._seen_histogram, self._seen_failed = counts, histogram.copy(), failed
        return Observation(
            at_s=self.env.now - LEAD_S,
            span_s=LOOK_S,
            n_finished=n,
            load_rps=(counts.offered - before.offered) / LOOK_S,
            p50_ms=1000 * histogram_quantile(fresh, 0.5),
            p99_ms=1000 * histogram_quantile(fresh, 0.99),
            bad_ratio=(n - n_good) / n if n else 0.0,
            error_ratio=n_failed / n if n else 0.0,
            queue_length=float(self.pool.queue_length),
            is_training=self.job.stage is not None,
            is_paused=self.job.is_paused,
            seconds_to_cutoff=LEAD_S + self.window_s - self.env.now,
        )

    # Result ----------------------------------------------------------------------------------------------------

    def _note(self, text: str) -> None:
        self.events.append(((self.env.now - LEAD_S) / 60, text))

    def _trial(self, overloaded: bool) -> Trial:
        counts, minutes = self.pool.counts(), self.pool.minutes
        judged = minutes[int(LEAD_S // 60) :]
        n, n_bad = int(judged[:, M_DONE].sum()), int(judged[:, M_BAD].sum())
        judged_histogram = self.pool.histogram - self._at_open
        deadline = LEAD_S + self.window_s - 60 * self.plan.window.rollback_reserve_min
        quantiles = [1000 * histogram_quantile(judged_histogram, q) for q in (0.5, 0.95, 0.99, 0.999)]
        good_ratio = 1 - n_bad / n if n else float("nan")
        return Trial(
            scenario=self.scenario.name,
            seed=self.seed,
            n_requests=n,
            n_bad=n_bad,
            is_breach=overloaded or n_bad > (1 - self.plan.serving.slo.good_ratio) * n,
            good_ratio=good_ratio,
            p50_ms=quantiles[0], p95_ms=quantiles[1], p99_ms=quantiles[2], p999_ms=quantiles[3],
            has_finished=bool(self.job.finished_s <= deadline),
            finish_min=(self.job.finished_s - LEAD_S) / 60,
            paused_min=self.job.paused_s / 60,
            max_queue=int(minutes[:, M_QUEUE_MAX].max()),
            is_overloaded=overloaded,
            in_flight=counts.in_flight,
            offered_per_min=tuple(minutes[:, M_OFFERED].astype(int).tolist()),
            bad_per_min=tuple(minutes[:, M_BAD].astype(int).tolist()),
            queue_per_min=tuple(minutes[:, M_QUEUE_MAX].astype(int).tolist()),
            steps=tuple(((a - LEAD_S) / 60, (b - LEAD_S) / 60, name) for a, b, name in self.job.steps),
            events=tuple(self.events),
            fingerprint=self.pool.fingerprint(),
        )  # fmt: skip


def simulate_trial(
    plan: Plan, scenario: Scenario, load: Forecast, opens_at: dt.datetime, seed: int, rules: Rules
) -> Trial:
    """
    Play one night of `plan` under `scenario` with one seed.

    Parameters
    ----------
    load : forecast, requests per second, of the traffic that the pool serves; it must cover the night
    opens_at : UTC, when the window opens
    seed : 0 or more; the same seed gives the same bytes, and the same traffic to every plan
    rules : what the controller decides, see `simulation.rules`

    Raises
    ------
    InvalidScenario
        If the scenario names a part that the plan lacks, or the forecast does not cover the night.
    """
    return Night(plan, scenario, load, opens_at, seed, rules).run()


def _span_s(event: Surge | ReplicaLost | SlowServing) -> tuple[float, float]:
    """Return when an event begins and ends, in seconds of the play; what began earlier begins with it."""
    begin = LEAD_S + event.at_min * 60
    return max(0.0, begin), begin + event.minutes * 60


def _poisson(
    rng: np.random.Generator, rates: FloatArray, edges_s: FloatArray, begin_s: float, end_s: float
) -> FloatArray:
    """Return arrivals of a Poisson process with a rate between each two edges, in [begin_s, end_s), in order."""
    lengths = np.clip(np.minimum(edges_s[1:], end_s) - np.maximum(edges_s[:-1], begin_s), 0.0, None)
    counts = rng.poisson(rates * lengths)
    starts = np.repeat(np.maximum(edges_s[:-1], begin_s), counts)
    return np.sort(starts + rng.random(int(counts.sum())) * np.repeat(lengths, counts))


def _duration_s(stage: Stage, seed: int, index: int) -> float:
    """Draw a stage's length from the lognormal that has its p50 and p95."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 10_000 + index]))
    sigma = np.log(stage.minutes_p95 / stage.minutes_p50) / _Z95
    return float(60 * stage.minutes_p50 * np.exp(sigma * rng.standard_normal()))
