"""From a home directory to pages: all of them, self-contained, the same bytes on every run, broken records said."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reports.pages import PAGES, UnknownPage
from reports.publish import UnknownCycle, markdown_for, publish
from reports.records import save_record
from tests.reports import samples

RECORDS = {"plan": "plan", "cycle": "training", "promotion": "promotion", "drift": "drift"}


class Addresses(HTMLParser):
    """Collects whatever a browser would fetch or follow, and every tag that must be closed."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)
        self.found += [v or "" for k, v in attrs if k in {"src", "href", "xlink:href", "srcset", "data", "action"}]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"


def read(page: Path) -> Addresses:
    parser = Addresses()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whole cycle, and one that has only been planned, published once."""
    home = tmp_path_factory.mktemp("home")
    samples.write_cycle(home, "2010-05")
    (home / "cycles" / "2010-06").mkdir()
    save_record(samples.plan("2010-06"), home / "cycles" / "2010-06" / "plan.json")
    publish(home)
    return home


def all_pages(home: Path) -> list[Path]:
    return [p for p in sorted((home / "reports").rglob("*.html")) if p.name != "evidently.html"]


def test_every_cycle_gets_its_four_pages_and_all_share_an_index(home: Path) -> None:
    names = {str(p.relative_to(home / "reports")) for p in all_pages(home)}
    cycles = {f"{cycle}/{page}.html" for cycle in ("2010-05", "2010-06") for page in PAGES}
    assert names == {"index.html", *cycles}


def test_every_page_is_whole_and_needs_no_network(home: Path) -> None:
    for page in all_pages(home):
        parser = read(page)
        text = page.read_text(encoding="utf-8")
        assert parser.open == [], page
        assert "script" not in parser.tags
        assert "link" not in parser.tags
        assert not [a for a in parser.found if ":" in a or a.startswith("//")], page
        assert not re.search(r"@import|url\((?!#)", text), page
        assert "prefers-color-scheme" in text


def test_every_link_leads_to_a_file_that_is_there(home: Path) -> None:
    for page in all_pages(home):
        for address in read(page).found:
            if not address.startswith("#"):
                assert (page.parent / address).is_file(), f"{page}: {address}"


def test_evidently_is_brought_beside_the_drift_page(home: Path) -> None:
    assert (home / "reports" / "2010-05" / "evidently.html").is_file()
    assert 'iframe src="evidently.html"' in (home / "reports" / "2010-05" / "drift.html").read_text(encoding="utf-8")


def test_publishing_twice_gives_the_same_bytes_and_leaves_no_scraps(home: Path) -> None:
    before = {page: page.read_bytes() for page in all_pages(home)}
    publish(home)
    assert {page: page.read_bytes() for page in all_pages(home)} == before
    assert not list((home / "reports").rglob(".*"))


def test_a_missing_record_has_not_happened_yet(home: Path) -> None:
    for page in ("cycle", "promotion", "drift"):
        assert "has not happened yet" in markdown_for(home, "2010-06", page)
    assert "has not been issued yet" in markdown_for(home, "2010-06", "plan")


def test_an_empty_home_gets_an_index_that_says_what_to_do(tmp_path: Path) -> None:
    text = publish(tmp_path).read_text(encoding="utf-8")
    assert "No cycle has happened yet; <code>lull demo</code> runs the first one." in text


@pytest.mark.parametrize("page", RECORDS)
@pytest.mark.parametrize("damage", ["{", "[]", "{}", "3", "unknown key", "wrong type", "list for a mapping"])
def test_a_broken_record_is_one_sentence_that_names_the_file(tmp_path: Path, page: str, damage: str) -> None:
    folder = samples.write_cycle(tmp_path)
    path = folder / f"{RECORDS[page]}.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    if damage == "unknown key":
        path.write_text(json.dumps({**data, "surprise": 1}), encoding="utf-8")
    elif damage == "wrong type":
        path.write_text(json.dumps({**data, "cycle": ["not", "a", "name"]}), encoding="utf-8")
    elif damage == "list for a mapping":
        broken = {
            key: [1] if isinstance(value, dict) else 1 if isinstance(value, list) else value
            for key, value in data.items()
        }
        path.write_text(json.dumps(broken), encoding="utf-8")
    else:
        path.write_text(damage, encoding="utf-8")
    text = markdown_for(tmp_path, "2010-05", page)
    assert text.count(path.name) >= 1
    assert "cannot be read" in text
    assert "Traceback" not in text
    assert "cannot be read" in markdown_for(tmp_path, "2010-05", "index")


@pytest.mark.parametrize("damage", ["{", "[]", "{}"])
def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path, damage: str) -> None:
    folder = samples.write_cycle(tmp_path)
    (folder / "certificate.json").write_text(damage, encoding="utf-8")
    text = markdown_for(tmp_path, "2010-05", "plan")
    assert "is not a certificate" in text
    assert "holds" not in text


def test_a_certificate_that_was_changed_shows_none_of_its_numbers(tmp_path: Path) -> None:
    folder = samples.write_cycle(tmp_path)
    (folder / "certificate.json").write_text(json.dumps({**samples.certificate(), "answer": "holds"}), encoding="utf-8")
    text = markdown_for(tmp_path, "2010-05", "plan")
    assert "was changed after it was issued" in text
    assert "verdict: holds" not in text


def test_one_cycle_can_be_published_alone_beside_the_whole_index(tmp_path: Path) -> None:
    for name in ("2010-05", "2010-06"):
        (tmp_path / "cycles" / name).mkdir(parents=True)
    index = publish(tmp_path, cycle="2010-06")
    assert sorted(p.name for p in (tmp_path / "reports").iterdir()) == ["2010-06", "index.html"]
    assert "2010-05" in index.read_text(encoding="utf-8")
    with pytest.raises(UnknownCycle, match=r"no cycle '2010-07'"):
        publish(tmp_path, cycle="2010-07")


def test_an_unknown_cycle_and_an_unknown_page_are_named_with_the_known_ones(home: Path) -> None:
    with pytest.raises(UnknownCycle, match=r"no cycle '2010-07'; there are: 2010-06, 2010-05"):
        markdown_for(home, "2010-07", "plan")
    with pytest.raises(UnknownPage, match=r"no page is called 'plans'; the pages are plan, cycle, promotion, drift"):
        markdown_for(home, "2010-05", "plans")


def test_an_evidently_page_outside_the_folder_is_not_linked(tmp_path: Path) -> None:
    folder = samples.write_cycle(tmp_path)
    (tmp_path / "cycles" / "secret.html").write_text("x", encoding="utf-8")
    data = json.loads((folder / "drift.json").read_text(encoding="utf-8"))
    (folder / "drift.json").write_text(json.dumps({**data, "evidently_page": "../secret.html"}), encoding="utf-8")
    assert "does not lie beside this one" in markdown_for(tmp_path, "2010-05", "drift")


def test_markup_in_a_record_stays_text(tmp_path: Path) -> None:
    folder = samples.write_cycle(tmp_path)
    data = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    data |= {"reason": "<script>alert(1)</script> | x", "importance": {"<b>&\"'": 1.0}}
    (folder / "training.json").write_text(json.dumps(data), encoding="utf-8")
    publish(tmp_path)
    page = tmp_path / "reports" / "2010-05" / "cycle.html"
    assert "script" not in read(page).tags
    assert "b" not in read(page).tags
    assert r"\<script\>" in markdown_for(tmp_path, "2010-05", "cycle")
