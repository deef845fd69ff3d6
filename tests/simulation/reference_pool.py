"""
The serving pool in plain Python: the twin of `simulation.data_plane.pool`, of which it imports nothing.

It takes the same settings and has the same methods, so that one script drives both; nothing in it is clever or fast.
"""

from typing import Any

from tests.simulation.reference_pool_events import INF, Attempt, PoolEvents, Queue, Replica, Server, last_start

__all__ = ["ReferencePool", "last_start"]


class ReferencePool(PoolEvents):
    """See `simulation.data_plane.pool.ServingPool`."""

    def __init__(self, settings: Any, seed: int) -> None:
        super().__init__(settings, seed)
        self._reconcile(None, cold=False)

    def set_client(self, client: Any) -> None:
        """Change the callers."""
        if client.budget:
            self.tokens = min(self.tokens, client.budget.burst) if self.client.budget else client.budget.burst
        self.client = client

    def set_queue_limit(self, limit: int | None) -> None:
        """Change the waiting places."""
        self.queue_limit = limit

    def set_green_share(self, ratio: float) -> None:
        """Change the split."""
        self.green_share = ratio

    def set_error_ratio(self, ratio: float, *, version: int = 0) -> None:
        """Change the share of errors."""
        self.error_ratio[version] = ratio

    def set_rate_limit(self, limit: Any) -> None:
        """Change the rate limit."""
        if limit and self.rate:
            earned = self.rate_tokens + (self.now_s - self.rate_at_s) * self.rate.rate_rps
            self.rate_tokens = min(limit.burst, self.rate.burst, earned)
        elif limit:
            self.rate_tokens = limit.burst
        self.rate_at_s = self.now_s
        self.rate = limit

    def set_slowdown(self, factor: float, *, version: int | None = None) -> None:
        """Change the pace of a version or of all."""
        if version is None:
            self.pool_slowdown = factor
        else:
            self.version_slowdown[version] = factor
        self._rescale()

    def set_capacity(self, *, version: int = 0, replicas: int | None = None, servers_per_replica: int | None = None,
                     running_work: str | None = None, cold: bool = False) -> None:  # fmt: skip
        """Change how many there are."""
        if replicas is not None:
            self.wanted_replicas[version] = replicas
        if servers_per_replica is not None:
            self.wanted_servers[version] = servers_per_replica
        self._reconcile(running_work, cold=cold)

    def set_replica(self, number: int, *, version: int = 0, up: bool | None = None, slowdown: float | None = None,
                    running_work: str | None = None, cold: bool = False) -> None:  # fmt: skip
        """Change one of them."""
        replica = next(r for r in self.replicas if (r.version, r.number) == (version, number))
        if up is not None:
            replica.is_up = up
            must_empty = not up and running_work not in (None, "drain")
            self._reconcile(running_work, cold=cold, also=replica if must_empty else None)
        if slowdown is not None:
            replica.slowdown = slowdown
            self._rescale()
        if cold:
            self._make_cold(replica)

    def _is_open(self, replica: Replica) -> bool:
        return replica.is_up and replica.number < self.wanted_replicas[replica.version]

    def _make_cold(self, replica: Replica) -> None:
        cold = self.settings.cold
        replica.cold_starts = cold.requests
        replica.cold_until_s = self.now_s + cold.seconds if cold.seconds else -INF

    def _finish_due(self) -> None:
        while due := [server for server in self.servers if server.attempt and server.finish_s == self.now_s]:
            server = due[0]
            self._complete(server, self.now_s)
            if server.replica.debt:
                server.replica.debt -= 1
                server.is_retired = True
            else:
                server.replica.queue.idle.append(server)
        self.starts_due = True

    def _rescale(self) -> None:
        paces = {r: self.pool_slowdown * self.version_slowdown[r.version] * r.slowdown for r in self.replicas}
        if all(r.pace == pace for r, pace in paces.items()):
            self.starts_due = True
            return
        self._finish_due()
        for server in self.servers:
            a, old, new = server.attempt, server.replica.pace, paces[server.replica]
            if a is None or old == new:
                continue
            remaining_s = server.finish_s - self.now_s
            if new == INF:
                a.work_s = remaining_s / old / a.cold
                server.finish_s = INF
            elif old == INF:
                assert a.work_s is not None
                server.finish_s = self.now_s + a.work_s * a.cold * new
            else:
                server.finish_s = self.now_s + remaining_s * (new / old)
        for replica, pace in paces.items():
            replica.pace = pace

    def _reconcile(self, how: str | None, *, cold: bool, also: Replica | None = None) -> None:
        for version, n in enumerate(self.wanted_replicas):
            have = sum(r.version == version for r in self.replicas)
            for number in range(have, n):
                if not self.is_shared:
                    self.queues.append(Queue(self.settings.priorities))
                queue = self.queues[version] if self.is_shared else self.queues[-1]
                new = Replica(version, number, queue)
                new.pace = self.pool_slowdown * self.version_slowdown[version] * new.slowdown
                self.replicas.append(new)
        self.starts_due = True
        limits = {}
        for r in self.replicas:
            drains = not self.is_shared and how in (None, "drain")
            limits[r] = self.wanted_servers[r.version] if self._is_open(r) else (r.limit if drains else 0)
        closed = [r for r in self.replicas if (r.is_listed and not self._is_open(r)) or r is also]
        if not closed and all(limits[r] == r.limit and r.is_listed == self._is_open(r) for r in self.replicas):
            return
        self._finish_due()
        for r in self.replicas:
            if cold and self._is_open(r) and not r.is_listed:
                self._make_cold(r)
            if limits[r] > r.limit:
                self._raise_limit(r, limits[r])
            r.is_listed = self._is_open(r)
        for r in self.replicas:
            if limits[r] < r.limit or r in closed:
                self._lower_limit(r, limits[r], how)

    def _raise_limit(self, replica: Replica, limit: int) -> None:
        more, replica.limit = limit - replica.limit, limit
        forgiven = min(more, replica.debt)
        replica.debt -= forgiven
        more -= forgiven
        retired = [server for server in self.servers if server.replica is replica and server.is_retired][:more]
        while len(retired) < more:
            self.servers.append(Server(len(self.servers), replica))
            retired.append(self.servers[-1])
        for server in retired:
            server.is_retired = False
            replica.queue.idle.append(server)

    def _lower_limit(self, replica: Replica, limit: int, how: str | None) -> None:
        fewer, replica.limit = replica.limit - limit, limit
        idle = [server for server in replica.queue.idle if server.replica is replica]
        for server in sorted(idle, key=lambda server: -server.number)[:fewer]:
            replica.queue.idle.remove(server)
            server.is_retired = True
            fewer -= 1
        replica.debt += fewer
        if how == "drain":
            return
        taken = []
        for _ in range(replica.debt):
            busy = [server for server in self.servers if server.replica is replica and server.attempt]
            server = max(busy, key=lambda server: (server.attempt.started_s, server.number))
            remaining_s = server.finish_s - self.now_s
            a = self._unload(server)
            server.is_retired = True
            if how == "evict_and_requeue":
                a.work_s = a.request.service_s
                a.restarts += 1
            elif remaining_s < INF:
                a.work_s = remaining_s / replica.pace / a.cold
            taken.append(a)
        replica.debt = 0
        for a in sorted(taken, key=lambda a: (a.arrived_s, a.request.number), reverse=True):
            self._send_elsewhere(a, how, at_head=True)
        if not self.is_shared and not self._is_open(replica):
            for line in replica.queue.lines:
                while line:
                    self._send_elsewhere(line.pop(0), how, at_head=False)

    def _send_elsewhere(self, a: Attempt, how: str | None, *, at_head: bool) -> None:
        a.stage = "waiting"
        queue = None if how == "fail" else self._route(a)
        if queue is not None:
            self._join(queue, a, at_head)
            return
        self._leave(a, self.now_s)
        if how != "fail" and a.has_client:
            self._refuse(a, "rejected_down", self.now_s)
            return
        self._count(a, "lost", self.now_s)
        if a.has_client:
            self._tell_breaker(a, True, self.now_s)
            self._react(a, "error", self.now_s)
