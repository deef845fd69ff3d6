"""Plan files: one sentence that names file, place, value and remedy; comments kept; nothing half-written."""

import os
import stat
from pathlib import Path

import pytest

from simulation.errors import InvalidPlan, LullError, UnknownZone
from simulation.plan_file import read_plan, window_rule, write_plan, write_whole
from tests.simulation.plans import PLAN_YAML, small_plan


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN_YAML, encoding="utf-8")
    return file


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} must stand once in the plan"
    path.write_text(text.replace(old, new), encoding="utf-8")


def refusal(path: Path, error: type[LullError] = InvalidPlan) -> str:
    with pytest.raises(error) as caught:
        read_plan(path)
    sentence = str(caught.value)
    assert sentence.startswith(str(path))
    assert "\n" not in sentence
    return sentence.removeprefix(f"{path}: ")


def test_the_file_and_the_data_are_the_same_plan(path: Path) -> None:
    assert read_plan(path) == small_plan()
    assert window_rule(read_plan(path)).starts_at_local == "02:00"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("  replicas: 2\n", "  replcas: 2\n", "serving.replcas: no such key; did you mean 'replicas'?"),
        (
            "  duration_min: 60\n",
            "  duration_hours: 1\n",
            "window.duration_hours: no such key; did you mean 'duration_min'?",
        ),
        ("  duration_min: 60\n", "  duration_min: 2h\n", "write a plain number of minutes"),
        ("    latency_ms: 1000\n", "    latency_ms: 1 s\n", "write a plain number of milliseconds"),
        (
            "  duration_min: 60\n",
            "  duration_min: 1500\n",
            "window.duration_min: input should be less than or equal to 1440",
        ),
        (
            "      minutes_p50: 10\n",
            "      minutes_p50: 20\n",
            "training.stages.1: minutes_p95 15 is below minutes_p50 20",
        ),
        (
            "  data: bank",
            "  storage_path: serving\n  data: bank",
            "the file: training.storage_path is the same as serving",
        ),
        (
            "      minutes_p95: 4\n",
            "      minuts_p95: 4\n",
            "stages.0.minuts_p95: no such key; did you mean 'minutes_p95'?",
        ),
        ("    - metric: log_loss\n", "    - metric: logloss\n", "evaluation.gates.0.metric: input should be 'auc'"),
        ("name: small-night\n", "nam: small-night\n", "nam: no such key; did you mean 'name'? (and 1 more problem)"),
    ],
)
def test_each_mistake_is_told_with_its_place_and_remedy(path: Path, old: str, new: str, sentence: str) -> None:
    change(path, old, new)
    assert sentence in refusal(path)


def test_a_missing_slo_is_told_by_name(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    begin, end = text.index("  slo:"), text.index("traffic:")
    path.write_text(text[:begin] + text[end:], encoding="utf-8")
    assert refusal(path) == "serving.slo: is missing; add it"


def test_a_value_that_is_wrong_is_shown(path: Path) -> None:
    change(path, "  duration_min: 60\n", "  duration_min: 2h\n")
    assert "window.duration_min:" in refusal(path)
    assert "(got '2h')" in refusal(path)


def test_broken_yaml_is_told_with_line_and_column(path: Path) -> None:
    change(path, "  pool: scorer\n", "  pool: [scorer\n")
    assert refusal(path).startswith("line 5, column 11: not valid YAML")
    change(path, "  pool: [scorer\n", "  pool: scorer\n  pool: again\n")
    assert "line 5, column 3" in refusal(path)
    assert "duplicate key" in refusal(path)


def test_a_file_without_keys_is_refused(path: Path) -> None:
    for text in ("", "- a\n- b\n", "just words\n"):
        path.write_text(text, encoding="utf-8")
        assert refusal(path) == "holds no mapping of keys to values; write `key: value` lines"


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.yaml").startswith("there is no such file")
    assert refusal(tmp_path).startswith("cannot be read")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    assert refusal(tmp_path / "bytes.yaml").startswith("cannot be read")


def test_an_unknown_zone_is_refused_with_a_near_name(path: Path) -> None:
    change(path, 'time_zone: UTC\n  starts_at_local: "02:00"', 'time_zone: Europe/Pariss\n  starts_at_local: "02:00"')
    assert "did you mean Europe/Paris" in refusal(path, UnknownZone)


def test_the_digest_ignores_comments(path: Path) -> None:
    before = read_plan(path).digest()
    change(path, "# Agreed with the on-call team.\n", "# Nobody knows why.\n\n")
    assert read_plan(path).digest() == before


def test_comments_survive_a_rewrite(path: Path) -> None:
    plan = small_plan(serving__replicas=3, window__duration_min=90, training__stages__1__minutes_p95=18)
    write_plan(plan, path)
    assert read_plan(path) == plan
    text = path.read_text(encoding="utf-8")
    for comment in (
        "# Kept by the operators of the test pool.",
        "# two processes per machine",
        "# Agreed with the on-call team.",
        "# from the warehouse",
    ):
        assert comment in text


def test_a_rewrite_can_drop_and_add_stages(path: Path) -> None:
    stages = small_plan().to_dict()["training"]["stages"]
    plan = small_plan(training__stages=[stages[1], {**stages[0], "name": "check"}, {**stages[0], "name": "pack"}])
    write_plan(plan, path)
    assert read_plan(path) == plan
    write_plan(small_plan(training__stages=stages[1:]), path)
    assert [stage.name for stage in read_plan(path).training.stages] == ["train"]


def test_writing_the_same_plan_twice_changes_no_byte(path: Path) -> None:
    write_plan(small_plan(), path)
    first = path.read_bytes()
    write_plan(small_plan(), path)
    assert path.read_bytes() == first


def test_a_new_file_carries_the_comments_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "plan.yaml"
    write_plan(small_plan(), path, comments={"window": "Chosen for its quiet.", "serving.slo": "Promised."})
    text = path.read_text(encoding="utf-8")
    assert "# Chosen for its quiet.\nwindow:" in text
    assert "  # Promised.\n  slo:" in text
    assert read_plan(path) == small_plan()


def test_a_file_that_is_no_plan_is_not_written_over(path: Path) -> None:
    for text in ("- a list\n", "serving: [broken\n"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InvalidPlan, match=r"plan\.yaml"):
            write_plan(small_plan(), path)
        assert path.read_text(encoding="utf-8") == text


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_plan(small_plan(serving__replicas=9), path)
    assert path.read_text(encoding="utf-8") == PLAN_YAML
    assert os.listdir(path.parent) == ["plan.yaml"]


def test_a_file_is_as_readable_after_a_rewrite_as_before(path: Path) -> None:
    path.chmod(0o640)
    write_whole(path, "a: 1\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_new_file_can_be_read_by_others_as_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "new.yaml", "a: 1\n")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.yaml").stat().st_mode) == 0o644


def test_a_file_that_is_too_large_for_a_plan_is_refused_without_being_parsed(path: Path) -> None:
    path.write_text(PLAN_YAML + "# " + "x" * 2**20, encoding="utf-8")
    assert refusal(path) == "is larger than 1 MiB; plans and scenarios are a few kilobytes"


def test_a_time_that_is_none_is_answered_with_how_times_are_written(path: Path) -> None:
    change(path, '"02:00"', '"25:99"')
    assert refusal(path) == "window.starts_at_local: a time of day is written HH:MM, from 00:00 to 23:59 (got '25:99')"
