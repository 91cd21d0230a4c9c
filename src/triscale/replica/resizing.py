"""Changing a live replica's lanes, threads and processors, in the order that never runs more threads than cores.

To grow: processors first, then lanes. To shrink: close lanes, let their batches finish, then give processors back.
To change threads: models get ready beside the batches that run (a session may have to be built), then, when no lane
runs for a moment, they change over. The newest target wins, whatever stage an older one is in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

from triscale.core.model import Resources
from triscale.errors import ModelError
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
        # Held while lanes are told, so that they are told in the order of the targets; they may call back at once.
        self._lock = threading.RLock()
        self._serial = 0
        self._preparing = threading.Lock()
        self._prepared = 0
        """Threads that models are ready for, or getting ready for, beside those in force; 0 = none."""

    def start(self, target: Resize) -> None:
        """Begin; returns at once unless it can be completed at once."""
        with self._lock:
            self._serial = target.serial
            now = self._residents.resources
            wanted = Resources(threads=target.threads, lanes=target.lanes)
            cpus: Sequence[int] = target.cpus
            error = ""
            if wanted.lanes < 1 or wanted.threads < 1:
                error = f"a replica needs at least 1 lane of 1 thread, not {wanted.lanes} of {wanted.threads}"
            elif wanted.lanes * wanted.threads >= now.lanes * now.threads:
                cpus, error = [], self._pin(cpus)
            if error:
                wanted, cpus = now, []
            if wanted.threads != now.threads or self._prepared:
                work = (target.serial, wanted, cpus)
                threading.Thread(target=self._prepare, args=work, name="prepare", daemon=True).start()
            if wanted.threads == now.threads:
                self._shift(target.serial, wanted, cpus, min(wanted.lanes, now.lanes), error)
            else:
                self._lanes.open(now.lanes)  # an older target may have closed some that are of use meanwhile

    def _prepare(self, serial: int, wanted: Resources, cpus: Sequence[int]) -> None:
        """Have the models get ready for other threads and change over, or let go of what they were ready for."""
        with self._preparing:
            with self._lock:
                if serial != self._serial:
                    return  # whatever the newer one needs, it does itself
                now = self._residents.resources
                ready = self._prepared == wanted.threads
                self._prepared = 0 if wanted.threads == now.threads else wanted.threads
            error = "" if ready else self._get_ready(wanted.threads)
            if error:
                self._get_ready(now.threads)
            with self._lock:
                if error:
                    self._prepared = 0
                if serial == self._serial and wanted.threads != now.threads:
                    if error:
                        self._shift(serial, now, [], now.lanes, error)
                    else:
                        self._shift(serial, wanted, cpus, 0, "")

    def _get_ready(self, threads: int) -> str:
        """Let every model prepare: what went wrong, in words."""
        try:
            self._residents.prepare(threads)
        except ModelError as problem:
            return str(problem)
        return ""

    def _shift(self, serial: int, wanted: Resources, cpus: Sequence[int], limit: int, error: str) -> None:
        """Let no more than `limit` lanes run, then complete."""
        self._lanes.restrict(limit, lambda: self._complete(serial, wanted, cpus, error))

    def _complete(self, serial: int, wanted: Resources, cpus: Sequence[int], error: str) -> None:
        """No more lanes run than `wanted` allows (none, if threads change)."""
        with self._lock:
            if serial != self._serial:
                return  # overtaken; the newer one opens the lanes
            now = self._residents.resources
            if wanted.threads != now.threads:
                self._prepared = 0
                try:
                    self._residents.set_threads(wanted)
                except ModelError as problem:  # the replica goes on as it was
                    error, wanted = str(problem), now
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
