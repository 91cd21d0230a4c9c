"""What a pipeline's most accurate variants carry on a server's cores, and what accuracy is left beyond that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from triscale.app.resolve import plan_for
from triscale.core.cluster import Node
from triscale.core.graph import Graph
from triscale.core.pipeline import Policy
from triscale.core.profile import Profile
from triscale.policy.autoscalers.ceiling import Ceiling, ceiling_of
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.options import read_options
from triscale.policy.autoscalers.pooled import PooledPlanner
from triscale.policy.autoscalers.triscale import Triscale, TriscaleOptions
from triscale.policy.optimise.settings import Settings

__all__ = ["Outlook", "Yardstick"]


class Outlook(Struct, frozen=True, kw_only=True):
    """What the planner makes of a demand on all cores."""

    accuracy: float
    served_fraction: float


class Yardstick:
    """Plans as the autoscaler `triscale` does, with the options that `policy` gives it."""

    def __init__(self, graph: Graph, profile: Profile, nodes: Sequence[Node], policy: Policy) -> None:
        """ConfigError for options that `triscale` does not have, if it is the policy's."""
        stated = policy.options if policy.name == Triscale.name else {}
        options = read_options(Triscale.name, TriscaleOptions, stated)
        self._graph = graph
        self._profile = profile
        self._cores = sum(int(node.cores) for node in nodes)
        self._planner = PooledPlanner(
            Setting(graph=graph, profile=profile, nodes=nodes, min_accuracy=policy.min_accuracy),
            Settings(
                sharing="shared",
                min_accuracy=policy.min_accuracy,
                utilisation=options.utilisation,
                wait_quantile=options.wait_quantile,
            ),
        )

    def ceiling(self) -> Ceiling | None:
        """What the most accurate variants carry; None where none meet the SLO."""
        self._planner.learn({}, {})
        found = ceiling_of(self._planner, self._cores)
        if found is None:
            return None
        # The server's own work, nothing beside real models', counts where they are as small as its own.
        with_door = plan_for(self._graph, self._profile, self._cores, found.variants).capacity
        capacity = min(found.capacity_per_s, with_door)
        return msgspec.structs.replace(
            found, capacity_per_s=capacity, within_slo_per_s=min(found.within_slo_per_s, capacity)
        )

    def at(self, demand: float, drift: Mapping[tuple[str, str], float] | None = None) -> Outlook:
        """What is left of accuracy, and of the requests, when so many come per second.

        `drift`: (stage, variant) -> how many times longer it takes than profiled; as profiled without.
        """
        self._planner.learn(drift or {}, {})
        plan = self._planner.plan(demand, self._cores)
        return Outlook(accuracy=plan.accuracy, served_fraction=plan.served_fraction)
