"""The traffic flag: file and twin keep one contract, and the compiled split equals flagd's own evaluation."""

import json
import os
import threading
import time
from datetime import UTC, datetime

import cbor2
import mmh3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext

from flows.adapters.flags import (
    FLAG_KEY,
    FlagFile,
    InMemoryFlags,
    InvalidFlags,
    Traffic,
    choose_slot,
    flag_of,
    replace_file,
)
from flows.gateway.provider_split import ProviderSplit, UnusableProvider

SINCE = datetime(2009, 4, 1, 2, 30, tzinfo=UTC)
traffics = st.builds(
    Traffic,
    live=st.sampled_from(["blue", "green"]),
    other_ratio=st.sampled_from([0.0, 0.0001, 0.05, 0.25, 0.5, 0.9999, 1.0]),
    previous=st.sampled_from(["blue", "green", None]),
    salt=st.text(st.characters(codec="utf-8"), max_size=5),
    reason=st.text(st.characters(codec="utf-8"), max_size=5),
    since=st.just(SINCE),
)


@pytest.fixture(params=["file", "memory"])
def flags(request, tmp_path):
    return FlagFile(tmp_path / "flags.json") if request.param == "file" else InMemoryFlags()


def test_a_flag_never_written_reads_as_none(flags):
    assert flags.read() is None
    assert flags.version() is None


def test_what_was_written_is_read_back(flags):
    traffic = Traffic("green", 0.05, previous="blue", salt="v7:", reason="canary", since=SINCE)
    flags.write(traffic)
    assert flags.read() == traffic


def test_every_write_changes_the_version(flags):
    seen = set()
    for _ in range(20):
        flags.write(Traffic("blue"))
        seen.add(flags.version())
    assert len(seen) == 20


def test_custom_targeting_is_never_written_by_lull(flags):
    with pytest.raises(InvalidFlags, match="written by its owner"):
        flags.write(Traffic("blue", is_custom=True))


def test_the_lock_keeps_a_second_writer_out(flags):
    order = []

    def second():
        with flags.locked():
            order.append("second")

    with flags.locked():
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


@settings(deadline=None, max_examples=200)
@given(traffics, st.lists(st.text(max_size=8), min_size=1, max_size=20))
def test_the_compiled_split_names_the_slot_that_flagd_names(traffic, entities):
    core = FlagdCore()
    core.set_flags(json.dumps({"flags": {FLAG_KEY: flag_of(traffic)}}))
    for entity in entities:
        named = core.resolve_string_value(FLAG_KEY, "none", EvaluationContext(entity)).value
        assert choose_slot(traffic, entity) == named


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([0.01, 0.1, 0.3, 0.7, 1.0]), min_size=2, max_size=2), st.text("abc", max_size=8))
def test_an_entity_moved_to_the_canary_stays_there_as_it_grows(ratios, entity):
    small, large = (Traffic("blue", ratio, salt="v2:") for ratio in sorted(ratios))
    if choose_slot(small, entity) == "green":
        assert choose_slot(large, entity) == "green"


@pytest.mark.parametrize("entity", [f"client {i}" for i in range(10)])
def test_the_limit_of_a_share_falls_on_the_side_where_flagd_puts_it(entity):
    bucket = (mmh3.hash(cbor2.dumps("s:" + entity), signed=False) * 10_000) >> 32
    for weight, slot in ((bucket, "blue"), (bucket + 1, "green")):
        traffic = Traffic("blue", weight / 10_000, salt="s:")
        core = FlagdCore()
        core.set_flags(json.dumps({"flags": {FLAG_KEY: flag_of(traffic)}}))
        assert core.resolve_string_value(FLAG_KEY, "none", EvaluationContext(entity)).value == slot
        assert choose_slot(traffic, entity) == slot


def test_a_file_is_always_newer_than_the_one_it_replaces(tmp_path):
    flags = FlagFile(tmp_path / "flags.json")
    flags.write(Traffic("blue"))
    ahead_ns = time.time_ns() + 3600 * 10**9  # as after a clock was set back
    os.utime(flags.path, ns=(ahead_ns, ahead_ns))
    flags.write(Traffic("green"))
    assert flags.path.stat().st_mtime > ahead_ns / 1e9


def test_the_canary_gets_its_share_of_entities():
    chosen = [choose_slot(Traffic("blue", 0.1, salt="v2:"), f"client {i}") for i in range(20_000)]
    # 3.9 standard deviations of a binomial with n = 20,000 and p = 0.1
    assert abs(chosen.count("green") / 20_000 - 0.1) < 3.9 * (0.1 * 0.9 / 20_000) ** 0.5


def test_two_canaries_with_other_salts_try_other_entities():
    entities = [f"client {i}" for i in range(2000)]
    first, second = (
        {e for e in entities if choose_slot(Traffic("blue", 0.1, salt=salt), e) == "green"} for salt in ("v2:", "v3:")
    )
    assert len(first & second) < 0.3 * len(first)


def test_the_file_provider_follows_a_change_within_a_second(tmp_path):
    flags = FlagFile(tmp_path / "flags.json")
    flags.write(Traffic("blue"))
    split = ProviderSplit(flags.path)
    try:
        assert split.choose("anybody", "green") == "blue"
        flags.write(Traffic("green", previous="blue"))
        deadline = time.monotonic() + 1.0
        while split.choose("anybody", "blue") != "green":
            assert time.monotonic() < deadline, "not seen within a second"
            time.sleep(0.01)
    finally:
        split.close()


def test_the_provider_and_the_compiled_split_agree_on_a_written_file(tmp_path):
    flags = FlagFile(tmp_path / "flags.json")
    traffic = Traffic("green", 0.25, previous="blue", salt="v9:")
    flags.write(traffic)
    split = ProviderSplit(flags.path)
    try:
        for i in range(500):
            assert split.choose(f"client {i}", "green") == choose_slot(traffic, f"client {i}")
    finally:
        split.close()


def test_a_provider_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(UnusableProvider, match="no_such_module:make"):
        ProviderSplit(tmp_path / "flags.json", factory="no_such_module:make")


def test_other_flags_in_the_file_are_kept(tmp_path):
    flags = FlagFile(tmp_path / "flags.json")
    flags.path.write_text('{"flags": {"banner": {"state": "ENABLED"}}, "metadata": {"owner": "shop"}}')
    flags.write(Traffic("blue"))
    document = json.loads(flags.path.read_text())
    assert document["flags"]["banner"] == {"state": "ENABLED"}
    assert document["metadata"] == {"owner": "shop"}


@pytest.mark.parametrize(
    "change",
    [
        {"targeting": {"if": [{"==": [{"var": "targetingKey"}, "vip"]}, "green", "blue"]}},
        {"targeting": {"fractional": [["green", 5], ["blue", 95]]}},
        {"targeting": {"fractional": [["green"]]}},
        {"state": "DISABLED"},
    ],
)
def test_targeting_that_lull_did_not_write_is_left_to_the_provider(tmp_path, change):
    flags = FlagFile(tmp_path / "flags.json")
    flags.path.write_text(json.dumps({"flags": {FLAG_KEY: flag_of(Traffic("blue")) | change}}))
    assert flags.read().is_custom


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "expected an object"),
        ('{"flags": []}', "expected an object"),
        ('{"flags": {"lull-slot": {}}}', "cannot be read"),
        ('{"flags": {"lull-slot": 3}}', "cannot be read"),
        ('{"flags": {"lull-slot": {"defaultVariant": "red"}}}', "not blue or green"),
    ],
)
def test_a_broken_flag_file_is_refused_by_name_and_can_be_replaced(tmp_path, text, said):
    flags = FlagFile(tmp_path / "flags.json")
    flags.path.write_text(text)
    with pytest.raises(InvalidFlags, match=said) as caught:
        flags.read()
    assert str(flags.path) in str(caught.value)
    flags.write(Traffic("blue"))
    assert flags.read().live == "blue"


@pytest.mark.parametrize("wrong", [{"live": "red"}, {"other_ratio": 1.5}, {"other_ratio": float("nan")}])
def test_traffic_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(InvalidFlags):
        Traffic(**({"live": "blue"} | wrong))


def test_readers_see_the_old_file_or_the_new_one_never_a_part(tmp_path):
    flags, stop, torn = FlagFile(tmp_path / "flags.json"), threading.Event(), []
    flags.write(Traffic("blue"))

    def read():
        while not stop.is_set():
            try:
                flags.read()
            except InvalidFlags as error:
                torn.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(100):
        flags.write(Traffic("blue" if i % 2 else "green", reason="x" * (i * 50)))
    stop.set()
    reader.join()
    assert not torn


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "flags.json"
    replace_file(path, b"old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk is gone")))
    with pytest.raises(OSError, match="disk is gone"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
