"""The picture that an autoscaler decides from, taken of a dispatcher: by the controller and the simulator alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from triscale.core.cluster import Node
from triscale.core.plan import Plan
from triscale.core.snapshot import ReplicaView, Snapshot, StageView
from triscale.dispatch.dispatcher import Dispatcher
from triscale.observe.window import ArrivalWindow
from triscale.policy.latency import ServiceTimes

__all__ = ["snapshot_of"]


def snapshot_of(
    dispatcher: Dispatcher,
    arrivals: ArrivalWindow,
    replicas: Sequence[ReplicaView],
    nodes: Sequence[Node],
    plan: Plan,
    now: float,
    *,
    cold_start_s: float = 0.0,
    resize_s: float = 0.0,
) -> Snapshot:
    """What is known at `now`; `cold_start_s` and `resize_s` are what a launch and a resize take, as far as known."""
    graph = dispatcher.graph
    views: dict[str, StageView] = {}
    drift: dict[tuple[str, str], float] = {}
    fan_out: dict[tuple[str, str], Mapping[str, float]] = {}
    for s, name in enumerate(graph.stages):
        state = dispatcher.stages[s]
        views[name] = StageView(
            queued=len(state.queue), running=state.running, entered=dispatcher.accounts.stages[s].entered
        )
        children = [graph.stages[child] for child in graph.children[s]]
        for variant, model, means in zip(graph.variants[s], state.models, state.fan_out, strict=True):
            # Only what was profiled can drift from its profile.
            if isinstance(model, ServiceTimes) and model.drift != 1.0:
                drift[name, variant] = model.drift
            if children:
                fan_out[name, variant] = dict(zip(children, means, strict=True))
    return Snapshot(
        now=now,
        plan=plan,
        nodes=nodes,
        replicas=replicas,
        per_second=arrivals.per_second(now),
        recent=arrivals.recent(now),
        stages=views,
        drift=drift,
        fan_out=fan_out,
        cold_start_s=cold_start_s,
        resize_s=resize_s,
    )
