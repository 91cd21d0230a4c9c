"""What a server exposes, from the collectors themselves: of one that has served nothing yet."""

from __future__ import annotations

from prometheus_client.metrics_core import Metric

from triscale.core.graph import Graph
from triscale.core.settings import Settings
from triscale.dispatch.dispatcher import Dispatcher
from triscale.observe.control_metrics import ControlCollector
from triscale.observe.decisions import DecisionLog
from triscale.observe.metrics import PipelineCollector
from triscale.observe.recorder import ControlRecorder, Recorder
from triscale.observe.window import ArrivalWindow
from triscale.testing import builders
from triscale.testing.clock import ManualClock

__all__ = ["exposed"]


class _Nothing:
    """An actuator that has done nothing, and a loop that has not ticked."""

    launches = launch_failures = resizes = holds = hold_failures = drains = ticks = failures = 0
    replicas = nodes = ()
    decisions = DecisionLog()


def exposed() -> list[Metric]:
    """Every family of metrics."""
    pipeline = builders.pipeline(only=builders.stage(builders.variant("v", 10.0)))
    graph = Graph.of(pipeline)
    models = [[builders.TableTimes({1: 10.0})]]
    dispatcher = Dispatcher(graph, models, [[[]]], builders.plan(pipeline), Settings(), 0.0)
    idle = _Nothing()
    return [
        *PipelineCollector(dispatcher, Recorder(graph), "0").collect(),
        *ControlCollector(
            dispatcher, ArrivalWindow(0.0), idle, ControlRecorder(), ManualClock(), "triscale", idle
        ).collect(),
    ]
