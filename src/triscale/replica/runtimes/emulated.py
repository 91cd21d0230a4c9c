"""The `emulated` runtime: sleeps as long as the variant's latency table says, for clusters larger than the machine.

It passes its item on: at a leaf the client gets back what it sent, and every child gets `fan_out` copies per item
(a fraction is carried over to the next item, so that the mean is exact). Options:

- `parallel: true` - threads divide the latency; without it they change nothing.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from triscale.core.model import Data, Item, Model, Rejected, Resources, Result
from triscale.core.pipeline import Variant
from triscale.errors import ModelError

__all__ = ["Emulated", "build", "interpolate"]


def build(variant: Variant, children: Sequence[str], roots: Sequence[str]) -> Model:  # noqa: ARG001 - a runtime's signature
    """An emulated model."""
    return Emulated(variant, children)


def interpolate(table: Mapping[int, float], batch: int) -> float:
    """Latency of a batch: linear between the table's sizes, on along the first and last slope beyond them.

    Never below the table's smallest entry, nor, past its end, below its last. One entry alone holds for all sizes.
    """
    sizes = sorted(table)
    if len(sizes) == 1:
        return table[sizes[0]]
    at = min(max(bisect_left(sizes, batch), 1), len(sizes) - 1)
    low, high = sizes[at - 1], sizes[at]
    value = table[low] + (batch - low) * (table[high] - table[low]) / (high - low)
    return max(value, min(table.values()) if batch <= sizes[-1] else table[sizes[-1]])


class Emulated(Model):
    """Costs what the pipeline file says, and computes nothing."""

    def __init__(self, variant: Variant, children: Sequence[str]) -> None:
        self._variant = variant
        self._children = children
        self._threads = 1
        self._parallel = False
        self._carried = dict.fromkeys(children, 0.0)
        self._lock = threading.Lock()

    def load(self, options: Mapping[str, object], resources: Resources) -> None:
        """Take as long as `load_ms` says."""
        unknown = set(options) - {"parallel"}
        if unknown:
            raise ModelError(f"the emulated runtime has no option {min(unknown)!r}; its only option is: parallel")
        self._parallel = bool(options.get("parallel", False))
        self._threads = resources.threads
        time.sleep(self._variant.load_ms / 1000.0)

    def set_threads(self, threads: int) -> None:
        """Divide the latency by so many, if `parallel`."""
        self._threads = threads

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        """Sleep, then pass every item on."""
        latency_s = interpolate(self._variant.latency_ms, len(batch)) / 1000.0
        time.sleep(latency_s / self._threads if self._parallel else latency_s)
        return [self._pass_on(item.parts[0] if item.parts else item.data) for item in batch]

    def _pass_on(self, data: Data) -> Result:
        if not self._children:
            return Result(outputs=data)
        items = {}
        with self._lock:
            for child in self._children:
                due = self._carried[child] + self._variant.fan_out.get(child, 1.0)
                # The tolerance keeps ten times 0.1 at one whole item.
                count = int(due + 1e-9)
                self._carried[child] = due - count
                items[child] = [data] * count
        return Result(items=items)
