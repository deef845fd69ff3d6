"""What the pages say: every caveat where the verdict stands, figures as recorded, and one gold file."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from reports import records
from reports.cycle_files import CycleFiles, read_cycle
from reports.page import Bullets, Page, Plot, Table, Text
from reports.pages import index_page, page_of
from reports.publish import markdown_for
from reports.records import save_record
from simulation.verdict import certificate_digest
from tests.reports import samples

GOLD = Path(__file__).parent / "gold"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return samples.write_cycle(tmp_path)


def tables(page: Page) -> list[Table]:
    return [block for section in page.sections for block in section.blocks if isinstance(block, Table)]


def words(page: Page) -> str:
    texts = [b.text for s in page.sections for b in s.blocks if isinstance(b, Text)]
    items = [item for s in page.sections for b in s.blocks if isinstance(b, Bullets) for item in b.items]
    return " ".join([page.answer, *(c.text for c in page.caveats), *texts, *items])


@pytest.mark.parametrize("name", ["plan", "training", "evaluation", "promotion", "drift"])
def test_a_record_comes_back_as_it_was_saved(tmp_path: Path, name: str) -> None:
    record = getattr(samples, name)()
    save_record(record, tmp_path / "record.json")
    kind: type = getattr(records, type(record).__name__)
    # repr: NaN is not equal to itself, and stands in the samples on purpose.
    assert repr(records.load_record(kind, tmp_path / "record.json")) == repr(record)


def test_a_verdict_is_never_shown_without_its_uncalibrated_mark(folder: Path) -> None:
    files = read_cycle(folder)
    plan, index = page_of(files, "plan"), index_page([files])
    assert "not enough evidence (uncalibrated)" in plan.answer
    assert any("uncalibrated" in caveat.text for caveat in plan.caveats)
    scenarios = next(t for t in tables(plan) if t.columns[0] == "Scenario")
    assert all("(uncalibrated)" in str(row[1]) for row in scenarios.rows)
    told = next(b for s in index.sections for b in s.blocks if isinstance(b, Bullets))
    assert any("not enough evidence (uncalibrated)" in item for item in told.items)
    assert "(uncalibrated)" in str(tables(index)[0].rows[0])


def test_a_calibrated_verdict_carries_no_such_mark(folder: Path) -> None:
    samples.write_certificate(folder, samples.certificate(calibrated=True))
    assert "uncalibrated" not in words(page_of(read_cycle(folder), "plan"))


def test_the_plan_page_says_that_clock_and_history_are_moved(folder: Path) -> None:
    text = words(page_of(read_cycle(folder), "plan"))
    assert "The clock of this cycle is simulated: it stood at 2010-05-03 00:00 UTC" in text
    assert "moved forward by 615 whole weeks" in text
    real = dataclasses.replace(samples.plan(), is_clock_simulated=False, history_shift_weeks=0)
    save_record(real, folder / "plan.json")
    text = words(page_of(read_cycle(folder), "plan"))
    assert "clock" not in text
    assert "moved forward" not in text


def test_the_chosen_window_is_told_in_local_time_with_its_reason(folder: Path) -> None:
    page = page_of(read_cycle(folder), "plan")
    assert page.answer.startswith(
        "In the window that opens Mon 2010-05-03 04:20 (Europe/Paris) and closes Mon 2010-05-03 06:20."
    )
    ranking = tables(page)[0]
    assert [row[0] for row in ranking.rows] == ["1", "2", "3", "4", "5", "6", "7"]
    assert ranking.tones[0] == "good"
    assert samples.window(0).reason in words(page)


def test_a_scenario_shows_both_probabilities_and_p99_with_their_intervals(folder: Path) -> None:
    scenarios = next(t for t in tables(page_of(read_cycle(folder), "plan")) if t.columns[0] == "Scenario")
    rows = {row[0]: row for row in scenarios.rows}
    assert rows["retry-storm"][2:5] == ("5 % (0.3 % to 22 %)", "100 % (86 % to 100 %)", "118 (109 to 128)")
    assert rows["twice-the-data"][6] == "not known"


def test_a_plan_can_be_simulated_again_from_the_page(folder: Path) -> None:
    again = page_of(read_cycle(folder), "plan").again
    assert any(command.startswith("lull demo --home") for command in again.commands)
    # Not over the cycle's own certificate.
    assert f"lull simulate {folder / 'plan.yaml'} --certificate again.json" in again.commands
    facts = dict(again.facts)
    assert facts["plan digest"] == "a1" * 6
    assert facts["seeds"] == "1 and up, 20 per scenario"


def test_a_metric_without_interval_says_so(folder: Path) -> None:
    gate = next(t for t in tables(page_of(read_cycle(folder), "cycle")) if t.columns[0] == "Metric")
    assert {row[0]: row[4] for row in gate.rows}["Brier score"] == "-0.0018 (no interval)"
    assert gate.tones == ("good", "good", "open", "bad")


def test_hidden_groups_are_counted_and_never_named(folder: Path) -> None:
    assert "1 group is smaller than the plan's minimum and not shown." in words(page_of(read_cycle(folder), "cycle"))


def test_a_promotion_that_lost_nothing_says_none_failed(folder: Path) -> None:
    page = page_of(read_cycle(folder), "promotion")
    assert "Of the 507 requests that the gateway counted during the promote flow, none failed." in page.answer
    assert page.tone == "good"


def test_both_spans_in_which_requests_are_counted_are_shown_and_named(folder: Path) -> None:
    page = page_of(read_cycle(folder), "promotion")
    assert "Of the 812 requests that the client sent in the whole replay, none failed." in page.answer
    gateway, client = tables(page)[1:]
    assert gateway.caption == "During the promote flow, counted by the gateway"
    assert ("sent", "507") in gateway.rows
    assert client.caption == "In the whole replay, which outlasts the promote flow, counted by the client"
    assert {("slot blue", "500"), ("sent", "812")} <= set(client.rows)
    (folder / "replay.json").unlink()
    assert "replay" not in page_of(read_cycle(folder), "promotion").answer


def test_a_cycle_in_which_no_traffic_moved_shows_no_empty_picture_and_no_row_of_nothing(folder: Path) -> None:
    held = dataclasses.replace(
        samples.promotion(), sent=0, answered_by_slot={"blue": 0, "green": 0}, answered_by_version={"2": 0}, steps=[]
    )
    save_record(held, folder / "promotion.json")
    page = page_of(read_cycle(folder), "promotion")
    assert not any(isinstance(block, Plot) for section in page.sections for block in section.blocks)
    assert [table.caption.split(",")[0] for table in tables(page)] == ["In the whole replay"]
    one_slot = dataclasses.replace(samples.promotion(), answered_by_slot={"blue": 507, "green": 0})
    save_record(one_slot, folder / "promotion.json")
    page = page_of(read_cycle(folder), "promotion")
    assert not any(isinstance(block, Plot) for section in page.sections for block in section.blocks)
    save_record(held, folder / "promotion.json")
    (folder / "replay.json").unlink()
    assert [section.heading for section in page_of(read_cycle(folder), "promotion").sections] == ["Why", "Step by step"]


def test_the_promotion_page_says_that_its_times_are_real_ones_and_one_duration_in_one_way(folder: Path) -> None:
    page = page_of(read_cycle(folder), "promotion")
    assert [c.text for c in page.caveats] == [
        "The cycle's clock is simulated; the times on this page are the real ones at which the steps ran."
    ]
    assert "traffic was back on the old slot 410 ms after the order" in words(page)
    assert "400 ms" in tables(page)[0].rows[0]


def test_what_older_versions_did_not_record_is_not_known(folder: Path) -> None:
    scenarios = next(t for t in tables(page_of(read_cycle(folder), "plan")) if t.columns[0] == "Scenario")
    shown = {row[0]: row[-2:] for row in scenarios.rows}
    assert (shown["as-forecast"], shown["retry-storm"]) == (("2.00", "1.25"), ("not known", "not known"))
    path = folder / "plan.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    for night in data["nights"]:
        for name in ("choice", "capacity_steps", "promoted_min", "rolled_back_min", "worst_seed", "worst_bad"):
            del night[name]
    path.write_text(json.dumps(data), encoding="utf-8")
    files = read_cycle(folder)
    assert files.plan.problem is None
    assert "The worst night" not in markdown_for(folder.parent.parent, "2010-05", "plan")


def test_the_worst_night_is_named_where_a_middling_one_is_shown(folder: Path) -> None:
    assert "The worst night, seed 5, had 412 bad requests." in markdown_for(folder.parent.parent, "2010-05", "plan")


def test_scenarios_that_give_the_same_figures_are_said_to_and_why(folder: Path) -> None:
    text = words(page_of(read_cycle(folder), "plan"))
    assert "failed-stage, flash-crowd and replica-lost give nearly the same figures as as-forecast: in" in text
    assert "of the smallest capacity" in text


def test_bounds_that_are_the_same_for_several_scenarios_are_told_once(folder: Path) -> None:
    same = samples.certificate()
    for scenario in same["scenarios"]:
        scenario["reasons"] = ["P(…) is 0 %: kept."]
    same["digest"] = certificate_digest(same)
    samples.write_certificate(folder, same)
    assert markdown_for(folder.parent.parent, "2010-05", "plan").count("is 0 %: kept.") == 1


def test_failed_requests_are_told_in_the_answer_and_colour_it(folder: Path) -> None:
    save_record(samples.promotion(failed=2), folder / "promotion.json")
    page = page_of(read_cycle(folder), "promotion")
    assert "Of the 507 requests that the gateway counted during the promote flow, 2 failed." in page.answer
    assert page.tone == "bad"


def test_counts_that_do_not_add_up_are_not_passed_over(folder: Path) -> None:
    save_record(dataclasses.replace(samples.promotion(), sent=600), folder / "promotion.json")
    text = words(page_of(read_cycle(folder), "promotion"))
    assert "600 requests were sent, 507 are accounted for by slot or as failed" in text


def test_no_traffic_is_no_proof_that_nothing_failed(folder: Path) -> None:
    quiet = dataclasses.replace(samples.promotion(), sent=0, answered_by_slot={}, answered_by_version={})
    save_record(quiet, folder / "promotion.json")
    (folder / "replay.json").unlink()
    assert "which says nothing about lost ones" in page_of(read_cycle(folder), "promotion").answer


@pytest.mark.parametrize(
    ("verdict", "sentence", "tone"),
    [
        ("held", "was held back", "open"),
        ("rolled back", "was rolled back", "bad"),
        ("promoted", "was promoted", "good"),
    ],
)
def test_each_outcome_of_a_rollout_has_its_sentence(folder: Path, verdict: str, sentence: str, tone: str) -> None:
    save_record(dataclasses.replace(samples.promotion(), verdict=verdict), folder / "promotion.json")
    page = page_of(read_cycle(folder), "promotion")
    assert sentence in page.answer
    assert page.tone == tone


def test_drifted_columns_come_by_cost_then_importance_and_the_score_first(folder: Path) -> None:
    page = page_of(read_cycle(folder), "drift")
    names = [row[0] for row in tables(page)[0].rows]
    assert names == ["score of the model", "nr_employed", "euribor3m", "age", "job", "month"]
    assert "3 of 5 columns moved; those that may cost most: nr_employed, euribor3m and age." in page.answer


def test_the_drift_page_states_its_own_false_alarm_rate_and_how_it_was_calibrated(folder: Path) -> None:
    page = page_of(read_cycle(folder), "drift")
    assert page.answer.endswith("Without any drift, at most 5 % of such reports would name a column.")
    assert "calibrated on these very 2,411 current and 7,682 reference rows" in words(page)
    assert "999 times" in words(page)
    assert tables(page)[0].rows[0][6] == "fewer than 1 in 1,000"


def test_a_promise_that_the_labels_broke_is_told(folder: Path) -> None:
    kept = [row[4] for row in tables(page_of(read_cycle(folder), "drift"))[1].rows]
    assert kept == ["no: the assumption does not hold here", "yes", "not known"]


def test_a_failed_check_of_the_rows_stands_under_the_answer(folder: Path) -> None:
    caveats = [caveat.text for caveat in page_of(read_cycle(folder), "drift").caveats]
    assert caveats == ["Column job seems to be written in another way."]


def test_a_month_without_anything_to_compare_is_one_sentence_on_every_page(folder: Path) -> None:
    why = "2008-05 is the first month with rows: there are none before it to compare with."
    empty = dataclasses.replace(samples.drift(), problem=why, columns=[], promises=[], quality=[], evidently_page="",
                                share_drifted=float("nan"))  # fmt: skip
    save_record(empty, folder / "drift.json")
    page = page_of(read_cycle(folder), "drift")
    assert page.answer == f"Nobody can tell: {why}"
    assert page.sections == ()
    assert "first month" in words(page_of(read_cycle(folder), "drift"))
    assert why in words(index_page([read_cycle(folder)]))


def test_no_drift_is_not_claimed_beyond_what_was_shown(folder: Path) -> None:
    still = [dataclasses.replace(c, is_drifted=False) for c in samples.drift().columns]
    save_record(dataclasses.replace(samples.drift(), columns=still, share_drifted=0.0), folder / "drift.json")
    page = page_of(read_cycle(folder), "drift")
    assert page.answer == "Yes: none of 5 columns is shown to have moved."
    assert page.tone == "good"


def test_the_index_lists_the_newest_cycle_first(tmp_path: Path) -> None:
    cycles: list[CycleFiles] = [read_cycle(samples.write_cycle(tmp_path, name)) for name in ("2010-06", "2010-05")]
    page = index_page(cycles)
    assert [row[0] for row in tables(page)[0].rows] == ["2010-06", "2010-05"]
    assert page.answer.startswith("Cycle 2010-06: The challenger was promoted: version 3 in slot green")
    assert len(page.answer) < 250, "the lead is a line or two; the rest stands in a list below"


@pytest.mark.parametrize("name", ["cycle", "promotion", "drift"])
def test_markdown_is_as_in_the_gold_file(tmp_path: Path, name: str) -> None:
    samples.write_cycle(tmp_path)
    text, gold = markdown_for(tmp_path, "2010-05", name), GOLD / f"{name}.md"
    if os.environ.get("LULL_ACCEPT_GOLD") == "1":
        gold.write_text(text, encoding="utf-8")
    assert text == gold.read_text(encoding="utf-8")
