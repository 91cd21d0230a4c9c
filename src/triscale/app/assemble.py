"""From a pipeline, a profile and a plan to a dispatcher: the same for the server and for whoever simulates it."""

from __future__ import annotations

from triscale.core.graph import Graph
from triscale.core.plan import Plan
from triscale.core.profile import Profile
from triscale.dispatch.dispatcher import Dispatcher
from triscale.dispatch.stage import ServiceModel
from triscale.policy.latency import ServiceTimes
from triscale.policy.learned import LearnedTimes

__all__ = ["make_dispatcher"]


def make_dispatcher(graph: Graph, profile: Profile | None, plan: Plan, now: float) -> Dispatcher:
    """A dispatcher without replicas yet. Without a profile it learns latencies and fan-outs as it serves."""
    models: list[list[ServiceModel]] = []
    fan_out: list[list[list[float]]] = []
    for s, stage in enumerate(graph.stages):
        spec = graph.pipeline.stages[stage]
        group = plan.stages[stage].groups[0] if plan.stages[stage].groups else None
        threads = group.threads if group else 1
        models.append([])
        fan_out.append([])
        for variant in spec.variants:
            measured = profile.stages[stage][variant.name] if profile else None
            if measured is None:
                models[s].append(LearnedTimes())
            else:
                lanes = min(group.lanes if group else 1, int(plan.shared_cores) or 1)
                models[s].append(
                    ServiceTimes(measured, threads=threads, lanes=lanes, quantile="p95", max_batch=variant.max_batch)
                )
            known = measured.fan_out if measured else variant.fan_out
            fan_out[s].append([known.get(graph.stages[child], 1.0) for child in graph.children[s]])
    return Dispatcher(graph, models, fan_out, plan, graph.pipeline.dispatch, now)
