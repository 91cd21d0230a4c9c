from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import pytest

from triscale.traces.alarm import Alarm


@pytest.fixture(params=["precise", "of the loop"])
def alarms(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], Alarm]:
    """Makes alarms of both kinds."""
    if request.param == "of the loop":
        monkeypatch.setattr(sys, "platform", "other")
    return Alarm


def test_it_rings_once_for_each_time_it_is_set(alarms: Callable[[Callable[[], None]], Alarm]) -> None:
    async def scenario() -> None:
        rung: list[int] = []
        done = asyncio.Event()

        def ring() -> None:
            rung.append(len(rung))
            if len(rung) < 5:
                alarm.set(0.0001 if len(rung) % 2 else -1.0)
            else:
                done.set()

        alarm = alarms(ring)
        alarm.set(0.001)
        await done.wait()
        alarm.close()
        assert rung == [0, 1, 2, 3, 4]

    asyncio.run(scenario())


def test_setting_it_again_moves_it(alarms: Callable[[Callable[[], None]], Alarm]) -> None:
    async def scenario() -> None:
        done = asyncio.Event()
        alarm = alarms(done.set)
        alarm.set(3600.0)
        alarm.set(0.001)
        await done.wait()
        alarm.close()

    asyncio.run(scenario())


def test_closed_it_never_rings(alarms: Callable[[Callable[[], None]], Alarm]) -> None:
    async def scenario() -> None:
        rung: list[None] = []
        alarm = alarms(lambda: rung.append(None))
        alarm.set(0.0)
        alarm.close()
        alarm.close()
        other = asyncio.Event()
        later = alarms(other.set)
        later.set(0.002)
        await other.wait()
        later.close()
        assert rung == []

    asyncio.run(scenario())
