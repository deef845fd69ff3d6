"""Under open-loop load, promotions and rollbacks lose no request, and every answer names its slot and version."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from flows.gateway.replay import Replay, Row, rows_of


@pytest.mark.parametrize("seed", [None, 3], ids=["even", "poisson"])
def test_ten_switches_and_rollbacks_under_load_lose_nothing(live_gateway, trained, seed):
    rows = rows_of(trained.frame, trained.schema, prefix="flips")
    replay = Replay(live_gateway.url, rows, rate_rps=400, seed=seed).start()
    client = live_gateway.client
    took_ms = []
    for i in range(10):
        client.switch("green", reason=f"flip {i}")
        time.sleep(0.08)
        done = client.rollback(reason=f"flip {i}")
        took_ms.append(done.took_ms)
        time.sleep(0.08)
    counts = replay.stop()
    assert counts.n_failed == 0, counts.failures
    assert counts.n_answered == counts.n_sent > 300
    assert set(counts.by_version) == {"1", "2"}
    assert counts.by_slot == {"blue": counts.by_version["1"], "green": counts.by_version["2"]}
    assert max(took_ms) < 1000
    state = client.state()
    assert (state.n_served, state.n_failed, state.n_fallback) == (counts.n_answered, 0, 0)
    assert state.slots["blue"].n_served + state.slots["green"].n_served == counts.n_answered


def test_filling_warming_and_shadowing_beside_load_lose_nothing(live_gateway, trained, pack):
    pack("3")
    rows = rows_of(trained.frame, trained.schema, prefix="fill")
    replay = Replay(live_gateway.url, rows, rate_rps=300).start()
    client = live_gateway.client
    for version in ("3", "2", "3"):
        client.load("green", version, f"bank/{version}")
        client.warm("green")
        client.shadow("green", True)
        client.split("green", 0.2)
        time.sleep(0.15)
        client.split("green", 0.0)
    client.switch("green")
    client.unload("blue")
    time.sleep(0.1)
    counts = replay.stop()
    assert counts.n_failed == 0, counts.failures
    assert set(counts.by_version) == {"1", "2", "3"}


def test_the_rows_of_a_replay_are_distinct_requests(trained):
    rows = rows_of(trained.frame, trained.schema, prefix="x", entity_column="job")
    assert len({row.request_id for row in rows}) == len(rows) == len(trained.frame)
    assert {row.entity for row in rows} == {"admin.", "retired", "student"}


def test_a_replay_ends_when_its_rows_run_out(live_gateway, trained):
    counts = (
        Replay(live_gateway.url, rows_of(trained.frame.head(20), trained.schema, prefix="e"), rate_rps=500)
        .start()
        .wait(10)
    )
    assert (counts.n_sent, counts.n_answered) == (20, 20)
    assert 0 < counts.latency_ms(0.5) < 1000


def test_a_replay_counts_refusals_and_an_absent_gateway_as_failed(live_gateway):
    wrong = [Row("r1", "e", {"age": "old"})]
    counts = Replay(live_gateway.url, wrong, rate_rps=10).start().wait(10)
    assert (counts.n_sent, counts.n_failed) == (1, 1)
    assert next(iter(counts.failures)).startswith("422")
    counts = Replay("http://127.0.0.1:1", wrong, rate_rps=10).start().wait(10)
    assert (counts.n_sent, counts.n_failed) == (1, 1)
    assert "Connect" in next(iter(counts.failures))


@pytest.mark.parametrize(
    "answer",
    [
        {"request_id": "another", "slot": "blue", "version": "1"},
        {"request_id": "r1", "slot": "", "version": "1"},
        {"request_id": "r1", "slot": "blue"},
    ],
)
def test_an_answer_that_names_nothing_or_another_request_counts_as_failed(answer):
    class Liar(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Liar) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        counts = Replay(f"http://127.0.0.1:{server.server_port}", [Row("r1", "e", {})], rate_rps=10).start().wait(10)
        server.shutdown()
    assert (counts.n_answered, counts.n_failed) == (0, 1)
    assert "does not name its request" in next(iter(counts.failures))
