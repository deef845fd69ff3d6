"""The retrial pool: equal to its plain twin, true to its definition, true to theory, and clear when it refuses."""

import math
import types
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config as numba_config

from simulation.data_plane import retrial_kernel, retrial_pool
from simulation.data_plane.retrial_pool import Overloaded, RetrialPool, histogram_quantile
from simulation.errors import InvalidWorkload
from simulation.plan import Client, ServiceTime
from tests.simulation.reference_retrial import PlainPool, plain_uniform

GRID = 2.0**-10
compiled_only = pytest.mark.skipif(bool(numba_config.DISABLE_JIT), reason="millions of requests need the compiler")


def a_pool(
    *,
    servers: int = 1,
    mean_s: float = 1.0,
    scv: float = 1.0,
    distribution: Any = "deterministic",
    client: Client | None = None,
    queue_limit: int | None = None,
    slo_s: float = 2.0,
    seed: int = 1,
    n_minutes: int = 4,
) -> RetrialPool:
    """Return a pool with one-second services, patient clients and no limit, unless told otherwise."""
    return RetrialPool(
        servers=servers,
        service=ServiceTime(mean_ms=1000 * mean_s, scv=scv, distribution=distribution),
        client=client or Client(),
        queue_limit=queue_limit,
        slo_s=slo_s,
        seed=seed,
        n_minutes=n_minutes,
    )


# Without the compiler numpy warns of the wrap-around that hashing means.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered")


# Is it the algorithm? -------------------------------------------------------------------------------------------

times = st.integers(0, 12 * 1024).map(lambda n: n * GRID)
changes = st.one_of(
    st.tuples(st.just("servers"), st.integers(0, 4), st.sampled_from(["drain", "evict_and_requeue", "hand_over"])),
    st.tuples(st.just("slowdown"), st.sampled_from([0.5, 1.0, 1.3, 2.0, 3.0]), st.just("")),
    st.tuples(st.just("errors"), st.sampled_from([0.0, 0.3, 1.0]), st.just("")),
    st.tuples(st.just("nothing"), st.just(0), st.just("")),
)


@st.composite
def stories(draw: st.DrawFn) -> dict[str, Any]:
    """A pool, its arrivals, and what is changed when; times on a coarse grid, so that many things coincide."""
    coarse = st.integers(0, 48).map(lambda n: n * 0.25)
    return {
        "arrivals": sorted(draw(st.lists(st.one_of(coarse, times), min_size=1, max_size=30))),
        "servers": draw(st.integers(0, 4)),
        "mean_s": draw(st.sampled_from([0.25, 0.5, 1.0, 2.0])),
        "distribution": draw(st.sampled_from(["deterministic", "exponential", "lognormal"])),
        "timeout_ms": draw(st.sampled_from([None, 250, 500, 1000, 3000])),
        "retries": draw(st.integers(0, 3)),
        "backoff_ms": draw(st.sampled_from([0, 250, 500])),
        "jitter_ratio": draw(st.sampled_from([0.0, 0.5, 1.0])),
        "budget_ratio": draw(st.sampled_from([None, 0.0, 0.1, 1.0])),
        "queue_limit": draw(st.sampled_from([None, 0, 1, 3, 8])),
        "seed": draw(st.integers(0, 2**31)),
        "changes": sorted(draw(st.lists(st.tuples(st.one_of(coarse, times), changes), max_size=6)), key=lambda c: c[0]),
    }


def the_pool(story: dict[str, Any]) -> RetrialPool:
    client = Client(
        timeout_ms=story["timeout_ms"],
        retries=story["retries"],
        backoff_ms=story["backoff_ms"],
        jitter_ratio=story["jitter_ratio"],
        retry_budget_ratio=story["budget_ratio"],
    )
    keys = ("servers", "mean_s", "distribution", "queue_limit", "seed")
    return a_pool(client=client, **{key: story[key] for key in keys})


def the_twin(story: dict[str, Any]) -> PlainPool:
    seed, kind = story["seed"], retrial_pool._KINDS[story["distribution"]]

    def work(request: int, attempt: int) -> float:
        return float(retrial_kernel.service_draw(seed, request, attempt, kind, story["mean_s"], 1.0))

    return PlainPool(
        servers=story["servers"],
        work_of=work,
        draw=lambda request, attempt, purpose: plain_uniform(seed, request, attempt, purpose),
        timeout_s=math.inf if story["timeout_ms"] is None else story["timeout_ms"] / 1000,
        retries=story["retries"],
        backoff_s=story["backoff_ms"] / 1000,
        jitter_ratio=story["jitter_ratio"],
        budget_ratio=story["budget_ratio"],
        queue_limit=story["queue_limit"],
    )


def apply(pool: RetrialPool | PlainPool, change: tuple[str, Any, str]) -> None:
    name, value, running_work = change
    if name == "servers":
        pool.set_servers(value, running_work)  # type: ignore[arg-type]
    elif name == "slowdown":
        pool.set_slowdown(value)
    elif name == "errors" and isinstance(pool, RetrialPool):
        pool.set_error_ratio(value)
    elif name == "errors":
        pool.error_ratio = value


def assert_equal(pool: RetrialPool, twin: PlainPool, slo_s: float = 2.0) -> None:
    """Compare all that a pool shows: counts, state, minutes to the last bit, histogram."""
    counts, fates = pool.counts(), Counter(fate for _, _, _, fate in twin.ended)
    assert (counts.offered, counts.attempts) == (twin.n_offered, twin.n_attempts)
    assert (counts.served, counts.rejected) == (fates["served"], fates["rejected"])
    assert (counts.timed_out, counts.failed) == (fates["timed_out"], fates["failed"])
    assert counts.in_flight == twin.in_flight
    assert (pool.queue_length, pool.busy) == (len(twin.waiting), len(twin.running))
    is_good = [fate == "served" and end - first <= slo_s for end, first, _, fate in twin.ended]
    assert counts.good == sum(is_good)
    rows = np.zeros_like(pool.minutes)
    histogram = np.zeros_like(pool.histogram)
    for (end, first, _, fate), good in zip(twin.ended, is_good, strict=True):
        row = rows[min(int(end // 60), len(rows) - 1)]
        row[[retrial_kernel.M_DONE, retrial_kernel.M_BAD, retrial_kernel.M_FAILED]] += 1, not good, fate != "served"
        row[retrial_kernel.M_LATENCY] += end - first  # in the order of ends, as the kernel adds
        if fate == "served":
            bucket = 1 + int(math.log((end - first) / 1e-5) / math.log(1.015)) if end - first > 1e-5 else 0
            histogram[bucket] += 1
    for at, length in twin.longest_queue:
        row = rows[min(int(at // 60), len(rows) - 1)]
        row[retrial_kernel.M_QUEUE_MAX] = max(row[retrial_kernel.M_QUEUE_MAX], length)
    rows[:, retrial_kernel.M_OFFERED] = pool.minutes[:, retrial_kernel.M_OFFERED]  # its sum is `offered`, above
    assert pool.minutes[:, retrial_kernel.M_OFFERED].sum() == twin.n_offered
    assert pool.minutes.tolist() == rows.tolist()
    assert pool.histogram.tolist() == histogram.tolist()


def play_both(story: dict[str, Any]) -> None:
    pool, twin = the_pool(story), the_twin(story)
    pool.offer(np.array(story["arrivals"]))
    twin.offer(list(story["arrivals"]))
    for at, change in story["changes"]:
        pool.advance(at)
        twin.advance(at)
        apply(pool, change)
        apply(twin, change)
        assert_equal(pool, twin)
    for until in (13.0, 200.0):
        pool.advance(until)
        twin.advance(until)
        assert_equal(pool, twin)


@settings(deadline=None, max_examples=250 if not numba_config.DISABLE_JIT else 60)
@given(stories())
def test_the_compiled_pool_is_its_plain_twin_bit_for_bit(story: dict[str, Any]) -> None:
    play_both(story)


@settings(deadline=None, max_examples=100 if not numba_config.DISABLE_JIT else 30)
@given(stories(), st.lists(times, max_size=8))
def test_a_run_split_at_any_instants_is_one_run(story: dict[str, Any], stops: list[float]) -> None:
    whole, parts = the_pool(story), the_pool(story)
    whole.offer(np.array(story["arrivals"]))
    for stop in [*sorted(stops), math.nan]:
        # Arrivals come in chunks as well: those before the stop are offered just before it is played.
        chunk = [a for a in story["arrivals"] if (math.isnan(stop) or a < stop) and a >= parts.now_s]
        parts.offer(np.array(chunk))
        parts.advance(500.0 if math.isnan(stop) else stop)
    whole.advance(500.0)
    assert parts.fingerprint() == whole.fingerprint()
    assert parts.counts() == whole.counts()


@given(st.integers(0, 2**62), st.integers(0, 2**40), st.integers(0, 20), st.integers(0, 70))
@settings(deadline=None)
def test_the_compiled_draw_is_the_plain_one(seed: int, request: int, attempt: int, purpose: int) -> None:
    assert retrial_kernel.uniform(seed, request, attempt, purpose) == plain_uniform(seed, request, attempt, purpose)


def test_rings_that_had_to_grow_change_nothing() -> None:
    """Five thousand open attempts and retries: the room of 1,024 and 256 places grows in the midst of the run."""
    n = 1500 if numba_config.DISABLE_JIT else 3000
    story = {
        "arrivals": [i * GRID for i in range(n)], "servers": 3, "mean_s": 0.25, "distribution": "exponential",
        "timeout_ms": 500, "retries": 2, "backoff_ms": 1000, "jitter_ratio": 1.0, "budget_ratio": None,
        "queue_limit": None, "seed": 5,
    }  # fmt: skip
    pool, twin = the_pool(story), the_twin(story)
    pool.offer(np.array(story["arrivals"]))
    pool.advance(6.0)
    grown_ring, grown_retries = pool._ring_int.shape[0], pool._retry_times.size
    assert grown_ring > 1024
    assert grown_retries > 256
    pool.advance(2000.0)
    counts = pool.counts()
    assert counts.in_flight == 0
    # The plain twin is too slow for thousands; its fates are checked on the law that every request ends once.
    assert counts.served + counts.timed_out == n
    assert counts.attempts <= 3 * n
    small = {**story, "arrivals": story["arrivals"][:200], "changes": []}
    play_both(small)
    assert twin.n_offered == 0


MUTATIONS = {
    "a completion at the deadline is late": ("if t_done == now:", "if t_done == now and not t_out == now:"),
    "the queue holds one too many": ("ints[N_WAITING] >= limit:", "ints[N_WAITING] > limit:"),
    "an idle server beside a queue": (
        "            start_waiting(now, kind, seed, reals, ints, ring_real, ring_int, finish, slots)\n"
        "        elif t_out == now:",
        "        elif t_out == now:",
    ),
    "one retry too many": ("may_retry = attempt < retries", "may_retry = attempt <= retries"),
    "the budget is not spent": ("reals[BUDGET] -= 1.0", "reals[BUDGET] -= 0.0"),
    "jitter only lengthens": ("(2.0 * uniform(", "(2.0 + uniform("),
    "latency counts from the last attempt": (
        "latency = now - ring_real[slot, 1]",
        "latency = now - ring_real[slot, 0]",
    ),
    "a late event at the epoch": ("if not now < until:", "if not now <= until:"),
    "slowdown is forgotten": ("now + work * reals[SLOWDOWN]", "now + work"),
    "the heap loses its order": ("if times[child] > time or", "if times[child] >= time + 1.0 or"),
    "a client that left is served": ("if ring_int[slot, 3] == 0:", "if ring_int[slot, 3] >= 0:"),
    "retries lose their first arrival": (
        "now, retry_real[place], retry_int[place, 0]",
        "now, now, retry_int[place, 0]",
    ),
    "the same draw for every attempt": (
        "service_draw(seed, ring_int[slot, 0], ring_int[slot, 1],",
        "service_draw(seed, ring_int[slot, 0], 0,",
    ),
}

# Stories in which every rule matters at least once.
TELLING = [
    {
        "arrivals": [0.0, 0.0, 0.25, 0.25, 0.5, 0.5, 1.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.25, 4.0, 6.0, 6.0, 9.0],
        "servers": servers, "mean_s": mean_s, "distribution": distribution, "timeout_ms": timeout_ms, "retries": 2,
        "backoff_ms": 250, "jitter_ratio": jitter, "budget_ratio": budget, "queue_limit": limit, "seed": 11,
        "changes": [(1.0, ("slowdown", 2.0, "")), (2.0, ("servers", 1, "evict_and_requeue")),
                    (4.0, ("servers", 3, "drain")), (5.0, ("slowdown", 1.0, ""))],
    }
    for servers, mean_s, distribution, timeout_ms, jitter, budget, limit in [
        (2, 0.5, "deterministic", 1000, 0.0, None, None),
        (2, 1.0, "exponential", 500, 0.5, None, None),
        (1, 0.5, "deterministic", 500, 1.0, 0.0, 2),
        (3, 1.0, "exponential", None, 0.0, None, 1),
        (1, 1.0, "deterministic", 250, 0.0, 0.0, None),  # more than ten give up: the budget runs out
    ]
]  # fmt: skip


def play_telling() -> None:
    for story in TELLING:
        play_both(story)


def mutated(old: str, new: str) -> types.ModuleType:
    """Return the kernel with one line changed, run as plain Python."""
    source = Path(retrial_kernel.__file__).read_text(encoding="utf-8")
    assert old in source, f"the kernel no longer says {old!r}; plant the error anew"
    source = source.replace(old, new).replace(
        "from numba import njit", "def njit(**options):\n    return lambda function: function"
    )
    module = types.ModuleType("mutated_kernel")
    exec(compile(source, "mutated_kernel", "exec"), module.__dict__)
    return module


def test_the_telling_stories_pass_on_the_true_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrial_pool, "k", mutated("", ""))
    play_telling()


@pytest.mark.parametrize("error", list(MUTATIONS))
def test_the_twin_catches_a_planted_error(error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrial_pool, "k", mutated(*MUTATIONS[error]))
    # A planted error may also break the pool's own law of conservation: an AssertionError as well.
    with pytest.raises(AssertionError):
        play_telling()


# Does it obey its definition? ----------------------------------------------------------------------------------


def test_three_jobs_drain_through_a_capacity_that_comes_and_goes() -> None:
    pool = a_pool(servers=0, mean_s=5.0)
    pool.offer(np.zeros(3))
    served: dict[float, int] = {}
    for at, servers in ((5.0, 1), (10.0, 0), (15.0, 1)):
        pool.advance(at)
        pool.set_servers(servers, "drain")
    for at in (20.0, 25.0):
        pool.advance(at)
        served[at] = pool.counts().served
        pool.advance(at + GRID)
        served[at + GRID] = pool.counts().served
    assert served == {20.0: 1, 20.0 + GRID: 2, 25.0: 2, 25.0 + GRID: 3}
    assert pool.minutes[:, retrial_kernel.M_LATENCY].sum() == 10.0 + 20.0 + 25.0


def test_an_evicted_job_begins_anew_and_a_handed_over_one_goes_on() -> None:
    ends = {}
    for running_work in ("drain", "evict_and_requeue", "hand_over"):
        pool = a_pool(mean_s=5.0)
        pool.offer(np.zeros(1))
        pool.advance(3.0)
        pool.set_servers(0, running_work)  # type: ignore[arg-type]
        pool.advance(10.0)
        pool.set_servers(1)
        pool.advance(60.0)
        ends[running_work] = pool.minutes[:, retrial_kernel.M_LATENCY].sum()
    assert ends == {"drain": 5.0, "evict_and_requeue": 15.0, "hand_over": 12.0}


def test_slowing_stretches_only_what_is_left() -> None:
    pool = a_pool(mean_s=4.0)
    pool.offer(np.zeros(1))
    pool.advance(1.0)
    pool.set_slowdown(2.0)
    pool.advance(60.0)
    assert pool.minutes[:, retrial_kernel.M_LATENCY].sum() == 1.0 + 3.0 * 2.0


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=25),
    st.integers(1, 3),
    st.integers(1, 4),
    st.sampled_from([None, 2000, 3000]),
    st.sampled_from([None, 0, 2]),
)
def test_littles_law_is_an_identity(
    arrivals: list[int], servers: int, mean_s: int, timeout_ms: int | None, limit: int | None
) -> None:
    """The sum of latencies is the integral of the number in flight, both exact on whole seconds."""
    client = Client(timeout_ms=timeout_ms, retries=1, backoff_ms=1000)
    pool = a_pool(servers=servers, mean_s=mean_s, client=client, queue_limit=limit)
    pool.offer(np.array(sorted(arrivals), dtype=float))
    integral = 0
    for second in range(200):
        pool.advance(second + 0.5)
        integral += pool.counts().in_flight
    assert pool.counts().in_flight == 0
    assert pool.minutes[:, retrial_kernel.M_LATENCY].sum() == integral


def test_a_pool_that_loses_a_request_says_so() -> None:
    pool = a_pool()
    pool.offer(np.zeros(3))
    pool.advance(1.5)
    pool._ints[retrial_kernel.SERVED] += 1
    with pytest.raises(retrial_pool.ConservationBroken, match=r"3 requests came, 2 ended and 2 are in flight"):
        pool.counts()


@pytest.mark.parametrize("longest_s", [1.0, 86_400.0])
def test_a_latency_quantile_is_right_within_one_percent_up_to_a_whole_day(longest_s: float) -> None:
    rng = np.random.default_rng(3)
    latencies = np.exp(rng.uniform(np.log(1e-4), np.log(longest_s), 2001))
    reals, ints = np.zeros(retrial_kernel.N_REALS), np.zeros(retrial_kernel.N_INTEGERS, dtype=np.int64)
    histogram = np.zeros(retrial_kernel.HISTOGRAM_BUCKETS, dtype=np.int64)
    minutes = np.zeros((1, retrial_kernel.N_MINUTE))
    for latency in latencies:
        retrial_kernel.record_end(latency, 0.0, True, False, reals, ints, histogram, minutes)
    for level in (0.001, 0.5, 0.95, 0.99, 0.999, 1.0):
        true = np.quantile(latencies, level, method="inverted_cdf")
        assert histogram_quantile(histogram, level) == pytest.approx(true, rel=0.01)


def test_no_request_gives_no_quantile() -> None:
    assert math.isnan(histogram_quantile(np.zeros(retrial_kernel.HISTOGRAM_BUCKETS, dtype=np.int64), 0.5))


@pytest.mark.parametrize(
    ("distribution", "scv"),
    [("deterministic", 0.0), ("exponential", 1.0), ("erlang", 0.5), ("lognormal", 4.0), ("hyperexponential", 4.0)],
)
def test_service_draws_have_their_mean_and_spread(distribution: str, scv: float) -> None:
    n, kind = 4000, retrial_pool._KINDS[distribution]
    draws = np.array([retrial_kernel.service_draw(3, i, 0, kind, 2.0, scv) for i in range(n)])
    assert draws.mean() == pytest.approx(2.0, abs=4 * 2.0 * math.sqrt(scv / n) + 1e-12)
    if scv <= 1:  # the sample variance of heavy tails says little at this size
        assert draws.var() / 4.0 == pytest.approx(scv, abs=0.15 * scv + 1e-12)


# Does it refuse well? --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"servers": -1}, "servers -1"),
        ({"n_minutes": 0}, "n_minutes 0"),
        ({"distribution": "hyperexponential", "scv": 0.5}, "hyperexponential needs 1 or more"),
        ({"distribution": "erlang", "scv": 2.0}, "an Erlang needs 1/stages"),
        ({"distribution": "erlang", "scv": 0.3}, "an Erlang needs 1/stages"),
    ],
)
def test_a_pool_that_cannot_be_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidWorkload, match=sentence):
        a_pool(**changes)


def test_calls_that_make_no_sense_are_refused() -> None:
    pool = a_pool()
    for bad in ([1.0, 0.5], [math.nan], [math.inf]):
        with pytest.raises(InvalidWorkload, match="in order"):
            pool.offer(np.array(bad))
    pool.offer(np.array([1.0, 3.0]))
    with pytest.raises(InvalidWorkload, match="not before what was offered"):
        pool.offer(np.array([2.0]))
    pool.advance(5.0)
    with pytest.raises(InvalidWorkload, match="played already"):
        pool.advance(4.0)
    with pytest.raises(InvalidWorkload, match="not before what was offered or played"):
        pool.offer(np.array([4.0]))
    with pytest.raises(InvalidWorkload, match="negative"):
        pool.set_servers(-1)
    for factor in (0.0, math.nan, math.inf):
        with pytest.raises(InvalidWorkload, match="slowdown"):
            pool.set_slowdown(factor)
    with pytest.raises(InvalidWorkload, match="error ratio"):
        pool.set_error_ratio(1.5)


def test_a_backlog_past_all_bounds_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrial_pool, "_MOST_OPEN", 2048)
    pool = a_pool(servers=0)
    pool.offer(np.arange(4000) * GRID)
    with pytest.raises(Overloaded, match="overloaded at"):
        pool.advance(10.0)


# Is it true? -----------------------------------------------------------------------------------------------------

BATCHES = 40


def poisson(rate: float, n: int, seed: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, n))


def batch_ratio(top: np.ndarray, below: np.ndarray) -> tuple[float, float]:
    """Return a ratio of sums and its standard error from batches, the first tenth of the rows left out as warm-up."""
    rows = np.array_split(np.arange(len(top) // 10, len(top) - 1), BATCHES)
    ratios = np.array([top[r].sum() / below[r].sum() for r in rows])
    return float(ratios.mean()), float(ratios.std(ddof=1) / math.sqrt(BATCHES))


def long_run(rate: float, n: int, **settings_: Any) -> np.ndarray:
    """Return the counters per minute of a long run."""
    arrivals = poisson(rate, n, seed=17)
    pool = a_pool(n_minutes=int(arrivals[-1] // 60) + 1, **settings_)
    pool.offer(arrivals)
    pool.advance(float(arrivals[-1]))
    return pool.minutes


@compiled_only
@pytest.mark.theory
@pytest.mark.parametrize(
    ("rate", "servers", "wait_s"),
    [(0.8, 1, 4.0), (1.8, 2, 4.263157895), (9.0, 10, 0.6687315241), (95.0, 100, 0.1012913708)],
)
def test_the_mean_wait_is_erlangs(rate: float, servers: int, wait_s: float) -> None:
    minutes = long_run(rate, 3_000_000, servers=servers, distribution="exponential")
    mean, error = batch_ratio(minutes[:, retrial_kernel.M_LATENCY], minutes[:, retrial_kernel.M_DONE])
    assert abs(mean - 1.0 - wait_s) < 4 * error
    assert error < 0.03 * (1.0 + wait_s)  # a run too short would agree with everything


@compiled_only
@pytest.mark.theory
@pytest.mark.parametrize(
    ("rate", "distribution", "scv", "wait_s"),
    [
        (0.5, "deterministic", 0.0, 0.5), (0.8, "deterministic", 0.0, 2.0), (0.9, "deterministic", 0.0, 4.5),
        (0.5, "erlang", 0.5, 0.75), (0.8, "erlang", 0.5, 3.0), (0.9, "erlang", 0.5, 6.75),
        (0.5, "hyperexponential", 4.0, 2.5), (0.8, "hyperexponential", 4.0, 10.0),
        (0.9, "hyperexponential", 4.0, 22.5),
        (0.5, "lognormal", 4.0, 2.5), (0.8, "lognormal", 4.0, 10.0), (0.9, "lognormal", 4.0, 22.5),
    ],
)  # fmt: skip
def test_the_mean_wait_is_pollaczeks_and_khinchines(rate: float, distribution: str, scv: float, wait_s: float) -> None:
    minutes = long_run(rate, 3_000_000, distribution=distribution, scv=scv)
    mean, error = batch_ratio(minutes[:, retrial_kernel.M_LATENCY], minutes[:, retrial_kernel.M_DONE])
    assert abs(mean - 1.0 - wait_s) < 4 * error
    assert error < 0.08 * (1.0 + wait_s)


@compiled_only
@pytest.mark.theory
@pytest.mark.parametrize(
    ("rate", "mean_s", "servers", "room", "p_block", "wait_s"),
    [
        (3.0, 0.25, 2, 1, 0.04936014625, 0.01730769231),
        (9.0, 1.0, 10, 5, 0.06125876183, 0.1262766334),
        (10.0, 1.0, 10, 0, 0.2145823431, 0.0),
    ],
)
def test_a_finite_room_blocks_as_often_as_theory_says(
    rate: float, mean_s: float, servers: int, room: int, p_block: float, wait_s: float
) -> None:
    minutes = long_run(rate, 2_000_000, servers=servers, mean_s=mean_s, distribution="exponential", queue_limit=room)
    done, failed = minutes[:, retrial_kernel.M_DONE], minutes[:, retrial_kernel.M_FAILED]
    blocked, error = batch_ratio(failed, done)
    assert abs(blocked - p_block) < 4 * error
    assert error < 0.01 * p_block
    mean, error = batch_ratio(minutes[:, retrial_kernel.M_LATENCY], done - failed)
    assert abs(mean - mean_s - wait_s) < 4 * error


@compiled_only
@pytest.mark.theory
def test_the_number_present_follows_a_capacity_that_shrinks_and_comes_back() -> None:
    """
    λ 8, μ 1, 10 servers, 7 on [20, 50). With exponential services a hand-over is the chain's "evict and requeue"
    (what is left is as long as a fresh draw); eviction that repeats the same requirement must be worse.
    """
    looks = (5.0, 20.0, 21.0, 30.0, 50.0)
    n = {way: np.empty((2000, len(looks))) for way in ("drain", "hand_over", "evict_and_requeue")}
    for trial in range(2000):
        arrivals = poisson(8.0, 520, seed=trial)
        for way, found in n.items():
            pool = a_pool(servers=10, distribution="exponential", seed=trial, n_minutes=1)
            pool.offer(arrivals)
            for j, at in enumerate(looks):
                pool.advance(at)
                found[trial, j] = pool.busy + pool.queue_length
                if at == 20.0:
                    pool.set_servers(7, way)  # type: ignore[arg-type]
    exact = {
        "drain": {0: 8.71915078, 2: 10.7949060, 3: 21.8571198, 4: 42.8998533},
        "hand_over": {0: 8.71915078, 2: 11.0966996, 3: 22.0950214, 4: 43.1191179},
    }
    for way, row in exact.items():
        for j, value in row.items():
            assert abs(n[way][:, j].mean() - value) < 4 * n[way][:, j].std(ddof=1) / math.sqrt(2000)
    gap = n["hand_over"][:, 2] - n["drain"][:, 2]
    assert abs(gap.mean() - (11.0966996 - 10.7949060)) < 4 * gap.std(ddof=1) / math.sqrt(2000)
    assert n["evict_and_requeue"][:, 3].mean() > n["hand_over"][:, 3].mean()


def is_stuck(seed: int, **client: Any) -> bool:
    """Say whether the golden pool fails most requests of [1600, 2000) s, long after its dip on [200, 320)."""
    limit = client.pop("queue_limit", None)
    pool = a_pool(
        servers=10, distribution="exponential", seed=seed, queue_limit=limit, n_minutes=40, slo_s=3.0,
        client=Client(timeout_ms=3000, **client),
    )  # fmt: skip
    arrivals = poisson(8.0, 17_000, seed=seed)
    pool.offer(arrivals[arrivals < 2100])
    for at, servers in ((200.0, 5), (320.0, 10)):
        pool.advance(at)
        pool.set_servers(servers, "drain")
    pool.advance(1600.0)  # a while, so that a passing burst is not taken for a bad state
    before = pool.counts()
    pool.advance(2000.0)
    after = pool.counts()
    return (after.good - before.good) < 0.5 * (after.offered - before.offered)


@compiled_only
@pytest.mark.theory
@pytest.mark.parametrize(
    ("client", "n_stuck"),
    [
        ({"retries": 0}, 0),
        ({"retries": 1}, 10),
        ({"retries": 3}, 10),
        ({"retries": 3, "queue_limit": 15}, 0),
        ({"retries": 3, "retry_budget_ratio": 0.1}, 0),
    ],
)
def test_retries_keep_a_pool_down_after_its_trigger_is_gone(client: dict[str, Any], n_stuck: int) -> None:
    assert sum(is_stuck(seed, **client) for seed in range(10)) == n_stuck
