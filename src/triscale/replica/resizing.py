"""Changing a live replica's lanes, threads and processors, in the order that never runs more threads than cores.

To grow: processors first, then lanes. To shrink: close lanes, let their batches finish, then give processors back.
Threads change between batches, when no lane runs. The newest target wins.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

from triscale.core.model import Resources
from triscale.replica.lanes import Lanes
from triscale.replica.residents import Residents
from triscale.wire.frames import Resize, Resized

__all__ = ["Resizer"]


class Resizer:
    """Carries out Resize messages and reports each that was not overtaken."""

    def __init__(
        self,
        lanes: Lanes[Any],
        residents: Residents,
        run_on: Callable[[Collection[int]], None],
        report: Callable[[Resized], None],
    ) -> None:
        self._lanes = lanes
        self._residents = residents
        self._run_on = run_on
        self._report = report
        self._lock = threading.Lock()
        self._serial = 0

    def start(self, target: Resize) -> None:
        """Begin; returns at once unless it can be completed at once."""
        now = self._residents.resources
        wanted = Resources(threads=target.threads, lanes=target.lanes)
        cpus, error = target.cpus, ""
        if wanted.lanes < 1 or wanted.threads < 1:
            error = f"a replica needs at least 1 lane of 1 thread, not {wanted.lanes} of {wanted.threads}"
        elif wanted.lanes * wanted.threads >= now.lanes * now.threads:
            cpus, error = [], self._pin(cpus)
        if error:
            wanted, cpus = now, []
        with self._lock:
            self._serial = target.serial
        limit = 0 if wanted.threads != now.threads else min(wanted.lanes, now.lanes)
        self._lanes.restrict(limit, lambda: self._complete(target.serial, wanted, cpus, error))

    def _complete(self, serial: int, wanted: Resources, cpus: Sequence[int], error: str) -> None:
        """No more lanes run than `wanted` allows (none, if threads change)."""
        with self._lock:
            if serial != self._serial:
                return  # overtaken; the newer one opens the lanes
            now = self._residents.resources
            try:
                if wanted.threads != now.threads:
                    self._residents.set_threads(wanted)
            except Exception as problem:  # noqa: BLE001 - a model's own code; the replica goes on as it was
                error = f"set_threads({wanted.threads}) raised {type(problem).__name__}: {problem}"
                wanted = now
            error = error or self._pin(cpus)
            self._residents.resources = wanted
            self._lanes.open(wanted.lanes)
            self._report(Resized(serial, wanted.lanes, wanted.threads, error))

    def _pin(self, cpus: Sequence[int]) -> str:
        try:
            if cpus:
                self._run_on(cpus)
        except OSError as error:
            return f"cannot run on processors {', '.join(map(str, cpus))}: {error}"
        return ""
