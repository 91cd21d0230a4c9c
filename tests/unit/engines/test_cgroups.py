"""Control groups in a made-up kernel: a folder that behaves as far as groups are concerned."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.engines.kernel import INTERFACE, Kernel
from triscale.engines.cgroups import open_cgroups


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Kernel]:
    mkdir, rmdir = os.mkdir, os.rmdir

    def make(version: int) -> Kernel:
        kernel = Kernel(tmp_path, version)

        def make_group(path: Path, mode: int = 0o777) -> None:
            mkdir(path, mode)
            kernel.fill(Path(path))

        def remove_group(path: Path) -> None:
            held = (Path(path) / "cgroup.procs").read_text().strip()
            if held and held != str(os.getpid()):
                raise OSError(errno.EBUSY, "Device or resource busy", str(path))
            for file in Path(path).iterdir():
                file.unlink()
            rmdir(path)

        monkeypatch.setattr(os, "mkdir", make_group)
        monkeypatch.setattr(os, "rmdir", remove_group)
        return kernel

    return make


def test_a_group_is_made_limited_and_removed(make: Callable[[int], Kernel], version: int) -> None:
    kernel = make(version)
    groups = open_cgroups(4, kernel.root)
    assert groups.version == version
    before = kernel.groups()
    group = groups.create("detect-1", 2)
    assert group.path.name == f"triscale-{os.getpid()}-77-2-detect-1"
    limit = group.path / ("cpu.max" if version == 2 else "cpu.cfs_quota_us")
    assert limit.read_text().startswith("200000")
    assert group.limited() == 2
    group.limit(3)
    assert group.limited() == 3
    groups.release(group)
    assert kernel.groups() == before
    groups.create("detect-2", 1)
    groups.close()
    assert kernel.groups() == []


def test_a_replicas_name_cannot_leave_our_group(make: Callable[[int], Kernel]) -> None:
    kernel = make(1)
    group = open_cgroups(4, kernel.root).create("../../x y", 1)
    assert group.path.parent == kernel.own
    assert group.path.name.endswith("-______x_y")


def test_in_version_2_we_move_into_a_leaf_and_back(make: Callable[[int], Kernel]) -> None:
    kernel = make(2)
    control, procs = kernel.own / "cgroup.subtree_control", kernel.own / "cgroup.procs"
    groups = open_cgroups(4, kernel.root)
    leaf = kernel.own / f"triscale-{os.getpid()}-77-server"
    assert (leaf / "cgroup.procs").read_text() == str(os.getpid())
    assert control.read_text() == "+cpu"
    procs.write_text("")
    groups.close()
    assert (control.read_text(), procs.read_text()) == ("-cpu", str(os.getpid()))
    assert kernel.groups() == []


def test_where_groups_below_ours_are_controlled_already_we_stay(make: Callable[[int], Kernel]) -> None:
    kernel = make(2)
    (kernel.own / "cgroup.subtree_control").write_text("cpu memory")
    open_cgroups(4, kernel.root)
    assert kernel.groups() == []


@pytest.mark.parametrize(
    ("version", "file", "text", "message"),
    [
        (2, "cgroup.controllers", "memory pids", "the cpu controller is not delegated to .*/user/us"),
        (2, "cgroup.procs", "1\n2\n", "user/us holds other processes, too"),
    ],
)
def test_what_stands_against_it_is_said(
    make: Callable[[int], Kernel], version: int, file: str, text: str, message: str
) -> None:
    kernel = make(version)
    (kernel.own / file).write_text(text)
    with pytest.raises(PermissionError, match=message):
        open_cgroups(4, kernel.root)
    assert kernel.groups() == []


def test_a_kernel_that_refuses_the_limit_leaves_no_group(
    make: Callable[[int], Kernel], version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = make(version)
    monkeypatch.delitem(INTERFACE[1], "cpu.cfs_quota_us")
    monkeypatch.delitem(INTERFACE[2], "cpu.max")
    with pytest.raises(FileNotFoundError):
        open_cgroups(4, kernel.root)
    assert kernel.groups() == []


def test_without_any_cpu_controller_there_are_no_groups(make: Callable[[int], Kernel]) -> None:
    kernel = make(1)
    (kernel.root / "proc/self/mountinfo").write_text("30 1 0:26 / / rw - ext4 /dev/sda rw\n")
    with pytest.raises(FileNotFoundError, match="no cpu controller is mounted"):
        open_cgroups(4, kernel.root)


def test_in_a_container_our_group_is_below_what_is_mounted(make: Callable[[int], Kernel]) -> None:
    kernel = make(1)
    (kernel.root / "proc/self/cgroup").write_text("4:cpu:/machine/box/jobs\n")
    line = "30 1 0:26 /machine/box /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu\n"
    (kernel.root / "proc/self/mountinfo").write_text(line)
    assert open_cgroups(1, kernel.root).create("x", 1).path.parent == kernel.own
    (kernel.root / "proc/self/cgroup").write_text("4:cpu:/machine/boxes\n")
    with pytest.raises(FileNotFoundError, match="no cpu controller is mounted"):
        open_cgroups(1, kernel.root)


def test_groups_of_dead_processes_are_removed_and_those_of_the_living_are_not(
    make: Callable[[int], Kernel], version: int
) -> None:
    kernel = make(version)
    kernel.process("11", "500")
    kernel.process("13", "900")
    for name, procs in (
        ("triscale-11-500-1-alive", ""),
        ("triscale-12-500-1-dead", ""),
        ("triscale-13-500-1-id-taken-by-another", ""),
        ("triscale-14-500-1-dead-but-in-use", "4242"),
        ("somebody-elses", ""),
    ):
        (kernel.own / name).mkdir()
        (kernel.own / name / "cgroup.procs").write_text(procs)
    open_cgroups(4, kernel.root).close()
    assert kernel.groups() == ["somebody-elses", "triscale-11-500-1-alive", "triscale-14-500-1-dead-but-in-use"]
