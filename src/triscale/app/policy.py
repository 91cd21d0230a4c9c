"""Which autoscaler decides for a server, on which nodes, and the plan that it starts with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from triscale.app.resolve import plan_for
from triscale.control.decider import Decider
from triscale.control.decider_messages import Recipe
from triscale.core.cluster import Node
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline, Policy
from triscale.core.plan import Plan
from triscale.core.profile import Profile, with_measured
from triscale.core.settings import Settings
from triscale.engines.local import NODE
from triscale.engines.machine import memory_bytes, usable_cores
from triscale.errors import ConfigError
from triscale.policy.autoscalers.interface import Autoscaler, Setting
from triscale.policy.autoscalers.registry import make_autoscaler
from triscale.policy.autoscalers.triscale import Triscale

__all__ = ["COLD_START_S", "RESIZE_S", "Chosen", "choose_policy", "data_plane", "nodes_for"]

COLD_START_S = 2.0
RESIZE_S = 0.01
"""What a launch and a resize are expected to take here, until the first has been measured."""
_OF_THE_FILE = frozenset({"triscale", "static"})
"""Policies that run on the data plane that the pipeline file sets up; the others bring their published system's own."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a server starts with."""

    plan: Plan
    recipe: Recipe | None
    """Of the autoscaler; None: the plan never changes."""
    warnings: tuple[str, ...] = ()
    """What whoever starts it should know, each with what to do."""


def nodes_for(pipeline: Pipeline, cores: int, cluster: Sequence[Node]) -> tuple[Node, ...]:
    """The one node of this machine with so many cores, or the `cluster` that it is to stand for.

    ConfigError where models that really run would be told of more cores than there are.
    """
    if not cluster:
        return (Node(id=NODE, cores=cores, memory_bytes=memory_bytes()),)
    wanted = sum(int(node.cores) for node in cluster)
    real = [name for name, stage in pipeline.stages.items() if any(v.runtime != "emulated" for v in stage.variants)]
    if real and wanted > (here := usable_cores()):
        raise ConfigError(
            f"--nodes: {wanted} cores in all, but this machine has {here} and stage {real[0]!r} really computes; "
            "only pipelines whose variants are all `runtime: emulated` can stand for a larger cluster"
        )
    return tuple(cluster)


def choose_policy(
    graph: Graph,
    profile: Profile | None,
    nodes: Sequence[Node],
    variants: Mapping[str, str],
    policy: Policy,
    demand: float = 0.0,
) -> Chosen:
    """The policy's first plan, for about `demand` requests/s, and its autoscaler. Variants asked for are never changed.

    ConfigError for an unknown policy, an unknown option, or variants that there are not.
    """
    graph = with_measured(graph, profile)
    cores = sum(int(node.cores) for node in nodes)
    if (policy.name == "static" and len(nodes) == 1 and not policy.options) or variants or profile is None:
        warnings = []
        if policy.name != "static" and profile is None:
            warnings.append(
                f"policy {policy.name!r} plans from a profile and there is none: the first plan stays as it is; "
                "`triscale profile` makes one"
            )
        elif policy.name != "static":
            warnings.append(
                f"policy {policy.name!r} is not used: variants were asked for by name, and the plan stays as it is"
            )
        plan = plan_for(graph, profile, cores, variants)
        if not plan.feasible:
            warnings.append(_never_in_time(graph, "static", plan, better=False))
        return Chosen(plan, None, tuple(warnings))
    setting = Setting(
        graph=graph,
        profile=profile,
        nodes=nodes,
        min_accuracy=policy.min_accuracy,
        cold_start_s=COLD_START_S,
        resize_s=RESIZE_S,
        options=policy.options,
    )
    autoscaler = make_autoscaler(policy.name, setting)
    plan = autoscaler.first(demand)
    return Chosen(plan, Recipe.of(autoscaler, setting, demand), _warnings(setting, policy.name, plan, demand))


def _warnings(setting: Setting, policy: str, plan: Plan, demand: float) -> tuple[str, ...]:
    """That nothing can be in time, or that the expected demand is too much; neither hinders a server from starting."""
    if plan.feasible:
        return ()
    alone = make_autoscaler(policy, setting).first(0.0)
    if alone.feasible:
        return (f"the expected {demand:g} requests/s (--demand) are too many: {plan.reason}",)
    least = Setting(graph=setting.graph, profile=setting.profile, nodes=setting.nodes)
    better = policy != Triscale.name and make_autoscaler(Triscale.name, least).first(0.0).feasible
    return (_never_in_time(setting.graph, policy, alone, better=better),)


def _never_in_time(graph: Graph, policy: str, plan: Plan, *, better: bool) -> str:
    """Why, and what to do; `better`: the product's own policy finds variants that are in time."""
    slo_ms = graph.pipeline.slo_ms
    takes_ms = 1e3 * max((path.latency_s for path in plan.paths), default=0.0)
    known = takes_ms > slo_ms
    why = f"its variants take {takes_ms:.0f} ms, and the objective is {slo_ms:g} ms" if known else plan.reason
    other = "--policy triscale, which finds variants that are in time, " if better else ""
    longer = f", above {takes_ms:.0f}" if known else ""
    return (
        f"under policy {policy} no request can be answered in time: {why}; use {other}faster variants (--variant "
        f"STAGE=NAME, or others in the pipeline file), or a longer objective (--set slo_ms=...{longer})"
    )


def data_plane(pipeline: Pipeline, autoscaler: Autoscaler | Decider | None) -> Settings:
    """How the dispatcher treats lateness and overload under this autoscaler, live and simulated."""
    if autoscaler is None or autoscaler.name in _OF_THE_FILE:
        return pipeline.dispatch
    return autoscaler.dispatch
