"""The whole loop, twice, as a stranger runs it: one promotion, then a cycle that holds for data."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flows.adapters.audit import AuditFile
from reports.records import EvaluationRecord, PromotionRecord, ReplayRecord, TrainingRecord, load_record

pytestmark = [pytest.mark.demo, pytest.mark.prefect]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the demo ran twice; its output is kept beside it."""
    directory = tmp_path_factory.mktemp("demo")
    ports = {"LULL_GATEWAY_PORT": str(free_port()), "LULL_PREFECT_PORT": str(free_port())}
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "LULL_"))} | ports
    for n in (1, 2):
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", "demo", "--home", str(directory / "home")],
            env=environment, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        (directory / f"demo-{n}.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
        logs = "".join(p.read_text()[-2000:] for p in (directory / "home" / "logs").glob("*.log"))
        assert done.returncode == 0, done.stdout + done.stderr + logs
    return directory / "home"


def read(home: Path, cycle: str, name: str, kind: type) -> object:
    record = load_record(kind, home / "cycles" / cycle / f"{name}.json")
    assert record is not None
    return record


def test_the_first_cycle_promotes_the_challenger_and_no_request_fails(home: Path) -> None:
    evaluation = read(home, "2009-05", "evaluation", EvaluationRecord)
    promotion = read(home, "2009-05", "promotion", PromotionRecord)
    assert isinstance(evaluation, EvaluationRecord)
    assert isinstance(promotion, PromotionRecord)
    assert evaluation.verdict == "promote"
    assert evaluation.rows == 5794
    assert promotion.verdict == "promoted"
    assert promotion.failed == 0
    assert promotion.slot_before != promotion.slot_after
    assert min(promotion.answered_by_slot.values()) > 0
    assert promotion.rollback_drill_s is not None
    assert promotion.rollback_drill_s < 1.0


def test_the_second_cycle_starts_from_what_was_promoted_and_holds_for_data(home: Path) -> None:
    first = read(home, "2009-05", "promotion", PromotionRecord)
    training = read(home, "2009-06", "training", TrainingRecord)
    evaluation = read(home, "2009-06", "evaluation", EvaluationRecord)
    promotion = read(home, "2009-06", "promotion", PromotionRecord)
    assert isinstance(first, PromotionRecord)
    assert isinstance(training, TrainingRecord)
    assert isinstance(evaluation, EvaluationRecord)
    assert isinstance(promotion, PromotionRecord)
    assert training.champion_version == first.version_after
    assert evaluation.rows == 715
    assert evaluation.verdict == "hold for data"
    assert promotion.verdict == "held"
    assert promotion.slot_after == first.slot_after


def test_pages_and_terminal_count_requests_over_the_same_two_spans(home: Path) -> None:
    for n, cycle in ((1, "2009-05"), (2, "2009-06")):
        said = " ".join((home.parent / f"demo-{n}.txt").read_text(encoding="utf-8").split())
        replay, promotion = read(home, cycle, "replay", ReplayRecord), read(home, cycle, "promotion", PromotionRecord)
        assert isinstance(replay, ReplayRecord)
        assert isinstance(promotion, PromotionRecord)
        assert replay.sent == replay.answered >= promotion.sent
        assert f"in the whole replay, counted by the client: {replay.sent:,} sent, 0 failed" in said
        assert f"during the promote flow, counted by the gateway: {promotion.sent:,}, 0 failed" in said
        assert "LULL_HOME=" in said
        page = (home / "reports" / cycle / "promotion.html").read_text(encoding="utf-8")
        assert f"Of the {replay.sent:,} requests that the client sent in the whole replay, none failed." in page


def test_the_certificate_holds_and_says_that_it_is_uncalibrated(home: Path) -> None:
    certificate = json.loads((home / "cycles" / "2009-05" / "certificate.json").read_text())
    assert certificate["answer"] == "holds"
    assert certificate["is_calibrated"] is False
    assert len(certificate["scenarios"]) == 6


def test_the_pages_say_what_was_decided_and_that_the_clock_was_simulated(home: Path) -> None:
    pages = {p.name: p.read_text() for p in (home / "reports" / "2009-05").glob("*.html")}
    assert {"plan.html", "cycle.html", "drift.html", "promotion.html"} <= pages.keys()
    assert (home / "reports" / "index.html").is_file()
    assert "simulated clock" in pages["cycle.html"]
    assert "uncalibrated" in pages["plan.html"]
    assert "promoted" in pages["promotion.html"]


def test_every_decision_is_in_an_audit_log_whose_chain_is_whole(home: Path) -> None:
    audit = AuditFile(home / "audit.jsonl")
    assert audit.verify() > 8
    events = [entry["event"] for entry in audit.entries()]
    assert events.index("bootstrap champion") < events.index("challenger registered") < events.index("champion")
    assert "held" in events


def test_nothing_of_the_demo_is_left_running(home: Path) -> None:
    import psutil

    left = [
        p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if str(home) in " ".join(p.info["cmdline"] or [])
    ]
    assert left == []
