"""Pages as self-contained HTML: style, pictures and words in one file that needs no network."""

import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from reports.page import Block, Page, Plot


def to_html(page: Page) -> str:
    """Return the page as one HTML document; the same page gives the same bytes."""
    return _environment().get_template("page.html").render(page=page) + "\n"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,  # whatever stands in a record is text, never markup
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["kind"] = _kind
    environment.filters["svg"] = _svg
    environment.filters["words"] = _words
    return environment


def _kind(block: Block) -> str:
    return type(block).__name__.lower()


def _words(text: str) -> Markup:
    """Return text as markup in which only what stands between backticks is marked, as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _svg(plot: Plot) -> Markup:
    return Markup(plot.draw())  # our own drawing; words inside were escaped when it was drawn
