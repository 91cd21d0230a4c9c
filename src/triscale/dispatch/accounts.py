"""Exact accounting: every request and every item is counted once on the way in and once on the way out.

Invariants, checked by `unbalanced`:
- requests: arrived = live + one outcome each;
- items of a stage: entered = live + completed + given up + abandoned (their request ended without them).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from triscale.core.request import Outcome, Reason

__all__ = ["Accounts", "StageAccounts"]


class StageAccounts:
    """Counts of one stage."""

    __slots__ = (
        "abandoned",
        "batches",
        "completed",
        "entered",
        "given_up",
        "items_run",
        "requeued",
        "rescued",
        "sizes",
    )

    def __init__(self, variants: int) -> None:
        self.entered = 0
        self.completed = 0
        self.abandoned = 0
        """Items whose request ended (dropped elsewhere, cancelled) before they were done."""
        self.given_up: Counter[Reason] = Counter()
        self.requeued = 0
        """Items put back after a replica was lost or a batch failed."""
        self.rescued = 0
        """Items run on a faster variant than planned because they would have been late."""
        self.batches = [0] * variants
        self.items_run = [0] * variants
        """Items handed to lanes, per variant; a retried item counts each time."""
        self.sizes: Counter[int] = Counter()
        """Batches by size."""


class Accounts:
    """Counts of a whole dispatcher."""

    __slots__ = ("arrived", "causes", "live", "outcomes", "partial", "stages")

    def __init__(self, variants_per_stage: list[int]) -> None:
        self.arrived = 0
        self.live = 0
        self.outcomes = [0] * len(Outcome)
        self.partial = 0
        """Requests answered (in time or late) with some of their items given up."""
        self.causes: Counter[tuple[Outcome, int, Reason]] = Counter()
        """(outcome, stage or -1, reason) of every request that was not answered in time."""
        self.stages = [StageAccounts(count) for count in variants_per_stage]

    def unbalanced(self, live_items: list[int]) -> Iterator[str]:
        """Every account that does not add up, in words. None is the promise."""
        ended = sum(self.outcomes)
        if self.arrived != self.live + ended:
            yield f"{self.arrived} requests arrived, but {self.live} are live and {ended} ended"
        for index, (stage, live) in enumerate(zip(self.stages, live_items, strict=True)):
            left = stage.completed + sum(stage.given_up.values()) + stage.abandoned
            if stage.entered != live + left:
                yield f"stage {index}: {stage.entered} items entered, but {live} are live and {left} left"
