"""The `emulated` runtime: sleeps as long as the variant's latency table says, for clusters larger than the machine.

It passes its item on: at a leaf the client gets back what it sent, and every child gets `fan_out` copies per item
(a fraction is carried over to the next item, so that the mean is exact). Options:

- `parallel: true` - threads divide the latency;
- `by_threads: {2: {1: 35.0, 8: 190.0}, 4: ...}` - threads -> batch size -> milliseconds, beside `latency_ms` for one
  thread. A number of threads that is not stated takes as long as the next lower one.

Without either, threads change nothing. Lanes never do: those of one replica do not slow each other down.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence

import msgspec

from triscale.core.model import Data, Item, Model, Rejected, Resources, Result
from triscale.core.pipeline import Variant
from triscale.errors import ModelError

__all__ = ["Emulated", "build", "interpolate"]

_OPTIONS = ("parallel", "by_threads")


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
        self._tables: dict[int, Mapping[int, float]] = {1: variant.latency_ms}
        """Threads -> batch size -> milliseconds."""
        self._carried = dict.fromkeys(children, 0.0)
        self._lock = threading.Lock()

    def load(self, options: Mapping[str, object], resources: Resources) -> None:
        """Take as long as `load_ms` says."""
        unknown = set(options) - set(_OPTIONS)
        if unknown:
            raise ModelError(
                f"the emulated runtime has no option {min(unknown)!r}; its options are: {', '.join(_OPTIONS)}"
            )
        self._parallel = bool(options.get("parallel", False))
        self._tables |= _tables(options.get("by_threads", {}))
        if self._parallel and len(self._tables) > 1:
            raise ModelError("the options `parallel` and `by_threads` both say what threads do; leave one out")
        self._threads = resources.threads
        time.sleep(self._variant.load_ms / 1000.0)

    def set_threads(self, threads: int) -> None:
        """Take as long as the options say for so many."""
        self._threads = threads

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        """Sleep, then pass every item on."""
        threads = self._threads
        table = self._tables[max(stated for stated in self._tables if stated <= threads)]
        latency_s = interpolate(table, len(batch)) / 1000.0
        time.sleep(latency_s / threads if self._parallel else latency_s)
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


def _tables(option: object) -> dict[int, Mapping[int, float]]:
    """`by_threads`, checked. Its numbers come as text where the options have travelled as JSON."""
    try:
        tables = msgspec.convert(option, dict[int, dict[int, float]], strict=False)
    except msgspec.ValidationError as error:
        raise ModelError(
            f"the option by_threads is threads -> batch size -> milliseconds, as in {{2: {{1: 35.0}}}}: {error}"
        ) from None
    for threads, table in tables.items():
        if threads < 1 or not table or min(table) < 1 or min(table.values()) <= 0.0:
            raise ModelError(
                f"the option by_threads has {table} for {threads} threads, but needs at least one batch size from 1 on "
                "with milliseconds above 0, for numbers of threads from 1 on"
            )
    return dict(tables)
