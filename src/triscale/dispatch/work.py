"""What moves through the dispatcher: requests, items, batches, and the lanes that run them.

Plain slotted records, created once and passed by reference: with a hundred thousand items a second, an item is
the only object that may be allocated per item.

Life of a request: arrived -> (shed | live) -> exactly one `Outcome`. Its items end with it: an item whose request
has ended is skipped wherever it is met, and its result is ignored.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, TypeAlias

from triscale.core.cluster import ReplicaId
from triscale.core.request import Outcome, Reason

__all__ = ["Batch", "Cores", "Drop", "Group", "GroupKey", "Item", "Lane", "ReplicaState", "Request", "RequestKey"]

RequestKey: TypeAlias = "tuple[float, int]"
"""(deadline, serial number): the order of queues. Serial numbers are the dispatcher's own, from 1 on."""


class Drop(NamedTuple):
    """An item that was dropped from a stage's queue."""

    stage: int
    since: float
    """When it began to wait."""
    at: float


class Request:
    """One request, from the door to its outcome."""

    __slots__ = (
        "accuracy_sum",
        "answer",
        "answers",
        "arrived",
        "deadline",
        "dropped_items",
        "ended",
        "held",
        "id",
        "joined",
        "key",
        "live",
        "lost",
        "lost_as",
        "lost_at",
        "lost_in",
        "lost_why",
        "message",
        "outcome",
        "outputs",
        "pending",
        "reason",
        "retry_after_s",
        "stage",
        "tag",
        "used",
    )

    def __init__(self, number: int, serial: int, arrived: float, deadline: float, stages: int, tag: object) -> None:
        self.id = number
        """The driver's."""
        self.key: RequestKey = (deadline, serial)
        self.arrived = arrived
        self.deadline = deadline
        self.tag = tag
        """Whatever the driver wants back when the request ends."""
        self.outcome: Outcome | None = None
        """None while live."""
        self.reason = Reason.NONE
        self.stage = -1
        """Where it was dropped or failed; -1 = at the door, or nowhere."""
        self.message = ""
        self.retry_after_s = 0.0
        """Of a refused request: when it may be worth trying again."""
        self.ended = 0.0
        self.pending = 0
        """Live items, over all stages."""
        self.live = [0] * stages
        """Live items (queued or running) per stage."""
        self.outputs: list[tuple[Item, object]] = []
        """What items made for the client, as they finished; read `ordered_outputs` when the request has ended."""
        self.answer: list[tuple[int, object]] = []
        self.held: dict[int, list[tuple[Item, int, object, float]]] = {}
        """Join stage -> (parent item, position, payload, accuracy so far) gathered for it until now."""
        self.joined = 0
        """Bit set of the join stages that were started."""
        self.lost = 0
        """Items given up."""
        self.dropped_items: list[Drop] | None = None
        """The items dropped while they waited, if the driver wants to know; None = it does not."""
        self.lost_as: Outcome | None = None
        """How the first lost item was lost; with `lost_why` and `lost_at`, the request's end if nothing is left."""
        self.lost_why = Reason.NONE
        self.lost_at = -1
        self.lost_in = 0
        """Bit set of the stages that lost items."""
        self.used: list[int] = [0] * stages
        """Per stage: bit set of the variants that ran its items."""
        self.accuracy_sum = 0.0
        """Sum over finished paths of the product of their variants' accuracies; a lost item adds 0."""
        self.answers = 0
        """Finished paths, lost ones included."""

    @property
    def accuracy(self) -> float:
        """Expected end-to-end accuracy of the answer."""
        return self.accuracy_sum / self.answers if self.answers else 0.0

    def ordered_outputs(self) -> list[tuple[int, object]]:
        """(row, output) in the order in which items were emitted, whatever order they finished in.

        What a join made of a whole request stands behind the rest, under row 0. The first call lets go of the items:
        they refer back to the request, and such a circle would keep all outputs until the next garbage collection.
        """
        outputs = self.outputs
        if outputs:
            if len(outputs) > 1:
                outputs.sort(key=lambda pair: pair[0].place())
            self.answer = [(item.root_row(), output) for item, output in outputs]
            self.outputs = []
        return self.answer

    def __repr__(self) -> str:
        return f"Request({self.id}, {self.outcome.label if self.outcome is not None else 'live'})"


class Item:
    """One unit of work at one stage on behalf of a request."""

    __slots__ = (
        "accuracy",
        "index",
        "parent",
        "payload",
        "request",
        "row",
        "since",
        "solo",
        "stage",
        "tries",
        "weight",
    )

    def __init__(
        self,
        request: Request,
        stage: int,
        payload: object,
        parent: Item | None,
        index: int,
        row: int,
        accuracy: float,
        since: float,
    ) -> None:
        self.request = request
        self.stage = stage
        self.payload = payload
        """Opaque; at a join, a tuple of the payloads gathered."""
        self.parent = parent
        self.index = index
        """Position among what its parent emitted (a root item: the row of the request)."""
        self.row = row
        """Which row of the stage's share table holds for it: what ran its parent decides (see `StageState.rows`)."""
        self.accuracy = accuracy
        """Product of the accuracies of the variants that its ancestors ran on."""
        self.since = since
        """When it began to wait in its queue."""
        self.tries = 0
        """Replicas that were lost under it."""
        self.solo = False
        """Run it alone: the batch it was in failed, and it may be the reason."""
        self.weight = 1
        """Paths that it stands for when accuracies are averaged; more than 1 at a join."""

    def place(self) -> tuple[int, ...]:
        """Where it stands in the order of emission: of each ancestor and itself, root first, stage and position."""
        item = self
        place = [item.index, item.stage]
        while item.parent is not None:
            item = item.parent
            place += (item.index, item.stage)
        place.reverse()
        return tuple(place)

    def root_row(self) -> int:
        """The row of the request that it descends from; 0 behind a join."""
        item = self
        while item.parent is not None:
            item = item.parent
        return item.index


GroupKey: TypeAlias = "tuple[tuple[int, ...], int, str | None, bool]"
"""(resident variants, threads per lane, node where cores are shared)."""


class Cores:
    """Cores that the lanes of one node share: a lane runs only while enough of them are free."""

    __slots__ = ("free", "reserved", "total")

    def __init__(self, total: float) -> None:
        self.total = total
        self.free = total
        """Negative after a cut, until enough batches are done."""
        self.reserved = False
        """Kept, for the rest of a step, for a lane that needs more of them than are free."""


class Group:
    """Lanes that are alike: the same resident variants and, where cores are shared, the same node."""

    __slots__ = ("changing", "cores", "idle", "key", "size", "threads", "variants")

    def __init__(
        self, key: GroupKey, variants: tuple[int, ...], threads: int, cores: Cores | None, *, changing: bool = False
    ) -> None:
        self.key = key
        self.changing = changing
        """Of replicas that are about to hold other variants."""
        self.variants = variants
        """Most accurate first."""
        self.threads = threads
        self.cores = cores
        self.idle: deque[Lane] = deque()
        """Longest idle first, so that load spreads evenly."""
        self.size = 0
        """Lanes, busy ones included, closing ones not."""

    def available(self) -> bool:
        """Whether a lane is idle and its cores are free."""
        cores = self.cores
        return bool(self.idle) and (cores is None or (cores.free >= self.threads and not cores.reserved))

    def room(self) -> int:
        """Batches that it can start now."""
        return len(self.idle) if self.cores is None else min(len(self.idle), int(self.cores.free // self.threads))


class Lane:
    """One concurrent executor of a replica. Runs at most one batch at a time."""

    __slots__ = ("batch", "closing", "group", "replica")

    def __init__(self, replica: ReplicaState) -> None:
        self.replica = replica
        self.group: Group | None = None
        """Where it waits when idle; None before it opens and while it closes."""
        self.batch: Batch | None = None
        self.closing = False
        """To be closed when its batch is done."""


class ReplicaState:
    """A replica as the dispatcher sees it."""

    __slots__ = ("changing", "draining", "id", "lanes", "node", "resizing", "stage", "threads", "variants")

    def __init__(self, name: ReplicaId, stage: int, variants: tuple[int, ...], threads: int, node: str) -> None:
        self.id = name
        self.stage = stage
        self.variants = variants
        """Indices of the resident variants, most accurate first."""
        self.threads = threads
        self.node = node
        self.lanes: list[Lane] = []
        self.draining = False
        self.changing = False
        """It is about to hold other variants."""
        self.resizing = False
        """A LanesClosed order is due when it runs no more, and no wider, lanes than it should."""

    @property
    def settled(self) -> bool:
        """Whether no lane is closing, and none runs a batch on more threads than it should."""
        return not any(
            lane.closing or (lane.batch is not None and lane.batch.group.threads > self.threads) for lane in self.lanes
        )

    @property
    def busy(self) -> int:
        """Lanes that run a batch."""
        return sum(lane.batch is not None for lane in self.lanes)


class Batch:
    """Items of one variant run together on one lane. A command to run it, and the record until it is done."""

    __slots__ = ("expected", "group", "id", "items", "lane", "stage", "started", "variant")

    def __init__(
        self,
        number: int,
        stage: int,
        variant: int,
        lane: Lane,
        group: Group,
        items: list[Item],
        started: float,
        expected: float,
    ) -> None:
        self.id = number
        self.stage = stage
        self.variant = variant
        self.lane = lane
        self.group = group
        """Its lane's when it started: the threads and the cores that it uses, whatever becomes of the lane."""
        self.items = items
        self.started = started
        self.expected = expected
        """Predicted service latency, seconds."""

    def __repr__(self) -> str:
        return f"Batch({self.id}, stage {self.stage}, variant {self.variant}, {len(self.items)} items)"
