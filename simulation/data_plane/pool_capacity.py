"""Which replicas and servers a pool has, and what a change of them does to running work; start at `Capacity`."""

import math

import numpy as np

from simulation.data_plane import pool_layout as at
from simulation.data_plane.pool_changes import DRAIN, HOW
from simulation.data_plane.pool_machine import Machine
from simulation.data_plane.pool_settings import RunningWork
from simulation.errors import InvalidWorkload


class Capacity:
    """
    The wanted replicas per version, carried into the arrays by `reconcile`.

    A replica's limit is how many requests it may work on at once. Servers above a lowered limit retire: the idle ones
    at once, the busy ones by draining (the next completions of the replica are not refilled) or by losing their work.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        settings = machine.settings
        self._is_shared = settings.routing == "shared"
        self._slowdown = 1.0
        self._version_slowdown = [version.slowdown for version in settings.versions]
        self.replicas = [version.replicas for version in settings.versions]
        self.servers = [version.servers_per_replica for version in settings.versions]
        self._of_version: list[list[int]] = [[] for _ in settings.versions]
        if self._is_shared:
            for _ in settings.versions:
                self._add_queue()
        self.reconcile(None, cold=False)

    def replica(self, version: int, number: int) -> int:
        """Return the row of a replica, or raise `InvalidWorkload`."""
        numbers = self._of_version[self.check_version(version)]
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(numbers):
            raise InvalidWorkload(
                f"version {version} has no replica {number!r}; it has had replicas 0 to {len(numbers) - 1}"
            )
        return numbers[number]

    def check_version(self, version: int) -> int:
        """Return the version, or raise `InvalidWorkload` if the pool has none of that number."""
        if version not in range(len(self.replicas)):
            raise InvalidWorkload(f"version {version!r} is not in this pool, which has {len(self.replicas)}")
        return version

    def is_open(self, replica: int) -> bool:
        """Tell whether a replica takes new requests."""
        row = self._machine.s.replica_i[replica]
        return bool(row[at.IS_UP]) and row[at.NUMBER] < self.replicas[row[at.OF_VERSION]]

    def set_slowdown(self, factor: float, *, version: int | None = None, replica: int | None = None) -> None:
        """Set the factor on service times of a replica, a version or all, and rescale what is running."""
        if replica is not None:
            self._machine.s.replica_f[replica, at.SLOWDOWN] = factor
        elif version is not None:
            self._version_slowdown[version] = factor
        else:
            self._slowdown = factor
        changed = [r for r in range(self._machine.s.replica_i.shape[0]) if self._pace(r) != self._present_pace(r)]
        if not changed:
            return
        self._machine.call("finish_due", self._machine.now_s)
        n_servers = self._machine.s.server_i.shape[0]
        self._machine.make_room(n_servers)
        for r in changed:
            self._machine.call("rescale", r, self._pace(r), n_servers, self._machine.now_s)

    def _pace(self, replica: int) -> float:
        version = self._machine.s.replica_i[replica, at.OF_VERSION]
        own = self._machine.s.replica_f[replica, at.SLOWDOWN]
        return float(self._slowdown * self._version_slowdown[version] * own)

    def _present_pace(self, replica: int) -> float:
        return float(self._machine.s.replica_f[replica, at.PACE])

    def warm_from_cold(self, replica: int) -> None:
        """Let a replica start cold now."""
        cold, s = self._machine.settings.cold, self._machine.s
        s.replica_i[replica, at.COLD_STARTS] = cold.requests
        s.replica_f[replica, at.COLD_UNTIL] = self._machine.now_s + cold.seconds if cold.seconds else -math.inf

    def reconcile(self, running_work: RunningWork | None, *, cold: bool, also: int | None = None) -> None:
        """Make the arrays agree with what is wanted; `also` names a replica that must give up its work in any case."""
        for version, n in enumerate(self.replicas):
            while len(self._of_version[version]) < n:
                self._add_replica(version)
        limits = [self._wanted_limit(r, running_work) for r in range(self._machine.s.replica_i.shape[0])]
        present = self._machine.s.replica_i[:, at.LIMIT]
        reopened = [r for r in range(len(limits)) if self.is_open(r) and not self._listed(r)]
        closed = [r for r in range(len(limits)) if not self.is_open(r) and self._listed(r)]
        if also is not None and also not in closed:
            closed.append(also)
        lowered = [r for r, limit in enumerate(limits) if limit < present[r]]
        if (lowered or closed) and running_work is None:
            raise InvalidWorkload(f"running_work is not given, and capacity goes down; choose one of {', '.join(HOW)}")
        raised = [r for r, limit in enumerate(limits) if limit > present[r]]
        if not (lowered or raised or reopened or closed):
            return
        how = DRAIN if running_work is None else HOW[running_work]
        self._machine.call("finish_due", self._machine.now_s)
        self._machine.make_room(2 * int(self._machine.s.i[at.IN_USE]))
        for r in reopened if cold else ():
            self.warm_from_cold(r)
        for r in raised:
            self._raise_limit(r, limits[r])
        self._list_open()
        for r in sorted({*lowered, *closed}):
            self._lower_limit(r, limits[r], how)

    def _wanted_limit(self, replica: int, running_work: RunningWork | None) -> int:
        row = self._machine.s.replica_i[replica]
        if self.is_open(replica):
            return self.servers[row[at.OF_VERSION]]
        # A replica with a queue of its own that drains goes on until the queue is empty; it is only sent no more.
        keeps_serving = not self._is_shared and running_work in (None, "drain")
        return int(row[at.LIMIT]) if keeps_serving else 0

    def _listed(self, replica: int) -> bool:
        """Tell whether a replica was open after the last change."""
        row = self._machine.s.replica_i[replica]
        if self._is_shared:
            return bool(row[at.LIMIT] > 0)
        open_i = self._machine.s.open_i[row[at.OF_VERSION]]
        return bool(np.isin(row[at.HOME], open_i[1 : 1 + open_i[0]]))

    def _list_open(self) -> None:
        s = self._machine.s
        homes = [[s.replica_i[r, at.HOME] for r in rows if self.is_open(r)] for rows in self._of_version]
        open_i = np.zeros((len(homes), 1 + max(len(row) for row in homes)), np.int64)
        for version, row in enumerate(homes):
            open_i[version, 0] = len(row)
            open_i[version, 1 : 1 + len(row)] = row
        s.replace(open_i=open_i)

    def _add_queue(self) -> int:
        queue_i = self._machine.s.queue_i
        row = np.full((1, queue_i.shape[1]), at.NOBODY, np.int64)
        row[0, [at.N_WAITING, at.N_BUSY]] = 0
        self._machine.s.replace(queue_i=np.vstack([queue_i, row]))
        return int(queue_i.shape[0])

    def _add_replica(self, version: int) -> None:
        s = self._machine.s
        replica = s.replica_i.shape[0]
        home = version if self._is_shared else self._add_queue()
        s = self._machine.s
        replica_i = at.grown(s.replica_i, replica + 1)
        replica_f = at.grown(s.replica_f, replica + 1)
        number = len(self._of_version[version])
        replica_i[replica, [at.OF_VERSION, at.NUMBER, at.HOME, at.IS_UP]] = version, number, home, 1
        replica_f[replica, [at.SLOWDOWN, at.COLD_UNTIL]] = 1.0, -math.inf
        s.replace(replica_i=replica_i, replica_f=replica_f)
        s.replica_f[replica, at.PACE] = self._pace(replica)
        self._of_version[version].append(replica)

    def _raise_limit(self, replica: int, limit: int) -> None:
        row = self._machine.s.replica_i[replica]
        more = limit - int(row[at.LIMIT])
        row[at.LIMIT] = limit
        forgiven = min(more, int(row[at.DEBT]))
        row[at.DEBT] -= forgiven
        more -= forgiven
        of_replica = self._machine.s.server_i[:, at.REPLICA] == replica
        retired = np.flatnonzero(of_replica & (self._machine.s.server_i[:, at.MODE] == at.RETIRED))[:more]
        new = self._add_servers(replica, more - len(retired))
        home = int(self._machine.s.replica_i[replica, at.HOME])
        self._write_idle(home, [*self._idle(home), *(int(k) for k in retired), *new])

    def _lower_limit(self, replica: int, limit: int, how: int) -> None:
        machine = self._machine
        row = machine.s.replica_i[replica]
        fewer = int(row[at.LIMIT]) - limit
        row[at.LIMIT] = limit
        idle = self._idle(row[at.HOME])
        leaving = sorted((k for k in idle if machine.s.server_i[k, at.REPLICA] == replica), reverse=True)[:fewer]
        machine.s.server_i[leaving, at.MODE] = at.RETIRED
        self._write_idle(row[at.HOME], [k for k in idle if k not in leaving])
        row[at.DEBT] += fewer - len(leaving)
        if how != DRAIN:
            n = int(row[at.DEBT])
            row[at.DEBT] = 0
            machine.call("take_off", replica, n, how, machine.s.server_i.shape[0], machine.now_s)
            if not self._is_shared and not self.is_open(replica):
                machine.call("send_away", int(row[at.HOME]), how, machine.now_s)

    def _idle(self, queue: int) -> list[int]:
        idle, server = [], int(self._machine.s.queue_i[queue, at.IDLE_HEAD])
        while server != at.NOBODY:
            idle.append(server)
            server = int(self._machine.s.server_i[server, at.NEXT_IDLE])
        return idle

    def _write_idle(self, queue: int, servers: list[int]) -> None:
        s = self._machine.s
        ends = [servers[0], servers[-1]] if servers else [at.NOBODY, at.NOBODY]
        s.queue_i[queue, [at.IDLE_HEAD, at.IDLE_TAIL]] = ends
        for server, following in zip(servers, [*servers, at.NOBODY][1:], strict=True):
            s.server_i[server, [at.MODE, at.NEXT_IDLE]] = at.IDLE, following

    def _add_servers(self, replica: int, n: int) -> range:
        s = self._machine.s
        first = s.server_i.shape[0]
        if n == 0:
            return range(first, first)
        server_i = at.grown(s.server_i, first + n)
        server_i[first:, at.REPLICA] = replica
        leaves = 1 << max(0, first + n - 1).bit_length()
        finish_s, winner = np.full(2 * leaves, np.inf), np.zeros(2 * leaves, np.int64)
        finish_s[leaves : leaves + first] = s.finish_s[s.finish_s.shape[0] // 2 :][:first]
        winner[leaves:] = np.arange(leaves)
        for place in range(leaves - 1, 0, -1):
            child = 2 * place + int(finish_s[2 * place + 1] < finish_s[2 * place])
            finish_s[place], winner[place] = finish_s[child], winner[child]
        s.replace(server_i=server_i, finish_s=finish_s, winner=winner)
        return range(first, first + n)
