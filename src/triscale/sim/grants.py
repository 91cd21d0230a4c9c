"""Cores that the lanes of a node share: how many each node grants, and which of them are paid for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from triscale.core.cluster import NodeId
from triscale.dispatch.dispatcher import Dispatcher
from triscale.sim.agenda import Agenda
from triscale.sim.cores import CoreLedger, Kind

__all__ = ["Grants"]


class _Grant:
    """One node's."""

    __slots__ = ("cores", "first", "held", "initial", "replicas", "target", "wanted")

    def __init__(self, cores: float) -> None:
        self.cores = cores
        """That the dispatcher may use."""
        self.wanted = cores
        """That it is to have."""
        self.held = cores
        """That are taken: the larger of both while it changes, and all before a cut until what runs is within it."""
        self.first = cores
        """At the start, or when its first replica came."""
        self.initial = True
        self.replicas = 0
        """A node without any is not paid for."""
        self.target = 0
        """Number of the newest change: an earlier one is void."""


class Grants:
    """The grants of all nodes; empty where every lane has cores of its own."""

    def __init__(self, dispatcher: Dispatcher, ledger: CoreLedger, owner: int, resize_s: float, agenda: Agenda) -> None:
        self._dispatcher = dispatcher
        self._ledger = ledger
        self._owner = owner
        """Of shared cores, in the ledger."""
        self._resize_s = resize_s
        self._agenda = agenda
        self._grants: dict[NodeId, _Grant] = {}
        self._opened = False
        self.cutting: set[NodeId] = set()
        """Nodes that hold more than they are to have, until what runs is within it."""

    def open(self, wanted: Mapping[NodeId, float]) -> None:
        """The first plan's: they hold at once. Call before the first replica is ready."""
        for node, cores in wanted.items():
            self._dispatcher.share_cores(node, cores)
            self._grants[node] = _Grant(cores)

    def follow(self, wanted: Mapping[NodeId, float], now: float) -> None:
        """A larger grant is paid for from now on and holds after `resize_s`; a smaller one holds at once."""
        self._opened = True
        for node, cores in wanted.items():
            grant = self._grants[node]
            if cores == grant.wanted:
                continue
            grant.wanted = cores
            grant.target += 1
            if cores > grant.cores:
                self._hold(grant, max(grant.held, cores), now)
                self._agenda.at(now + self._resize_s, partial(self._apply, node, grant.target))
            elif cores < grant.cores:
                grant.cores = cores
                self._dispatcher.share_cores(node, cores)
            self.cutting.add(node)

    def occupy(self, node: NodeId, now: float) -> None:
        """One replica more is on the node."""
        grant = self._grants.get(node)
        if grant is None:
            return
        grant.replicas += 1
        if grant.replicas == 1:
            grant.first, grant.initial = grant.held, not self._opened
            held, grant.held = grant.held, 0.0
            self._hold(grant, held, now)

    def leave(self, node: NodeId, now: float) -> None:
        """One replica fewer."""
        grant = self._grants.get(node)
        if grant is None:
            return
        if grant.replicas == 1:
            held = grant.held
            self._hold(grant, 0.0, now)
            grant.held = held
        grant.replicas -= 1

    def settle(self, now: float) -> None:
        """Give back what batches have left since the last cut."""
        for node in list(self.cutting):
            grant = self._grants[node]
            if self._dispatcher.free_cores(node) >= 0.0:
                self._hold(grant, max(grant.wanted, grant.cores), now)
            if grant.held <= max(grant.wanted, grant.cores):
                self.cutting.discard(node)

    def _apply(self, node: NodeId, target: int, now: float) -> None:  # noqa: ARG002 - as every action
        grant = self._grants[node]
        if grant.target == target:
            grant.cores = grant.wanted
            self._dispatcher.share_cores(node, grant.cores)
            self.cutting.add(node)

    def _hold(self, grant: _Grant, cores: float, now: float) -> None:
        before, grant.held = grant.held, cores
        if grant.replicas:
            kind = Kind.START if grant.initial else Kind.OUT
            first = grant.first
            self._ledger.change(self._owner, kind, min(cores, first) - min(before, first), now)
            self._ledger.change(self._owner, Kind.UP, max(cores - first, 0.0) - max(before - first, 0.0), now)
