"""What is simulated, in words: for the terminal and the last part of a report."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from triscale.cli.simulate_scenario import Scenario
from triscale.core.cluster import Node
from triscale.core.figures import counted
from triscale.core.profile import Profile
from triscale.observe.simulation_comparison import ORACLE
from triscale.observe.simulation_wording import duration
from triscale.observe.wording import count
from triscale.sim.settings import Failure, SimSettings

__all__ = ["facts_of", "nodes_text"]


def facts_of(scenario: Scenario, policies: Mapping[str, Mapping[str, Any]], seeds: Sequence[int]) -> dict[str, str]:
    """Name -> words; empty where there is nothing to say. `policies` are the policies and the options of each."""
    pipeline, trace, settings = scenario.pipeline, scenario.trace, scenario.settings
    return {
        "Pipeline": f"{pipeline.name}: {', '.join(pipeline.stages)}; within {pipeline.slo_ms:g} ms",
        "Load": f"{trace.name}; {duration(trace.seconds)}, {count(trace.expected())} requests expected",
        "Nodes": nodes_text(scenario.nodes),
        "Latencies": _latencies(scenario.profile, settings),
        "Delays": f"cold start {settings.cold_start_s:g} s, resize {settings.resize_s:g} s, "
        f"hop {settings.hop_s * 1000:g} ms" + ("; for the oracle the hop alone" if ORACLE in policies else ""),
        "Policies" if len(policies) > 1 else "Policy": "; ".join(map(_policy, policies, policies.values())),
        "Seeds" if len(seeds) > 1 else "Seed": ", ".join(map(str, seeds)),
        "Least accuracy": f"{scenario.min_accuracy:g}" if scenario.min_accuracy else "",
        "Data plane": "; ".join(_data_plane(scenario.drop, scenario.admission)),
        "Failures": "; ".join(map(_failure, settings.failures)),
        "Warm-up": f"{settings.warmup_s:g} s, not counted" if settings.warmup_s else "",
    }


def nodes_text(nodes: Sequence[Node]) -> str:
    """`2 nodes of 16 cores, 1 node of 4 cores`."""
    parts = []
    for (cores, gpus), group in itertools.groupby(nodes, key=lambda node: (node.cores, node.gpus)):
        extra = f" and {counted(gpus, 'GPU')}" if gpus else ""
        parts.append(f"{counted(len(list(group)), 'node')} of {counted(cores, 'core')}{extra}")
    return ", ".join(parts)


def _policy(name: str, options: Mapping[str, Any]) -> str:
    """`hpa (tick_s=1, target=2)`."""
    stated = ", ".join(f"{key}={value}" for key, value in options.items())
    return f"{name} ({stated})" if stated else name


def _latencies(profile: Profile, settings: SimSettings) -> str:
    if profile.measured:
        source = f"as measured on {profile.machine.cpu or 'another machine'}"
    else:
        source = "as the pipeline file states them"
    how = {
        "profile": "drawn from their distribution",
        "fixed": "always the median",
        "exponential": "exponential around the median",
    }[settings.service]
    return f"{source}, {how}; items per item: {settings.fan_out}"


def _data_plane(drop: str | None, admission: bool | None) -> Iterator[str]:
    if drop is not None:
        yield f"items that would be late: {drop}"
    if admission is not None:
        yield f"admission {'on' if admission else 'off'}"


def _failure(failure: Failure) -> str:
    if failure.stage:
        return f"{failure.stage} loses {failure.replicas} replica at {failure.at_s:g} s"
    back = f" for {failure.down_s:g} s" if failure.down_s is not None else ""
    return f"{failure.node} is down from {failure.at_s:g} s{back}"
