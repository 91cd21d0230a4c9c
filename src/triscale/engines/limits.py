"""Whether replicas are kept to their cores by a hard limit, and the limit of each.

Where control groups are not ours to make, everything here does nothing, and says so once, in the log.
"""

from __future__ import annotations

import logging

from triscale.core.cluster import ReplicaId
from triscale.engines.cgroups import Cgroups, Group, open_cgroups

__all__ = ["Limits"]

_log = logging.getLogger(__name__)


class Limits:
    """The limits of one engine's replicas. Found out at first use whether there can be any; `close` it in the end."""

    def __init__(self, most: int, *, wanted: bool = True) -> None:
        """`most`: cores that any replica is limited to at most. Not `wanted`, there are none."""
        self._most = max(1, most)
        self._unknown = wanted
        self._cgroups: Cgroups | None = None
        self._groups: dict[ReplicaId, Group] = {}

    @property
    def in_force(self) -> bool:
        """Whether every replica is limited."""
        return self._open() is not None

    def enclose(self, replica: ReplicaId, pid: int, cores: int) -> None:
        """Limit a process that has just started, and whatever it will start."""
        cgroups = self._open()
        if cgroups is not None:
            try:
                group = self._groups[replica] = cgroups.create(replica, min(cores, self._most))
                group.add(pid)
            except OSError as error:
                self._give_up(replica, error)

    def change(self, replica: ReplicaId, cores: int) -> None:
        """Let it use so many cores from now on."""
        group = self._groups.get(replica)
        if group is not None:
            try:
                group.limit(min(cores, self._most))
            except OSError as error:
                self._give_up(replica, error)

    def release(self, replica: ReplicaId) -> None:
        """It is gone; what its processes left running goes, too."""
        group = self._groups.pop(replica, None)
        if group is not None and self._cgroups is not None:
            self._cgroups.release(group)

    def close(self) -> None:
        """Remove every group. Idempotent."""
        self._unknown = False
        self._groups.clear()
        if self._cgroups is not None:
            self._cgroups.close()
            self._cgroups = None

    def _open(self) -> Cgroups | None:
        if self._unknown:
            self._unknown = False
            try:
                self._cgroups = open_cgroups(self._most)
            except OSError as error:
                _log.info("replicas keep to their cores by affinity; no hard limit: %s", error)
            else:
                version = self._cgroups.version
                _log.info("replicas keep to their cores by affinity, and by control groups (version %d)", version)
        return self._cgroups

    def _give_up(self, replica: ReplicaId, error: OSError) -> None:
        """A limit that some replicas have is no limit to rely on: do without."""
        _log.warning("replica %s cannot be limited, so from now on no replica is: %s", replica, error)
        self.close()
