"""How right an answer is: the share of a page's characters that were read, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

__all__ = ["edit_distance", "score"]


def score(truth: object, outputs: Mapping[str, object]) -> float:
    """Character accuracy of a page, in [0, 1]: 1 - edits / true characters, at least 0.

    `truth` is the list of the page's lines, `outputs["text"]` what was answered, both in reading order; the edits
    are counted between the two pages as wholes, with a line break after each line. A lost line costs all its
    characters, an invented one as many as it has. A blank page scores 1 when nothing was read, else 0.
    """
    expected = _page(cast("Sequence[str]", truth))
    answered = _page(cast("Sequence[str | bytes]", outputs["text"]))
    if not expected:
        return float(not answered)
    return max(0.0, 1.0 - edit_distance(expected, answered) / len(expected))


def edit_distance(one: str, other: str) -> int:
    """Fewest insertions, deletions and substitutions of characters that make `one` into `other` (Levenshtein)."""
    symbols = np.array([ord(character) for character in other], np.int64)
    steps = np.arange(len(other) + 1)
    row = steps
    for character in one:
        above = row + 1
        above[1:] = np.minimum(above[1:], row[:-1] + (symbols != ord(character)))
        # Insertions run along the row: the best of every start to the left, plus the way from there.
        row = np.minimum.accumulate(above - steps) + steps
    return int(row[-1])


def _page(text: Sequence[str | bytes]) -> str:
    return "".join(f"{line.decode() if isinstance(line, bytes) else line}\n" for line in text)
