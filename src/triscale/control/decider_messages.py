"""What a server and the process that decides for it say to each other, over a pair of sockets.

A message is its length (4 bytes, big-endian) and a pickle. Pickle is right here and nowhere else: both ends are this
very program, run by the same user, over sockets that have no name, so nobody but the server can write to it; and a
`Setting` holds whatever a policy's options may. Nothing of a client is in these messages but counts.
"""

from __future__ import annotations

import asyncio
import pickle
import select
import socket
import struct
from dataclasses import dataclass
from typing import Any, TypeAlias

from msgspec.structs import replace

from triscale.core.plan import Plan
from triscale.core.settings import Settings
from triscale.core.snapshot import Snapshot
from triscale.policy.autoscalers.interface import Autoscaler, Setting
from triscale.policy.autoscalers.registry import make_autoscaler

__all__ = ["Answer", "Ask", "Decided", "Failed", "Pipe", "Ready", "Recipe", "Unprepared", "frame", "receive"]

_LENGTH = struct.Struct("!I")
_LEFT_OUT = Plan(stages={})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What an autoscaler was made from, so that it can be made again elsewhere, and what it says of itself."""

    setting: Setting
    demand: float
    """Requests/s that its first plan is made for."""
    name: str
    tick_s: float
    dispatch: Settings

    @classmethod
    def of(cls, autoscaler: Autoscaler, setting: Setting, demand: float) -> Recipe:
        """Of an autoscaler that `make_autoscaler` made for this setting."""
        return cls(
            setting=setting,
            demand=demand,
            name=autoscaler.name,
            tick_s=autoscaler.tick_s,
            dispatch=autoscaler.dispatch,
        )

    def make(self) -> Autoscaler:
        """Another one that is as ready to decide as the first: its first plan is made."""
        autoscaler = make_autoscaler(self.name, self.setting)
        autoscaler.first(self.demand)
        return autoscaler


@dataclass(frozen=True, slots=True)
class Ready:
    """The autoscaler is made; asks may come."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What should run from now on?"""

    number: int
    plan: Plan | None
    """In force; None = that of the last ask, which is nearly always so."""
    rest: Snapshot
    """The snapshot, its plan left out."""

    @classmethod
    def about(cls, number: int, snapshot: Snapshot, known: Plan | None) -> Ask:
        """`known` is the plan of the last ask."""
        return cls(number, None if snapshot.plan is known else snapshot.plan, replace(snapshot, plan=_LEFT_OUT))

    def snapshot(self, known: Plan | None) -> Snapshot:
        """The whole of it; its plan is `known` itself, that of the last ask, unless another one came along."""
        plan = known if self.plan is None else self.plan
        assert plan is not None, "the first ask of a process says the plan"
        return replace(self.rest, plan=plan)


@dataclass(frozen=True, slots=True)
class Decided:
    """The answer to the ask of that number."""

    number: int
    plan: Plan | None
    """None: no change."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The autoscaler raised instead."""

    number: int
    why: str
    """The traceback, as text: not every exception can be pickled."""


@dataclass(frozen=True, slots=True)
class Unprepared:
    """The autoscaler raised while it was thinking ahead."""

    why: str


Answer: TypeAlias = Ready | Decided | Failed | Unprepared


def frame(message: Recipe | Ask | Answer) -> bytes:
    """The bytes of a message."""
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


async def receive(stream: asyncio.StreamReader) -> Answer:
    """The server's end: the next message. IncompleteReadError or ConnectionError when the other end is gone."""
    (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
    answer: Answer = pickle.loads(await stream.readexactly(length))  # noqa: S301 - our own child's words
    return answer


class Pipe:
    """The other end, which has nothing to do but wait."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, message: Answer) -> None:
        """OSError when the server is gone."""
        self._sock.sendall(frame(message))

    def receive(self) -> Any:
        """The next message: a `Recipe`, then an `Ask` each time; None when the server is gone."""
        head = self._exactly(_LENGTH.size)
        body = self._exactly(_LENGTH.unpack(head)[0]) if head else b""
        return pickle.loads(body) if body else None  # noqa: S301 - from the parent alone

    def waits(self, seconds: float) -> bool:
        """Whether there is something to be received, or nobody to send it any more; waits for it so long."""
        return bool(select.select([self._sock], [], [], seconds)[0])

    def _exactly(self, count: int) -> bytes:
        """So many bytes; none when they do not come any more."""
        data = bytearray()
        while len(data) < count:
            try:
                more = self._sock.recv(count - len(data))
            except ConnectionError:
                more = b""
            if not more:
                return b""
            data += more
        return bytes(data)
