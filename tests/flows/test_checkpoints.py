"""A checkpoint is whole or set aside, of the same data and settings or refused, and written only by the holder."""

import errno
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import checkpoints as module
from flows.checkpoints import (
    Checkpoint,
    CheckpointNotWritten,
    Checkpoints,
    CorruptCheckpoint,
    Inputs,
    OtherInputs,
    read_checkpoint,
    tidy,
)
from flows.lease import LeaseLost

INPUTS = Inputs("d" * 64, "s" * 64)


def at(rounds: int, stopped: str = "") -> Checkpoint:
    return Checkpoint(segment=rounds // 5, rounds=rounds, text=f"tree\n{rounds} leaves\n", stopped=stopped)


def test_what_was_saved_is_found_again_the_newest_first(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "made", INPUTS)
    assert kept.latest() is None
    for rounds in (5, 10, 100):
        kept.save(at(rounds))
        assert kept.latest() == at(rounds)
    kept.save(at(100, stopped="users waited"))
    assert kept.latest() == at(100, stopped="users waited")


def test_only_the_newest_three_are_kept(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, INPUTS)
    for rounds in range(5, 40, 5):
        kept.save(at(rounds))
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"rounds-0000{n}.ckpt" for n in (25, 30, 35)]


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_no_byte_can_be_changed_or_cut_unnoticed(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = Checkpoints(tmp_path_factory.mktemp("c"), INPUTS).save(at(5))
    whole = path.read_bytes()
    i = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[i]))
    path.write_bytes(data.draw(st.sampled_from([whole[:i], whole[:i] + bytes([other]) + whole[i + 1 :]])))
    with pytest.raises(CorruptCheckpoint, match="is not the checkpoint that was written"):
        read_checkpoint(path)


def test_a_corrupt_checkpoint_is_set_aside_with_a_sentence_and_the_one_before_is_used(tmp_path: Path) -> None:
    said: list[str] = []
    kept = Checkpoints(tmp_path, INPUTS, say=said.append)
    for rounds in (5, 10, 15):
        kept.save(at(rounds))
    for rounds in (10, 15):
        path = tmp_path / f"rounds-0000{rounds}.ckpt"
        path.write_bytes(path.read_bytes()[:-3])
    assert kept.latest() == at(5)
    assert [sentence.count("\n") for sentence in said] == [0, 0]
    assert "rounds-000015.ckpt: is not the checkpoint that was written" in said[0]
    assert said[0].endswith("it was set aside, and the one before is used")
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".ckpt", ".corrupt", ".corrupt"]
    assert kept.latest() == at(5)
    assert len(said) == 2, "what was set aside is not told again"


@pytest.mark.parametrize(
    ("other", "what"), [(Inputs("e" * 64, "s" * 64), "data"), (Inputs("d" * 64, "t" * 64), "settings")]
)
def test_a_run_never_goes_on_from_other_data_or_settings(tmp_path: Path, other: Inputs, what: str) -> None:
    Checkpoints(tmp_path, INPUTS).save(at(5))
    with pytest.raises(OtherInputs, match=rf"was made from {what} .{{12}}, and now they are .{{12}}; bring the {what}"):
        Checkpoints(tmp_path, other).latest()
    assert Checkpoints(tmp_path, INPUTS).latest() == at(5), "a refusal removes nothing"


def test_who_lost_the_lease_writes_nothing(tmp_path: Path) -> None:
    def refuse() -> None:
        raise LeaseLost("holder 2 has taken over")

    with pytest.raises(LeaseLost):
        Checkpoints(tmp_path / "made", INPUTS, may_write=refuse).save(at(5))
    assert not (tmp_path / "made").exists()


def test_a_full_disk_is_one_sentence_and_the_checkpoint_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Checkpoints(tmp_path, INPUTS)
    kept.save(at(5))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "write_whole", full)
    with pytest.raises(CheckpointNotWritten, match=r"could not be written \(No space left on device\); make room"):
        kept.save(at(10))
    assert kept.latest() == at(5)


def test_what_a_killed_writer_left_is_tidied_and_nothing_else(tmp_path: Path) -> None:
    Checkpoints(tmp_path, INPUTS).save(at(5))
    (tmp_path / ".rounds-000010.ckpt.x7").write_text("half")
    tidy(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["rounds-000005.ckpt"]
