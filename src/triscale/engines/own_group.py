"""The control group that this process is in: where it is, and how many cores it and those above it leave us.

A container of 2 cores on a machine of 64 mostly sees all 64 processors: what holds it to 2 is a quota, so much time of
the processors in each period (`cpu.max` in version 2 of the kernel's interface, `cpu.cfs_quota_us` and
`cpu.cfs_period_us` in version 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["OwnGroup", "own_group", "quota_cores"]


@dataclass(frozen=True, slots=True)
class OwnGroup:
    """Our group of the cpu controller."""

    version: int
    """Of the kernel's interface: 1 or 2."""
    top: Path
    """The highest group that we can see: where the controller is mounted."""
    path: Path
    """Our own, `top` or below it."""

    def line(self) -> Iterator[Path]:
        """Our group and those above it, which limit it, too."""
        yield self.path
        for above in self.path.parents:
            if not above.is_relative_to(self.top):
                break
            yield above


def own_group(root: Path = Path("/")) -> OwnGroup:
    """Our group, from the kernel's `proc` below `root`; FileNotFoundError where no cpu controller is mounted."""
    proc = root / "proc" / "self"
    groups: dict[str, str] = {}
    for line in (proc / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            groups[controller] = path
    # Where both versions are mounted, each controller belongs to one of them: version 1 says so in its options.
    for version, kind, controller in ((1, "cgroup", "cpu"), (2, "cgroup2", "")):
        for mounted_kind, options, base, point in _mounts(proc):
            if mounted_kind == kind and (version == 2 or controller in options) and controller in groups:
                path = groups[controller]
                if base != "/":
                    if path != base and not path.startswith(f"{base}/"):
                        continue
                    path = path[len(base) :]
                top = root / point.lstrip("/")
                return OwnGroup(version, top, top / path.lstrip("/"))
    raise FileNotFoundError("no cpu controller is mounted")


def quota_cores(root: Path = Path("/")) -> float | None:
    """Cores that we and all else in our group may use together: the least quota from our group up; None: no quota."""
    try:
        own = own_group(root)
    except (OSError, ValueError):
        return None
    quotas = [quota for group in own.line() if (quota := _quota(group, own.version)) is not None]
    return min(quotas, default=None)


def _quota(group: Path, version: int) -> float | None:
    """One group's own, in cores; None where it has none or does not tell, like the topmost."""
    try:
        if version == 2:
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        if quota in {"max", "-1"}:
            return None
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _mounts(proc: Path) -> Iterator[tuple[str, list[str], str, str]]:
    """(kind, options, what of it is mounted, where) of every file system."""
    for line in (proc / "mountinfo").read_text().splitlines():
        where, _, what = line.partition(" - ")
        _, _, _, base, point, *_ = where.split()
        kind, *_, options = what.split()
        yield kind, options.split(","), base, point
