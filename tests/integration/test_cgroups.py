"""Hard limits by real control groups, where this process may make some; else skipped with the reason."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.harness import PIPELINE, ROOT, WAIT, Runner, spec
from triscale.engines.cgroups import Cgroups, open_cgroups
from triscale.engines.local import LocalEngine

pytestmark = pytest.mark.processes


@pytest.fixture
def own() -> Iterator[Path]:
    """The folder of our own control group; it must be in the end as it was."""
    try:
        groups = open_cgroups(1)
    except OSError as error:
        pytest.skip(f"no control groups can be made here: {error}")
    folder = groups._own
    groups.close()
    before = made_by_us(folder)
    yield folder
    assert made_by_us(folder) == before


def made_by_us(own: Path) -> set[str]:
    return {path.name for path in own.iterdir() if path.name.startswith(f"triscale-{os.getpid()}-")}


def on_engine(scenario: Callable[[LocalEngine], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        engine = LocalEngine(PIPELINE, (ROOT,))
        try:
            await asyncio.wait_for(scenario(engine), 2 * WAIT)
        finally:
            await engine.close()

    asyncio.run(main())


def group_of(groups: Cgroups | None, pid: int) -> tuple[str, int]:
    """The group that a process is in, and its limit in cores."""
    assert groups is not None
    [group] = [group for group in groups._groups if str(pid) in (group.path / "cgroup.procs").read_text().split()]
    return group.path.name, group.limited()


def test_a_replica_is_limited_to_its_cores_and_the_limit_follows_them(own: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors")

    async def scenario(engine: LocalEngine) -> None:
        assert engine.capabilities.hard_limit
        replica = await engine.launch(spec("echo"))
        groups = engine._limits._cgroups
        name, cores = group_of(groups, replica.pid)
        assert name.endswith(f"-{replica.spec.id}")
        assert cores == 1
        await engine.resize(replica.spec.id, 2, 1)
        assert group_of(groups, replica.pid)[1] == 2
        await engine.resize(replica.spec.id, 1, 1)
        assert group_of(groups, replica.pid)[1] == 1
        await engine.kill(replica.spec.id, "done")
        assert not (own / name).exists()

    on_engine(scenario)


def test_what_a_model_starts_is_limited_with_it_and_goes_with_it(own: Path) -> None:
    async def scenario(engine: LocalEngine) -> None:
        replica = await engine.launch(spec("spawns"))
        groups = engine._limits._cgroups
        left = (await Runner(engine, replica).run())["pid"]
        assert group_of(groups, left) == group_of(groups, replica.pid)
        await engine.close()
        assert made_by_us(own) == set()

    on_engine(scenario)


def test_groups_that_a_killed_server_left_are_removed_by_the_next(own: Path) -> None:
    program = textwrap.dedent(
        """
        import asyncio
        from tests.contract.harness import PIPELINE, ROOT, spec
        from triscale.engines.local import LocalEngine

        async def main():
            engine = LocalEngine(PIPELINE, (ROOT,))
            replica = await engine.launch(spec("echo"))
            print(replica.pid, flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
        """
    )
    server = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        replica = int(server.stdout.readline())
        watch = os.pidfd_open(replica)
        left = [path for path in own.iterdir() if path.name.startswith(f"triscale-{server.pid}-")]
        assert len(left) == 1
    finally:
        server.kill()
        server.communicate()
    asyncio.run(ended(watch))
    open_cgroups(1).close()
    assert not left[0].exists()


async def ended(pidfd: int) -> None:
    """Return when the process has ended."""
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pidfd, gone.set)
    await asyncio.wait_for(gone.wait(), WAIT)
    loop.remove_reader(pidfd)
    os.close(pidfd)
