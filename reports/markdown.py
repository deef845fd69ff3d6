"""Pages as short Markdown, for artifacts: the same words and tables as the HTML, pictures told by their captions."""

import re

from reports.page import Block, Bullets, Cell, Link, Note, Page, Plot, Section, Table, Text

_MARKS = {"good": "✓", "bad": "✗", "open": "…", "plain": ""}


def to_markdown(page: Page) -> str:
    """Return the page as Markdown; the same page gives the same bytes."""
    answer = f"{_MARKS[page.tone]} {_safe(page.answer)}".strip()
    parts = [f"# {_safe(page.title)}", f"*{_safe(page.question)}*", f"**{answer}**"]
    parts += [_block(caveat) for caveat in page.caveats]
    parts += [_section(section) for section in page.sections]
    parts.append("## How to make it again\n\n```\n" + "\n".join(page.again.commands) + "\n```")
    if page.again.facts:
        parts.append("\n".join(f"- {_safe(name)}: {_safe(value)}" for name, value in page.again.facts))
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(section: Section) -> str:
    return "\n\n".join([f"## {_safe(section.heading)}", *(_block(block) for block in section.blocks)])


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return _safe(block.text)
    if isinstance(block, Note):
        return f"> {_safe(block.text)}"
    if isinstance(block, Bullets):
        return "\n".join(f"- {_safe(item)}" for item in block.items)
    if isinstance(block, Plot):
        return f"*Picture on the HTML page: {_safe(block.caption)}*"
    if isinstance(block, Link):
        return _cell((block,))
    return _table(block)


def _table(table: Table) -> str:
    rule = ["---:" if name in table.numeric else "---" for name in table.columns]
    lines = [[_safe(name) for name in table.columns], rule, *([_cell(c) for c in row] for row in table.rows)]
    return f"{_safe(table.caption)}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(content: Cell) -> str:
    if isinstance(content, str):
        return _safe(content)
    return " · ".join(f"[{_safe(link.text)}]({link.href})" for link in content)


def _safe(text: str) -> str:
    """Return text on one line in which nothing acts as markup or ends a table cell."""
    parts = re.split(r"(`[\w. -]+`)", " ".join(text.split()))  # a command between backticks stays code
    return "".join(part if i % 2 else re.sub(r"([\\|*<>\[\]`])", r"\\\1", part) for i, part in enumerate(parts))
