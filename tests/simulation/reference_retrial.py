"""
The retrial pool once more, in plain Python and slowly: lists, one event at a time, nothing imported from `simulation`.

Draws are handed in. Two servers, three clients and a pencil reproduce any line of it; `PlainPool.advance` is the start.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def plain_uniform(seed: int, request: int, attempt: int, purpose: int) -> float:
    """Return the keyed draw from (0, 1) with Python's own whole numbers."""

    def mix(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
        return x ^ (x >> 31)

    x = mix((seed + _GOLDEN) & _MASK)
    x = mix(x ^ ((request * _GOLDEN) & _MASK))
    x = mix(x ^ ((attempt << 32) & _MASK) ^ purpose)
    return ((x >> 11) + 0.5) / 2.0**53


@dataclass
class Attempt:
    """One try of one request."""

    number: int
    arrival_s: float
    first_s: float
    request: int
    attempt: int
    work_s: float | None = None
    has_left: bool = False  # its client gave up; the work goes on


@dataclass
class PlainPool:
    """Servers, a queue, clients that give up and come back, and a list of how every request ended."""

    servers: int
    work_of: Callable[[int, int], float]
    draw: Callable[[int, int, int], float]  # request, attempt, purpose
    timeout_s: float = math.inf
    retries: int = 0
    backoff_s: float = 0.0
    jitter_ratio: float = 0.0
    budget_ratio: float | None = None
    queue_limit: int | None = None
    error_ratio: float = 0.0
    slowdown: float = 1.0
    now_s: float = 0.0
    budget: float = 10.0
    n_attempts: int = 0
    n_offered: int = 0
    coming: list[float] = field(default_factory=list)
    waiting: list[Attempt] = field(default_factory=list)
    running: list[tuple[float, Attempt]] = field(default_factory=list)  # (finish, attempt)
    backing_off: list[tuple[float, int, float, int, int]] = field(default_factory=list)  # time, place, first, key
    ended: list[tuple[float, float, int, str]] = field(default_factory=list)  # end, first arrival, request, fate
    free_places: list[int] = field(default_factory=list)
    longest_queue: list[tuple[float, int]] = field(default_factory=list)

    def offer(self, arrivals_s: list[float]) -> None:
        """Add first attempts."""
        self.coming += arrivals_s

    def advance(self, until_s: float) -> None:
        """Play every event before `until_s`: completions, timeouts, retries, first attempts at one instant."""
        while True:
            done = min(((f, a.number) for f, a in self.running), default=(math.inf, -1))
            patient = [a for a in self.waiting + [a for _, a in self.running] if not a.has_left]
            out = min(((a.arrival_s + self.timeout_s, a.number) for a in patient), default=(math.inf, -1))
            back = min(self.backing_off, default=(math.inf, -1, 0.0, 0, 0))
            new = self.coming[0] if self.coming else math.inf
            now = min(done[0], out[0], back[0], new)
            if not now < until_s:
                break
            self.now_s = now
            if done[0] == now:
                self._complete(done[1])
            elif out[0] == now:
                self._give_up(next(a for a in patient if a.number == out[1]))
            elif back[0] == now:
                self.backing_off.remove(back)
                self.free_places.append(back[1])
                self._arrive(back[2], back[3], back[4])
            else:
                self.coming.pop(0)
                self.n_offered += 1
                if self.budget_ratio is not None:
                    self.budget = min(self.budget + self.budget_ratio, 10.0)
                self._arrive(now, self.n_offered - 1, 0)
        self.now_s = until_s

    def set_servers(self, servers: int, running_work: str) -> None:
        """Change the capacity; the youngest running attempts go back to the head of the queue, or finish."""
        self.servers = servers
        if running_work != "drain":
            while len(self.running) > servers:
                youngest = max(self.running, key=lambda pair: pair[1].number)
                self.running.remove(youngest)
                finish, attempt = youngest
                if running_work == "hand_over":
                    attempt.work_s = max(0.0, finish - self.now_s) / self.slowdown
                self.waiting.insert(0, attempt)
        self._fill()

    def set_slowdown(self, factor: float) -> None:
        """Stretch or shorten what is left of running work, and all work to come."""
        if factor != self.slowdown:
            ratio = factor / self.slowdown
            self.running = [(self.now_s + (f - self.now_s) * ratio, a) for f, a in self.running]
            self.slowdown = factor

    @property
    def in_flight(self) -> int:
        """Requests whose fate is open."""
        attempts = self.waiting + [a for _, a in self.running]
        return sum(not a.has_left for a in attempts) + len(self.backing_off)

    def _arrive(self, first_s: float, request: int, attempt: int) -> None:
        self.n_attempts += 1
        is_full = self.queue_limit is not None and len(self.waiting) >= self.queue_limit
        if len(self.running) >= self.servers and is_full:
            self.ended.append((self.now_s, first_s, request, "rejected"))
            return
        self.waiting.append(Attempt(self.n_attempts, self.now_s, first_s, request, attempt))
        if len(self.running) >= self.servers:
            self.longest_queue.append((self.now_s, len(self.waiting)))
        self._fill()

    def _fill(self) -> None:
        while self.waiting and len(self.running) < self.servers:
            attempt = self.waiting.pop(0)
            if attempt.work_s is None:
                attempt.work_s = self.work_of(attempt.request, attempt.attempt)
            self.running.append((self.now_s + attempt.work_s * self.slowdown, attempt))

    def _complete(self, number: int) -> None:
        pair = next(pair for pair in self.running if pair[1].number == number)
        self.running.remove(pair)
        attempt = pair[1]
        if not attempt.has_left:
            is_error = self.error_ratio > 0 and self.draw(attempt.request, attempt.attempt, 60) < self.error_ratio
            self.ended.append((self.now_s, attempt.first_s, attempt.request, "failed" if is_error else "served"))
        self._fill()

    def _give_up(self, attempt: Attempt) -> None:
        attempt.has_left = True
        may_retry = attempt.attempt < self.retries
        if may_retry and self.budget_ratio is not None:
            may_retry = self.budget >= 1.0
            self.budget -= 1.0 if may_retry else 0.0
        if not may_retry:
            self.ended.append((self.now_s, attempt.first_s, attempt.request, "timed_out"))
            return
        spread = 1.0 + self.jitter_ratio * (2.0 * self.draw(attempt.request, attempt.attempt, 61) - 1.0)
        # Retries of one instant come back in the order of their places, the last one vacated being taken first.
        place = self.free_places.pop() if self.free_places else len(self.backing_off)
        self.backing_off.append(
            (self.now_s + self.backoff_s * spread, place, attempt.first_s, attempt.request, attempt.attempt + 1)
        )
