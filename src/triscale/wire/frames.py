"""Frames between the server and a replica: bytes in, messages out. No sockets here; both ends drive this module.

A frame is a fixed prefix (magic, version, length of the header, length of the body), a header (one message, msgpack)
and a body (raw bytes of payloads). The body is never joined, copied or looked into: a writer hands its buffers to
the socket one behind the other, and a reader receives a large body straight into the memory that its views share.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

from triscale.errors import WireError
from triscale.wire.payload import Buffer

__all__ = [
    "MAX_BODY",
    "MAX_HEADER",
    "VERSION",
    "Beat",
    "Done",
    "DoneItem",
    "Drain",
    "Failed",
    "Fatal",
    "Frame",
    "FrameReader",
    "Free",
    "Hello",
    "Load",
    "Loaded",
    "Message",
    "Part",
    "Ready",
    "Resize",
    "Resized",
    "Run",
    "Stop",
    "Unload",
    "Unloaded",
    "encode",
]

VERSION = 1
MAX_HEADER = 16 * 2**20
MAX_BODY = 2**30

Part: TypeAlias = tuple[bytes, int, int]
"""One payload: its head, the length of its bytes, and where they are: an offset in the sender's arena, or -1 for
the next of the frame's body."""

DoneItem: TypeAlias = tuple[Part | None, list[list[Part]]] | str
"""What became of one item: (output for the client, per child stage the items emitted), or why it was rejected."""


class _Message(msgspec.Struct, array_like=True, gc=False):
    """The base of all messages. `freed` lists slots of the peer's arena that the sender no longer looks at."""


# Server to replica.


class Hello(_Message, tag=1):
    """The first frame of a connection. Over a Unix socket two arenas may come with it, as file descriptors."""

    token: str = ""
    """Must be the one that the replica was configured with."""


class Run(_Message, tag=2):
    """Run one batch; answered by Done or Failed."""

    batch: int
    variant: str
    items: list[list[Part]]
    """Per item its parts: one, or at a stage that joins, all that its parents emitted."""
    freed: list[int] = []


class Resize(_Message, tag=3):
    """Change lanes and threads in place; answered by Resized, unless a newer Resize overtakes it."""

    serial: int
    lanes: int
    threads: int
    cpus: list[int] = []
    """Processors to run on; empty = leave them as they are."""


class Load(_Message, tag=4):
    """Make another variant of the stage resident, while batches go on; answered by Loaded."""

    variant: str


class Unload(_Message, tag=5):
    """Close a resident variant when its last batch is done; answered by Unloaded."""

    variant: str


class Drain(_Message, tag=6):
    """No more batches will come: finish those received, then end the connection and the process."""


class Stop(_Message, tag=7):
    """End at once; batches in flight are lost."""


class Free(_Message, tag=8):
    """Only releases arena slots, where no other frame was there to carry them. Sent in both directions."""

    freed: list[int]


# Replica to server.


class Ready(_Message, tag=32):
    """The answer to Hello: the replica can take batches."""

    variants: Mapping[str, float]
    """Resident variants and the seconds that each took to load."""
    lanes: int
    threads: int
    pid: int
    rss: int
    """Resident memory in bytes."""
    children: int
    """Child stages that every result has items for (maybe none)."""
    arena: bool
    """Whether the arenas of Hello are in use."""
    fixed_threads: list[str] = []
    """Resident variants whose model has no `set_threads` of its own: resizes do not change their threads."""


class Done(_Message, tag=33):
    """A batch is finished."""

    batch: int
    service_s: float
    """Seconds in the lane: unpacking, the model, packing."""
    items: list[DoneItem]
    freed: list[int] = []


class Failed(_Message, tag=34):
    """A batch could not be run; none of its items has a result."""

    batch: int
    kind: str
    """`model_error` (the model raised or broke its contract) or `not_resident` (the variant is not loaded)."""
    message: str
    freed: list[int] = []


class Beat(_Message, tag=35):
    """The replica is alive. Sent about once a second."""

    busy: int
    """Lanes that run a batch."""
    rss: int
    freed: list[int] = []


class Resized(_Message, tag=36):
    """What is in force now."""

    serial: int
    lanes: int
    threads: int
    error: str = ""
    """Why it is not what was asked for."""


class Loaded(_Message, tag=37):
    """The end of a Load."""

    variant: str
    load_s: float
    rss: int
    error: str = ""
    full: bool = False
    """Whether the error is that it does not fit the replica's memory."""


class Unloaded(_Message, tag=38):
    """The end of an Unload."""

    variant: str
    rss: int
    error: str = ""


class Fatal(_Message, tag=39):
    """The replica cannot serve (its model does not load, the token is wrong) and ends now."""

    message: str


Message: TypeAlias = (
    Hello
    | Run
    | Resize
    | Load
    | Unload
    | Drain
    | Stop
    | Free
    | Ready
    | Done
    | Failed
    | Beat
    | Resized
    | Loaded
    | Unloaded
    | Fatal
)
Frame: TypeAlias = tuple[Message, memoryview]
"""A message and the body that came with it."""

_PREFIX = struct.Struct("<3sBIQ")
_MAGIC = b"TRI"
_EMPTY = memoryview(b"")
_SCRATCH = 64 * 1024

_encode_header = msgspec.msgpack.Encoder().encode
_decode_header: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message, body: Sequence[Buffer] = (), nbytes: int = 0) -> list[Buffer]:
    """The buffers of one frame, to be sent in order. `nbytes` is the length of all of `body`.

    WireError when the header exceeds MAX_HEADER: the peer would take it for garbage.
    """
    header = _encode_header(message)
    if len(header) > MAX_HEADER:
        raise WireError(
            f"a {type(message).__name__} frame's header of {len(header)} bytes exceeds the limit of {MAX_HEADER}; "
            "use smaller batches or emit fewer items"
        )
    return [_PREFIX.pack(_MAGIC, VERSION, len(header), nbytes) + header, *body]


class FrameReader:
    """Cuts a stream of bytes into frames.

    Receive into `buffer()`, then call `received(count)` for the frames that are complete. A body that fits the
    scratch buffer is copied out of it once; a larger one is received in place. Raises WireError on the first byte
    that cannot be a frame; the stream is lost then.
    """

    __slots__ = ("_body", "_end", "_filled", "_max_body", "_max_header", "_message", "_scratch", "_start", "_view")

    def __init__(self, max_header: int = MAX_HEADER, max_body: int = MAX_BODY) -> None:
        self._max_header = max_header
        self._max_body = max_body
        self._scratch = bytearray(_SCRATCH)
        self._view = memoryview(self._scratch)
        self._start = 0
        self._end = 0
        self._message: Message | None = None
        self._body = _EMPTY
        self._filled = 0

    @property
    def inside(self) -> bool:
        """Whether the stream stands within a frame: an end of file here has cut it short."""
        return self._message is not None or self._end > self._start

    def buffer(self) -> memoryview:
        """Where to receive the next bytes; never empty."""
        return self._body[self._filled :] if self._message is not None else self._view[self._end :]

    def received(self, count: int) -> list[Frame]:
        """`count` bytes were written to the start of `buffer()`: the frames that this completes, in order."""
        message = self._message
        if message is None:
            self._end += count
            return self._parse()
        self._filled += count
        if self._filled < len(self._body):
            return []
        body, self._body, self._message = self._body, _EMPTY, None
        return [(message, body.toreadonly())]

    def feed(self, data: Buffer) -> list[Frame]:
        """Take `data` as it is, of any length: the frames that it completes, in order."""
        frames: list[Frame] = []
        rest = memoryview(data)
        while rest:
            room = self.buffer()
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            rest = rest[count:]
            frames += self.received(count)
        return frames

    def _parse(self) -> list[Frame]:
        frames: list[Frame] = []
        start, end, view = self._start, self._end, self._view
        while end - start >= _PREFIX.size:
            magic, version, header, nbytes = _PREFIX.unpack_from(view, start)
            if magic != _MAGIC or version != VERSION or header > self._max_header or nbytes > self._max_body:
                raise self._refusal(magic, version, header, nbytes)
            body_at = start + _PREFIX.size + header
            if body_at > end:
                self._make_room(start, _PREFIX.size + header)
                return frames
            message = _decode(view[start + _PREFIX.size : body_at])
            start = body_at + nbytes
            if start <= end:
                frames.append((message, memoryview(bytes(view[body_at:start])) if nbytes else _EMPTY))
                continue
            self._message = message
            self._body = memoryview(bytearray(nbytes))
            self._filled = end - body_at
            self._body[: self._filled] = view[body_at:end]
            start = end
        self._make_room(start, 0)
        return frames

    def _make_room(self, start: int, needed: int) -> None:
        """Move what is left to the front, and have space for `needed` bytes and more."""
        left = self._end - start
        size = max(needed, _SCRATCH)
        if size != len(self._scratch):
            grown = bytearray(size)
            grown[:left] = self._view[start : self._end]
            self._scratch, self._view = grown, memoryview(grown)
        elif start and left:
            self._view[:left] = bytes(self._view[start : self._end])
        self._start, self._end = 0, left

    def _refusal(self, magic: bytes, version: int, header: int, nbytes: int) -> WireError:
        if magic != _MAGIC:
            return WireError(f"a frame starts with {magic!r} instead of {_MAGIC!r}: the peer is not triscale")
        if version != VERSION:
            return WireError(f"the peer speaks version {version} of the frames, this side speaks {VERSION}")
        if header > self._max_header:
            return WireError(f"a frame's header of {header} bytes exceeds the limit of {self._max_header}")
        return WireError(f"a frame's body of {nbytes} bytes exceeds the limit of {self._max_body}")


def _decode(header: memoryview) -> Message:
    try:
        return _decode_header.decode(header)
    except msgspec.DecodeError as error:
        raise WireError(f"a frame's header is not a known message: {error}") from None
