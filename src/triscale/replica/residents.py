"""The variants that a replica holds: loaded, in use, or on their way out."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from triscale.clock import monotonic
from triscale.core.model import Model, Resources
from triscale.core.pipeline import Variant
from triscale.errors import ModelError
from triscale.replica.runtimes import build

__all__ = ["Resident", "Residents"]


class Resident:
    """A loaded model and how many batches it runs now."""

    __slots__ = ("closing", "load_s", "model", "running", "title")

    def __init__(self, title: str, model: Model, load_s: float) -> None:
        self.title = title
        """How messages name it."""
        self.model = model
        self.load_s = load_s
        self.running = 0
        self.closing: threading.Event | None = None


class Residents:
    """The variants of one stage that are in memory. Safe to use from several threads."""

    def __init__(
        self,
        stage: str,
        variants: Iterable[Variant],
        children: Sequence[str],
        roots: Sequence[str],
        resources: Resources,
    ) -> None:
        self.children = children
        self.resources = resources
        self._stage = stage
        self._known = {variant.name: variant for variant in variants}
        self._roots = roots
        self._held: dict[str, Resident] = {}
        self._lock = threading.Lock()

    def load(self, name: str) -> Resident:
        """Make a variant resident and warm it up; ModelError when that fails. Blocks; nothing else is held up."""
        held = self._held.get(name)
        if held is not None:
            return held
        variant = self._known.get(name)
        if variant is None:
            raise ModelError(f"stage {self._stage} has no variant {name!r}; its variants are: {', '.join(self._known)}")
        title = f"variant {name} of stage {self._stage} ({variant.model or variant.runtime})"
        started = monotonic()
        resources = self.resources
        try:
            model = build(variant, self.children, self._roots)
            model.load(variant.options, resources)
            model.warmup()
        except ModelError as error:
            raise ModelError(f"{title}: {error}") from error
        except Exception as error:
            raise ModelError(f"{title} failed to load: {type(error).__name__}: {error}") from error
        return self.adopt(name, title, model, monotonic() - started, resources.threads)

    def adopt(self, name: str, title: str, model: Model, load_s: float, threads: int) -> Resident:
        """Hold a model that is loaded, for so many threads, under a variant's name; the one held already, if any."""
        resident = Resident(title, model, load_s)
        with self._lock:
            if self.resources.threads != threads:  # a resize came while it loaded
                model.set_threads(self.resources.threads)
            return self._held.setdefault(name, resident)

    def unload(self, name: str) -> None:
        """Close a variant when its last batch is done; ModelError when it is not resident. Blocks until then."""
        with self._lock:
            resident = self._held.pop(name, None)
            if resident is None:
                raise ModelError(f"variant {name!r} of stage {self._stage} is not resident")
            if resident.running:
                resident.closing = threading.Event()
        if resident.closing is not None:
            resident.closing.wait()
        resident.model.close()

    def enter(self, name: str) -> Resident | None:
        """The variant, now in use by one more batch; None when it is not resident. Pair with `leave`."""
        with self._lock:
            resident = self._held.get(name)
            if resident is not None:
                resident.running += 1
            return resident

    def leave(self, resident: Resident) -> None:
        """One batch is done with it."""
        with self._lock:
            resident.running -= 1
            if resident.closing is not None and not resident.running:
                resident.closing.set()

    def load_times(self) -> dict[str, float]:
        """Resident variants, and the seconds that each took to load."""
        with self._lock:
            return {name: resident.load_s for name, resident in self._held.items()}

    def set_threads(self, resources: Resources) -> None:
        """Tell every model its new resources. Called while no batch runs; raises what a model raises."""
        self.resources = resources
        with self._lock:
            held = list(self._held.values())
        for resident in held:
            resident.model.set_threads(resources.threads)

    def close(self) -> None:
        """Close every model, whatever one of them raises."""
        with self._lock:
            held, self._held = list(self._held.values()), {}
        for resident in held:
            try:
                resident.model.close()
            except Exception as error:  # noqa: BLE001 - the process ends: the others must be closed, too
                print(f"{resident.title}: close raised {type(error).__name__}: {error}", flush=True)  # noqa: T201 - the parent logs it
