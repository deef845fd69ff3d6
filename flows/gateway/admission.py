"""Who is let in: bounded waiting, a rate per client, a deadline per request; who is refused hears when to come back."""

import time
from collections import OrderedDict
from dataclasses import dataclass

from simulation.errors import LullError

DEADLINE_HEADER = b"x-deadline-ms"
_MAX_CLIENTS = 10_000


class Problem(LullError):
    """A request that gets an error status; the message is the sentence that the client reads."""

    def __init__(self, status: int, sentence: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry_after_s = retry_after_s


@dataclass
class TokenBucket:
    """Allows `rate_rps` on average and `burst` at once."""

    rate_rps: float
    burst: float
    tokens: float
    at_s: float

    def take(self, now_s: float) -> float:
        """Take one token and return 0.0, or return the seconds until there is one."""
        self.tokens = min(self.burst, self.tokens + (now_s - self.at_s) * self.rate_rps)
        self.at_s = now_s
        if self.tokens >= 1.0:
            self.tokens -= 1.0
            return 0.0
        return (1.0 - self.tokens) / self.rate_rps


class RateLimit:
    """One token bucket per client address, the least recent forgotten beyond ten thousand."""

    def __init__(self, rate_rps: float, burst: int) -> None:
        self._rate_rps = rate_rps
        self._burst = float(burst)
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def check(self, client: str, now_s: float) -> None:
        """Let the client in, or raise `Problem` 429 with the time until its next request may come."""
        bucket = self._buckets.pop(client, None)
        if bucket is None:
            bucket = TokenBucket(self._rate_rps, self._burst, self._burst, now_s)
            if len(self._buckets) >= _MAX_CLIENTS:
                self._buckets.popitem(last=False)
        self._buckets[client] = bucket
        wait_s = bucket.take(now_s)
        if wait_s:
            raise Problem(
                429,
                f"more than {self._rate_rps:g} requests per second from {client}; come back in {wait_s:.1f} s",
                retry_after_s=max(1, round(wait_s + 0.5)),
            )


class Admission:
    """Counts the requests that are being read and those that wait, and sheds what is too much."""

    def __init__(self, max_reading: int, max_waiting: int, rate_limit: RateLimit | None) -> None:
        self._max_reading = max_reading
        self._max_waiting = max_waiting
        self._rate_limit = rate_limit
        self.n_reading = 0
        self.n_waiting = 0
        self.n_shed = 0

    def start_reading(self, client: str) -> None:
        """Let a request send its body, or raise `Problem` 429 or 503."""
        try:
            if self._rate_limit is not None:
                self._rate_limit.check(client, time.monotonic())
            if self.n_reading >= self._max_reading:
                raise Problem(503, f"{self.n_reading} requests are being read already; try again", retry_after_s=1)
        except Problem:
            self.n_shed += 1
            raise
        self.n_reading += 1

    def start_waiting(self) -> None:
        """Let a request that was read wait for its score, or raise `Problem` 503."""
        if self.n_waiting >= self._max_waiting:
            self.n_shed += 1
            raise Problem(503, f"{self.n_waiting} requests are waiting already; try again", retry_after_s=1)
        self.n_waiting += 1

    def check_deadline(self, deadline_ms: float | None, began_s: float) -> None:
        """Raise `Problem` 503 when nobody can be waiting for the answer any more."""
        if deadline_ms is not None and (time.perf_counter() - began_s) * 1000.0 > deadline_ms:
            self.n_shed += 1
            raise Problem(503, f"the deadline of {deadline_ms:g} ms passed before scoring began", retry_after_s=1)


def read_deadline(text: bytes) -> float:
    """Return the milliseconds of a deadline header, counted from the request's arrival; `Problem` 400 if it is none."""
    try:
        deadline_ms = float(text)
    except ValueError:
        deadline_ms = -1.0
    if not 0.0 <= deadline_ms <= 3_600_000.0:
        raise Problem(400, f"X-Deadline-Ms is {text[:40]!r}; send milliseconds between 0 and 3600000")
    return deadline_ms
