"""What the gateway says becomes what the rules know, and the plan's triggers judge it, as in the simulated night."""

import math
from pathlib import Path

import httpx
import pytest

from flows.adapters.gateway_client import GatewayClient, GatewayRefused, GatewayUnreachable, InMemoryGateway
from flows.domain.triggers import make_rules
from flows.gateway.metrics import Metrics
from flows.pressure import LOOK_S, Pressure, Reading, observe, read_page
from simulation.control_plane import controller
from simulation.plan import Plan, Trigger
from simulation.plan_file import read_plan
from simulation.rules import Action

TRIGGERS = (
    Trigger(name="pause-on-wait", observe="p99_ms", above=400, clears_below=250, for_s=20, clears_for_s=30),
    Trigger(name="stop-on-errors", observe="error_ratio", above=0.5, clears_below=0.1, action="stop"),
)


@pytest.fixture(scope="module")
def plan() -> Plan:
    found = read_plan(Path(__file__).parents[2] / "examples" / "plan.yaml")
    return found.model_copy(update={"triggers": TRIGGERS})


class Gateway:
    """A gateway's own metrics, asked ten seconds after ten seconds."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.problem: Exception | None = None

    def page(self) -> str:
        if self.problem is not None:
            raise self.problem
        return self.metrics.text(InMemoryGateway().state(), 2, 3).decode()

    def serve(self, n: int, latency_s: float, n_failed: int = 0) -> None:
        for _ in range(n):
            self.metrics.count("blue", "1", 200)
            self.metrics.observe_latency_s(latency_s)
        if n_failed:
            self.metrics.count("", "", 503, n_failed)


def test_the_looks_are_as_far_apart_as_the_simulated_ones() -> None:
    assert LOOK_S == controller.LOOK_S


def test_a_page_of_the_gateway_is_read_as_it_counted() -> None:
    gateway = Gateway()
    gateway.serve(7, 0.03, n_failed=2)
    gateway.metrics.count("", "", 422)
    gateway.metrics.count("", "", 429)
    found = read_page(gateway.page())
    assert (found.n_answered, found.n_failed, found.n_waiting) == (7, 3, 5)
    assert found.n_within[0.02] == 0
    assert found.n_within[0.05] == found.n_within[math.inf] == 7


def test_what_happened_between_two_readings_is_what_the_rules_know() -> None:
    before = Reading(100, 5, {0.1: 50, 0.5: 100, math.inf: 100}, 9)
    after = Reading(200, 30, {0.1: 110, 0.5: 190, math.inf: 200}, 4)
    found = observe(before, after, span_s=10.0, latency_ms=300.0)
    assert (found.n_finished, found.load_rps, found.queue_length) == (125, 12.5, 4)
    assert found.error_ratio == 25 / 125
    # 60 within 100 ms, 30 up to 500 ms: half of those within 300 ms; 10 beyond are late for sure.
    assert found.bad_ratio == pytest.approx((25 + 25) / 125)
    assert found.p50_ms == pytest.approx(100 * 50 / 60)
    assert found.p99_ms == 500.0, "in the open bucket: at least its lower bound"


def test_nothing_finished_is_no_latency_and_no_error() -> None:
    still = Reading(10, 0, {0.1: 10, math.inf: 10}, 0)
    found = observe(still, still, span_s=10.0, latency_ms=300.0)
    assert math.isnan(found.p99_ms)
    assert (found.n_finished, found.load_rps, found.bad_ratio, found.error_ratio) == (0, 0.0, 0.0, 0.0)


def test_a_gateway_that_restarted_is_read_from_zero() -> None:
    found = observe(Reading(1000, 9, {math.inf: 1000}, 0), Reading(20, 0, {math.inf: 20}, 0), span_s=10.0, latency_ms=1)
    assert found.load_rps == 2.0


def looks(pressure: Pressure, gateway: Gateway, latencies_s: list[float], begin_s: float) -> list[Action | None]:
    actions: list[Action | None] = []
    for i, latency_s in enumerate(latencies_s):
        gateway.serve(50, latency_s)
        decision = pressure.look(begin_s + LOOK_S * i, is_paused=False, seconds_to_cutoff=3600.0)
        actions.append(decision.action if decision is not None else None)
    return actions


def test_a_surge_pauses_and_its_end_continues_with_hysteresis(plan: Plan) -> None:
    gateway = Gateway()
    pressure = Pressure(plan, gateway.page, timeout_s=2.0)
    sequence = [0.03] * 2 + [0.9] * 4 + [0.03] * 5
    go, hold = Action.CONTINUE, Action.PAUSE
    assert looks(pressure, gateway, sequence, 0.0) == [None, go, go, go, hold, hold, hold, hold, hold, go, go]


def test_the_rules_are_the_very_function_that_the_simulator_is_handed(plan: Plan) -> None:
    gateway, told = Gateway(), []
    rules = make_rules(plan.triggers)

    def listening(observation: object, memory: object) -> object:
        told.append(observation)
        return rules(observation, memory)  # type: ignore[arg-type]  # passed through as it came

    pressure = Pressure(plan, gateway.page, timeout_s=2.0, rules=listening)  # type: ignore[arg-type]  # as above
    actions = looks(pressure, gateway, [0.03, 0.9, 0.9, 0.9, 0.03, 0.9, 0.03], 0.0)
    memory, again = None, []
    for observation in told:
        decision, memory = make_rules(plan.triggers)(observation, memory)  # type: ignore[arg-type]  # as above
        again.append(decision.action)
    assert actions == [None, *again]
    assert [o.at_s for o in told] == [LOOK_S * i for i in range(1, 7)]  # type: ignore[attr-defined]  # an Observation


def test_failed_requests_stop_when_the_plan_says_so(plan: Plan) -> None:
    gateway = Gateway()
    pressure = Pressure(plan, gateway.page, timeout_s=2.0)
    pressure.look(0.0, is_paused=False, seconds_to_cutoff=1.0)
    gateway.serve(10, 0.01, n_failed=90)
    found = pressure.look(10.0, is_paused=False, seconds_to_cutoff=1.0)
    assert found is not None
    assert (found.action, found.reason.partition(":")[0]) == (Action.STOP, "stop-on-errors")


@pytest.mark.parametrize(
    "problem", [GatewayUnreachable("no gateway answers at http://nowhere"), GatewayRefused("busy", 503)]
)
def test_a_gateway_that_is_gone_is_told_and_changes_nothing(plan: Plan, problem: Exception) -> None:
    gateway = Gateway()
    pressure = Pressure(plan, gateway.page, timeout_s=2.0)
    looks(pressure, gateway, [0.03, 0.03], 0.0)
    gateway.problem = problem
    assert pressure.look(20.0, is_paused=False, seconds_to_cutoff=1.0) is None
    assert pressure.blind == str(problem)
    gateway.problem = None
    assert looks(pressure, gateway, [0.03, 0.03], 30.0) == [None, Action.CONTINUE]
    assert pressure.blind == ""


def test_a_gateway_too_slow_to_say_how_it_is_makes_its_users_wait(plan: Plan) -> None:
    gateway = Gateway()
    pressure = Pressure(plan, gateway.page, timeout_s=2.0)
    gateway.problem = GatewayUnreachable("did not answer /metrics in time")
    gateway.problem.__cause__ = httpx.ReadTimeout("too slow")
    actions = looks(pressure, gateway, [0.03] * 4, 0.0)
    assert actions == [Action.CONTINUE, Action.CONTINUE, Action.PAUSE, Action.PAUSE]


def test_the_page_comes_over_http_from_the_gateway_client() -> None:
    gateway = Gateway()
    gateway.serve(3, 0.01)
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=gateway.page()))
    with GatewayClient("http://gateway", transport=transport) as client:
        assert read_page(client.metrics()).n_answered == 3
