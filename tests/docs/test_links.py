"""Whoever reads the docs gets everywhere: links lead somewhere, every page can be reached, every command exists."""

from __future__ import annotations

import importlib.util
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from triscale.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("docs", "examples", "deploy", "benchmarks", "src", "tests")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
CONTEXT = click.Context(cli)
ENDS = frozenset({"|", "&", "&&", ";", ">"})
"""What ends a command in a shell."""
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


def prose_of(page: Path) -> str:
    """Without the blocks of code, in which a # begins no heading and a bracket no link."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """(file, anchor) of every link that leads to something of the project."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


def anchors(page: Path) -> set[str]:
    """Of its headings: in lower case, without punctuation, joined by hyphens."""
    titles = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def code_of(text: str) -> Iterator[str]:
    """Every line of code: of blocks, those that go on joined to one, and of what stands in the text."""
    text = text.replace("\\\n", " ")
    for block in re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield from block.splitlines()
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"^ {4,}(\S.*)$", text, re.MULTILINE)
    yield from re.findall(r"`([^`]+)`", re.sub(r"\s*\n\s*", " ", text))


def calls_of(text: str, name: str) -> Iterator[list[str]]:
    """The words after `name` wherever it is called, up to the end of that command."""
    for line in code_of(text):
        for found in re.finditer(rf"(?:^|[\s/|(]){re.escape(name)} (.*)", line):
            words = list(itertools.takewhile(lambda word: word not in ENDS, shlex.split(found[1], comments=True)))
            if words:
                yield words


def wrong_with(words: list[str]) -> str:
    """What a call of `triscale` gets wrong: a command or options that there are not; empty if nothing."""
    command = cli.get_command(CONTEXT, words[0])
    if command is None:
        return f"there is no `triscale {words[0]}`"
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    unknown = {word.partition("=")[0] for word in words if re.match(r"--\w", word)} - known - {"--help"}
    return f"`triscale {words[0]}` has no {', '.join(sorted(unknown))}" if unknown else ""


def test_the_pages_are_found() -> None:
    assert len(PAGES) > 15
    assert sum(1 for page in PAGES for _ in links(page)) > 50
    assert sum(1 for page in PAGES for _ in calls_of(page.read_text(), "triscale")) > 50


def test_mistakes_are_found() -> None:
    text = "Say `triscale serv x`, or\n\n```\ntriscale serve x --cors 2 \\\n  --cores 3 | head --lines 5\n```\n"
    assert [wrong_with(words) for words in calls_of(text, "triscale")] == [
        "`triscale serve` has no --cors",
        "there is no `triscale serv`",
    ]


@EVERY_PAGE
def test_every_link_inside_the_project_leads_somewhere(page: Path) -> None:
    for target, anchor in links(page):
        assert target.exists(), f"{page.name} links to {target.relative_to(ROOT)}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name} links to {target.name}#{anchor}"


def test_every_page_is_reached_from_the_readme() -> None:
    found: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        found.add(page)
        waiting += [target for target, _ in links(page) if target.suffix == ".md" and target not in found]
    assert [str(page.relative_to(ROOT)) for page in PAGES if page not in found] == []


@EVERY_PAGE
def test_every_command_and_option_that_is_named_exists(page: Path) -> None:
    assert [wrong for words in calls_of(page.read_text(), "triscale") if (wrong := wrong_with(words))] == []


@EVERY_PAGE
def test_every_module_and_target_that_is_to_be_run_exists(page: Path) -> None:
    text = page.read_text()
    for words in calls_of(text, "python -m"):
        assert importlib.util.find_spec(words[0]) is not None, f"{page.name}: python -m {words[0]}"
    for words in calls_of(text, "make"):
        for target in words:
            assert "=" in target or target in TARGETS, f"{page.name}: make {target}"


@pytest.mark.parametrize("name", cli.list_commands(CONTEXT))
def test_the_example_of_every_command_is_one(name: str) -> None:
    command = cli.get_command(CONTEXT, name)
    assert command is not None
    examples = re.findall(r"Example: triscale (.*?)(?:\n\n|\Z)", command.help or "", re.DOTALL)
    assert examples, f"`triscale {name} --help` has no example"
    for example in examples:
        (words,) = calls_of(f"`triscale {example}`".replace("\\\n", " "), "triscale")
        assert wrong_with(words) == ""


@EVERY_PAGE
def test_every_file_of_the_sources_that_is_named_exists(page: Path) -> None:
    for name in re.findall(r"`([a-z_]+(?:/[a-z_0-9]+)+\.(?:py|js|yaml|json|yml|md))`", page.read_text()):
        places = (ROOT / name, ROOT / "src" / "triscale" / name, page.parent / name)
        assert any(place.exists() for place in places), f"{page.name} names {name}"
