"""From saved results to pages on disk: `publish` writes them all, `markdown_for` returns one for an artifact."""

from dataclasses import replace
from pathlib import Path

from reports.cycle_files import CycleFiles, cycle_folders, read_cycle
from reports.html import to_html
from reports.markdown import to_markdown
from reports.page import Page
from reports.pages import PAGES, index_page, page_of
from simulation.errors import LullError
from simulation.plan_file import write_whole


class UnknownCycle(LullError):
    """A cycle without a directory; the sentence names those that have one."""


def publish(home: Path, *, cycle: str | None = None) -> Path:
    """
    Render every cycle in `home/cycles` to `home/reports` and return the index page's path.

    Each file is written whole or not at all, the index last, so that its links lead somewhere at any instant.
    A result that is missing or cannot be read is said on the page; it stops nothing.

    Parameters
    ----------
    cycle : draw the pages of this cycle only, beside the index; for a flow that has just changed that one

    Raises
    ------
    UnknownCycle
        If `home/cycles` has no such cycle.
    OSError
        If `home/reports` cannot be written.
    """
    cycles = [read_cycle(folder) for folder in cycle_folders(home)]
    if cycle is not None and cycle not in [files.name for files in cycles]:
        raise UnknownCycle(_unknown(home, cycle, [files.name for files in cycles]))
    for files in cycles:
        if cycle not in (None, files.name):
            continue
        folder = home / "reports" / files.name
        there = _bring_evidently(files, folder)
        for name in PAGES:
            page = page_of(files, name, evidently_is_there=there)
            write_whole(folder / f"{name}.html", to_html(_with_trail(page, name)))
    index = home / "reports" / "index.html"
    write_whole(index, to_html(index_page(cycles)))
    return index


def markdown_for(home: Path, cycle: str, page: str) -> str:
    """
    Return one page as Markdown: plan, cycle, drift or promotion of a cycle, or index over all (`cycle` is not read).

    Raises
    ------
    UnknownCycle
        If `home/cycles` has no such cycle.
    UnknownPage
        If there is no such page.
    """
    folders = {folder.name: folder for folder in cycle_folders(home)}
    if page == "index":
        return to_markdown(index_page([read_cycle(folder) for folder in folders.values()]))
    if cycle not in folders:
        raise UnknownCycle(_unknown(home, cycle, list(folders)))
    files = read_cycle(folders[cycle])
    return to_markdown(
        page_of(files, page, evidently_is_there=_find_evidently(files, home / "reports" / cycle) is not None)
    )


def _unknown(home: Path, cycle: str, known: list[str]) -> str:
    names = ", ".join(known) or "none yet; `lull demo` runs the first one"
    return f"{home / 'cycles'}: there is no cycle {cycle!r}; there are: {names}"


def _with_trail(page: Page, current: str) -> Page:
    """Return the page with links to the index and to its neighbours; the address of the page itself is empty."""
    others = tuple(("" if name == current else f"{name}.html", words) for name, words in PAGES.items())
    return replace(page, trail=(("../index.html", "All cycles"), *others))


def _find_evidently(files: CycleFiles, folder: Path) -> Path | None:
    """Return where Evidently's page lies: beside the drift page, or still in the cycle's directory."""
    record = files.drift.record
    if record is None or Path(record.evidently_page).name != record.evidently_page:
        return None  # a name with a directory in it could point anywhere
    for place in (files.folder / record.evidently_page, folder / record.evidently_page):
        if place.is_file():
            return place
    return None


def _bring_evidently(files: CycleFiles, folder: Path) -> bool:
    """Copy Evidently's page beside the drift page if it is not there yet; return whether there is one."""
    found = _find_evidently(files, folder)
    if found is not None and found.parent != folder:
        write_whole(folder / found.name, found.read_text(encoding="utf-8"))
    return found is not None
