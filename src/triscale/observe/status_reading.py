"""Reads what a running pipeline is doing from its dispatcher and its history, when somebody asks.

Nothing here is counted a second time or kept: the accounts are the dispatcher's, the recent past is the history's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from triscale.core.cluster import Node
from triscale.core.plan import Plan, StagePlan
from triscale.core.request import Outcome, Reason
from triscale.core.snapshot import Phase, ReplicaView
from triscale.dispatch.dispatcher import Dispatcher
from triscale.dispatch.stage import StageState
from triscale.observe.axes import Axes
from triscale.observe.causes import causes_of
from triscale.observe.decisions import Decision
from triscale.observe.history import History, Sample
from triscale.observe.quantiles import quantile_s
from triscale.observe.status import (
    CoresStatus,
    LanesStatus,
    PlanStatus,
    Quantiles,
    RequestsStatus,
    StageStatus,
    Status,
    VariantStatus,
    Window,
)
from triscale.policy.drift import measured_drift

__all__ = ["status_of"]

_Key = TypeVar("_Key")

_RECENT = 10
"""Samples that count as recent."""
_WINDOWS = (_RECENT, 60, 600)


def status_of(
    dispatcher: Dispatcher,
    history: History,
    replicas: Sequence[ReplicaView],
    nodes: Sequence[Node],
    axes: Axes,
    decisions: Sequence[Decision],
    *,
    decisions_total: int,
    policy: str,
    version: str,
    ready: bool,
    replica_exits: int,
    wall_s: float,
    uptime_s: float,
) -> Status:
    """What is to be said of a pipeline now."""
    graph, accounts, plan = dispatcher.graph, dispatcher.accounts, dispatcher.plan
    samples = history.recent()
    recent = samples[-_RECENT:]
    stages = _Stages(dispatcher, replicas, recent)
    return Status(
        pipeline=graph.pipeline.name,
        version=version,
        wall_s=wall_s,
        started_s=history.started_s,
        uptime_s=uptime_s,
        ready=ready,
        slo_ms=graph.pipeline.slo_ms,
        policy=policy,
        plan=_plan(plan),
        cores=CoresStatus(
            total=sum(node.cores for node in nodes if node.ready),
            held=axes.total,
            start=axes.start,
            up=axes.up,
            out=axes.out,
            busy=sum(_busy(state)[1] for state in dispatcher.stages),
            shared=plan.shared_cores > 0.0,
        ),
        requests=RequestsStatus(
            live=accounts.live,
            arrived=accounts.arrived,
            outcomes={outcome.label: accounts.outcomes[outcome] for outcome in Outcome},
            partial=accounts.partial,
            causes=causes_of(accounts.causes, graph.stages),
            recent_causes=causes_of(_summed(sample.causes for sample in recent), graph.stages),
        ),
        windows=[_window(samples[-count:]) for count in _WINDOWS],
        latency_ms=_quantiles(sample.latency for sample in recent),
        arrivals_per_s=_per_second(sum(sample.arrived for sample in recent), recent),
        stages=[stages.status(s) for s in range(len(graph.stages))],
        replica_exits=replica_exits,
        decisions=decisions,
        decisions_total=decisions_total,
    )


class _Stages:
    """The stages of one status."""

    def __init__(self, dispatcher: Dispatcher, replicas: Sequence[ReplicaView], recent: Sequence[Sample]) -> None:
        self._dispatcher = dispatcher
        self._graph = dispatcher.graph
        self._replicas = replicas
        self._recent = recent
        self._drift = measured_drift(self._graph, [state.models for state in dispatcher.stages])
        self._admitted = sum(
            sum(sample.outcomes) - sample.outcomes[Outcome.SHED] - sample.outcomes[Outcome.CANCELLED]
            for sample in recent
        )

    def status(self, s: int) -> StageStatus:
        """One of them."""
        graph, state = self._graph, self._dispatcher.stages[s]
        name = graph.stages[s]
        counts = self._dispatcher.accounts.stages[s]
        samples = [sample.stages[s] for sample in self._recent]
        mix = self._mix(s)
        mine = [view for view in self._replicas if view.spec.stage == name]
        return StageStatus(
            name=name,
            after=[graph.stages[parent] for parent in graph.parents[s]],
            emits=_emits(state, [graph.stages[child] for child in graph.children[s]], mix or state.shares),
            queued=len(state.queue),
            running=state.running,
            items_per_s=_per_second(sum(sample.completed for sample in samples), self._recent),
            busy_cores=_per_second(sum(sample.busy_core_s for sample in samples), self._recent),
            attainment=self._attainment(s),
            replicas={phase.value: sum(view.phase is phase for view in mine) for phase in Phase},
            lanes=_lanes(state, self._dispatcher.plan.stages[name], mine),
            queue_ms=_quantiles(sample.queue for sample in samples),
            service_ms=_quantiles(sample.service for sample in samples),
            given_up=_by_frequency(counts.given_up),
            recent_given_up=_by_frequency(_summed(sample.given_up for sample in samples)),
            rescued=counts.rescued,
            requeued=counts.requeued,
            variants=[
                VariantStatus(
                    name=variant,
                    accuracy=graph.accuracy[s][v],
                    share=state.shares[v],
                    mix=mix[v] if mix else None,
                    items=counts.items_run[v],
                    batch=state.batch[v],
                    resident=v in state.resident,
                    drift=self._drift.get((name, variant)),
                )
                for v, variant in enumerate(graph.variants[s])
            ],
        )

    def _mix(self, s: int) -> Sequence[float]:
        """Each variant's part of the recent items; empty where there were none."""
        items = [sum(column) for column in zip(*(sample.stages[s].items for sample in self._recent), strict=True)]
        total = sum(items)
        return [count / total for count in items] if total else []

    def _attainment(self, s: int) -> float | None:
        if not self._admitted:
            return None
        lost = sum(
            count
            for sample in self._recent
            for (outcome, stage, _), count in sample.causes.items()
            if stage == s and outcome is not Outcome.CANCELLED
        )
        return 1.0 - lost / self._admitted


def _plan(plan: Plan) -> PlanStatus:
    return PlanStatus(
        mode=plan.mode,
        reason=plan.reason,
        demand=plan.demand,
        capacity=plan.capacity or None,
        cores=plan.cores,
        accuracy=plan.accuracy,
        served_fraction=plan.served_fraction,
        feasible=plan.feasible,
        solver=plan.solver,
    )


def _lanes(state: StageState, planned: StagePlan, replicas: Sequence[ReplicaView]) -> LanesStatus:
    running, cores_running = _busy(state)
    return LanesStatus(
        wanted=sum(group.replicas * group.lanes for group in planned.groups),
        granted=state.lanes,
        running=running,
        cores_wanted=sum(group.replicas * group.lanes * group.threads for group in planned.groups),
        cores_granted=sum(view.cores for view in replicas),
        cores_running=cores_running,
    )


def _busy(state: StageState) -> tuple[int, int]:
    """Lanes that run a batch, and the cores that they run on."""
    batches = [lane.batch for replica in state.replicas.values() for lane in replica.lanes if lane.batch is not None]
    return len(batches), sum(batch.group.threads for batch in batches)


def _emits(state: StageState, children: Sequence[str], mix: Sequence[float]) -> Mapping[str, float]:
    weight = sum(mix) or 1.0
    return {
        child: sum(part * means[position] for part, means in zip(mix, state.fan_out, strict=True)) / weight
        for position, child in enumerate(children)
    }


def _window(samples: Sequence[Sample]) -> Window:
    outcomes = [sum(sample.outcomes[outcome] for sample in samples) for outcome in Outcome]
    ended, answered = sum(outcomes), outcomes[Outcome.ANSWERED]
    return Window(
        seconds=sum(sample.seconds for sample in samples),
        arrived=sum(sample.arrived for sample in samples),
        outcomes={outcome.label: outcomes[outcome] for outcome in Outcome},
        attainment=answered / ended if ended else None,
        accuracy=sum(sample.accuracy_sum for sample in samples) / answered if answered else None,
    )


def _by_frequency(counts: Mapping[Reason, int]) -> Mapping[str, int]:
    return {str(reason): count for reason, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))}


def _summed(parts: Iterable[Mapping[_Key, int]]) -> Mapping[_Key, int]:
    total: dict[_Key, int] = {}
    for part in parts:
        for key, count in part.items():
            total[key] = total.get(key, 0) + count
    return total


def _quantiles(parts: Iterable[Mapping[int, int]]) -> Quantiles:
    counts = _summed(parts)
    p50, p99 = quantile_s(counts, 0.5), quantile_s(counts, 0.99)
    return Quantiles(p50=None if p50 is None else p50 * 1000.0, p99=None if p99 is None else p99 * 1000.0)


def _per_second(count: float, samples: Sequence[Sample]) -> float:
    seconds = sum(sample.seconds for sample in samples)
    return count / seconds if seconds > 0.0 else 0.0
