"""A pipeline at work in virtual time, with a recorder and a history, for tests of what is said of it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from triscale.core.cluster import Node, NodeId, ReplicaId, ReplicaSpec
from triscale.core.plan import Plan, ReplicaGroup
from triscale.core.snapshot import Phase, ReplicaView
from triscale.dispatch.commands import Commands
from triscale.dispatch.work import Batch
from triscale.observe.axes import Axes
from triscale.observe.decisions import Decision
from triscale.observe.history import History
from triscale.observe.recorder import Recorder
from triscale.observe.status import Status
from triscale.observe.status_reading import status_of
from triscale.testing.builders import pipeline, plan, stage, variant
from triscale.testing.world import World

STARTED_S = 1_700_000_000.0
NODE = NodeId("n")

PIPELINE = pipeline(
    1000.0,
    detect=stage(
        variant("large", 200, accuracy=0.9, fan_out={"read": 2.0}), variant("small", 50, fan_out={"read": 2.0})
    ),
    read=stage(variant("only", 100), after="detect"),
)


def first_plan() -> Plan:
    """All on the large detector, three lanes, and one reader."""
    found = plan(PIPELINE, capacity=15.0, demand=8.0, cores=4.0, accuracy=0.9, reason="enough for 8 requests/s")
    lanes = {"detect": 3, "read": 1}
    stages = {
        name: replace(stage, groups=(ReplicaGroup(variants=tuple(stage.variants), lanes=lanes[name]),))
        for name, stage in found.stages.items()
    }
    return replace(found, stages=stages)


def view(name: str, stage: str, lanes: int, phase: Phase = Phase.READY, node: NodeId = NODE) -> ReplicaView:
    """A replica as the actuator shows it."""
    spec = ReplicaSpec(id=ReplicaId(name), stage=stage, variants=("v",), lanes=lanes)
    return ReplicaView(spec=spec, node=node, phase=phase, cores=lanes)


def decision(number: int, reason: str = "more is coming", **fields: object) -> Decision:
    """A change of plan from 2 to 4 cores."""
    values: dict[str, object] = {
        "number": number, "wall_s": STARTED_S + number, "policy": "triscale", "reason": reason, "mode": "hardware",
        "demand": 8.0, "arrivals": 7.0, "queued": 3, "cores": 4.0, "cores_before": 2.0, "accuracy": 0.9,
        "accuracy_before": 0.9, "served_fraction": 1.0, "variants": {"detect": {"large": 1.0}}, "ready": 2,
        "starting": 0, "decide_s": 0.002,
    }  # fmt: skip
    return Decision(**{**values, **fields})  # type: ignore[arg-type]


class LiveScene(World):
    """`detect` (3 lanes, 200 ms an item, or 50 ms on the small one) emits two items for `read` (1 lane, 100 ms)."""

    def __init__(self) -> None:
        super().__init__(PIPELINE, first_plan())
        self.recorder = Recorder(self.graph)
        self.axes = Axes(start=3.0, up=1.0)
        self.views: Sequence[ReplicaView] = (view("detect-1", "detect", 3), view("read-1", "read", 1))
        self.decisions: list[Decision] = []
        self.history = History(self.dispatcher, self.recorder, lambda: self.axes, self.now, STARTED_S)
        self.replica("detect-1", "detect", lanes=3)
        self.replica("read-1", "read", lanes=1)

    def step(self) -> Commands:
        commands = super().step()
        for request in commands.ends:
            self.recorder.request_ended(request)
        return commands

    def _start(self, batch: Batch) -> None:
        self.recorder.batch_started(batch)
        super()._start(batch)

    def _finish(self, batch: Batch) -> None:
        self.recorder.batch_ended(batch, self.now)
        super()._finish(batch)

    def seconds(self, count: int = 1) -> None:
        """Let so many seconds pass, each with a sample at its end."""
        for _ in range(count):
            self.run(self.now + 1.0)
            self.history.sample(self.now, STARTED_S + self.now)

    def status(self, policy: str = "triscale", *, ready: bool = True, replica_exits: int = 0) -> Status:
        """What is said of it now."""
        return status_of(
            self.dispatcher,
            self.history,
            self.views,
            (Node(id=NODE, cores=8.0), Node(id=NodeId("gone"), cores=8.0, ready=False)),
            self.axes,
            self.decisions[-10:],
            decisions_total=len(self.decisions),
            policy=policy,
            version="9.9",
            ready=ready,
            replica_exits=replica_exits,
            wall_s=STARTED_S + self.now,
            uptime_s=self.now,
        )
