"""What the score call answers, and how it refuses: one sentence each, 4xx, never a traceback."""

import asyncio
import json
import math
import socket
import time

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.domain.features import encode_frame
from flows.gateway.parquet_log import read_log


@pytest.fixture
def http(live_gateway):
    with httpx.Client(base_url=live_gateway.url) as client:
        yield client


@pytest.fixture
def row(trained):
    return {"request_id": "r1", "entity": "e1", "features": trained.rows(1)[0]}


def test_an_answer_names_request_score_slot_version_and_trace(http, row, trained):
    answer = http.post("/score", json=row).json()
    expected = trained.first.predict(encode_frame(trained.frame.head(1), trained.schema))[0]
    assert answer == {
        "request_id": "r1", "score": expected, "slot": "blue", "version": "1", "trace_id": answer["trace_id"],
    }  # fmt: skip
    assert len(answer["trace_id"]) == 32


def test_a_batch_is_scored_in_its_order_by_the_slot_of_each_entity(live_gateway, http, trained):
    live_gateway.client.split("green", 0.5)
    rows = [{"request_id": f"r{i}", "entity": f"e{i}", "features": f} for i, f in enumerate(trained.rows(200))]
    answers = http.post("/score", json={"rows": rows}).json()["rows"]
    features = encode_frame(trained.frame.head(200), trained.schema)
    by_slot = {"blue": trained.first.predict(features), "green": trained.second.predict(features)}
    assert [a["request_id"] for a in answers] == [r["request_id"] for r in rows]
    assert [a["score"] for a in answers] == [by_slot[a["slot"]][i] for i, a in enumerate(answers)]
    assert {(a["slot"], a["version"]) for a in answers} == {("blue", "1"), ("green", "2")}
    one_by_one = [http.post("/score", json=r).json()["slot"] for r in rows[:40]]
    assert one_by_one == [a["slot"] for a in answers[:40]]


def test_the_trace_of_the_caller_is_kept_and_a_malformed_one_is_replaced(http, row):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    given = http.post("/score", json=row, headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}).json()
    assert given["trace_id"] == trace
    for malformed in ("rubbish", f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-{trace.upper()}-00f067aa0ba902b7-01"):
        answer = http.post("/score", json=row, headers={"traceparent": malformed}).json()
        assert answer["trace_id"] not in (trace, "0" * 32)
        assert len(answer["trace_id"]) == 32


def changed(row, **changes):
    return json.dumps(row | changes)


@pytest.mark.parametrize(
    ("make", "status", "said"),
    [
        (lambda r: "", 400, "the body is not JSON"),
        (lambda r: "{", 400, "the body is not JSON"),
        (lambda r: '{"a": NaN}', 400, "the body is not JSON"),
        (lambda r: b"\xff\xfe", 400, "the body is not JSON"),
        (lambda r: "[" * 100_000, 400, "the body is not JSON"),
        (lambda r: "[]", 422, "must be a JSON object, not list"),
        (lambda r: "3", 422, "must be a JSON object, not int"),
        (lambda r: "{}", 422, "'entity' is missing"),
        (lambda r: changed(r, extra=1), 422, "'extra' is unknown"),
        (lambda r: changed(r, request_id=""), 422, "'request_id' must be a text of 1 to 128"),
        (lambda r: changed(r, request_id=7), 422, "'request_id' must be a text"),
        (lambda r: changed(r, entity="x" * 129), 422, "'entity' must be a text"),
        (lambda r: changed(r, features=[]), 422, "'features' must be an object"),
        (lambda r: changed(r, features=r["features"] | {"age": "old"}), 422, "features: column 'age' must be a number"),
        (lambda r: changed(r, features=r["features"] | {"age": True}), 422, "features: column 'age' must be a number"),
        (lambda r: changed(r, features=r["features"] | {"job": 3}), 422, "features: column 'job' must be text"),
        (lambda r: changed(r, features=r["features"] | {"job": {}}), 422, "features: column 'job' must be text"),
        (lambda r: changed(r, features=r["features"] | {"pay": 1}), 422, "features: column 'pay' is not in the schema"),
        (lambda r: changed(r, features={"age": 1}), 422, "features: column 'emp.var.rate' is missing"),
        (lambda r: json.dumps({"rows": []}), 422, "at least one row"),
        (lambda r: json.dumps({"rows": r}), 422, "at least one row"),
        (lambda r: json.dumps({"rows": [r], "x": 1}), 422, "nothing beside it"),
        (lambda r: json.dumps({"rows": [r, {}]}), 422, r"rows\[1\]: 'entity' is missing"),
        (lambda r: json.dumps({"rows": [r, 5]}), 422, r"rows\[1\]: a row is an object"),
        (lambda r: json.dumps({"rows": [r] * 1001}), 413, "at most 1000"),
        (lambda r: b" " * 1_100_000, 413, "larger than 1048576 bytes"),
    ],
)
def test_a_request_that_makes_no_sense_gets_one_sentence(http, row, make, status, said):
    answer = http.post("/score", content=make(row))
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert "Traceback" not in answer.text
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(answer.json()["error"])
    assert http.post("/score", json=row).status_code == 200


def test_missing_and_unseen_values_are_scored_not_refused(http, row):
    features = {"age": None, "emp.var.rate": None, "job": "astronaut"}
    assert 0 < http.post("/score", json=row | {"features": features}).json()["score"] < 1


def test_other_methods_and_paths_are_refused_in_a_sentence(http):
    assert "send rows to /score by POST" in http.get("/score").json()["error"]
    assert http.get("/score").status_code == 405
    assert http.get("/nowhere").json() == {"error": "Not Found (GET /nowhere)"}
    assert http.put("/slots").status_code == 405


def test_the_request_log_holds_what_was_answered_and_the_features(live_gateway, http, trained):
    rows = trained.rows(30)
    sent = [{"request_id": f"r{i}", "entity": f"e{i % 3}", "features": f} for i, f in enumerate(rows)]
    sent[0]["features"] = {"age": None, "emp.var.rate": 2**60 + 1, "job": None}
    answers = [http.post("/score", json=each).json() for each in sent]
    assert live_gateway.client.flush() == 30
    table = read_log(live_gateway.settings.directory / "requests").to_pylist()
    assert [(t["request_id"], t["score"], t["slot"], t["version"], t["trace_id"]) for t in table] == [
        (a["request_id"], a["score"], a["slot"], a["version"], a["trace_id"]) for a in answers
    ]
    sent[0]["features"]["emp.var.rate"] = float(2**60)  # what the model saw: a float64
    assert [{name: t[name] for name in trained.schema.names} for t in table] == [each["features"] for each in sent]
    assert all(t["latency_ms"] > 0 and abs(t["at_utc"].timestamp() - time.time()) < 60 for t in table)


def test_late_labels_are_kept_by_request_id(live_gateway, http):
    assert http.post("/outcome", json={"request_id": "r1", "label": 1}).json() == {"n_accepted": 1}
    more = [{"request_id": "r2", "label": 0, "observed_at": "2009-05-01T10:00:00+02:00"}]
    assert http.post("/outcome", json={"outcomes": more}).json() == {"n_accepted": 1}
    live_gateway.client.flush()
    table = read_log(live_gateway.settings.directory / "outcomes").to_pylist()
    assert [(t["request_id"], t["label"]) for t in table] == [("r1", 1.0), ("r2", 0.0)]
    assert table[1]["observed_at_utc"].isoformat() == "2009-05-01T08:00:00+00:00"


@pytest.mark.parametrize(
    "body",
    ['{"request_id": "r"}', '{"request_id": "r", "label": "yes"}', '{"request_id": "", "label": 1}', "[]", "x",
     '{"request_id": "r", "label": 1, "observed_at": "2009-05-01T10:00:00"}', '{"outcomes": []}'],
)  # fmt: skip
def test_an_outcome_that_makes_no_sense_is_refused(http, body):
    answer = http.post("/outcome", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert list(answer.json()) == ["error"]


def test_a_deadline_that_passed_is_not_scored(http, row):
    answer = http.post("/score", json=row, headers={"X-Deadline-Ms": "0"})
    assert answer.status_code == 503
    assert "deadline" in answer.json()["error"]
    assert int(answer.headers["retry-after"]) >= 1
    assert http.post("/score", json=row, headers={"X-Deadline-Ms": "5000"}).status_code == 200
    assert http.post("/score", json=row, headers={"X-Deadline-Ms": "soon"}).status_code == 400


def test_a_slow_client_is_cut_off_and_harms_nobody(running_gateway, pack, row):
    pack("1")
    with running_gateway(body_timeout_s=0.5) as running:
        running.go_live("blue", "1")
        with socket.create_connection(("127.0.0.1", running.port)) as slow, httpx.Client(base_url=running.url) as http:
            slow.sendall(b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
            assert all(http.post("/score", json=row).status_code == 200 for _ in range(20))
            slow.settimeout(5)
            assert slow.recv(4096).startswith(b"HTTP/1.1 408")


def test_too_many_slow_clients_are_shed_with_a_time_to_return(running_gateway, pack, row, wait_until):
    pack("1")
    with running_gateway(max_reading=2) as running:
        running.go_live("blue", "1")
        slow = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(2)]
        for each in slow:
            each.sendall(b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        wait_until(lambda: running.runtime.admission.n_reading == 2, 5)
        answer = httpx.post(f"{running.url}/score", json=row)
        assert answer.status_code == 503
        assert "being read already" in answer.json()["error"]
        assert answer.headers["retry-after"] == "1"
        for each in slow:
            each.close()
        wait_until(lambda: running.runtime.admission.n_reading == 0, 5)
        assert httpx.post(f"{running.url}/score", json=row).status_code == 200
        assert running.client.state().n_shed == 1


def test_a_client_beyond_its_rate_is_told_when_to_return(running_gateway, pack, row):
    pack("1")
    with running_gateway(rate_limit_rps=1.0, rate_burst=3) as running, httpx.Client(base_url=running.url) as http:
        running.go_live("blue", "1")
        answers = [http.post("/score", json=row) for _ in range(5)]
        assert [a.status_code for a in answers] == [200, 200, 200, 429, 429]
        assert "more than 1 requests per second" in answers[3].json()["error"]
        assert int(answers[3].headers["retry-after"]) >= 1


def test_requests_that_arrive_together_beyond_the_waiting_room_are_shed(running_gateway, pack, row):
    pack("1")
    with running_gateway(max_waiting=1) as running:
        running.go_live("blue", "1")
        body = json.dumps({"rows": [row | {"request_id": f"r{i}"} for i in range(1000)]}).encode()
        head = b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
        sockets = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(8)]
        for each in sockets:
            each.sendall(head + body)
        first_lines = [each.recv(12) for each in sockets]
        for each in sockets:
            each.close()
        state = running.client.state()
        n_shed = sum(line.endswith(b"503") for line in first_lines)
        assert all(line.endswith((b"200", b"503")) for line in first_lines)
        assert n_shed == state.n_shed > 0
        assert state.n_served == 1000 * (8 - n_shed) > 0


def test_single_rows_that_arrive_together_are_counted_before_the_first_is_scored(live_gateway, row):
    endpoint = live_gateway.runtime.score
    endpoint._admission._max_waiting = 3
    body = json.dumps(row).encode()
    statuses = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def all_at_once():
        await asyncio.gather(*[endpoint({"headers": [], "client": None}, receive, send) for _ in range(10)])

    asyncio.run(all_at_once())
    assert sorted(statuses) == [200] * 3 + [503] * 7


def test_metrics_tell_rows_by_slot_latency_and_versions(live_gateway, http, row):
    for i in range(7):
        http.post("/score", json=row | {"request_id": f"r{i}"})
    http.post("/score", content="{")
    text = http.get("/metrics").text
    assert 'lull_gateway_rows_total{slot="blue",status="200",version="1"} 7.0' in text
    assert 'lull_gateway_rows_total{slot="",status="400",version=""} 1.0' in text
    assert "lull_gateway_latency_seconds_count 7.0" in text
    assert 'lull_gateway_slot_share{slot="blue"} 1.0' in text
    digest = live_gateway.client.state().slots["green"].digest
    assert f'lull_gateway_slot_info{{digest="{digest}",slot="green",version="2"}} 1.0' in text
    assert "lull_gateway_refused_total 1.0" in text


def test_the_description_lists_the_columns_of_the_schema(http):
    described = http.get("/openapi.json").json()["paths"]["/score"]["post"]
    row, _ = described["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    assert row["properties"]["features"]["required"] == ["age", "emp.var.rate", "job"]


def test_every_control_call_needs_the_token(http):
    calls = [
        ("POST", "/slots/green/load"), ("POST", "/slots/green/warm"), ("POST", "/slots/green/unload"),
        ("POST", "/shadow"), ("GET", "/shadow/results"), ("POST", "/split"), ("POST", "/switch"),
        ("POST", "/rollback"), ("POST", "/flush"),
    ]  # fmt: skip
    for method, path in calls:
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}):
            answer = http.request(method, path, headers=header, json={})
            assert answer.status_code == 401, (method, path)
            assert "control calls need the gateway's token" in answer.json()["error"]


def test_a_control_call_that_makes_no_sense_names_the_field(live_gateway):
    for call, body, said in (
        ("/slots/red/load", {"version": "1", "path": "x"}, "slot: Input should be 'blue' or 'green'"),
        ("/slots/green/load", {"path": "x"}, "version: Field required"),
        ("/slots/green/load", {"version": "1", "path": "../../etc"}, "not below the model root"),
        ("/slots/green/load", {"version": "1", "path": "/etc"}, "not below the model root"),
        ("/slots/green/load", {"version": "9", "path": "bank/2"}, "version is 2, expected 9"),
        ("/slots/green/load", {"version": "2", "path": "bank/2", "digest": "0"}, "digest is"),
        ("/split", {"green": 1.5}, "green: Input should be less than or equal to 1"),
        ("/split", {}, "name the share of one slot"),
        ("/split", {"green": 0.1, "blue": 0.1}, "name the share of one slot"),
        ("/switch", {"live": "red"}, "live: Input should be 'blue' or 'green'"),
        ("/shadow", {"slot": "green", "on": True, "max_requests": 0}, "max_requests"),
    ):
        answer = live_gateway.client._http.post(call, json=body)
        assert 400 <= answer.status_code < 500, call
        assert said in answer.json()["error"]


def test_a_model_with_another_schema_never_gets_into_a_slot(live_gateway, pack, trained):
    from flows.domain.features import FeatureSchema

    other = FeatureSchema(trained.schema.columns, label="another label")
    pack("3", schema=other)
    answer = live_gateway.client._http.post("/slots/green/load", json={"version": "3", "path": "bank/3"})
    assert answer.status_code == 422
    assert "feature schema is" in answer.json()["error"]
    assert live_gateway.client.state().slots["green"].version == "2"


def test_shadow_pairs_each_request_once_and_harms_no_answer(live_gateway, http, trained, wait_until):
    live_gateway.client.shadow("green", True, max_requests=1000)
    features = encode_frame(trained.frame.head(50), trained.schema)
    for i, f in enumerate(trained.rows(50)):
        for _ in range(2):
            assert (
                http.post("/score", json={"request_id": f"r{i}", "entity": "e", "features": f}).json()["slot"] == "blue"
            )
    wait_until(lambda: live_gateway.client.shadow_results().n_duplicates == 50, 5)
    results = live_gateway.client.shadow_results(include_scores=True)
    live, shadow = trained.first.predict(features), trained.second.predict(features)
    assert (results.n, results.n_errors, results.n_dropped) == (50, 0, 0)
    assert results.request_ids == [f"r{i}" for i in range(50)]
    assert (results.live_scores, results.shadow_scores) == (live.tolist(), shadow.tolist())
    assert math.isclose(results.mean_abs_diff, np.abs(live - shadow).mean(), rel_tol=1e-12)
    assert results.live.q50 == np.quantile(live, 0.5)
    assert results.shadow_latency_us.q50 > 0
    assert (results.version, results.live_version) == ("2", "1")
    live_gateway.client.flush()
    logged = read_log(live_gateway.settings.directory / "shadows").to_pylist()
    assert [t["score"] for t in logged] == shadow.tolist()


def test_a_shadow_ends_by_itself_after_enough_requests(live_gateway, http, trained, wait_until):
    live_gateway.client.shadow("green", True, max_requests=10)
    for i, f in enumerate(trained.rows(30)):
        http.post("/score", json={"request_id": f"r{i}", "entity": "e", "features": f})
    wait_until(lambda: live_gateway.client.state().shadow is None, 5)
    assert live_gateway.client.shadow_results().n == 10


def test_log_files_are_whole_parquet_files_without_litter(live_gateway, http, row):
    for i in range(3):
        http.post("/score", json=row | {"request_id": f"r{i}"})
        live_gateway.client.flush()
    files = sorted((live_gateway.settings.directory / "requests").iterdir())
    assert [pq.read_metadata(file).num_rows for file in files] == [1, 1, 1]
