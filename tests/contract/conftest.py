"""Every engine, ready to be put through the contract, and cleaned up afterwards."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.contract.harness import PIPELINE, ROOT, WAIT, ConnectedEngine
from triscale.engines.local import LocalEngine

Scenario = Callable[[ConnectedEngine], Coroutine[Any, Any, None]]
Check = Callable[..., None]


def children() -> set[int]:
    """Process ids of all our children, the dead that nobody waited for included."""
    return {int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def files() -> set[str]:
    """Our file descriptors, and what they refer to."""
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{fd.name} {fd.readlink()}")
        except FileNotFoundError:
            pass
    return found


ENGINES: dict[str, Callable[..., ConnectedEngine]] = {
    "local": lambda **options: LocalEngine(PIPELINE, (ROOT,), **options),
}


@pytest.fixture(params=list(ENGINES))
def check(request: pytest.FixtureRequest) -> Check:
    """Runs a scenario on a fresh engine and sees that nothing is left: no process, no file descriptor."""

    def run(scenario: Scenario, **options: Any) -> None:
        async def main() -> None:
            engine = ENGINES[request.param](**options)
            try:
                await asyncio.wait_for(scenario(engine), 3 * WAIT)
            finally:
                await engine.close()

        uvloop.new_event_loop().close()  # the first one opens a pipe that the process keeps
        gc.collect()
        processes, descriptors = children(), files()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
        gc.collect()
        assert children() == processes
        assert files() == descriptors

    return run
