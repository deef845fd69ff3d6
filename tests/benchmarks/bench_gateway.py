"""
What the gateway costs: requests per second, latency, and where the microseconds go.

Prints figures and passes no judgement. `python tests/benchmarks/bench_gateway.py [--seconds 3] [--mlflow]`; with
`--mlflow`, `mlflow models serve` answers the same rows from the same model beside it, turn by turn.
"""

import argparse
import json
import multiprocessing
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import lightgbm as lgb
import numpy as np
import orjson
import pandas as pd
import psutil

from flows.adapters.flags import Traffic, choose_slot
from flows.adapters.gateway_client import GatewayClient
from flows.domain.features import FeatureSchema, bank_marketing_schema, encode_frame, encode_values
from flows.gateway.metrics import Metrics
from flows.gateway.model_package import canary_rows, load_package, save_package
from flows.gateway.parquet_log import REQUEST_COLUMNS, LogLimits, ParquetLog
from flows.gateway.replay import Replay, rows_of

GATEWAY_PORT, MLFLOW_PORT = 18150, 18151
N_TREES = 200


def main() -> None:
    """Run all parts and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="per measurement")
    parser.add_argument("--mlflow", action="store_true", help="serve the model by mlflow too, for comparison")
    given = parser.parse_args()
    # What others do on this machine moves every figure below.
    print(f"{os.cpu_count()} CPUs, load average {os.getloadavg()[0]:.2f} before the start")
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        frame, schema, booster = train()
        save_package(
            home / "models" / "bank" / "1", name="bank", version="1", model_text=booster.model_to_string(),
            schema=schema, canary=canary_rows(frame, schema),
        )  # fmt: skip
        print_parts(home, frame, schema)
        with gateway(home) as client:
            bodies = [
                request(
                    "/score",
                    GATEWAY_PORT,
                    {"request_id": row.request_id, "entity": row.entity, "features": row.features},
                )
                for row in rows_of(frame.head(2000), schema, prefix="bench")
            ]
            if given.mlflow:
                compare(home, frame, schema, booster, bodies, given.seconds)
            else:
                for connections in (1, 8, 32):
                    process = psutil.Process(client.state().pid)
                    cpu_s = sum(process.cpu_times()[:2])
                    measured = drive(GATEWAY_PORT, bodies, connections, given.seconds)
                    cpu_us = (sum(process.cpu_times()[:2]) - cpu_s) / measured.n_answered * 1e6
                    print(f"gateway, {connections:>2} connections: {measured}, {cpu_us:.0f} µs of CPU each")
            half_load(client, frame, schema, bodies, given.seconds)


def train() -> tuple[pd.DataFrame, FeatureSchema, lgb.Booster]:
    """Return the shipped data, its schema and a model of 200 trees."""
    frame = pd.read_parquet(files("flows") / "datasets" / "bank_marketing_2008_2010" / "bank_additional_full.parquet")
    schema = bank_marketing_schema(frame)
    data = lgb.Dataset(
        encode_frame(frame, schema), frame["label"], feature_name=list(schema.names),
        categorical_feature=schema.categorical_indices,
    )  # fmt: skip
    parameters = {"objective": "binary", "num_leaves": 31, "verbose": -1, "num_threads": 2}
    return frame, schema, lgb.train(parameters, data, N_TREES)


def print_parts(home: Path, frame: pd.DataFrame, schema: FeatureSchema) -> None:
    """Print what each step of a score request costs by itself."""
    model = load_package(home / "models" / "bank" / "1")
    row = rows_of(frame.head(1), schema, prefix="part")[0]
    body = orjson.dumps({"request_id": "r", "entity": "e", "features": row.features})
    values = encode_values(row.features, schema)
    counts = Metrics()
    columns = (*REQUEST_COLUMNS, *((c.name, "number" if c.kind == "number" else "text") for c in schema.columns))
    log = ParquetLog(home / "log", "requests", columns, LogLimits(10**9, 1e9, 10**9, 10**9))
    line = ("r", "e", 10**15, "blue", "1", 0.5, 1.0, "0" * 32, *row.features.values())

    def count() -> None:
        counts.count("blue", "1", 200)
        counts.observe_latency_s(0.001)

    parts: dict[str, Callable[[], Any]] = {
        "parse JSON": lambda: orjson.loads(body),
        "encode 19 columns": lambda: encode_values(row.features, schema),
        f"predict, {N_TREES} trees": lambda: model.predictor.predict_one(values),
        "flag, one slot": lambda: choose_slot(Traffic_ALL, "client 7"),
        "flag, 10 % canary": lambda: choose_slot(Traffic_SPLIT, "client 7"),
        "log append": lambda: log.append(line),
        "metrics": count,
    }
    for name, part in parts.items():
        print(f"  {name:<20} {per_call_us(part):6.2f} µs")
    log.start()
    began = time.perf_counter()
    n = log.flush()
    print(f"  writing the log      {(time.perf_counter() - began) / n * 1e6:6.2f} µs per row, in its own thread")


Traffic_ALL, Traffic_SPLIT = Traffic("blue"), Traffic("blue", 0.1, salt="2:")


def per_call_us(call: Callable[[], Any], n: int = 10_000) -> float:
    """Return the best of five averages over n calls."""
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(n):
            call()
        best = min(best, (time.perf_counter() - began) / n)
    return best * 1e6


@contextmanager
def gateway(home: Path) -> Iterator[GatewayClient]:
    """Run a gateway in a process of its own, and print how long it takes to answer."""
    began = time.perf_counter()
    token = "bench"
    command = [sys.executable, "-m", "flows.gateway", "--home", str(home), "--port", str(GATEWAY_PORT)]
    process = subprocess.Popen(command, env=os.environ | {"LULL_GATEWAY_TOKEN": token})
    client = GatewayClient(f"http://127.0.0.1:{GATEWAY_PORT}", token)
    try:
        wait_for(f"http://127.0.0.1:{GATEWAY_PORT}/healthz", 30)
        print(f"gateway answers {time.perf_counter() - began:.2f} s after its start")
        for slot in ("blue", "green"):
            client.load(slot, "1", "bank/1")
            client.warm(slot)
        client.switch("blue")
        client.split("green", 0.1)
        yield client
        state = client.state()
        print(f"in all {state.n_served} served, {state.n_failed} failed, {state.n_shed} shed")
        print(f"of {state.n_log_rows} log rows {state.n_log_rows_dropped} dropped")
    finally:
        client.close()
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def compare(
    home: Path, frame: pd.DataFrame, schema: FeatureSchema, booster: lgb.Booster, bodies: list[bytes], seconds: float
) -> None:
    """Drive gateway and `mlflow models serve` by turns at 8 connections, three rounds."""
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{home}/mlflow.db")
    mlflow.lightgbm.save_model(booster, str(home / "mlflow_model"), pip_requirements=["lightgbm"])
    command = [
        "mlflow", "models", "serve", "-m", str(home / "mlflow_model"), "-p", str(MLFLOW_PORT), "--env-manager", "local",
        "--workers", "1",
    ]  # fmt: skip
    features = encode_frame(frame.head(2000), schema)
    theirs = [
        request("/invocations", MLFLOW_PORT, {"dataframe_split": {"columns": list(schema.names), "data": [row]}})
        for row in np.where(np.isnan(features), 0, features).tolist()
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(
        command, start_new_session=True, env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}, **quiet
    )
    try:
        wait_for(f"http://127.0.0.1:{MLFLOW_PORT}/ping", 60)
        ratios = []
        for turn in range(3):
            ours, other = drive(GATEWAY_PORT, bodies, 8, seconds), drive(MLFLOW_PORT, theirs, 8, seconds)
            ratios.append(ours.rps / other.rps)
            print(
                f"turn {turn + 1}, 8 connections: gateway {ours}; mlflow models serve {other}; {ratios[-1]:.1f} times"
            )
        print(f"gateway serves {np.median(ratios):.1f} times the requests of mlflow models serve (median of 3 turns)")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def half_load(
    client: GatewayClient, frame: pd.DataFrame, schema: FeatureSchema, bodies: list[bytes], seconds: float
) -> None:
    """Print latency at half of what 8 connections get through, arrivals of a Poisson stream."""
    rate_rps = drive(GATEWAY_PORT, bodies, 8, seconds).rps / 2
    rows = rows_of(frame.head(min(len(frame), int(rate_rps * seconds))), schema, prefix="half")
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        quantiles = pool.apply(_replay, (client.url, rows, rate_rps))
    print(
        f"gateway at half load ({rate_rps:.0f} requests/s, Poisson, from when each was due, Python sender included): "
        f"p50 {quantiles[0]:.2f} ms, p99 {quantiles[1]:.2f} ms, {quantiles[2]} failed"
    )


def _replay(url: str, rows: list[Any], rate_rps: float) -> tuple[float, float, int]:
    counts = Replay(url, rows, rate_rps=rate_rps, seed=1, connections=8).start().wait()
    return counts.latency_ms(0.5), counts.latency_ms(0.99), counts.n_failed


class Driven:
    """Requests per second and latency of one closed-loop measurement."""

    def __init__(self, latencies_s: list[float], n_failed: int, took_s: float) -> None:
        self.n_answered = len(latencies_s)
        self.rps = len(latencies_s) / took_s
        self.p50_ms, self.p99_ms = (np.quantile(latencies_s, (0.5, 0.99)) * 1000).tolist()
        self.n_failed = n_failed

    def __str__(self) -> str:
        return f"{self.rps:6.0f} requests/s, p50 {self.p50_ms:.2f} ms, p99 {self.p99_ms:.2f} ms, {self.n_failed} failed"


def drive(port: int, requests: list[bytes], connections: int, seconds: float) -> Driven:
    """Send requests over kept-alive connections, the next as soon as the last was answered, from another process."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(_drive(port, requests, connections, seconds)))
    process.start()
    measured = Driven(*receiver.recv())
    process.join()
    return measured


def _drive(port: int, requests: list[bytes], connections: int, seconds: float) -> tuple[list[float], int, float]:
    selector = selectors.DefaultSelector()
    latencies_s: list[float] = []
    n_sent = n_failed = 0
    began = time.perf_counter()
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(requests[n_sent % len(requests)])
        selector.register(connection, selectors.EVENT_READ, [time.perf_counter(), b""])
        n_sent += 1
    while (now := time.perf_counter()) < began + seconds:
        for key, _ in selector.select(1.0):
            sent_s, answer = key.data
            answer += key.fileobj.recv(65536)
            key.data[1] = answer
            if not is_whole(answer):
                continue
            now = time.perf_counter()
            latencies_s.append(now - sent_s)
            n_failed += not answer.startswith(b"HTTP/1.1 200")
            key.fileobj.sendall(requests[n_sent % len(requests)])
            key.data[:] = now, b""
            n_sent += 1
    return latencies_s, n_failed, now - began


def is_whole(answer: bytes) -> bool:
    """Say whether an HTTP answer with a content-length is complete: head and body may come in two packets."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        return False
    length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
    return len(body) >= int(length)


def request(path: str, port: int, body: Any) -> bytes:
    """Return the bytes of one POST."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


def wait_for(url: str, timeout_s: float) -> None:
    """Wait until a URL answers 200."""
    deadline = time.perf_counter() + timeout_s
    while time.perf_counter() < deadline:
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.02)
    raise SystemExit(f"{url} did not answer within {timeout_s} s")


if __name__ == "__main__":
    main()
