"""One local replica: its process, its connection, what it is asked to be and what it is."""

from __future__ import annotations

import asyncio
import socket

from msgspec.structs import replace

from triscale.clock import monotonic
from triscale.core.cluster import Address, NodeId, Replica, Resized, Resizing
from triscale.engines.child import Child
from triscale.errors import EngineError
from triscale.replica.client import DoesNotFit, ReplicaClient
from triscale.replica.config import ReplicaConfig

__all__ = ["EXIT_GRACE", "Worker"]

EXIT_GRACE = 1.0
"""Seconds in which a worker that ended its connection, or was told to stop, may exit by itself."""


class Worker:
    """A worker process from its start to its end. Started by construction; `connect` comes next."""

    def __init__(self, config: ReplicaConfig, listener: socket.socket) -> None:
        self.spec = config.spec
        """What it is asked to be, processors included; `replica` says what it is."""
        self._launched = config.spec
        self._unanswered: list[int] = []
        """Cores of the resizes that it was asked for and has not answered."""
        self._variants: tuple[str, ...] = ()
        self._holding = asyncio.Lock()
        self._started = monotonic()
        self.child = Child(config, listener)
        self.client: ReplicaClient | None = None
        self.watching: asyncio.Task[None]
        """Whoever waits for its end and reports it."""
        self.replica: Replica | None = None
        """As it is; None until it is ready."""
        self.expected = False
        """Whether its end is no surprise."""
        self.reason = ""
        """Why we ended it; empty while it is its own doing."""
        self._told_to_stop = False

    async def connect(self, address: Address, node: NodeId, timeout: float, heartbeat_timeout: float) -> ReplicaClient:
        """Wait until it can take batches; EngineError in its own words when it is not going to."""
        child = self.child
        try:
            async with asyncio.timeout(timeout):
                self.client = await ReplicaClient.connect(address, heartbeat_timeout=heartbeat_timeout)
        except TimeoutError:
            why = f"it was not ready within {timeout:g} s and was killed{child.last_words()}"
        except EngineError as error:
            why = str(error)
        except OSError as error:
            await asyncio.wait([child.exited], timeout=EXIT_GRACE)
            why = self.reason or (child.describe_exit() if child.exited.done() else str(error)) + child.last_words()
        else:
            ready_after_s = monotonic() - self._started
            self.replica = Replica(
                spec=self._launched, node=node, address=address, pid=child.pid, ready_after_s=ready_after_s
            )
            self.client.ended.add_done_callback(self._connection_ended)
            return self.client
        raise EngineError(f"replica {self.spec.id} of stage {self.spec.stage} did not start: {why}")

    @property
    def cores(self) -> int:
        """Cores that it may be using: the most of what it has, what it is to have and what it may be on its way to."""
        has = 0 if self.replica is None else self.replica.spec.cores
        return max(has, self.spec.cores, *self._unanswered)

    async def adapt(self) -> Resized:
        """Bring it to its spec: what it has then."""
        assert self.client is not None
        assert self.replica is not None
        wanted = self.spec
        self._unanswered.append(wanted.cores)
        try:
            resized = await self.client.resize(wanted.lanes, wanted.threads, wanted.cpus)
        finally:
            self._unanswered.remove(wanted.cores)
        refused = resized.status is Resizing.INFEASIBLE
        before = self.replica.spec
        cpus = before.cpus if refused else wanted.cpus
        actual = replace(before, lanes=resized.lanes, threads=resized.threads, cpus=cpus)
        self.replica = replace(self.replica, spec=actual)
        if refused and (self.spec.lanes, self.spec.threads) == (wanted.lanes, wanted.threads):
            self.spec = replace(self.spec, lanes=actual.lanes, threads=actual.threads)
        return resized

    async def hold(self, variants: tuple[str, ...]) -> tuple[str, ...]:
        """Make these its resident variants, one after the other, while batches go on: those that it holds then.

        The newest call's variants win. What is not wanted goes last, or first where memory is short; and comes back
        where that did not help. EngineError when a variant cannot be loaded. Cancelled, it begins nothing more.
        """
        assert self.client is not None
        self._variants = variants
        async with self._holding:
            for variant in variants:
                if self._variants is variants and variant not in self._held:
                    try:
                        await self._load(variant)
                    except DoesNotFit:
                        gone = await self._unload_others(variants)
                        if not gone:
                            raise
                        await self._load_instead(variant, gone)
            if self._variants is variants:
                await self._unload_others(variants)
                self._holds(variants)
        return self._held

    async def _load(self, variant: str) -> None:
        # Whoever asked may give up meanwhile: what is loaded is held all the same.
        await asyncio.shield(asyncio.ensure_future(self._loaded(variant)))

    async def _loaded(self, variant: str) -> None:
        assert self.client is not None
        await self.client.load(variant)
        if variant not in self._held:
            self._holds((*self._held, variant))

    async def _load_instead(self, variant: str, gone: tuple[str, ...]) -> None:
        try:
            await self._load(variant)
        except EngineError:
            for other in gone:
                await self._load(other)
            raise

    async def _unload_others(self, variants: tuple[str, ...]) -> tuple[str, ...]:
        """Let go of all but these: what is gone."""
        assert self.client is not None
        others = tuple(variant for variant in self._held if variant not in variants)
        for other in others:
            self._holds(tuple(variant for variant in self._held if variant != other))
            await self.client.unload(other)
        return others

    @property
    def _held(self) -> tuple[str, ...]:
        assert self.replica is not None
        return self.replica.spec.variants

    def _holds(self, variants: tuple[str, ...]) -> None:
        assert self.replica is not None
        self.spec = replace(self.spec, variants=variants)
        self.replica = replace(self.replica, spec=replace(self.replica.spec, variants=variants))

    def unchanged(self, status: Resizing, reason: str) -> Resized:
        """What it has, where it does not have what was asked for."""
        now = self.spec if self.replica is None else self.replica.spec
        return Resized(status=status, lanes=now.lanes, threads=now.threads, reason=reason)

    async def drain(self, grace: float) -> None:
        """Have it finish what it has for at most `grace` seconds; returns when its connection is over."""
        self.expected = True
        if self.client is None:
            self.end("it was drained before it was ready")
            return
        try:
            async with asyncio.timeout(grace):
                await self.client.drain()
        except TimeoutError:
            self.end(f"it had not finished after {grace:g} s of grace and was killed")

    def stop(self, reason: str) -> None:
        """Tell it to end at once."""
        self.expected = True
        if self.client is None:
            self.end(reason)
        else:
            self.reason = self.reason or reason
            self._told_to_stop = True
            self.client.stop(reason)

    def end(self, reason: str) -> None:
        """Kill it. No-op when it is gone."""
        if not self.child.exited.done():
            self.reason = self.reason or reason
            if self.client is not None:
                self.client.lose(reason)
            self.child.kill()

    async def gone(self) -> str:
        """Wait until both the process and its connection have ended: why, in words."""
        await asyncio.wait([self.child.exited])
        if self.client is None:
            return self.reason or self.child.describe_exit()
        # The end of the stream follows, behind the last results; unless some other process holds the socket.
        await asyncio.wait([self.client.ended], timeout=EXIT_GRACE)
        reason = self.reason or ("drained" if self.client.drained else self.child.describe_exit())
        self.client.lose(reason)
        return reason

    def _connection_ended(self, ended: asyncio.Future[str]) -> None:
        assert self.client is not None
        if self.client.ended_by_peer or self._told_to_stop:  # it is about to exit, and its exit tells more
            asyncio.get_running_loop().call_later(EXIT_GRACE, self.end, ended.result())
        else:
            self.end(ended.result())
