"""What no tracked file may hold: a machine's paths, a registry's address, a mark of unfinished work."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Written in parts, so that this file does not find itself.
FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w.])/(?:wo" + r"rk|ro" + r"ot|ho" + r"me/\w+|Us" + r"ers/\w+)/"),
    "the address of a package registry": re.compile(
        "py" + r"pi\.org|files\.python" + r"hosted|(?:index|registry|proxy|mirror)[\w-]*\.[\w-]+\.\w+/simp" + "le|"
        r"--(?:extra-)?in" + r"dex-url[ =]\S*:|localhost:\d+/simp" + "le"
    ),
    "a mark of unfinished work": re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK|WI" + r"P)\b"),
    "an unfinished function": re.compile(r"raise Not" + r"ImplementedError|^\s*\.\.\.\s*# later", re.MULTILINE),
}


def tracked_texts() -> dict[str, str]:
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    texts = {}
    for name in filter(None, names):
        path = ROOT / name
        if path.is_file() and b"\0" not in (content := path.read_bytes())[:8192] and path.suffix != ".parquet":
            texts[name] = content.decode("utf-8")
    return texts


@pytest.mark.parametrize("what", list(FORBIDDEN))
def test_no_tracked_file_holds(what: str) -> None:
    found = [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match.group()}"
        for name, text in tracked_texts().items()
        if name != "requirements.lock" or what == "a path of one machine"
        for match in FORBIDDEN[what].finditer(text)
    ]
    assert not found, found


@pytest.mark.parametrize(
    ("what", "planted"),
    [
        ("a path of one machine", "see /wo" + "rk/shared/notes"),
        ("the address of a package registry", "https://py" + "pi.org/simp" + "le"),
        ("a mark of unfinished work", "# TO" + "DO: later"),
        ("an unfinished function", "    raise Not" + "ImplementedError"),
    ],
)
def test_what_is_looked_for_would_be_found(what: str, planted: str) -> None:
    assert FORBIDDEN[what].search(planted)


def test_every_locked_requirement_has_its_hashes_and_no_address() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert ":" + "//" not in text
    entries = [entry for entry in re.split(r"\n(?=\S)", text.strip()) if not entry.startswith("#")]
    assert len(entries) > 100
    for entry in entries:
        head = entry.splitlines()[0]
        assert re.match(r"[A-Za-z0-9._-]+(\[[\w,-]+\])?==\S+", head), head
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), f"{head} has no hash"
