"""A gateway restarted, stopped, broken or shared by workers: the live slot answers, no traffic moves by itself."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from flows.adapters.flags import FLAG_KEY, FlagFile, Traffic, choose_slot, flag_of
from flows.adapters.gateway_client import GatewayRefused
from flows.gateway import model_package
from flows.gateway.parquet_log import read_log
from flows.gateway.server import check_writable, serve
from flows.gateway.settings import GatewaySettings, InvalidGatewaySettings, read_token


@pytest.fixture
def row(trained):
    return trained.rows(1)[0]


def test_a_restart_answers_from_the_same_slot_and_can_still_roll_back(running_gateway, pack, trained, row):
    pack("1")
    pack("2", booster=trained.second)
    with running_gateway() as running:
        running.go_live("blue", "1")
        running.go_live("green", "2")
        before = running.client.state()
    with running_gateway() as running:
        after = running.client.state()
        assert (after.live, after.previous, after.since) == ("green", "blue", before.since)
        assert [v.digest for v in after.slots.values()] == [v.digest for v in before.slots.values()]
        assert running.client.score("r", "e", row).version == "2"
        assert running.client.rollback().state.live == "blue"
        assert running.client.score("r", "e", row).version == "1"


def test_a_killed_gateway_comes_back_with_its_canary(start_process, pack, trained, row):
    pack("1")
    pack("2", booster=trained.second)
    first = start_process()
    for slot, version in (("blue", "1"), ("green", "2")):
        first.client.load(slot, version, f"bank/{version}")
        first.client.warm(slot)
    first.client.switch("blue")
    first.client.split("green", 0.3)
    slots = [first.client.score(f"r{i}", f"e{i}", row).slot for i in range(50)]
    first.stop(signal.SIGKILL)
    second = start_process()
    assert second.client.state().split["green"] == 0.3
    assert [second.client.score(f"r{i}", f"e{i}", row).slot for i in range(50)] == slots


def test_a_package_lost_while_the_gateway_was_down_leaves_the_other_slot_answering(
    running_gateway, pack, row, tmp_path
):
    pack("1")
    pack("2")
    with running_gateway() as running:
        running.go_live("blue", "1")
        running.go_live("green", "2")
    (tmp_path / "models" / "bank" / "2" / "model.txt").write_text("gone")
    with running_gateway() as running:
        assert running.client.score("r", "e", row).version == "1"
        state = running.client.state()
        assert state.n_fallback == 1
        assert "model.txt is corrupt" in state.slots["green"].failure
        assert any("slot green is live and not warm" in problem for problem in state.problems)


def test_a_package_that_kills_its_reader_does_not_kill_the_gateway(start_process, pack, tmp_path, row):
    pack("1")
    pack("2")
    broken = tmp_path / "models" / "bank" / "2"
    text = (broken / "model.txt").read_text()
    (broken / "model.txt").write_text(text[: len(text) // 2])
    manifest = json.loads((broken / "package.json").read_text())
    manifest["files"]["model.txt"] = model_package._sha256((broken / "model.txt").read_bytes())
    (broken / "package.json").write_text(json.dumps(manifest))
    gateway = start_process()
    gateway.client.load("blue", "1", "bank/1")
    gateway.client.warm("blue")
    gateway.client.switch("blue")
    with pytest.raises(GatewayRefused, match="a process that reads it dies"):
        gateway.client.load("green", "2", "bank/2")
    assert gateway.client.score("r", "e", row).version == "1"
    assert not gateway.client.state().slots["green"].is_loaded


def test_a_flag_changed_by_somebody_else_is_followed_within_a_second(live_gateway, row):
    FlagFile(live_gateway.settings.flag_path).write(Traffic("green", previous="blue", reason="by hand"))
    deadline = time.monotonic() + 1.0
    while live_gateway.client.score("r", "e", row).slot != "green":
        assert time.monotonic() < deadline
    assert live_gateway.client.state().reason == "by hand"


def test_a_flag_file_broken_by_hand_moves_no_traffic_and_a_rollback_mends_it(live_gateway, row, wait_until):
    live_gateway.client.switch("green")
    live_gateway.settings.flag_path.write_text("{ oh no")
    wait_until(lambda: any("is not JSON" in p for p in live_gateway.client.state().problems), 2)
    assert live_gateway.client.score("r", "e", row).slot == "green"
    with pytest.raises(GatewayRefused, match="is not JSON"):
        live_gateway.client.split("blue", 0.1)
    assert live_gateway.client.rollback().is_saved
    assert live_gateway.client.score("r", "e", row).slot == "blue"
    assert live_gateway.client.state().problems == []


def test_a_removed_flag_file_moves_no_traffic(live_gateway, row, wait_until):
    live_gateway.settings.flag_path.unlink()
    wait_until(lambda: any("flag is gone" in p for p in live_gateway.client.state().problems), 2)
    assert live_gateway.client.score("r", "e", row).slot == "blue"


def test_targeting_of_the_operators_own_is_evaluated_by_the_provider(live_gateway, row, wait_until):
    path = live_gateway.settings.flag_path
    document = json.loads(path.read_text())
    document["flags"][FLAG_KEY]["targeting"] = {"if": [{"==": [{"var": "targetingKey"}, "vip"]}, "green", "blue"]}
    path.write_text(json.dumps(document))
    wait_until(lambda: live_gateway.client.state().is_custom_split, 2)
    assert live_gateway.client.score("r", "vip", row).slot == "green"
    assert live_gateway.client.score("r", "anybody", row).slot == "blue"
    with pytest.raises(GatewayRefused, match="targeting of its own"):
        live_gateway.client.load("green", "2", "bank/2")
    with pytest.raises(GatewayRefused, match="targeting of its own"):
        live_gateway.client.split("green", 0.1)
    assert "canary ended" in live_gateway.client.rollback().action
    assert live_gateway.client.score("r", "vip", row).slot == "blue"


@pytest.mark.parametrize("content", ["empty", "cold"])
def test_a_flag_that_names_an_empty_or_cold_slot_is_answered_by_the_live_one(gateway, pack, row, content):
    pack("1")
    gateway.go_live("blue", "1")
    if content == "cold":
        gateway.client.load("green", "1", "bank/1")
    document = {"flags": {FLAG_KEY: flag_of(Traffic("blue", 1.0, salt="x:"))}}
    gateway.settings.flag_path.write_text(json.dumps(document))
    deadline = time.monotonic() + 2
    while gateway.client.state().split["green"] != 1.0:
        assert time.monotonic() < deadline
    assert gateway.client.score("r", "e", row).slot == "blue"
    assert gateway.client.state().n_fallback == 1


def test_a_rollback_goes_ahead_when_the_disk_refuses_and_is_saved_later(live_gateway, row, monkeypatch, wait_until):
    live_gateway.client.switch("green")
    flags = live_gateway.runtime.board.flags
    real = flags.write
    monkeypatch.setattr(flags, "write", lambda traffic: (_ for _ in ()).throw(OSError("no space left")))
    done = live_gateway.client.rollback()
    assert not done.is_saved
    assert done.state.live == "blue"
    assert live_gateway.client.score("r", "e", row).slot == "blue"
    assert any("not on disk yet" in problem for problem in live_gateway.client.state().problems)
    time.sleep(0.5)
    assert live_gateway.client.score("r", "e", row).slot == "blue"
    monkeypatch.setattr(flags, "write", real)
    wait_until(lambda: FlagFile(live_gateway.settings.flag_path).read().live == "blue", 2)
    wait_until(lambda: live_gateway.client.state().problems == [], 2)


def test_a_switch_the_disk_refuses_moves_nothing(live_gateway, row, monkeypatch):
    flags = live_gateway.runtime.board.flags
    monkeypatch.setattr(flags, "write", lambda traffic: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(GatewayRefused, match=r"no space left.*nothing was changed"):
        live_gateway.client.switch("green")
    assert live_gateway.client.score("r", "e", row).slot == "blue"


def test_a_slot_the_disk_cannot_remember_is_told(live_gateway, monkeypatch):
    slot_file = live_gateway.runtime.board._slot_file
    monkeypatch.setattr(slot_file, "put", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(GatewayRefused, match="a restart would undo it"):
        live_gateway.client.unload("green")


def test_two_workers_follow_a_load_and_a_flip_within_a_second(start_process, pack, trained, row):
    pack("1")
    pack("2", booster=trained.second)
    gateway = start_process("--workers", "2")

    def ask():
        with httpx.Client(base_url=gateway.url) as http:  # a new connection each time, so that both workers are met
            body = {"request_id": "r", "entity": "e", "features": row}
            answer = http.post("/score", json=body)
            return answer.status_code, answer.json().get("version"), http.get("/slots").json()["pid"]

    for slot, version in (("blue", "1"), ("green", "2")):
        retry(lambda slot=slot, version=version: gateway.client.load(slot, version, f"bank/{version}"))
        retry(lambda slot=slot: gateway.client.warm(slot))
    retry(lambda: gateway.client.switch("blue"))
    time.sleep(1.0)
    for slot, version in (("green", "2"), ("blue", "1")):
        gateway.client.switch(slot)
        flipped = time.monotonic()
        answers = []
        while time.monotonic() < flipped + 1.6:
            answers.append((time.monotonic() - flipped, *ask()))
        assert all(status == 200 for _, status, _, _ in answers)
        assert all(found == version for at_s, _, found, _ in answers if at_s > 1.0)
        assert len({pid for *_, pid in answers}) == 2


def retry(call):
    """Repeat a call that met the worker which has not followed yet."""
    for _ in range(20):
        try:
            return call()
        except GatewayRefused:
            time.sleep(0.1)
    return call()


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_gateway_is_gone_in_two_seconds_and_has_written_its_log(
    start_process, pack, row, tmp_path, with_signal
):
    pack("1")
    gateway = start_process()
    gateway.client.load("blue", "1", "bank/1")
    gateway.client.warm("blue")
    gateway.client.switch("blue")
    for i in range(5):
        gateway.client.score(f"r{i}", "e", row)
    began = time.monotonic()
    assert gateway.stop(with_signal) in (0, -with_signal)
    assert time.monotonic() - began < 2.0
    assert read_log(tmp_path / "gateway" / "requests").num_rows == 5


def test_a_request_under_way_is_answered_when_the_gateway_stops(start_process, pack, row):
    pack("1")
    gateway = start_process()
    gateway.client.load("blue", "1", "bank/1")
    gateway.client.warm("blue")
    gateway.client.switch("blue")
    body = json.dumps({"request_id": "r", "entity": "e", "features": row}).encode()
    host, port = "127.0.0.1", int(gateway.url.rsplit(":", 1)[1])
    with socket.create_connection((host, port)) as half:
        half.sendall(b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body[:10])
        time.sleep(0.2)
        stopping = threading.Thread(target=gateway.stop)
        stopping.start()
        time.sleep(0.3)
        half.sendall(body[10:])
        half.settimeout(5)
        assert half.recv(4096).startswith(b"HTTP/1.1 200")
        stopping.join(5)


def test_a_port_in_use_is_said_in_one_sentence(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, "-m", "flows.gateway", "--home", str(tmp_path), "--port", str(port)],
            capture_output=True, text=True, timeout=20,
        )  # fmt: skip
    assert ended.returncode == 2
    assert f"port {port} on 127.0.0.1 is in use" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_foreign_address_and_an_unwritable_home_are_refused(tmp_path):
    with pytest.raises(InvalidGatewaySettings, match=r"cannot listen on 192\.0\.2\.1"):
        serve(GatewaySettings(home=tmp_path, host="192.0.2.1", port=18199))
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidGatewaySettings, match="cannot be written"):
        check_writable(tmp_path / "file" / "home")


def test_the_token_is_made_once_and_kept_from_others(tmp_path, monkeypatch):
    monkeypatch.delenv("LULL_GATEWAY_TOKEN", raising=False)
    settings = GatewaySettings(home=tmp_path)
    with pytest.raises(InvalidGatewaySettings, match="no token for control calls"):
        read_token(settings)
    token = read_token(settings, create=True)
    assert read_token(settings) == token
    assert len(token) >= 32
    assert settings.token_path.stat().st_mode & 0o777 == 0o600
    os.chmod(settings.token_path, 0o644)
    with pytest.raises(InvalidGatewaySettings, match="can be read by others"):
        read_token(settings)
    monkeypatch.setenv("LULL_GATEWAY_TOKEN", "from the environment")
    assert read_token(settings) == "from the environment"


def test_the_gateway_imports_nothing_heavy():
    heavy = ("pandas", "mlflow", "prefect", "evidently", "sklearn", "lightgbm", "scipy", "numba", "pyarrow", "grpc")
    code = f"import sys, flows.gateway.server; print([m for m in {heavy!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_growing_canary_keeps_its_entities_and_the_next_one_draws_others(live_gateway, row):
    entities = [f"e{i}" for i in range(300)]

    def on_green(ratio):
        live_gateway.client.split("green", ratio)
        traffic = live_gateway.runtime.board.traffic
        return {entity for entity in entities if choose_slot(traffic, entity) == "green"}

    small, large = on_green(0.1), on_green(0.3)
    assert small < large
    live_gateway.client.split("green", 0.0)
    live_gateway.client.load("green", "1", "bank/1")
    live_gateway.client.warm("green")
    assert on_green(0.1) != small
