"""`simulate`: one autoscaler on one trace."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from triscale.core.cluster import Node
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.profile import Profile
from triscale.errors import ConfigError
from triscale.policy.autoscalers.interface import Autoscaler
from triscale.sim.result import Result
from triscale.sim.settings import SimSettings
from triscale.sim.world import Arrivals, World

__all__ = ["Arrivals", "simulate"]


def simulate(
    pipeline: Pipeline,
    profile: Profile,
    trace: Arrivals,
    autoscaler: Autoscaler,
    nodes: Sequence[Node],
    settings: SimSettings,
    *,
    progress: Callable[[float], None] | None = None,
) -> Result:
    """Run the trace through the pipeline on these nodes, with the autoscaler deciding.

    `progress` is told the part that is done, in [0, 1], about a hundred times. ConfigError when the inputs make no
    sense: no nodes or cores, an empty trace, a first plan that breaks a rule. SimulationError when a promise that
    every run keeps is broken: a request that is not accounted for, an event that does not advance.
    """
    graph = Graph.of(pipeline)
    problems = list(_bad_inputs(graph, profile, trace, nodes, settings))
    if problems:
        raise ConfigError(*problems)
    return World(graph, profile, trace, autoscaler, nodes, settings, progress).run()


def _bad_inputs(
    graph: Graph, profile: Profile, trace: Arrivals, nodes: Sequence[Node], settings: SimSettings
) -> Iterator[str]:
    if not 0.0 < trace.seconds < math.inf:
        yield f"the trace is empty: it lasts {trace.seconds!r} s; give one of a positive length"
    elif settings.warmup_s >= trace.seconds:
        yield f"`warmup_s` is {settings.warmup_s:g}, but the trace ends after {trace.seconds:g} s: nothing would count"
    if not nodes:
        yield "there are no nodes to run on; name at least one, with its cores"
    for node in nodes:
        if not 0.0 < node.cores < math.inf:
            yield f"node {node.id} has {node.cores!r} cores, but replicas need some; give it at least 1"
    known = [node.id for node in nodes]
    if len(set(known)) < len(known):
        yield f"two nodes have the same name: {', '.join(known)}"
    for index, failure in enumerate(settings.failures):
        if failure.node and failure.node not in known:
            yield f"failures[{index}]: there is no node {failure.node!r}; there are {', '.join(known)}"
        if failure.stage and failure.stage not in graph.stages:
            yield f"failures[{index}]: there is no stage {failure.stage!r}; there are {', '.join(graph.stages)}"
    for s, stage in enumerate(graph.stages):
        missing = [name for name in graph.variants[s] if name not in profile.stages.get(stage, {})]
        if missing:
            yield f"the profile says nothing of {stage}/{', '.join(missing)}; measure it with `triscale profile`"
