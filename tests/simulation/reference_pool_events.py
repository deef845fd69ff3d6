"""
The events of the serving pool in plain Python: one object per attempt, every next event searched for from scratch.

Start in `reference_pool`, which adds what the control plane does.
"""

import math
from collections import Counter
from typing import Any

from tests.simulation import reference_draws as draws

INF = math.inf
TICK = 2**20
SIGNED_BY = {"timeout": "timed_out", "rejection": "rejected", "error": "failed"}


class Attempt:
    """One attempt of one request."""

    def __init__(self, request: "Request", number: int) -> None:
        self.request, self.number = request, number
        self.has_client, self.stage = True, "new"
        self.arrived_s = self.deadline_s = self.leaves_s = self.started_s = INF
        self.version, self.restarts, self.generation = 0, 0, -1
        self.work_s: float | None = None
        self.cold = 1.0
        self.server: Server | None = None
        self.queue: Queue | None = None


class Request:
    """What was offered, and how it ended."""

    def __init__(
        self, number: int, at_s: float, service_s: float, priority: int, patience_s: float, version: int
    ) -> None:
        self.number, self.at_s, self.priority, self.forced = number, at_s, priority, version
        self.service_s = None if math.isnan(service_s) else service_s
        self.patience_s = None if math.isnan(patience_s) else patience_s
        self.outcome, self.attempts, self.version, self.start_s, self.end_s = "in_flight", 0, 0, math.nan, math.nan


class Queue:
    """Waiting lines by class, and the idle servers, longest idle first."""

    def __init__(self, classes: int) -> None:
        self.lines: list[list[Attempt]] = [[] for _ in range(classes)]
        self.idle: list[Server] = []
        self.busy = 0

    def __len__(self) -> int:
        return sum(len(line) for line in self.lines)


class Server:
    """One place to work at."""

    def __init__(self, number: int, replica: "Replica") -> None:
        self.number, self.replica = number, replica
        self.attempt: Attempt | None = None
        self.finish_s = INF
        self.is_retired = True


class Replica:
    """Some servers of one version."""

    def __init__(self, version: int, number: int, queue: Queue) -> None:
        self.version, self.number, self.queue = version, number, queue
        self.limit = self.debt = self.cold_starts = 0
        self.is_up, self.is_listed = True, False
        self.slowdown, self.pace, self.cold_until_s = 1.0, 1.0, -INF


class PoolEvents:
    """What happens by itself."""

    def __init__(self, settings: Any, seed: int) -> None:
        self.settings, self.seed, self.now_s = settings, seed, 0.0
        self.client, self.queue_limit = settings.client, settings.queue_limit
        self.shedding, self.rate, self.breaker = settings.shedding, settings.rate_limit, settings.breaker
        self.green_share = settings.green_share
        self.error_ratio = [version.error_ratio for version in settings.versions]
        self.tokens = settings.client.budget.burst if settings.client.budget else 0.0
        self.rate_tokens, self.rate_at_s = (settings.rate_limit.burst if settings.rate_limit else 0.0), 0.0
        self.state, self.generation, self.ok, self.bad, self.let = "closed", 1, 0, 0, 0
        self.open_until_s = self.window_end_s = 0.0
        self.is_shared = settings.routing == "shared"
        self.replicas: list[Replica] = []
        self.servers: list[Server] = []
        self.queues = [Queue(settings.priorities) for _ in settings.versions] if self.is_shared else []
        self.turn = [0, 0]
        self.pool_slowdown = 1.0
        self.version_slowdown = [version.slowdown for version in settings.versions]
        self.wanted_replicas = [version.replicas for version in settings.versions]
        self.wanted_servers = [version.servers_per_replica for version in settings.versions]
        self.arrivals: list[Request] = []
        self.requests: list[Request] = []
        self.retries: list[tuple[float, int, Attempt]] = []
        self.inside: list[Attempt] = []
        self.counters: Counter[str] = Counter()
        self.per_bucket: Counter[tuple[int, int, str]] = Counter()
        self.inside_ticks = 0
        self.starts_due = True

    # --- what the user calls

    def offer(self, arrivals_s: Any, services_s: Any = None, *, priorities: Any = None, patience_s: Any = None,
              versions: Any = None) -> None:  # fmt: skip
        """Hand over first attempts."""
        for k, at_s in enumerate(arrivals_s):
            request = Request(
                len(self.requests),
                float(at_s),
                math.nan if services_s is None else float(services_s[k]),
                0 if priorities is None else int(priorities[k]),
                math.nan if patience_s is None else float(patience_s[k]),
                -1 if versions is None else int(versions[k]),
            )
            self.requests.append(request)
            self.arrivals.append(request)

    def advance(self, until_s: float) -> None:
        """Play everything before a moment."""
        self._play(until_s)
        self.now_s = until_s

    def finish(self) -> None:
        """Play everything."""
        self.now_s = max(self.now_s, self._play(INF))

    def _play(self, until_s: float) -> float:
        last_s = self.now_s
        if self.starts_due and until_s > self.now_s:
            for queue in self.queues:
                self._start_waiting(queue, self.now_s)
            self.starts_due = False
        while True:
            events = [(server.finish_s, 0, server.number, server) for server in self.servers if server.attempt]
            for a in self.inside:
                if a.has_client and a.stage == "waiting":
                    events.append((a.leaves_s, 1, 2 * a.request.number, a))
                if a.has_client:
                    events.append((a.deadline_s, 1, 2 * a.request.number + 1, a))
            events += [(request.at_s, 2, request.number, request) for request in self.arrivals[:1]]
            events += [(at_s, 3, number, a) for at_s, number, a in self.retries]
            if not events:
                return last_s
            now_s, kind, key, what = min(events, key=lambda event: event[:3])
            if now_s >= until_s or now_s == INF:
                return last_s
            last_s = now_s
            if kind == 0:
                self._complete(what, now_s)
                self._refill(what, now_s)
            elif kind == 1:
                self._expire(what, key % 2 == 1, now_s)
            elif kind == 2:
                self.arrivals.pop(0)
                if self.client.budget:
                    self.tokens = min(self.client.budget.burst, self.tokens + self.client.budget.ratio)
                self._admit(Attempt(what, 0), now_s)
            else:
                self.retries.remove((now_s, key, what))
                self._admit(what, now_s)

    # --- the life of an attempt

    def _count(self, a: Attempt, name: str, now_s: float) -> None:
        self.counters[name] += 1
        self.per_bucket[int(now_s // self.settings.bucket_s), a.version, name] += 1

    def _bits(self, a: Attempt, purpose: int, restarts: int = 0) -> int:
        return draws.bits(self.seed, a.request.number, a.number + (restarts << 32), purpose)

    def _admit(self, a: Attempt, now_s: float) -> None:
        request = a.request
        a.version = request.forced
        if a.version < 0:
            a.version = int(draws.uniform(draws.bits(self.seed, request.number, 0, draws.SPLIT)) < self.green_share)
        request.attempts += 1
        self._count(a, "attempts", now_s)
        self._count(a, "offered" if a.number == 0 else "retries", now_s)
        a.arrived_s = now_s
        a.deadline_s = INF if self.client.timeout_s is None else now_s + self.client.timeout_s
        a.work_s = request.service_s
        refusal = self._guard(a, now_s)
        if refusal:
            self._refuse(a, refusal, now_s)
            return
        queue = self._route(a)
        if queue is None:
            self._refuse(a, "rejected_down", now_s)
            return
        self.inside.append(a)
        if queue.idle:
            self._start(queue.idle.pop(0), a, now_s)
            return
        shed = self.shedding.queue_lengths[request.priority] if self.shedding else None
        is_shed = shed is not None and len(queue) >= shed
        if (is_shed or (self.queue_limit is not None and len(queue) >= self.queue_limit)) and not (
            self.shedding and self.shedding.drop == "expired_first" and self._drop_expired(queue, now_s)
        ):
            self.inside.remove(a)
            self._refuse(a, "rejected_shed" if is_shed else "rejected_full", now_s)
            return
        self._join(queue, a)
        if request.patience_s is not None or self.client.patience:
            patience_s = request.patience_s
            if patience_s is None:
                p = self.client.patience
                patience_s = draws.duration(self._bits(a, draws.PATIENCE), p.kind, p.mean_s, p.scv)
            a.leaves_s = last_start(now_s, patience_s)

    def _guard(self, a: Attempt, now_s: float) -> str:
        if self.breaker:
            if self.state == "open" and now_s >= self.open_until_s:
                self._change_breaker("half open")
            if self.state == "open" or (self.state == "half open" and self.let >= self.breaker.probes):
                return "rejected_open"
            self.let += 1
            a.generation = self.generation
        if self.rate:
            self.rate_tokens = min(self.rate.burst, self.rate_tokens + (now_s - self.rate_at_s) * self.rate.rate_rps)
            self.rate_at_s = now_s
            if self.rate_tokens < 1.0:
                return "rejected_rate"
            self.rate_tokens -= 1.0
        return ""

    def _change_breaker(self, state: str) -> None:
        self.state = state
        self.generation += 1
        self.ok = self.bad = self.let = 0

    def _tell_breaker(self, a: Attempt, has_failed: bool, now_s: float) -> None:
        if not self.breaker or a.generation != self.generation:
            return
        next_window_s = (now_s // self.breaker.window_s + 1.0) * self.breaker.window_s
        if self.state == "closed" and now_s >= self.window_end_s:
            self.window_end_s, self.ok, self.bad = next_window_s, 0, 0
        self.ok, self.bad = self.ok + (not has_failed), self.bad + has_failed
        n = self.ok + self.bad
        if self.state == "closed":
            trips = n >= self.breaker.minimum and self.bad >= self.breaker.failure_ratio * n
        else:
            trips = has_failed
        if trips:
            self._change_breaker("open")
            self.open_until_s = now_s + self.breaker.open_s
        elif self.state == "half open" and self.ok >= self.breaker.probes:
            self._change_breaker("closed")
            self.window_end_s = next_window_s

    def _route(self, a: Attempt) -> Queue | None:
        if self.is_shared:
            return self.queues[a.version]
        found = [r.queue for r in self.replicas if r.version == a.version and r.is_listed]
        if not found:
            return None
        if self.settings.routing == "round_robin":
            self.turn[a.version] += 1
            return found[(self.turn[a.version] - 1) % len(found)]
        if self.settings.routing == "least_loaded":
            return min(found, key=lambda queue: len(queue) + queue.busy)
        if len(found) == 1:
            return found[0]
        b = self._bits(a, draws.ROUTE)
        one = found.pop(int(draws.uniform(b) * len(found)))
        other = found[int(draws.uniform(draws.further(b, 1)) * len(found))]
        return other if len(other) + other.busy < len(one) + one.busy else one

    def _refuse(self, a: Attempt, name: str, now_s: float) -> None:
        self._count(a, name, now_s)
        if name != "rejected_open":
            self._tell_breaker(a, True, now_s)
        self._react(a, "rejection", now_s)

    def _react(self, a: Attempt, reason: str, now_s: float) -> None:
        a.has_client = False
        wants = reason in self.client.retry_on and (self.client.retries is None or a.number < self.client.retries)
        if wants and self.client.budget:
            wants = self.tokens >= 1.0
            self.tokens -= wants
            if not wants:
                self._count(a, "budget_denied", now_s)
        if not wants:
            self._conclude(a, SIGNED_BY[reason], now_s)
            return
        backoff = self.client.backoff
        delay_s = backoff.base_s
        for _ in range(min(a.number, 63)):
            delay_s *= backoff.factor
        delay_s = min(delay_s, backoff.max_s)
        b = self._bits(a, draws.BACKOFF)
        if backoff.jitter == "ratio":
            delay_s *= 1.0 + backoff.jitter_ratio * (2.0 * draws.uniform(b) - 1.0)
        elif backoff.jitter != "none":
            delay_s *= draws.uniform(b) if backoff.jitter == "full" else draws.exponential(b)
        self.retries.append((now_s + delay_s, a.request.number, Attempt(a.request, a.number + 1)))

    def _conclude(self, a: Attempt, outcome: str, now_s: float) -> None:
        request = a.request
        self._count(a, outcome, now_s)
        a.has_client = False
        request.outcome, request.version, request.end_s = outcome, a.version, now_s
        if outcome == "served":
            request.start_s = a.started_s
            if now_s - request.at_s <= self.settings.slo_s:
                self._count(a, "good", now_s)

    def _join(self, queue: Queue, a: Attempt, at_head: bool = False) -> None:
        line = queue.lines[a.request.priority]
        line.insert(0 if at_head else len(line), a)
        a.stage, a.queue = "waiting", queue

    def _start(self, server: Server, a: Attempt, now_s: float) -> None:
        if a.work_s is None:
            service = self.settings.service
            b = self._bits(a, draws.SERVICE, a.restarts)
            a.work_s = draws.duration(b, service.kind, service.mean_s, service.scv)
        replica, a.cold = server.replica, 1.0
        if replica.cold_starts > 0 or now_s < replica.cold_until_s:
            a.cold = self.settings.cold.slowdown
            replica.cold_starts = max(0, replica.cold_starts - 1)
        a.stage, a.server, a.queue, a.started_s, a.leaves_s = "running", server, replica.queue, now_s, INF
        server.attempt = a
        server.finish_s = INF if replica.pace == INF else now_s + a.work_s * a.cold * replica.pace
        replica.queue.busy += 1

    def _take_next(self, queue: Queue, now_s: float) -> Attempt | None:
        for line in queue.lines:
            while line:
                a = line.pop(0)
                if self.client.cancellation != "at_start" or a.has_client:
                    return a
                self._count(a, "dropped_expired", now_s)
                self._leave(a, now_s)
        return None

    def _leave(self, a: Attempt, now_s: float) -> None:
        self.inside.remove(a)
        self.inside_ticks += int(now_s * TICK) - int(a.arrived_s * TICK)
        a.stage = "gone"

    def _unload(self, server: Server) -> Attempt:
        a = server.attempt
        assert a is not None
        server.attempt, server.finish_s = None, INF
        server.replica.queue.busy -= 1
        return a

    def _refill(self, server: Server, now_s: float) -> None:
        replica = server.replica
        if replica.debt:
            replica.debt -= 1
            server.is_retired = True
            return
        following = self._take_next(replica.queue, now_s)
        if following:
            self._start(server, following, now_s)
        else:
            replica.queue.idle.append(server)

    def _complete(self, server: Server, now_s: float) -> None:
        a = self._unload(server)
        self._count(a, "completed", now_s)
        self._leave(a, now_s)
        is_error = draws.uniform(self._bits(a, draws.ERROR)) < self.error_ratio[a.version]
        if is_error:
            self._count(a, "errors", now_s)
        if a.has_client:
            self._tell_breaker(a, is_error, now_s)
            if is_error:
                self._react(a, "error", now_s)
            else:
                self._conclude(a, "served", now_s)

    def _drop_expired(self, queue: Queue, now_s: float) -> bool:
        for line in reversed(queue.lines):
            if line and not line[0].has_client:
                a = line.pop(0)
                self._count(a, "dropped_expired", now_s)
                self._leave(a, now_s)
                return True
        return False

    def _expire(self, a: Attempt, is_timeout: bool, now_s: float) -> None:
        if not is_timeout:
            assert a.queue is not None
            a.queue.lines[a.request.priority].remove(a)
            self._leave(a, now_s)
            self._count(a, "left_queue", now_s)
            self._tell_breaker(a, True, now_s)
            self._conclude(a, "abandoned", now_s)
            return
        self._count(a, "timeouts", now_s)
        self._tell_breaker(a, True, now_s)
        self._react(a, "timeout", now_s)
        if self.client.cancellation in ("queued", "all") and a.stage == "waiting":
            assert a.queue is not None
            a.queue.lines[a.request.priority].remove(a)
            self._count(a, "cancelled_queued", now_s)
            self._leave(a, now_s)
        elif self.client.cancellation == "all" and a.stage == "running":
            assert a.server is not None
            server = a.server
            self._unload(server)
            self._count(a, "cancelled_running", now_s)
            self._leave(a, now_s)
            self._refill(server, now_s)

    def _start_waiting(self, queue: Queue, now_s: float) -> None:
        while queue.idle and len(queue):
            following = self._take_next(queue, now_s)
            if following:
                self._start(queue.idle.pop(0), following, now_s)


def last_start(arrived_s: float, patience_s: float) -> float:
    """The last moment at which the wait, as computed, does not exceed the patience."""
    last_s = arrived_s + patience_s
    while last_s < INF and last_s - arrived_s > patience_s:
        last_s = math.nextafter(last_s, -INF)
    while last_s < INF and math.nextafter(last_s, INF) - arrived_s <= patience_s:
        last_s = math.nextafter(last_s, INF)
    return last_s
