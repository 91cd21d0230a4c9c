"""YAML with places: plain data, and for each path in it the line where it stands, so that an error can point there.

Only YAML's safe core is read. A key that is written twice is an error here, where YAML would silently keep the last.
"""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from triscale.errors import ConfigError

__all__ = ["MarkedData", "Path", "parse", "show"]

Path = tuple[str | int, ...]
"""Keys and indices from the top of the document."""


class MarkedData:
    """A parsed document: `data`, and the line of each path in it."""

    __slots__ = ("data", "lines", "problems")

    def __init__(self, data: object, lines: dict[Path, int], problems: list[tuple[Path, int, str]]) -> None:
        self.data = data
        self.lines = lines
        self.problems = problems
        """(path, line, message) of what YAML allows and we do not."""

    def line(self, path: Path) -> int:
        """The line of `path`, or of the closest thing around it that is written down."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def show(path: Path) -> str:
    """A path as people write it: `stages.detect.variants[0].accuracy`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text or "(the whole file)"


def parse(text: str, source: str) -> MarkedData:
    """Read YAML; ConfigError, naming `source` and the line, when it is not."""
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        where = f"{source}:{text.count(chr(10), 0, error.position) + 1}"
        found = f"the character U+{error.character:04X}"
        raise ConfigError(f"{where}: holds {found}, which no YAML text may; is it a text file?") from None
    try:
        node = loader.get_single_node()
        if node is None:
            raise ConfigError(f"{source}: is empty; a pipeline file begins with `name:`, `slo_ms:` and `stages:`")
        lines: dict[Path, int] = {}
        problems: list[tuple[Path, int, str]] = []
        for path, line, problem in _walk(node, (), frozenset()):
            lines.setdefault(path, line)
            if problem:
                problems.append((path, line, problem))
        return MarkedData(loader.construct_document(node), lines, problems)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark else source
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"{where}: is not valid YAML: {what}; check indentation, colons and brackets there") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: is not valid YAML: {error}") from None
    finally:
        loader.dispose()


def _walk(node: yaml.Node, path: Path, above: frozenset[int]) -> Iterator[tuple[Path, int, str]]:
    yield path, node.start_mark.line + 1, ""
    if id(node) in above:
        yield path, node.start_mark.line + 1, "refers to itself through a YAML alias"
        return
    above |= {id(node)}
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in seen and key != "<<":
                yield (*path, key), line, f"is written twice in one mapping (first on line {seen[key]}); keep one"
            seen[key] = line
            yield (*path, key), line, ""
            yield from _walk(value_node, (*path, key), above)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _walk(item, (*path, index), above)
