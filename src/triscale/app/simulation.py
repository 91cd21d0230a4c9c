"""The composition of a simulation: a pipeline, its profile, a trace and a policy by name, put together and run.

For the command line, for benchmarks, and for Python:

    result = run_simulation(pipeline, profile, parse_trace("poisson:rate=50"), "triscale", nodes)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from triscale.app.policy import data_plane
from triscale.core.cluster import Node
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.profile import Profile
from triscale.core.settings import Settings
from triscale.policy.autoscalers.interface import Autoscaler, Setting
from triscale.policy.autoscalers.registry import make_autoscaler
from triscale.sim.result import Result
from triscale.sim.run import simulate
from triscale.sim.settings import SimSettings
from triscale.traces.trace import Trace

__all__ = ["Drop", "options_of", "run_simulation", "window_for"]

Drop: TypeAlias = Literal["none", "last_stage", "per_stage", "reroute"]
"""The drop policies of `core.settings.Settings`."""

_FUTURE = "oracle"
"""The one policy that is told the rate to come, and whose actions take no time: the bound for the others."""
_WINDOWS = (0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_MOST_WINDOWS = 300
"""As many as a plot can show."""


def run_simulation(
    pipeline: Pipeline,
    profile: Profile,
    trace: Trace,
    policy: str,
    nodes: Sequence[Node],
    settings: SimSettings | None = None,
    options: Mapping[str, Any] | None = None,
    min_accuracy: float | None = None,
    *,
    drop: Drop | None = None,
    admission: bool | None = None,
    progress: Callable[[float], None] | None = None,
) -> Result:
    """Simulate one policy on one trace; the same arguments give the same result, but for `wall_s`.

    Args:
        pipeline: what is served.
        profile: the latencies of its variants.
        trace: the load.
        policy: the name of an autoscaler (`policy.autoscalers.registry`).
        nodes: the cluster.
        settings: the simulated world; its delays are zero for the oracle.
        options: the policy's own; by default, and where they leave something out, those of the pipeline file if it
            names this policy.
        min_accuracy: least end-to-end accuracy of a plan; by default the pipeline file's.
        drop: what happens to an item that would be late, in place of what the policy's system does.
        admission: whether the door refuses what would be late, likewise.
        progress: told the part that is done, in [0, 1].

    Raises:
        ConfigError: a name, an option or the inputs make no sense.

    """
    world = settings or SimSettings()
    future = None
    if policy == _FUTURE:
        future = trace.rate
        world = msgspec.structs.replace(world, cold_start_s=0.0, load_s=0.0, resize_s=0.0)
    setting = Setting(
        graph=Graph.of(pipeline),
        profile=profile,
        nodes=nodes,
        min_accuracy=pipeline.policy.min_accuracy if min_accuracy is None else min_accuracy,
        cold_start_s=world.cold_start_s,
        resize_s=world.resize_s,
        options=options_of(pipeline, policy, options or {}),
        future=future,
    )
    autoscaler = make_autoscaler(policy, setting)
    autoscaler.dispatch = _dispatch(pipeline, autoscaler, drop, admission)
    return simulate(pipeline, profile, trace, autoscaler, nodes, world, progress=progress)


def options_of(pipeline: Pipeline, policy: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` over those that the pipeline file gives to this policy."""
    stated = pipeline.policy.options if pipeline.policy.name == policy else {}
    return {**stated, **options}


def window_for(seconds: float) -> float:
    """How long the windows of the series of a run of this length should be, in seconds."""
    return next((window for window in _WINDOWS if seconds <= _MOST_WINDOWS * window), _WINDOWS[-1])


def _dispatch(pipeline: Pipeline, autoscaler: Autoscaler, drop: Drop | None, admission: bool | None) -> Settings:
    """The data plane that the policy works with."""
    settings = data_plane(pipeline, autoscaler)
    if drop is not None:
        settings = msgspec.structs.replace(settings, drop=drop)
    if admission is not None:
        settings = msgspec.structs.replace(settings, admission=admission)
    return settings
