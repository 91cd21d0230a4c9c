"""A made-up kernel: a folder with what processes and control groups look like there."""

from __future__ import annotations

import os
from pathlib import Path

STAT = f"1 (name) with spaces) S {' '.join(str(field) for field in range(4, 22))} {{started}} 0\n"
INTERFACE = {
    1: {"cgroup.procs": "", "cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"},
    2: {
        "cgroup.procs": "",
        "cpu.max": "max 100000",
        "cgroup.controllers": "cpu memory pids",
        "cgroup.subtree_control": "",
    },
}
MOUNTS = {
    1: "30 1 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "31 1 0:27 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n"
    "32 1 0:28 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
    2: "30 1 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
}
OURS = {
    1: ("5:memory:/else\n4:cpu,cpuacct:/jobs\n0::/user/us\n", "sys/fs/cgroup/cpu,cpuacct/jobs"),
    2: ("0::/user/us\n", "sys/fs/cgroup/user/us"),
}


class Kernel:
    """Its root, and the folder of our own group."""

    def __init__(self, root: Path, version: int) -> None:
        self.root = root
        self.version = version
        ours, own = OURS[version]
        self.process("self", "77", cgroup=ours, mountinfo=MOUNTS[version])
        self.own = root / own
        self.own.mkdir(parents=True)
        self.fill(self.own)
        (self.own / "cgroup.procs").write_text(f"{os.getpid()}\n")

    def process(self, pid: str, started: str, **files: str) -> None:
        folder = self.root / "proc" / pid
        folder.mkdir(parents=True)
        for name, text in {"stat": STAT.replace("{started}", started), **files}.items():
            (folder / name).write_text(text)

    def fill(self, group: Path) -> None:
        for name, text in INTERFACE[self.version].items():
            (group / name).write_text(text)

    def groups(self) -> list[str]:
        return sorted(path.name for path in self.own.iterdir() if path.is_dir())
