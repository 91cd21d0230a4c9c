"""What is ours of a machine: no more cores than a container's quota leaves, whatever the number of processors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.unit.engines.kernel import Kernel
from triscale.app.policy import nodes_for
from triscale.app.resolve import cores_for
from triscale.core.cluster import Node, NodeId
from triscale.core.pipeline import ResourceLimits
from triscale.engines import machine, own_group
from triscale.engines.local import LocalEngine
from triscale.engines.machine import memory_bytes, usable_cores
from triscale.engines.own_group import quota_cores
from triscale.errors import ConfigError
from triscale.profiler.machine import this_machine
from triscale.testing.builders import pipeline, stage, variant

PIPELINE = pipeline(only=stage(variant("only", 5.0)))


@pytest.fixture(params=[1, 2])
def kernel(request: pytest.FixtureRequest, tmp_path: Path) -> Kernel:
    return Kernel(tmp_path, request.param)


@pytest.fixture(autouse=True)
def sixty_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))


def quota(kernel: Kernel, group: Path, cores: float, period_us: int = 100_000) -> None:
    """What a container of so many cores has in its group."""
    if kernel.version == 2:
        (group / "cpu.max").write_text(f"{round(cores * period_us)} {period_us}\n")
    else:
        (group / "cpu.cfs_quota_us").write_text(f"{round(cores * period_us)}\n")
        (group / "cpu.cfs_period_us").write_text(f"{period_us}\n")


@pytest.mark.parametrize(
    ("cores", "usable"), [(2.0, 2), (2.9, 2), (0.5, 1), (64.0, 64), (100.0, 64)], ids=lambda value: str(value)
)
def test_a_quota_leaves_its_whole_cores_but_one_at_least_and_no_more_than_there_are(
    kernel: Kernel, cores: float, usable: int
) -> None:
    quota(kernel, kernel.own, cores)
    assert usable_cores(kernel.root) == usable


def test_any_period_will_do(kernel: Kernel) -> None:
    quota(kernel, kernel.own, 3.0, period_us=20_000)
    assert quota_cores(kernel.root) == 3.0


def test_a_quota_of_a_group_above_ours_counts_too(kernel: Kernel) -> None:
    quota(kernel, kernel.own, 8.0)
    above = kernel.own.parent
    kernel.fill(above)
    quota(kernel, above, 2.0)
    assert usable_cores(kernel.root) == 2
    quota(kernel, kernel.own, 1.0)
    assert usable_cores(kernel.root) == 1


def test_a_group_outside_of_what_is_mounted_does_not_count(kernel: Kernel) -> None:
    outside = kernel.root / "sys/fs"
    kernel.fill(outside)
    quota(kernel, outside, 2.0)
    assert quota_cores(kernel.root) is None


def test_without_a_quota_all_processors_are_ours(kernel: Kernel) -> None:
    assert quota_cores(kernel.root) is None
    assert usable_cores(kernel.root) == 64


def test_where_the_kernel_tells_nothing_or_nonsense_all_processors_are_ours(kernel: Kernel, tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "no such machine") == 64
    name = "cpu.max" if kernel.version == 2 else "cpu.cfs_quota_us"
    (kernel.own / name).write_text("plenty\n")
    assert usable_cores(kernel.root) == 64
    (kernel.root / "proc/self/mountinfo").write_text("30 1 0:26 / / rw - ext4 /dev/sda rw\n")
    assert usable_cores(kernel.root) == 64


def test_fewer_processors_than_the_quota_are_what_we_have(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    quota(kernel, kernel.own, 4.0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {7, 9})
    assert machine.processors() == (7, 9)
    assert usable_cores(kernel.root) == 2


@pytest.fixture
def two_of_sixty_four(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    quota(kernel, kernel.own, 2.0)
    found = own_group.own_group
    monkeypatch.setattr(own_group, "own_group", lambda root: found(kernel.root))


@pytest.mark.usefixtures("two_of_sixty_four")
def test_in_a_container_everybody_plans_with_its_cores() -> None:
    assert cores_for(PIPELINE, None) == 2
    assert cores_for(replace(PIPELINE, resources=ResourceLimits(cores=3)), None) == 3, "the file may say otherwise"
    assert this_machine().cores == 2
    computes = pipeline(only=stage(replace(variant("only", 5.0), runtime="python", model="m:M")))
    with pytest.raises(ConfigError, match="4 cores in all, but this machine has 2"):
        nodes_for(computes, 2, [Node(id=NodeId("n"), cores=4.0)])


@pytest.mark.usefixtures("two_of_sixty_four")
def test_in_a_container_the_engine_reports_its_cores_and_leaves_the_choice_of_processors_to_the_kernel() -> None:
    engine = LocalEngine(PIPELINE, ())
    assert (engine._cores, engine._pin) == (2.0, False)
    told = LocalEngine(PIPELINE, (), cpus=[5, 4, 3])
    assert (told._cores, told._pin, told._cpus) == (2.0, True, (3, 4, 5))


def test_on_a_machine_of_our_own_the_engine_chooses_the_processors(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = own_group.own_group
    monkeypatch.setattr(own_group, "own_group", lambda root: found(kernel.root))
    engine = LocalEngine(PIPELINE, ())
    assert (engine._cores, engine._pin) == (64.0, True)


def test_the_machine_has_memory() -> None:
    assert memory_bytes() > 2**20
