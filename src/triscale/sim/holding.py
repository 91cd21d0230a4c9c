"""Simulated replicas that are given other variants while they live, as `control/holding.py` does it to real ones.

They serve what they hold until the new variants are loaded, all at one instant. Where memory does not hold both
(`ReplicaSpec.memory_bytes` against the profile's sizes), it is only noted that it does not; a swap has the old ones go
first, and the lanes closed where no old one stays. The newest change wins, and begins anew.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from msgspec.structs import replace

from triscale.core.profile import Profile
from triscale.dispatch.dispatcher import Dispatcher
from triscale.sim.agenda import Agenda
from triscale.sim.replica import SimulatedReplica
from triscale.sim.settings import SimSettings

__all__ = ["Holding"]


class Holding:
    """Changes the variants of replicas. `lives`: whether one is to take work yet; `changed` is called when one has."""

    def __init__(
        self,
        profile: Profile,
        settings: SimSettings,
        dispatcher: Dispatcher,
        agenda: Agenda,
        lives: Callable[[SimulatedReplica], bool],
        changed: Callable[[], None],
    ) -> None:
        self._profile = profile
        self._settings = settings
        self._dispatcher = dispatcher
        self._agenda = agenda
        self._lives = lives
        self._changed = changed

    def change(self, replica: SimulatedReplica, variants: tuple[str, ...], now: float, *, swap: bool) -> bool:
        """Have it hold other variants; False, and nothing changes, where its memory does not hold both."""
        if not swap and not replica.closed and not self._fits(replica, {*replica.held, *variants}):
            replica.tight = True
            self._changed()
            return False
        replica.spec = replace(replica.spec, variants=variants)
        replica.loading = True
        replica.loads += 1
        stay = tuple(name for name in replica.held if name in variants)
        if replica.closed:
            if not replica.held:
                self._load(replica, now)  # else its last batches still run
        elif stay or not swap:
            replica.held = stay if swap else replica.held
            self._dispatcher.variants_changed(replica.spec.id, replica.held, now, changing=True)
            self._load(replica, now)
        else:
            replica.closed = True
            self._dispatcher.resize(replica.spec.id, 0, replica.spec.threads, now)
        return True

    def lanes_closed(self, replica: SimulatedReplica, now: float) -> None:
        """The last batches of variants that are to go are done."""
        if replica.held:
            replica.held = tuple(name for name in replica.held if name in replica.spec.variants)
            self._load(replica, now)

    def _load(self, replica: SimulatedReplica, now: float) -> None:
        spec = replica.spec
        takes = sum(self._load_s(spec.stage, name) for name in spec.variants if name not in replica.held)
        self._agenda.at(now + takes, partial(self._loaded, replica, replica.loads))

    def _load_s(self, stage: str, variant: str) -> float:
        """As stated, else as profiled; what was not measured takes as long as a launch."""
        stated = self._settings.load_s
        return (
            (self._profile.stages[stage][variant].load_s or self._settings.cold_start_s) if stated is None else stated
        )

    def _loaded(self, replica: SimulatedReplica, number: int, now: float) -> None:
        if not self._lives(replica) or replica.loads != number:
            return
        spec = replica.spec
        replica.held = spec.variants
        replica.loading = replica.tight = False
        self._dispatcher.variants_changed(spec.id, spec.variants, now)
        if replica.closed:
            replica.closed = replica.waits = False
            replica.open_cores = spec.cores
            self._dispatcher.resize(spec.id, spec.lanes, spec.threads, now)
        self._changed()

    def _fits(self, replica: SimulatedReplica, variants: set[str]) -> bool:
        room, sizes = replica.spec.memory_bytes, self._profile.stages[replica.spec.stage]
        return not room or sum(sizes[name].memory_bytes for name in variants) <= room
