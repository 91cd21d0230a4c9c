"""One local replica: its process, its connection, what it is asked to be and what it is."""

from __future__ import annotations

import asyncio
import socket

import msgspec

from triscale.clock import monotonic
from triscale.core.cluster import Address, NodeId, Replica, Resized, Resizing
from triscale.engines.child import Child
from triscale.errors import EngineError
from triscale.replica.client import ReplicaClient
from triscale.replica.config import ReplicaConfig

__all__ = ["EXIT_GRACE", "Worker"]

EXIT_GRACE = 1.0
"""Seconds in which a worker that ended its connection, or was told to stop, may exit by itself."""


class Worker:
    """A worker process from its start to its end. Started by construction; `connect` comes next."""

    def __init__(self, config: ReplicaConfig, listener: socket.socket) -> None:
        self.spec = config.spec
        """What it is asked to be, processors included; `replica` says what it is."""
        self._started = monotonic()
        self.child = Child(config, listener)
        self.client: ReplicaClient | None = None
        self.watching: asyncio.Task[None]
        """Whoever waits for its end and reports it."""
        self.replica: Replica | None = None
        """None until it is ready."""
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
                spec=self.spec, node=node, address=address, pid=child.pid, ready_after_s=ready_after_s
            )
            self.client.ended.add_done_callback(self._connection_ended)
            return self.client
        raise EngineError(f"replica {self.spec.id} of stage {self.spec.stage} did not start: {why}")

    async def adapt(self) -> tuple[Resized, bool]:
        """Bring it to its spec: what it has then, and whether lanes or threads are others than before."""
        assert self.client is not None
        assert self.replica is not None
        wanted = self.spec
        resized = await self.client.resize(wanted.lanes, wanted.threads, wanted.cpus)
        before = self.replica.spec
        actual = msgspec.structs.replace(before, lanes=resized.lanes, threads=resized.threads, cpus=wanted.cpus)
        self.replica = msgspec.structs.replace(self.replica, spec=actual)
        if resized.status is Resizing.INFEASIBLE:
            self.spec = actual
        return resized, (before.lanes, before.threads) != (actual.lanes, actual.threads)

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
