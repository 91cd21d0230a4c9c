"""From a pipeline, a profile and a plan to a dispatcher: the same for the server and for whoever simulates it."""

from __future__ import annotations

from triscale.core.graph import Graph
from triscale.core.plan import Plan
from triscale.core.profile import Profile, with_measured
from triscale.core.settings import Settings
from triscale.dispatch.dispatcher import Dispatcher
from triscale.dispatch.stage import ServiceModel
from triscale.policy.latency import ServiceTimes
from triscale.policy.learned import LearnedTimes

__all__ = ["make_dispatcher"]


def make_dispatcher(
    graph: Graph, profile: Profile | None, plan: Plan, now: float, settings: Settings | None = None
) -> Dispatcher:
    """A dispatcher without replicas yet. Without a profile it learns latencies and fan-outs as it serves.

    `settings` replace those of the pipeline file.
    """
    graph = with_measured(graph, profile)
    models: list[list[ServiceModel]] = []
    fan_out: list[list[list[float]]] = []
    for s, stage in enumerate(graph.stages):
        models.append([])
        fan_out.append([])
        for variant in graph.pipeline.stages[stage].variants:
            measured = profile.stages[stage][variant.name] if profile else None
            models[s].append(ServiceTimes(measured, max_batch=variant.max_batch) if measured else LearnedTimes())
            known = measured.fan_out if measured else variant.fan_out
            fan_out[s].append([known.get(graph.stages[child], 1.0) for child in graph.children[s]])
    return Dispatcher(graph, models, fan_out, plan, settings or graph.pipeline.dispatch, now)
