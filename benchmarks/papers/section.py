"""What an experiment hands back: blocks of Markdown, and the claims that they decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.papers.claims import Claim

__all__ = ["Section"]


@dataclass(frozen=True, slots=True)
class Section:
    """One experiment's part of the report."""

    name: str
    """As `--experiments` has it."""
    blocks: Sequence[str]
    """Paragraphs and tables."""
    claims: Sequence[Claim] = ()

    def markdown(self, command: str) -> str:
        """The command that makes it, the claims, the blocks."""
        claims = "\n".join(f"- {claim}" for claim in self.claims)
        return "\n\n".join(part for part in (f"`{command}`", claims, *self.blocks) if part)
