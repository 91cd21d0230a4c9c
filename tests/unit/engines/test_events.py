"""Event streams: everybody sees everything from their subscription on."""

from __future__ import annotations

import asyncio

from triscale.core.cluster import NodeId
from triscale.core.ports import EngineEvent, NodeDown
from triscale.engines.events import Events, EventStream


def event(name: str) -> NodeDown:
    return NodeDown(NodeId(name), "")


async def rest(stream: EventStream) -> list[EngineEvent]:
    return [event async for event in stream]


def test_each_subscriber_sees_what_comes_after_it_and_then_the_end() -> None:
    async def scenario() -> None:
        events = Events()
        events.emit(event("before"))
        early = events.subscribe()
        events.emit(event("a"))
        late = events.subscribe()
        events.emit(event("b"))
        events.close()
        events.close()
        assert await rest(early) == [event("a"), event("b")]
        assert await rest(late) == [event("b")]
        assert await rest(late) == [], "the end stays the end"
        assert await rest(events.subscribe()) == []

    asyncio.run(scenario())


def test_a_subscriber_that_is_gone_is_forgotten() -> None:
    async def scenario() -> None:
        events = Events()
        stream = events.subscribe()
        assert len(events._streams) == 1
        del stream
        assert len(events._streams) == 0

    asyncio.run(scenario())
