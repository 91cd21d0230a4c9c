"""Hard limits on what replicas use, by control groups, where this process may make them.

Affinity says where a replica runs; a control group says how much, whatever its threads do. One group per replica:
- version 2: below our own group, if it was delegated to us and nobody else is in it. A group that controls its
  children must hold no process itself, so we move into a leaf of it, and back in the end.
- version 1: below our own group of the cpu controller, if we may write there, which mostly is to say: as root.

Limits are whole cores: less makes every thread stall for a part of each period. Groups carry the process id and the
start time of whoever made them; those that a killed process left are removed by the next one that comes along.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from triscale.engines.own_group import own_group

__all__ = ["Cgroups", "Group", "open_cgroups"]

_PERIOD_US = 100_000
_NAME = re.compile(r"triscale-(\d+)-(\d+)-")
_PATIENCE_S = 0.005
_TRIES = 100
"""A killed process leaves its group a moment after."""


class Group:
    """The control group of one replica."""

    def __init__(self, path: Path, version: int) -> None:
        self.path = path
        self._version = version
        self._cores = 0

    def add(self, pid: int) -> None:
        """Put a process in, with all its threads; those that it starts later follow."""
        _write(self.path / "cgroup.procs", str(pid))

    def limit(self, cores: int) -> None:
        """Let all its processes together use so many cores. OSError when the kernel refuses."""
        if cores != self._cores:
            quota = cores * _PERIOD_US
            if self._version == 2:
                _write(self.path / "cpu.max", f"{quota} {_PERIOD_US}")
            else:
                _write(self.path / "cpu.cfs_quota_us", str(quota))
            self._cores = cores

    def limited(self) -> int:
        """The limit that the kernel knows, in cores; 0 when there is none."""
        name = "cpu.max" if self._version == 2 else "cpu.cfs_quota_us"
        quota = (self.path / name).read_text().split()[0]
        return max(0, int(quota)) // _PERIOD_US if quota != "max" else 0

    def remove(self) -> bool:
        """End whatever a replica left behind in it, then remove it; False while something is still ending."""
        try:
            for pid in (self.path / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            self.path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


class Cgroups:
    """The groups that one engine makes. `close` removes them all."""

    def __init__(self, own: Path, version: int, owner: str) -> None:
        self.version = version
        """Of the kernel's interface: 1 or 2."""
        self._own = own
        self._owner = owner
        self._leaf: Path | None = None
        self._made = 0
        self._groups: list[Group] = []
        self._ending: list[Group] = []
        """Those that are to go, but could not be removed yet."""

    def create(self, name: str, cores: int) -> Group:
        """A group for one replica, limited to so many cores. OSError when it cannot be made; nothing is left then."""
        self._made += 1
        group = Group(self._own / f"{self._owner}{self._made}-{re.sub('[^A-Za-z0-9_-]', '_', name)}", self.version)
        group.path.mkdir()
        self._groups.append(group)
        try:
            group.limit(cores)
        except OSError:
            self.release(group)
            raise
        return group

    def release(self, group: Group) -> None:
        """Its replica is gone: end what that left behind, and remove the group, or try again later."""
        self._groups.remove(group)
        self._ending = [ending for ending in (*self._ending, group) if not ending.remove()]

    def close(self) -> None:
        """Remove all groups and leave our leaf. Blocks for a moment where processes still end."""
        ending, self._groups, self._ending = [*self._groups, *self._ending], [], []
        for _ in range(_TRIES):
            ending = [group for group in ending if not group.remove()]
            if not ending:
                break
            time.sleep(_PATIENCE_S)
        if self._leaf is not None:
            with contextlib.suppress(OSError):
                _write(self._own / "cgroup.subtree_control", "-cpu")
                _write(self._own / "cgroup.procs", str(os.getpid()))
                self._leaf.rmdir()
            self._leaf = None

    def enter(self) -> None:
        """Version 2: make sure that groups below our own can be limited. OSError says why they cannot."""
        own = self._own
        if "cpu" not in (own / "cgroup.controllers").read_text().split():
            raise PermissionError(f"the cpu controller is not delegated to {own}")
        if "cpu" in (own / "cgroup.subtree_control").read_text().split():
            return
        if (own / "cgroup.procs").read_text().split() != [str(os.getpid())]:
            raise PermissionError(f"{own} holds other processes, too")
        leaf = own / f"{self._owner}server"
        leaf.mkdir()
        self._leaf = leaf
        _write(leaf / "cgroup.procs", str(os.getpid()))
        _write(own / "cgroup.subtree_control", "+cpu")


def open_cgroups(most: int, root: Path = Path("/")) -> Cgroups:
    """Groups whose limits are in force, for replicas of at most so many cores. OSError says why there are none.

    `root`: where the kernel's `proc` and the mounts that it names are.
    """
    proc = root / "proc"
    mine = own_group(root)
    version, own = mine.version, mine.path
    for stale in _stale(own, proc):
        # Without ending anything: what still runs there might not be an orphan but out of our sight.
        with contextlib.suppress(OSError):
            stale.rmdir()
    found = Cgroups(own, version, f"triscale-{os.getpid()}-{_start_time(proc / 'self')}-")
    try:
        if version == 2:
            found.enter()
        probe = found.create("probe", most)
        if probe.limited() != most:
            raise PermissionError(f"{own} does not keep limits")
        found.release(probe)
    except OSError:
        found.close()
        raise
    return found


def _stale(own: Path, proc: Path) -> Iterator[Path]:
    """Groups whose maker is gone."""
    for path in own.iterdir():
        made = _NAME.match(path.name)
        if made is not None and _start_time(proc / made[1]) != made[2]:
            yield path


def _start_time(process: Path) -> str:
    """When a process started, in ticks since the boot, which tells it from another of the same id; empty if none."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _write(path: Path, text: str) -> None:
    # Not created if absent, and in one write: the kernel takes each write for a command.
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
