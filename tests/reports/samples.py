"""Made-up records of two cycles, shaped like real ones; no number in them was measured."""

import datetime as dt
import json
import math
from pathlib import Path
from typing import Any

from reports.records import (
    DriftColumn,
    DriftRecord,
    EvaluationRecord,
    GroupRecord,
    MetricRecord,
    NightRecord,
    PlanRecord,
    PromiseRecord,
    PromotionRecord,
    PromotionStep,
    QualityRecord,
    ReplayRecord,
    TrainingRecord,
    WindowRecord,
    save_record,
)
from simulation.plan_file import write_whole
from simulation.verdict import certificate_digest

NOW = dt.datetime(2010, 5, 3, 0, 0, tzinfo=dt.UTC)

SCENARIOS = ("as-forecast", "failed-stage", "flash-crowd", "replica-lost", "retry-storm", "twice-the-data")


def daily(hour: float) -> float:
    """A load that is low at 4 in the morning and high in the afternoon, in requests per second."""
    return 60 + 45 * math.sin((hour - 10) / 24 * 2 * math.pi)


def window(day: int) -> WindowRecord:
    opens = NOW + dt.timedelta(days=day, hours=2, minutes=20)
    return WindowRecord(
        opens_at=opens.isoformat(),
        closes_at=(opens + dt.timedelta(hours=2)).isoformat(),
        opens_local=(opens + dt.timedelta(hours=2)).replace(tzinfo=None).isoformat(),
        mean_load_rps=16.2 + day,
        p95_load_rps=24.9 + day,
        probability_below=0.991 - 0.01 * day,
        expected_requests=116_640.0 + 7200 * day,
        reason=f"Mean load {16.2 + day:.1f} requests/s, 38 % below a fixed 02:00; under the threshold for sure.",
    )


def night(scenario: str, seed: int = 1) -> NightRecord:
    crowd = scenario == "flash-crowd"
    offered = [int(60 * daily((2 + m / 60) % 24) * (3 if crowd and 60 <= m < 75 else 1)) for m in range(181)]
    return NightRecord(
        scenario=scenario,
        seed=seed,
        lead_min=30.0,
        window_min=120.0,
        offered_per_min=offered,
        bad_per_min=[(m * 7) % 5 if crowd and 60 <= m < 75 else 0 for m in range(181)],
        queue_per_min=[(m * 3) % 4 + (20 if crowd and 60 <= m < 75 else 0) for m in range(181)],
        choice="middling",
        capacity_steps=[(-30.0, 200.0), (4.2, 133.3), (47.5, 200.0)],
        promoted_min=61.0,
        worst_seed=seed + 4,
        worst_bad=412,
        steps=[(0.0, 4.2, "prepare"), (4.2, 47.5, "train"), (47.5, 53.0, "evaluate")],
        events=[(31.0, "pause: p99 612 ms over 250 ms"), (46.0, "continue: p99 41 ms"), (53.0, "training done")]
        if crowd
        else [(53.0, "training done")],
    )


def plan(cycle: str = "2010-05") -> PlanRecord:
    ahead = [daily((i / 6 + 1) % 24) for i in range(7 * 144)]
    return PlanRecord(
        cycle=cycle,
        plan_name="bank-nightly",
        plan_digest="a1" * 32,
        now=NOW.isoformat(),
        is_clock_simulated=True,
        history_name="worldcup98",
        history_start=(NOW - dt.timedelta(days=87)).isoformat(),
        history_end=NOW.isoformat(),
        history_step_s=60,
        history_shift_weeks=615,
        history_quality=["126,720 minutes, 0.3 % of them missing.", "2 duplicated minutes were added up."],
        history_load_rps=[None if 100 <= i < 109 else daily(i % 24) * (1 + 0.1 * math.sin(i)) for i in range(28 * 24)],
        history_load_start=(NOW - dt.timedelta(days=28)).isoformat(),
        forecast_start=NOW.isoformat(),
        forecast_step_s=600,
        forecast_p05_rps=[0.7 * v for v in ahead],
        forecast_p50_rps=ahead,
        forecast_p95_rps=[1.4 * v for v in ahead],
        threshold_rps=30.0,
        time_zone="Europe/Paris",
        windows=[window(day) for day in range(7)],
        nights=[night(name) for name in SCENARIOS],
        next_openings=[window(day).opens_at for day in range(3)],
    )


def certificate(calibrated: bool = False) -> dict[str, Any]:
    def share(value: float, low: float, high: float) -> dict[str, float | None]:
        return {"value": value, "low": low, "high": high}

    scenarios = [
        {
            "scenario": name,
            "answer": "not enough evidence" if name == "retry-storm" else "holds",
            "n_trials": 20,
            "p_slo_breach": share(0.05, 0.0026, 0.216) if name == "retry-storm" else share(0.0, 0.0, 0.139),
            "p_finish_in_window": share(1.0, 0.861, 1.0),
            "p99_ms": {"value": 118.4, "low": 109.1, "high": 127.7},
            "expected_bad_requests": {"value": 41.2, "low": 30.0, "high": 52.4},
            "finish_min_p95": None if name == "twice-the-data" else 71.3,
            "paused_min": 3.4,
            **({} if name == "retry-storm" else {"recovery_min_p95": 2.0, "cost": share(1.25, 1.2, 1.3)}),
            "reasons": [f"P(the night misses the SLO) is 0 % over 20 nights, at most 14 % for sure ({name})."],
        }
        for name in SCENARIOS
    ]
    content: dict[str, Any] = {
        "format": 1,
        "plan": "bank-nightly",
        "answer": "not enough evidence",
        "reasons": ["retry-storm: P(the night misses the SLO) is not settled, run more replications."],
        "is_calibrated": calibrated,
        "scenarios": scenarios,
        "outlook": {
            "metastability": {"reasons": ["No minute is vulnerable: capacity exceeds the load with all its retries."]},
            "decidability": {
                "reason": "The shadow can decide first, at 2010-06-02 01:22 UTC, inside the window.",
                "steps": [
                    {
                        "name": "shadow",
                        "needed": 6852,
                        "decided_at": "2010-06-02T01:22:00+00:00",
                        "decided_late_at": "2010-06-02T02:07:00+00:00",
                        "lasts_enough": True,
                    },
                    {
                        "name": "canary 10%",
                        "needed": 37681,
                        "decided_at": "2010-06-02T03:23:00+00:00",
                        "decided_late_at": None,
                        "lasts_enough": False,
                    },
                ],
            },
        },
        "history_digest": "b2" * 32,
        "fingerprints": ["f"] * 120,
        "provenance": {
            "plan_digest": "a1" * 32,
            "opens_at": window(0).opens_at,
            "first_seed": 1,
            "replications": 20,
            "code_digest": "c3" * 32,
            "versions": {"numpy": "2.4.6"},
            "python": "3.11.2",
        },
        "issued_at": NOW.isoformat(),
        "expires_at": (NOW + dt.timedelta(hours=24)).isoformat(),
    }
    return {**content, "digest": certificate_digest(content)}


def training(cycle: str = "2010-05", bootstrap: bool = False) -> TrainingRecord:
    return TrainingRecord(
        cycle=cycle,
        status="trained",
        reason="The window is open and new labelled rows have come.",
        model="bank-term-deposit",
        version="3",
        champion_version=None if bootstrap else "2",
        is_bootstrap=bootstrap,
        data_name="bank_marketing_2008_2010",
        rows=38_412,
        positive_ratio=0.0874,
        data_from="2008-05-05",
        data_until="2010-04-01",
        data_digest="d4" * 32,
        model_digest="e5" * 32,
        rounds=200,
        seconds_per_step={"read": 0.31, "train": 4.87, "calibrate": 0.22, "log": 1.9},
        importance={
            "euribor3m": 0.412,
            "nr_employed": 0.233,
            "age": 0.121,
            "job": 0.09,
            "campaign": 0.05,
            "poutcome": 0.094,
        },
        envelope={"threads": "1", "nice": "10", "memory (GiB)": "2.0", "CPUs": "0 of 0-1"},
        clock="simulated, 2010-05-03 02:20 UTC",
        run_id="0123456789abcdef",
    )


def evaluation(cycle: str = "2010-05") -> EvaluationRecord:
    bins = [(0.02 + 0.06 * i, 0.018 + 0.065 * i, 900 - 90 * i) for i in range(9)]
    return EvaluationRecord(
        cycle=cycle,
        champion_version="2",
        challenger_version="3",
        rows=2411,
        positives=512,
        data_from="2010-04-01",
        data_until="2010-05-01",
        confidence=0.95,
        verdict="promote",
        reasons=["Log loss is better for sure: by 0.021 (0.009 to 0.034).", "No guardrail is broken."],
        metrics=[
            MetricRecord("log_loss", "success", 0.4412, 0.42, -0.0212, -0.034, -0.009, 0.0, "passes", "better."),
            MetricRecord("auc", "guardrail", 0.7711, 0.7832, -0.0121, -0.022, -0.003, 0.01, "passes", "not worse."),
            MetricRecord("brier", "guardrail", 0.141, 0.1392, -0.0018, float("nan"), float("nan"), 0.005, "undecided",
                         "no interval could be made."),
            MetricRecord("latency_ms", "guardrail", 1.21, 1.92, 0.71, 0.62, 0.8, 0.5, "fails", "worse by over 0.5 ms."),
        ],
        groups=[
            GroupRecord("age 18-30", 511, 0.45, 0.43, -0.02, -0.05, 0.01),
            GroupRecord("age 31-45", 1204, 0.43, 0.41, -0.02, -0.04, 0.0),
        ],
        hidden_groups=1,
        calibration_champion=bins,
        calibration_challenger=[(s, r * 0.95, n) for s, r, n in bins],
        score_edges=[i / 20 for i in range(21)],
        score_champion=[max(0, 600 - 55 * i) for i in range(20)],
        score_challenger=[max(0, 640 - 60 * i) for i in range(20)],
    )  # fmt: skip


def promotion(cycle: str = "2010-05", failed: int = 0) -> PromotionRecord:
    at = dt.datetime(2010, 5, 3, 3, 31, tzinfo=dt.UTC)
    told = [
        ("load", "green holds version 3; it took 0.4 s.", 0.4, 0),
        ("warm", "200 requests warmed it; p99 2.1 ms.", 0.9, 0),
        ("shadow", "200 answers compared, none failed.", 2.2, 200),
        ("canary 10 %", "11 of 104 requests went to green.", 1.4, 104),
        ("canary 50 %", "53 of 101 requests went to green.", 1.2, 101),
        ("switch", "all traffic goes to green.", 0.6, 102),
        ("keep warm", "blue keeps version 2 loaded for 60 min.", 0.0, 0),
    ]
    steps = [
        PromotionStep(
            (at + dt.timedelta(seconds=5 * i)).isoformat(), name, outcome, s, n, failed if name == "switch" else 0
        )
        for i, (name, outcome, s, n) in enumerate(told)
    ]
    return PromotionRecord(
        cycle=cycle,
        verdict="promoted",
        reasons=["The gate said promote and no step of the rollout spoke against it."],
        slot_before="blue",
        slot_after="green",
        version_before="2",
        version_after="3",
        steps=steps,
        answered_by_slot={"blue": 341, "green": 166 - failed},
        answered_by_version={"2": 341, "3": 166 - failed},
        failed=failed,
        sent=507,
        rollback_drill_s=0.41,
    )


def drift(cycle: str = "2010-05") -> DriftRecord:
    shares = {"euribor3m": 0.412, "nr_employed": 0.233, "age": 0.121, "job": 0.09, "month": float("nan")}
    losses = {"euribor3m": 0.012, "nr_employed": 0.03, "age": 0.0004}
    nan = float("nan")
    columns = [
        DriftColumn(
            column=name,
            is_drifted=name in losses,
            movement="the distribution moved by 0.37; the median went from 4.86 to 1.31" if name in losses else "",
            distance=0.37 if name in losses else 0.02,
            p_value=0.001 if name in losses else 0.84,
            importance=share,
            log_loss=losses.get(name, nan),
            score_change=0.04 if name in losses else nan,
            evidently_method="Wasserstein distance (normed)",
            evidently_value=0.9 * share if share == share else 0.31,
            evidently_threshold=0.1,
        )
        for name, share in sorted(shares.items())
    ]
    score = DriftColumn("score of the model", True, "the distribution moved by 0.21; the median went from 0.05 to 0.09",
                        0.21, 0.001, nan, nan, nan, "", nan, nan)  # fmt: skip
    return DriftRecord(
        cycle=cycle,
        problem="",
        reference_rows=7_682,
        current_rows=2411,
        reference_from="2008-05-05",
        reference_until="2010-04-01",
        current_from="2010-04-01",
        current_until="2010-05-01",
        columns=[*columns, score],
        score_name="score of the model",
        share_drifted=0.6,
        false_alarm_rate=0.05,
        dealings=999,
        promises=[
            PromiseRecord("AUC", 0.69, 0.612, 0.766, 0.593),
            PromiseRecord("log loss", 0.63, 0.58, 0.679, 0.64),
            PromiseRecord("share of positives", 0.48, 0.41, 0.55, nan),
        ],
        promise_assumption="the scores are calibrated",
        quality=[
            QualityRecord("row count", True, "2,411 rows, within the 10 to 7,763 of the 23 months before."),
            QualityRecord("coding", False, "Column job seems to be written in another way."),
        ],
        evidently_page="evidently.html",
        evidently_version="0.7.23",
    )


def replay(cycle: str = "2010-05") -> ReplayRecord:
    return ReplayRecord(cycle, 812, 812, 0, {"blue": 500, "green": 312}, {"2": 500, "3": 312})


def write_cycle(home: Path, cycle: str = "2010-05") -> Path:
    """Write a whole cycle below `home` and return its directory."""
    folder = home / "cycles" / cycle
    save_record(plan(cycle), folder / "plan.json")
    save_record(training(cycle), folder / "training.json")
    save_record(evaluation(cycle), folder / "evaluation.json")
    save_record(promotion(cycle), folder / "promotion.json")
    save_record(replay(cycle), folder / "replay.json")
    save_record(drift(cycle), folder / "drift.json")
    write_certificate(folder, certificate())
    (folder / "evidently.html").write_text("<!doctype html><title>Evidently</title>made up", encoding="utf-8")
    return folder


def write_certificate(folder: Path, content: dict[str, Any]) -> None:
    write_whole(folder / "certificate.json", json.dumps(content))
