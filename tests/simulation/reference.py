"""
The first-come-first-served queue in plain Python, from one instant to the next: what the kernels are held against.

It imports nothing from what it checks, and goes about it differently: no recursion and no look-ahead, but a clock,
a line and a set of running requests, and at every instant the written order of simultaneous events.
"""

import heapq
import math
from dataclasses import dataclass, field

NEVER = math.inf


@dataclass
class Request:
    """One request with all that is known of it so far."""

    number: int
    arrival: float
    left: float
    gives_up: float
    start: float = math.nan
    finish: float = math.nan
    outcome: str = "waiting"


@dataclass
class Clockwork:
    """The state of the queue at one instant."""

    servers: int
    room: float
    slowdown: float = 1.0
    line: list[Request] = field(default_factory=list)
    running: list[Request] = field(default_factory=list)
    elsewhere: list[Request] = field(default_factory=list)
    alarms: list[float] = field(default_factory=list)

    def end_services(self, now: float) -> None:
        """Let go those who are done now."""
        for place in (self.running, self.elsewhere):
            for request in [request for request in place if request.finish == now]:
                request.outcome = "served"
                place.remove(request)

    def start_services(self, now: float) -> None:
        """Give free servers to the head of the line until there is none of either."""
        self.end_services(now)
        while self.line and len(self.running) < self.servers:
            request = self.line.pop(0)
            if math.isnan(request.start):
                request.start = now
            request.gives_up = NEVER
            request.finish = now + request.left * self.slowdown
            self.running.append(request)
            heapq.heappush(self.alarms, request.finish)
            self.end_services(now)

    def leave_impatient(self, now: float) -> None:
        """Take out of the line whoever may start now at the latest, and does not."""
        for request in [request for request in self.line if request.gives_up <= now]:
            request.outcome = "abandoned"
            self.line.remove(request)

    def change(self, now: float, servers: int, slowdown: float, shrink: str) -> None:
        """Set servers and speed; the surplus of running requests goes where `shrink` says."""
        surplus = max(0, len(self.running) - servers) if shrink != "drain" else 0
        by_arrival = sorted(self.running, key=lambda request: request.number)
        for request in by_arrival[len(by_arrival) - surplus :]:
            self.running.remove(request)
            if shrink == "hand over":
                self.elsewhere.append(request)
                continue
            if shrink == "evict":
                request.left = (request.finish - now) / self.slowdown
            request.finish = math.nan
            self.line.append(request)
        self.line.sort(key=lambda request: request.number)
        if slowdown != self.slowdown:
            for request in self.running:
                request.finish = now + (request.finish - now) * (slowdown / self.slowdown)
                heapq.heappush(self.alarms, request.finish)
        self.servers, self.slowdown = servers, slowdown

    def admit(self, now: float, request: Request) -> None:
        """Start the newcomer, put it in line, or reject it."""
        if len(self.running) >= self.servers and len(self.line) >= self.room:
            request.outcome = "rejected"
            return
        self.line.append(request)
        self.start_services(now)
        heapq.heappush(self.alarms, request.gives_up)
        self.leave_impatient(now)


def last_moment(arrival: float, patience: float) -> float:
    """Return the last float `t` with `t - arrival <= patience`."""
    moment = arrival + patience
    while moment - arrival > patience:
        moment = math.nextafter(moment, -math.inf)
    while moment < NEVER and math.nextafter(moment, math.inf) - arrival <= patience:
        moment = math.nextafter(moment, math.inf)
    return moment


def serve(
    arrivals: list[float],
    services: list[float],
    servers: int,
    patience: list[float] | None = None,
    room: int | None = None,
    changes: list[tuple[float, int, float]] | None = None,
    shrink: str = "drain",
) -> list[tuple[float, float, str]]:
    """Return start, departure and outcome of each request; `changes` are (time, servers, slowdown), in order."""
    patience = [NEVER] * len(arrivals) if patience is None else patience
    requests = [
        Request(number, arrival, service, last_moment(arrival, longest))
        for number, (arrival, service, longest) in enumerate(zip(arrivals, services, patience, strict=True))
    ]
    queue = Clockwork(servers, NEVER if room is None else room)
    to_come = list(requests)
    ahead = list(changes or [])
    while to_come or queue.alarms or ahead:
        soonest = [to_come[0].arrival] if to_come else []
        soonest += queue.alarms[:1] + ([ahead[0][0]] if ahead else [])
        now = min(soonest)
        if now == NEVER:
            break
        while queue.alarms and queue.alarms[0] == now:
            heapq.heappop(queue.alarms)
        queue.end_services(now)
        while ahead and ahead[0][0] == now:
            queue.change(now, ahead[0][1], ahead[0][2], shrink)
            ahead.pop(0)
        queue.start_services(now)
        queue.leave_impatient(now)
        while to_come and to_come[0].arrival == now:
            queue.admit(now, to_come.pop(0))
    return [
        (request.start, request.finish, request.outcome)
        if request.outcome == "served"
        else (request.start, math.nan, request.outcome)
        for request in requests
    ]
