"""A page as data, before markup: what is asked, what the answer is, the evidence, and how to make it again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Tone = Literal["good", "bad", "open", "plain"]  # "open": not settled, or not there yet


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Note:
    """A sentence that must not be overlooked: a caveat, or a record that cannot be read."""

    text: str
    tone: Tone = "open"


@dataclass(frozen=True)
class Bullets:
    """Sentences, one under the other."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Link:
    """A file beside the page; `is_embedded` shows it in the page too."""

    href: str
    text: str
    is_embedded: bool = False


Cell = str | tuple[Link, ...]


@dataclass(frozen=True)
class Table:
    """Cells as they are read; `numeric` names the columns that are set flush right, `tones` colours whole rows."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: tuple[str, ...] = ()
    tones: tuple[Tone, ...] = ()


@dataclass(frozen=True)
class Plot:
    """A picture that is drawn when the page becomes HTML; `caption` says in words what is to be seen."""

    draw: Callable[[], str]  # returns inline SVG
    caption: str


def drawing(name: str, *arguments: Any, **keywords: Any) -> Callable[[], str]:
    """Return a call of that function of `reports.plots`, to be made when the page becomes HTML."""

    def draw() -> str:
        from reports import plots  # here, for matplotlib takes a second that a page in Markdown need not wait for

        return str(getattr(plots, name)(*arguments, **keywords))

    return draw


Block = Text | Note | Bullets | Table | Plot | Link


@dataclass(frozen=True)
class Section:
    """One piece of evidence under a heading."""

    heading: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Again:
    """How to make the page again: commands to copy, and the facts that pin its numbers down."""

    commands: tuple[str, ...]
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Page:
    """
    One page.

    Attributes
    ----------
    name : file name without ending
    caveats : shown right under the answer, before any evidence
    trail : links (address, words) to the neighbouring pages
    """

    name: str
    title: str
    question: str
    answer: str
    tone: Tone
    caveats: tuple[Note, ...]
    sections: tuple[Section, ...]
    again: Again
    trail: tuple[tuple[str, str], ...] = ()
