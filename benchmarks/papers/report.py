"""docs/results.md: generated parts between markers, in prose that is written by hand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.papers.section import Section

__all__ = ["PAGE", "command", "printed", "written"]

PAGE = Path(__file__).parents[2] / "docs" / "results.md"


def command(name: str, seeds: int) -> str:
    """What makes a section again."""
    return f"python -m benchmarks.papers --experiments {name} --seeds {seeds}"


def printed(section: Section, seeds: int) -> str:
    """A section as the terminal shows it."""
    return f"# {section.name}\n\n{section.markdown(command(section.name, seeds))}"


def written(page: str, sections: Sequence[Section], seeds: int) -> str:
    """The page with these sections in place of what was generated before.

    SystemExit when the page has no place for one of them, or several.
    """
    for section in sections:
        begin, end = f"<!-- begin {section.name} -->", f"<!-- end {section.name} -->"
        place = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if len(place.findall(page)) != 1:
            raise SystemExit(f"{PAGE.name}: put `{begin}` and `{end}` where the section {section.name} belongs, once")
        text = f"{begin}\n{section.markdown(command(section.name, seeds))}\n{end}"
        page = place.sub(lambda _, text=text: text, page)  # type: ignore[misc]
    return page
