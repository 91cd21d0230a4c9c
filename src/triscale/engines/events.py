"""Engine events for any number of subscribers, each of whom sees every event from its subscription on."""

from __future__ import annotations

import asyncio
import weakref

from triscale.core.ports import EngineEvent

__all__ = ["EventStream", "Events"]


class EventStream:
    """One subscriber's events, in order, until the engine closes."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[EngineEvent | None] = asyncio.Queue()

    def put(self, event: EngineEvent | None) -> None:
        """Add an event; None is the end."""
        self._queue.put_nowait(event)

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> EngineEvent:
        event = await self._queue.get()
        if event is None:
            self._queue.put_nowait(None)  # the end stays the end
            raise StopAsyncIteration
        return event


class Events:
    """The subscribers. One that was dropped without a word costs nothing."""

    def __init__(self) -> None:
        self._streams: weakref.WeakSet[EventStream] = weakref.WeakSet()
        self._closed = False

    def subscribe(self) -> EventStream:
        """A stream of all events from now on."""
        stream = EventStream()
        if self._closed:
            stream.put(None)
        self._streams.add(stream)
        return stream

    def emit(self, event: EngineEvent) -> None:
        """Tell every subscriber."""
        for stream in self._streams:
            stream.put(event)

    def close(self) -> None:
        """No more events will come. Idempotent."""
        if not self._closed:
            self._closed = True
            for stream in self._streams:
                stream.put(None)
