"""Models that say when each batch began, beside how many others, on how many threads. Imported by replica processes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from triscale import Item, Model, Rejected, Resources, Result
from triscale.clock import monotonic
from triscale.core.pipeline import Variant
from triscale.replica.runtimes.emulated import Emulated
from triscale.replica.runtimes.onnx import OnnxModel

__all__ = ["StampedEmulated", "StampedOnnx"]


class Stamped(Model):
    """Another model, with stamps instead of its outputs."""

    def make(self, options: Mapping[str, object]) -> Model:
        """The other model."""
        raise NotImplementedError

    def load(self, options: Mapping[str, object], resources: Resources) -> None:
        """Make and load the other model."""
        self._inner = self.make(options)
        self._inner.load({}, resources)
        self._lock = threading.Lock()
        self._inside = 0
        self._threads = resources.threads

    def warmup(self) -> None:
        """Warm it up."""
        self._inner.warmup()

    def prepare_threads(self, threads: int) -> None:
        """Let it prepare."""
        self._inner.prepare_threads(threads)

    def set_threads(self, threads: int) -> None:
        """Let it change over."""
        self._inner.set_threads(threads)
        self._threads = threads

    def predict(self, batch: list[Item]) -> list[Result | Rejected]:
        """Run it; the stamp is taken when it begins."""
        with self._lock:
            self._inside += 1
            stamp = {"began": monotonic(), "lanes": self._inside, "threads": self._threads}
        try:
            self._inner.predict(batch)
        finally:
            with self._lock:
                self._inside -= 1
        return [Result(stamp) for _ in batch]


class StampedEmulated(Stamped):
    """Sleeps `ms` per batch."""

    def make(self, options: Mapping[str, object]) -> Model:
        """The emulated model."""
        ms = options["ms"]
        assert isinstance(ms, int | float)
        return Emulated(Variant(name="emulated", runtime="emulated", latency_ms={1: float(ms)}), ())


class StampedOnnx(Stamped):
    """Runs the file `path`."""

    def make(self, options: Mapping[str, object]) -> Model:
        """The ONNX model."""
        return OnnxModel(Path(str(options["path"])), ())
