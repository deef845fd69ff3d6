"""A rollout over the in-memory gateway: it promotes, holds when starved, and gives traffic back when it fails."""

import datetime as dt
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flows.adapters.flags import Slot
from flows.adapters.gateway_client import GatewayRefused, GatewayUnreachable, InMemoryGateway
from flows.adapters.request_log import first_slots
from flows.gateway.parquet_log import ColumnKind, LogLimits, ParquetLog
from flows.gateway.shadow import NO_SHADOW
from flows.rollout import NothingLive, Refused, RolloutResult, roll_out
from simulation.errors import LullError
from simulation.plan import Gate, Rollout

QUICK = Rollout(shadow_requests=5, canary_ratios=(0.1, 0.5), requests_per_step=20, step_timeout_s=5.0)
STARVED = QUICK.model_copy(update={"step_timeout_s": 0.02})


@dataclass
class Traffic:
    """Sends requests whenever the rollout waits; `breaks` marks the new slot's requests as failed instead."""

    gateway: InMemoryGateway
    per_look: int = 50
    breaks: Callable[[int], bool] = lambda _: False
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def __call__(self, _: float) -> None:
        for _, number in zip(range(self.per_look), self.numbers, strict=False):
            scored = self.gateway.score(f"request-{number}", f"customer-{number}", {})
            if scored.slot == "green" and self.breaks(number):
                view = self.gateway._slots["green"]
                update = {"n_served": view.n_served - 1, "n_failed": view.n_failed + 1}
                self.gateway._slots["green"] = view.model_copy(update=update)


@pytest.fixture
def gateway() -> InMemoryGateway:
    return gateway_with_version_1()


def gateway_with_version_1() -> InMemoryGateway:
    """Return a gateway with version 1 live in blue and a shadow that has seen enough."""
    found = InMemoryGateway(shadowed=NO_SHADOW.model_copy(update={"n": 5, "mean_abs_diff": 0.01}))
    found.load("blue", "1", "models/1")
    found.warm("blue")
    found.switch("blue")
    return found


def go(
    gateway: InMemoryGateway,
    rollout: Rollout = QUICK,
    *,
    traffic: Callable[[float], None] | None = None,
    note: Callable[[str], None] = lambda _: None,
    gates: Sequence[Gate] = (),
) -> RolloutResult:
    """Roll version 2 out."""
    return roll_out(
        gateway, version="2", package=Path("models/2"), digest=None, rollout=rollout, before_switch=note, gates=gates,
        sleep=traffic or Traffic(gateway),
    )  # fmt: skip


def shares(gateway: InMemoryGateway) -> dict[str, float]:
    """Return the share of each slot."""
    return dict(gateway.state().split)


def test_a_good_model_gets_all_traffic_and_the_old_one_stays_warm(gateway: InMemoryGateway) -> None:
    result = go(gateway)
    state = gateway.state()
    assert (result.verdict, result.slot_before, result.slot_after) == ("promoted", "blue", "green")
    assert (state.live, state.previous, state.slots["blue"].is_warm) == ("green", "blue", True)
    assert shares(gateway) == {"blue": 0.0, "green": 1.0}
    assert [step.name for step in result.steps] == [
        "load", "warm", "shadow", "canary 10%", "canary 50%", "switch", "rollback drill", "after the switch",
    ]  # fmt: skip
    assert result.drill_s is not None


def test_each_change_of_traffic_is_noted_before_it_happens(gateway: InMemoryGateway) -> None:
    seen: list[tuple[str, float]] = []
    go(gateway, note=lambda sentence: seen.append((sentence.split(":")[0], shares(gateway)["green"])))
    assert seen == [("canary", 0.0), ("canary", 0.1), ("switch", 0.5), ("drill", 1.0)]


def test_a_canary_that_starves_holds_and_takes_its_share_back(gateway: InMemoryGateway) -> None:
    result = go(gateway, STARVED, traffic=lambda _: None)
    assert (result.verdict, result.slot_after) == ("held", "blue")
    assert result.reasons == ["canary 10%: 0 requests reached the new model, the plan asks for 20"]
    assert shares(gateway) == {"blue": 1.0, "green": 0.0}


def test_a_failing_green_gives_traffic_back_to_blue(gateway: InMemoryGateway) -> None:
    noted: list[str] = []
    result = go(gateway, traffic=Traffic(gateway, breaks=lambda number: number % 2 == 0), note=noted.append)
    assert (result.verdict, result.slot_after) == ("rolled back", "blue")
    assert shares(gateway) == {"blue": 1.0, "green": 0.0}
    assert noted[-1].startswith("back to blue: canary 10%")
    assert "failed on the new model" in result.reasons[0]


def test_a_green_that_fails_only_once_it_has_everything_gives_everything_back(gateway: InMemoryGateway) -> None:
    result = go(gateway, traffic=Traffic(gateway, breaks=lambda _: gateway.state().live == "green"))
    assert (result.verdict, result.slot_after) == ("rolled back", "blue")
    assert gateway.state().live == "blue"
    assert [step.name for step in result.steps][-1] == "after the switch"


def test_a_green_that_nobody_asks_after_the_switch_is_not_called_promoted(gateway: InMemoryGateway) -> None:
    traffic = Traffic(gateway)
    result = go(
        gateway,
        QUICK.model_copy(update={"step_timeout_s": 0.3}),
        traffic=lambda wait: traffic(wait) if gateway.state().live == "blue" else None,
    )
    assert (result.verdict, gateway.state().live) == ("held", "blue")


@pytest.mark.parametrize("action", ["switch", "rollback", "split"])
def test_a_gateway_that_refuses_in_the_middle_leaves_everybody_with_blue(
    gateway: InMemoryGateway, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    calls = itertools.count()
    real = getattr(gateway, action)

    def refuse(*arguments: object, **more: object) -> object:
        # The second canary step is refused, the first switch, the first rollback; later calls work again.
        if next(calls) == (1 if action == "split" else 0):
            raise GatewayRefused("the disk is full", 503)
        return real(*arguments, **more)

    monkeypatch.setattr(gateway, action, refuse)
    result = go(gateway)
    assert (result.verdict, result.slot_after) == ("rolled back", "blue")
    assert result.reasons == ["the disk is full"]
    assert shares(gateway) == {"blue": 1.0, "green": 0.0}


def test_an_audit_log_that_breaks_in_the_middle_leaves_everybody_with_blue(gateway: InMemoryGateway) -> None:
    def note(sentence: str) -> None:
        if not sentence.startswith("canary: 10%"):
            raise LullError("the log was edited")

    with pytest.raises(LullError, match="the log was edited"):
        go(gateway, note=note)
    assert shares(gateway) == {"blue": 1.0, "green": 0.0}


def test_a_package_that_is_refused_moves_no_traffic(gateway: InMemoryGateway) -> None:
    gateway.corrupt["models/2"] = "models/2: the digest differs"
    with pytest.raises(GatewayRefused, match="the digest differs"):
        go(gateway)
    assert shares(gateway) == {"blue": 1.0, "green": 0.0}


def test_a_shadow_that_saw_too_little_or_failed_is_refused_before_traffic_moves(gateway: InMemoryGateway) -> None:
    gateway.shadowed = gateway.shadowed.model_copy(update={"n": 4})
    with pytest.raises(Refused, match="4 distinct requests were shadowed in time, the plan asks for 5"):
        go(gateway, STARVED)
    gateway.shadowed = gateway.shadowed.model_copy(update={"n": 5, "n_errors": 1})
    with pytest.raises(Refused, match="1 of 5 shadowed requests failed on the new model"):
        go(gateway)
    assert (shares(gateway), gateway.state().shadow) == ({"blue": 1.0, "green": 0.0}, None)


def test_an_empty_or_absent_gateway_is_one_sentence() -> None:
    with pytest.raises(NothingLive, match="no slot of the gateway is live"):
        go(InMemoryGateway())
    with pytest.raises(GatewayUnreachable):
        go(InMemoryGateway(is_down=True))


def test_a_gate_on_failures_that_too_few_requests_can_show_holds_before_the_switch(gateway: InMemoryGateway) -> None:
    # No finite number of requests shows that green is not worse by anything at all.
    gates = [Gate(metric="failed_ratio", role="guardrail", margin=0.0)]
    result = go(gateway, QUICK.model_copy(update={"step_timeout_s": 1.0}), gates=gates)
    assert (result.verdict, gateway.state().live) == ("held", "blue")
    assert result.reasons[0].startswith("canary 50%: ")
    loose = [Gate(metric="failed_ratio", role="guardrail", margin=0.2)]
    again = gateway_with_version_1()
    assert go(again, gates=loose, traffic=Traffic(again)).verdict == "promoted"


def test_failures_of_both_slots_are_counted_over_all_steps(gateway: InMemoryGateway) -> None:
    # Nine in ten requests of green fail from the first canary step on: it goes back before its 20 requests are there.
    plan = QUICK.model_copy(update={"requests_per_step": 10_000, "step_timeout_s": 60.0})
    result = go(gateway, plan, traffic=Traffic(gateway, breaks=lambda number: number % 10 != 0))
    assert result.verdict == "rolled back"
    assert "the new model fails more, surely" in result.reasons[0]


def test_a_slower_model_is_sent_back_by_what_the_shadow_timed(gateway: InMemoryGateway) -> None:
    gates = [Gate(metric="latency_ms", role="guardrail", margin=0.02)]
    view = gateway._slots["blue"]
    gateway._slots["blue"] = view.model_copy(update={"predict_p50_us": 50.0})
    slower = {"live_latencies_us": [50.0] * 500, "shadow_latencies_us": [90.0] * 500}
    gateway.shadowed = gateway.shadowed.model_copy(update={"n": 500} | slower)
    result = go(gateway, gates=gates)
    assert result.verdict == "rolled back"
    assert "the new model is slower, surely: by 0.04 ms on average" in result.reasons[0]


def test_a_gate_on_latency_that_nobody_timed_holds(gateway: InMemoryGateway) -> None:
    gates = [Gate(metric="latency_ms", role="guardrail", margin=5.0)]
    result = go(gateway, QUICK.model_copy(update={"step_timeout_s": 1.0}), gates=gates)
    assert result.verdict == "held"
    assert "latency: there is no evidence for this guardrail" in result.reasons[0]


@pytest.mark.parametrize(("every", "verdict"), [(10, "promoted"), (4, "held")])
def test_a_split_other_than_the_one_set_needs_a_person(gateway: InMemoryGateway, every: int, verdict: str) -> None:
    def first_slots(since: dt.datetime) -> dict[str, tuple[dt.datetime, Slot]]:
        at = since + dt.timedelta(seconds=2)
        slots: tuple[Slot, Slot] = ("blue", "green")
        return {f"customer-{i}": (at, slots[i % every == 0]) for i in range(600)}

    plan = QUICK.model_copy(update={"canary_ratios": (0.1,)})
    result = roll_out(
        gateway, version="2", package=Path("models/2"), digest=None, rollout=plan, before_switch=lambda _: None,
        first_slots=first_slots, sleep=Traffic(gateway),
    )  # fmt: skip
    assert result.verdict == verdict
    if verdict == "held":
        assert result.reasons[0].startswith(
            "needs a person: canary 10%: 150 of 600 entities were sent to the new model"
        )


def test_an_entity_counts_once_by_its_first_answer(tmp_path: Path) -> None:
    begun = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    columns: tuple[tuple[str, ColumnKind], ...] = (("entity", "text"), ("at_utc", "time"), ("slot", "text"))
    log = ParquetLog(tmp_path, "requests", columns, LogLimits(100, 60.0, 1000, 10**9))
    assert first_slots(tmp_path, begun) == {}
    for entity, second, slot in [("a", -1, "blue"), ("a", 3, "green"), ("b", 2, "blue"), ("b", 4, "green")]:
        log.append((entity, int((begun.timestamp() + second) * 1e6), slot))
    log.flush()
    found = first_slots(tmp_path, begun)
    assert {entity: ((at - begun).total_seconds(), slot) for entity, (at, slot) in found.items()} == {
        "a": (3.0, "green"), "b": (2.0, "blue"),
    }  # fmt: skip
