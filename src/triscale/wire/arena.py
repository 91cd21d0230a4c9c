"""Shared memory for large payloads between two processes of one machine; the socket stays the doorbell.

Each direction has an arena of its own: a sealed memfd (no name, so that nothing is left behind however the processes
end) that one side writes (`Outbox`) and the other maps read-only (`Inbox`). The sender copies a payload into a slot
and sends the slot's offset. The slot stays the receiver's until the last view of it is gone (views, and arrays over
them, keep it alive by reference); the receiver then names it in the `freed` list of its next frame, and only then
may the sender use it again. A full arena is no error: the payload travels inline.
"""

from __future__ import annotations

import bisect
import fcntl
import mmap
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from triscale.errors import WireError
from triscale.wire.payload import Buffer

__all__ = ["ARENA_BYTES", "Allocator", "Inbox", "Outbox", "create_arena"]

ARENA_BYTES = 64 * 2**20
"""Address space of one arena; memory is taken only for what was ever in use at once."""

_PAGE = 4096


def create_arena(size: int = ARENA_BYTES) -> int:
    """The file descriptor of new anonymous shared memory that nobody can resize any more. The caller closes it."""
    fd = os.memfd_create("triscale-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    # Without the seals, a peer that shrinks the file would kill the other side with SIGBUS.
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


class Allocator:
    """First-fit slots in `size` bytes, in whole pages; free neighbours merge.

    The lowest fit keeps the pages in use few and warm.
    """

    __slots__ = ("_free_at", "_free_length", "_used")

    def __init__(self, size: int) -> None:
        self._free_at: list[int] = [0]
        self._free_length: list[int] = [size]
        self._used: dict[int, int] = {}

    @property
    def used(self) -> int:
        """Slots in use."""
        return len(self._used)

    def allocate(self, nbytes: int) -> int:
        """The offset of a slot of at least `nbytes` (> 0), or -1 when there is no room."""
        length = -(-nbytes // _PAGE) * _PAGE
        for index, free in enumerate(self._free_length):
            if free >= length:
                offset = self._free_at[index]
                if free == length:
                    del self._free_at[index], self._free_length[index]
                else:
                    self._free_at[index] += length
                    self._free_length[index] -= length
                self._used[offset] = length
                return offset
        return -1

    def free(self, offset: int) -> None:
        """Give a slot back; WireError when there is none at `offset`."""
        length = self._used.pop(offset, 0)
        if not length:
            raise WireError(f"the peer freed arena slot {offset}, which is not in use")
        at, lengths = self._free_at, self._free_length
        index = bisect.bisect(at, offset)
        if index < len(at) and offset + length == at[index]:
            length += lengths[index]
            del at[index], lengths[index]
        if index and at[index - 1] + lengths[index - 1] == offset:
            lengths[index - 1] += length
        else:
            at.insert(index, offset)
            lengths.insert(index, length)


class Outbox:
    """The writing end of an arena. Safe to use from several threads."""

    __slots__ = ("_allocator", "_lock", "_memory")

    def __init__(self, fd: int) -> None:
        self._memory = memoryview(mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE))
        self._allocator = Allocator(len(self._memory))
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Slots that the peer still holds."""
        return self._allocator.used

    def put(self, buffers: Sequence[Buffer], nbytes: int) -> int:
        """Copy `buffers` into one slot: its offset, or -1 when there is no room."""
        with self._lock:
            offset = self._allocator.allocate(nbytes)
        if offset >= 0:
            at = offset
            for buffer in buffers:
                end = at + len(buffer)
                self._memory[at:end] = buffer
                at = end
        return offset

    def free(self, offsets: Iterable[int]) -> None:
        """The peer does not look at these slots any more; WireError when it never did."""
        with self._lock:
            for offset in offsets:
                self._allocator.free(offset)


class _Slot(weakref.ref["npt.NDArray[np.uint8]"]):
    """A weak reference to the array over a slot, which dies with the last view of it."""

    __slots__ = ("offset",)
    offset: int


class Inbox:
    """The reading end of an arena."""

    __slots__ = ("__weakref__", "_freed", "_live", "_memory")

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
        self._live: dict[int, _Slot] = {}
        self._freed: deque[int] = deque()

    def view(self, offset: int, nbytes: int) -> memoryview:
        """A read-only view of a slot that keeps it; WireError when it is not one the peer may send."""
        if offset < 0 or nbytes < 0 or offset + nbytes > len(self._memory) or offset in self._live:
            raise WireError(f"the peer sent {nbytes} bytes in arena slot {offset}, which is not free or does not exist")
        array = np.frombuffer(self._memory, np.uint8, nbytes, offset)
        slot = _Slot(array, self._released)
        slot.offset = offset
        self._live[offset] = slot
        return array.data

    def take_freed(self) -> list[int]:
        """The slots whose last view went away since the last call, for the next frame to the peer."""
        freed = []
        while self._freed:
            freed.append(self._freed.popleft())
        return freed

    def _released(self, slot: weakref.ref[npt.NDArray[np.uint8]]) -> None:
        # Runs in whichever thread drops the last view, at any moment: nothing here may take a lock.
        assert isinstance(slot, _Slot)
        del self._live[slot.offset]
        self._freed.append(slot.offset)
