"""The local engine, as slow as the experiment's cluster: whatever is done takes as long as in the simulation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from triscale.clock import monotonic
from triscale.core.cluster import Replica, ReplicaId, ReplicaSpec, Resized
from triscale.engines.local import LocalEngine

__all__ = ["SlowEngine"]


class SlowEngine(LocalEngine):
    """Real processes, which take work `cold_start_s` after their launch began, and resizes that wait `resize_s`.

    Another variant of a live one is loaded in `cold_start_s` too: nobody measured what these models take alone.

    Not before `delay` is called: a first plan is simply there.
    """

    cold_start_s = 0.0
    resize_s = 0.0

    def delay(self, cold_start_s: float, resize_s: float) -> None:
        """From now on."""
        self.cold_start_s = cold_start_s
        self.resize_s = resize_s

    async def launch(self, spec: ReplicaSpec) -> Replica:
        """See the engine's; the process is there earlier, and waits."""
        began = monotonic()
        replica = await super().launch(spec)
        try:
            await asyncio.sleep(max(0.0, self.cold_start_s - (monotonic() - began)))
            self.client(spec.id)  # EngineError if it has died meanwhile
        except asyncio.CancelledError:
            await self.kill(spec.id, "its launch was called off")
            raise
        return replace(replica, ready_after_s=monotonic() - began)

    async def resize(self, replica: ReplicaId, lanes: int, threads: int) -> Resized:
        """See the engine's; it begins that much later."""
        await asyncio.sleep(self.resize_s)
        return await super().resize(replica, lanes, threads)

    async def hold(self, replica: ReplicaId, variants: Sequence[str]) -> tuple[str, ...]:
        """See the engine's; it begins as much later as the loads take that it is asked for."""
        held = [v for each in await self.replicas() if each.spec.id == replica for v in each.spec.variants]
        await asyncio.sleep(self.cold_start_s * len({*variants} - {*held}))
        return await super().hold(replica, variants)
