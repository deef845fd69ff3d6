"""The gateway over HTTP and its twin in memory keep one contract: same calls, same answers, same refusals."""

import httpx
import pytest

from flows.adapters.gateway_client import GatewayClient, GatewayRefused, GatewayUnreachable, InMemoryGateway, connect
from flows.gateway.settings import GatewaySettings


@pytest.fixture(params=["http", "memory"])
def port(request, pack, trained, tmp_path):
    """A gateway with version 1 live in blue and version 2 loaded, not warm, in green; bank/broken is corrupt."""
    if request.param == "http":
        for version in ("1", "2", "3", "broken"):
            pack(version, booster=trained.second if version == "2" else None)
        (tmp_path / "models" / "bank" / "broken" / "model.txt").write_text("tree")
        gateway = request.getfixturevalue("gateway").client
    else:
        gateway = InMemoryGateway(corrupt={"bank/broken": "model.txt is corrupt: its SHA-256 is not the one"})
    gateway.load("blue", "1", "bank/1")
    gateway.warm("blue")
    gateway.switch("blue", reason="bootstrap")
    gateway.load("green", "2", "bank/2")
    return gateway


def refused(call, said, status=409):
    with pytest.raises(GatewayRefused, match=said) as caught:
        call()
    assert caught.value.status == status


def test_the_state_names_slots_versions_and_the_live_one(port):
    state = port.state()
    assert (state.live, state.previous, state.split) == ("blue", None, {"blue": 1.0, "green": 0.0})
    assert (state.slots["blue"].version, state.slots["green"].version) == ("1", "2")
    assert (state.slots["blue"].is_warm, state.slots["green"].is_warm) == (True, False)
    assert state.slots["blue"].is_live
    assert not state.slots["green"].is_live
    assert state.slot_of("2") == "green"
    assert state.reason == "bootstrap"
    assert port.is_ready()


def test_a_cold_slot_takes_no_traffic(port):
    refused(lambda: port.switch("green"), "slot green is not warm")
    refused(lambda: port.split("green", 0.1), "slot green is not warm")
    refused(lambda: port.shadow("green", True), "slot green is not warm")
    assert port.state().split == {"blue": 1.0, "green": 0.0}


def test_the_live_slot_is_neither_filled_nor_emptied_nor_shadowed(port):
    refused(lambda: port.load("blue", "3", "bank/3"), "slot blue is live")
    refused(lambda: port.unload("blue"), "slot blue is live")
    refused(lambda: port.shadow("blue", True), "slot blue is live")
    refused(lambda: port.split("blue", 0.5), "slot blue is live")
    assert port.state().slots["blue"].version == "1"


def test_a_corrupt_package_leaves_the_slot_as_it_was(port):
    port.warm("green")
    refused(lambda: port.load("green", "broken", "bank/broken"), r"model.txt is corrupt", 422)
    view = port.state().slots["green"]
    assert (view.version, view.is_warm) == ("2", True)


def test_a_canary_takes_a_share_and_a_rollback_ends_it(port, row):
    port.warm("green")
    assert port.split("green", 0.5, reason="canary").split == {"blue": 0.5, "green": 0.5}
    slots = {port.score(f"r{i}", f"client {i}", row).slot for i in range(50)}
    assert slots == {"blue", "green"}
    refused(lambda: port.load("green", "3", "bank/3"), "slot green answers 50.00% of entities")
    done = port.rollback(reason="worse")
    assert (done.bad_slot, done.bad_version, done.state.live) == ("green", "2", "blue")
    assert done.state.split == {"blue": 1.0, "green": 0.0}
    assert {port.score(f"s{i}", f"client {i}", row).slot for i in range(50)} == {"blue"}


def test_a_switch_is_undone_once_by_a_rollback(port, row):
    port.warm("green")
    state = port.switch("green", reason="promoted")
    assert (state.live, state.previous, state.reason) == ("green", "blue", "promoted")
    assert port.score("r", "anybody", row).version == "2"
    done = port.rollback()
    assert (done.bad_slot, done.bad_version, done.state.live, done.state.previous) == ("green", "2", "blue", None)
    assert port.score("r", "anybody", row).version == "1"
    refused(port.rollback, "nothing to roll back to")


def test_switching_to_the_live_slot_ends_a_canary_and_keeps_the_way_back(port):
    port.warm("green")
    port.switch("green")
    port.split("blue", 0.2)
    state = port.switch("green")
    assert (state.live, state.previous, state.split["green"]) == ("green", "blue", 1.0)


def test_filling_the_old_slot_gives_up_the_way_back(port):
    port.warm("green")
    port.switch("green")
    assert port.load("blue", "3", "bank/3").previous is None
    refused(port.rollback, "nothing to roll back to")


def test_emptying_the_old_slot_gives_up_the_way_back(port):
    port.warm("green")
    port.switch("green")
    state = port.unload("blue")
    assert state.previous is None
    assert not state.slots["blue"].is_loaded
    refused(port.rollback, "nothing to roll back to")
    refused(lambda: port.unload("blue"), "empty already")
    refused(lambda: port.warm("blue"), "slot blue is empty")


def test_a_shadow_runs_until_it_is_stopped_or_its_slot_is_filled_anew(port):
    port.warm("green")
    assert port.shadow("green", True).shadow == "green"
    assert port.shadow("green", False).shadow is None
    port.shadow("green", True)
    port.load("green", "3", "bank/3")
    assert port.state().shadow is None


def test_shadow_results_are_empty_before_the_first_shadow(port):
    results = port.shadow_results()
    assert (results.n, results.is_on, results.mean_abs_diff) == (0, False, None)


def test_answers_are_counted_by_slot(port, row):
    for i in range(5):
        port.score(f"r{i}", "anybody", row)
    state = port.state()
    assert (state.n_served, state.slots["blue"].n_served, state.n_log_rows) == (5, 5, 5)
    assert port.flush() == 5
    assert port.flush() == 0


def test_outcomes_are_counted(port):
    port.outcome("r1", 1.0)
    assert port.state().n_outcomes == 1


def test_a_gateway_with_nothing_live_refuses_in_a_sentence(request, row, gateway):
    for empty in (gateway.client, InMemoryGateway()):
        assert not empty.is_ready()
        assert empty.state().live is None
        refused(lambda empty=empty: empty.score("r", "e", row), "no slot is live yet", 503)
        refused(empty.rollback, "no slot is live yet")


def test_nobody_at_the_address_is_said_with_the_remedy():
    down = InMemoryGateway(is_down=True)
    for client in (GatewayClient("http://127.0.0.1:1"), down):
        with pytest.raises(GatewayUnreachable, match="start one with `lull serve`"):
            client.state()
        assert not client.is_ready()


def test_something_else_at_the_address_is_noticed():
    client = GatewayClient("http://other", transport=httpx.MockTransport(lambda _: httpx.Response(500, text="<html>")))
    with pytest.raises(GatewayRefused, match="is it a Lull gateway"):
        client.state()


def test_a_slow_answer_is_said_to_be_late():
    def late(request):
        raise httpx.ReadTimeout("late", request=request)

    client = GatewayClient("http://slow", transport=httpx.MockTransport(late))
    with pytest.raises(GatewayUnreachable, match="did not answer /slots in time"):
        client.state()


def test_a_client_finds_the_token_in_the_gateways_home(running_gateway, monkeypatch):
    monkeypatch.delenv("LULL_GATEWAY_TOKEN", raising=False)
    with running_gateway() as running:
        settings = GatewaySettings(home=running.settings.home, port=running.port, token=running.settings.token)
        with connect(settings) as client:
            assert client.flush() == 0


@pytest.fixture
def row(trained):
    return trained.rows(1)[0]
