"""Gives a live replica other variants, while it serves.

The new ones are loaded beside the old ones, which go on taking batches; then the fleet is told to use the new ones
only, and the old ones are unloaded. Where memory does not hold both, nothing has changed but that this is known
(`Known.tight`), and whoever asked decides: a swap has the old ones go first. Those that are wanted again stay, and
serve; where none is, the replica's lanes are closed until the new ones are there.

What is wanted may change meanwhile: the newest wins. Nothing here needs to be kept: whoever breaks a change off finds
what is held in the engine's list.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from triscale.control.fleet import Fleet, Known
from triscale.core.cluster import Replica
from triscale.core.ports import Engine
from triscale.errors import EngineError
from triscale.replica.client import DoesNotFit

__all__ = ["Holding"]


class Holding:
    """Changes the variants of replicas on an engine, and tells the fleet. `lives`: whether one is to take work yet."""

    def __init__(self, engine: Engine, fleet: Fleet, lives: Callable[[Known], bool]) -> None:
        self._engine = engine
        self._fleet = fleet
        self._lives = lives

    async def change(self, known: Known) -> None:
        """Make it hold what it is to hold. It is to hold what it has when its memory turns out to be too tight.

        EngineError when that fails, or when it is gone; what it really holds is used then.
        """
        while self._lives(known):
            if set(known.has.variants) != set(known.spec.variants):
                if known.swap or not known.has.variants:
                    await self._swap(known)
                else:
                    await self._load_beside(known)
            elif set((await self._listed(known)).spec.variants) != set(known.has.variants):
                await self._engine.hold(known.spec.id, known.has.variants)  # lets go of what is not used any more
            else:
                return

    async def _load_beside(self, known: Known) -> None:
        serving, wanted = known.has.variants, known.spec.variants
        both = (*serving, *(variant for variant in wanted if variant not in serving))
        if both != serving and not await self._fits(known, both):
            return
        if self._lives(known):
            if known.spec.variants == wanted:  # else others are wanted by now
                known.holds(wanted)
                known.tight = False
            self._fleet.hold(known.spec.id, known.has.variants)

    async def _fits(self, known: Known, variants: tuple[str, ...]) -> bool:
        """Whether it holds all of these now."""
        self._fleet.hold(known.spec.id, known.has.variants, changing=True)
        try:
            if set(variants) <= set(await self._engine.hold(known.spec.id, variants)):
                return True
        except DoesNotFit:
            pass
        except EngineError:
            await self._use_what_is_held(known)
            raise
        await self._use_what_is_held(known)
        known.spec = replace(known.spec, variants=known.has.variants)
        known.tight = True
        return False

    async def _swap(self, known: Known) -> None:
        replica = known.spec.id
        async with known.shaping:
            stay = _common(known)
            if stay:
                self._fleet.hold(replica, stay, changing=True)
            elif known.has.variants:
                closed = self._fleet.lanes_closed(replica)
                self._fleet.resize(replica, 0, known.has.threads)
                await closed
                stay = _common(known)  # another may be wanted by now
            if self._lives(known):
                known.holds(stay)
                try:
                    await self._engine.hold(replica, known.spec.variants)
                    known.tight = False
                finally:
                    await self._reopen(known)

    async def _reopen(self, known: Known) -> None:
        """Open its lanes with what it holds now."""
        listed = await self._listed(known)
        if self._lives(known):
            known.holds(listed.spec.variants)
            known.reshaped(listed.spec.lanes, listed.spec.threads)
            if listed.spec.variants:
                self._fleet.attach(listed)

    async def _use_what_is_held(self, known: Known) -> None:
        """Its lanes are as they were."""
        held = (await self._listed(known)).spec.variants
        if self._lives(known):
            known.holds(held)
            self._fleet.hold(known.spec.id, held)

    async def _listed(self, known: Known) -> Replica:
        for replica in await self._engine.replicas():
            if replica.spec.id == known.spec.id:
                return replica
        raise EngineError(f"replica {known.spec.id} does not run any more")


def _common(known: Known) -> tuple[str, ...]:
    return tuple(variant for variant in known.has.variants if variant in known.spec.variants)
