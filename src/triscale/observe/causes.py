"""Why requests were not answered in time: how many ended in which way, where, and for which reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct

from triscale.core.request import Outcome, Reason

__all__ = ["Cause", "CauseKey", "causes_of"]

CauseKey: TypeAlias = "tuple[Outcome, int, Reason]"
"""(outcome, stage or -1, reason), as in `dispatch.accounts`."""


class Cause(Struct, frozen=True, kw_only=True):
    """How many requests ended in one way, at one place, for one reason."""

    outcome: str
    stage: str
    """Empty: at the door, or nowhere in particular."""
    reason: str
    """Empty for late answers."""
    requests: int


def causes_of(counts: Mapping[CauseKey, int], stages: Sequence[str]) -> list[Cause]:
    """The counts in words, the most frequent first; `stages` are the names of the graph's."""
    return [
        Cause(outcome=outcome.label, stage=stages[stage] if stage >= 0 else "", reason=str(reason), requests=requests)
        for (outcome, stage, reason), requests in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    ]
