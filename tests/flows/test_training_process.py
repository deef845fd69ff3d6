"""Between rounds the training obeys its control file: it waits while that says pause, and passes a stop on."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from flows.training_process import Control, is_out_of_memory, read_control
from flows.training_run import command


def listening(file: Path) -> tuple[Control, list[tuple[str, int, str]]]:
    said: list[tuple[str, int, str]] = []

    def say(event: str, **details: Any) -> None:
        said.append((event, details["rounds"], details["reason"]))

    return Control(file, say), said


def test_without_a_word_training_goes_on_and_nothing_is_said(tmp_path: Path) -> None:
    control, said = listening(tmp_path / "control")
    assert control(3) == ""
    command(tmp_path, "continue", "users are served again")
    assert control(4) == ""
    assert said == []


def test_a_stop_is_passed_on_with_its_reason(tmp_path: Path) -> None:
    control, said = listening(tmp_path / "control")
    command(tmp_path, "stop", "the window ends")
    assert control(7) == "the window ends"
    assert said == [("stopped", 7, "the window ends")]


@pytest.mark.parametrize(("then", "answer"), [("continue", ""), ("stop", "enough")])
def test_a_pause_lasts_until_the_next_word(tmp_path: Path, then: str, answer: str) -> None:
    control, said = listening(tmp_path / "control")
    command(tmp_path, "pause", "users wait")
    answers: list[str] = []
    waiting = threading.Thread(target=lambda: answers.append(control(9)))
    waiting.start()
    deadline = time.monotonic() + 20
    while not said and time.monotonic() < deadline:
        time.sleep(0.01)
    assert said == [("paused", 9, "users wait")]
    assert waiting.is_alive()
    command(tmp_path, then, "enough")
    waiting.join(20)
    assert answers == [answer]
    assert said[1] == ("continued", 9, "enough")


@pytest.mark.parametrize("text", ["", "\n", "halt at once", "PAUSE"])
def test_a_word_that_nobody_knows_changes_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "control").write_text(text)
    assert read_control(tmp_path / "control")[0] == "continue"


@pytest.mark.parametrize(
    ("problem", "answer"),
    [(MemoryError(), True), (RuntimeError("std::bad_alloc"), True), (OSError("malloc of size 128 failed"), True),
     (ImportError("cannot map: Cannot allocate memory"), True), (ValueError("wrong shape"), False)],
)  # fmt: skip
def test_libraries_say_in_many_words_that_memory_ran_out(problem: Exception, answer: bool) -> None:
    assert is_out_of_memory(problem) is answer
