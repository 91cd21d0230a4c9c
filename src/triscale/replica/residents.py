"""The variants that a replica holds: loaded, in use, or on their way out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

from triscale.clock import monotonic
from triscale.core.model import Model, Resources
from triscale.core.pipeline import Variant
from triscale.errors import ModelError
from triscale.replica.process import give_back_memory, resident_bytes
from triscale.replica.runtimes import build

__all__ = ["NoRoom", "Resident", "Residents"]


class NoRoom(ModelError):
    """A variant does not fit the replica's memory beside what it holds."""


class Resident:
    """A loaded model and how many batches use it now, those that wait for a lane included."""

    __slots__ = ("_told", "closing", "load_s", "model", "running", "title")

    def __init__(self, title: str, model: Model, load_s: float) -> None:
        self.title = title
        """How messages name it."""
        self.model = model
        self.load_s = load_s
        self.running = 0
        self.closing: threading.Event | None = None
        self._told = threading.local()

    def use_threads(self, threads: int) -> None:
        """Tell the model how many intra-op threads to use, once for each thread that calls it and each number.

        Some libraries keep that number per thread.
        """
        if getattr(self._told, "threads", 0) != threads:
            try:
                self.model.set_threads(threads)
            except Exception as error:
                raise ModelError(f"{self.title}: set_threads({threads}) raised {_named(error)}") from error
            self._told.threads = threads

    def prepare_threads(self, threads: int) -> None:
        """Let the model get ready for other threads."""
        try:
            self.model.prepare_threads(threads)
        except Exception as error:
            raise ModelError(f"{self.title}: prepare_threads({threads}) raised {_named(error)}") from error


class Residents:
    """The variants of one stage that are in memory. Safe to use from several threads."""

    def __init__(
        self,
        stage: str,
        variants: Iterable[Variant],
        children: Sequence[str],
        roots: Sequence[str],
        resources: Resources,
        memory_bytes: int = 0,
        measure: Callable[[], int] = resident_bytes,
    ) -> None:
        """`memory_bytes`: what the process may come to hold, by `measure`; 0 = any amount."""
        self.children = children
        self.resources = resources
        self._stage = stage
        self._known = {variant.name: variant for variant in variants}
        self._roots = roots
        self._room = memory_bytes
        self._measure = measure
        self._sizes: dict[str, int] = {}
        """What each variant took when it was last loaded."""
        self._held: dict[str, Resident] = {}
        self._lock = threading.Lock()
        self._loading = threading.Lock()

    def load(self, name: str) -> Resident:
        """Make a variant resident and warm it up. Blocks, one load after the other; batches are not held up.

        ModelError when it fails; NoRoom, and nothing is changed, when it does not fit.
        """
        with self._loading:
            held = self._held.get(name)
            if held is not None:
                return held
            variant = self._known.get(name)
            if variant is None:
                known = ", ".join(self._known)
                raise ModelError(f"stage {self._stage} has no variant {name!r}; its variants are: {known}")
            title = f"variant {name} of stage {self._stage} ({variant.model or variant.runtime})"
            before = self._measure()
            # Known to be too much, it is not tried again.
            self._check_room(title, before, self._sizes.get(name, 0))
            started = monotonic()
            resources = self.resources
            try:
                model = build(variant, self.children, self._roots)
                model.load(variant.options, resources)
                model.warmup()
            except ModelError as error:
                raise ModelError(f"{title}: {error}") from error
            except Exception as error:
                raise ModelError(f"{title} failed to load: {_named(error)}") from error
            load_s = monotonic() - started
            self._sizes[name] = max(0, self._measure() - before)
            try:
                self._check_room(title, before, self._sizes[name])
            except NoRoom:
                model.close()
                del model
                give_back_memory()
                raise
            return self.adopt(name, title, model, load_s, resources.threads)

    def adopt(self, name: str, title: str, model: Model, load_s: float, threads: int) -> Resident:
        """Hold a model that is loaded, for so many threads, under a variant's name; the one held already, if any."""
        resident = Resident(title, model, load_s)
        while True:
            with self._lock:
                wanted = self.resources.threads
                if wanted == threads:
                    return self._held.setdefault(name, resident)
            resident.prepare_threads(wanted)  # a resize came while it loaded
            threads = wanted

    def withdraw(self, name: str) -> Resident:
        """Let no more batches enter a variant. ModelError when it is not resident. `release` comes next."""
        with self._lock:
            resident = self._held.pop(name, None)
            if resident is None:
                raise ModelError(f"variant {name!r} of stage {self._stage} is not resident")
            if resident.running:
                resident.closing = threading.Event()
            return resident

    def release(self, resident: Resident) -> None:
        """Close a variant that was withdrawn, when its last batch is done. Blocks until then."""
        if resident.closing is not None:
            resident.closing.wait()
        try:
            resident.model.close()
        finally:
            resident.model = Model()  # whatever still refers to the variant does not keep its memory
            give_back_memory()

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

    def fixed_threads(self) -> list[str]:
        """Resident variants whose model does nothing when its threads are to change."""
        with self._lock:
            held = self._held.items()
            return [name for name, resident in held if type(resident.model).set_threads is Model.set_threads]

    def prepare(self, threads: int) -> None:
        """Have every model get ready for other threads, while batches go on. ModelError with what a model raised."""
        with self._lock:
            held = list(self._held.values())
        for resident in held:
            resident.prepare_threads(threads)

    def set_threads(self, resources: Resources) -> None:
        """Tell every model its new resources. Called while no batch runs.

        ModelError with what a model raised; the others are told the old ones again then.
        """
        with self._lock:
            before, self.resources = self.resources, resources
            held = list(self._held.values())
        for index, resident in enumerate(held):
            try:
                resident.use_threads(resources.threads)
            except ModelError:
                self.resources = before
                for told in held[:index]:
                    told.use_threads(before.threads)
                raise

    def close(self) -> None:
        """Close every model, whatever one of them raises."""
        with self._lock:
            held, self._held = list(self._held.values()), {}
        for resident in held:
            try:
                resident.model.close()
            except Exception as error:  # noqa: BLE001 - the process ends: the others must be closed, too
                print(f"{resident.title}: close raised {_named(error)}", flush=True)  # noqa: T201 - the parent logs it

    def _check_room(self, title: str, before: int, size: int) -> None:
        if self._room and before + size > self._room:
            raise NoRoom(
                f"{title} takes {_mb(size)}, which does not fit: the replica holds {_mb(before)} and may hold "
                f"{_mb(self._room)}; unload another variant or give it more memory"
            )


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _mb(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"
