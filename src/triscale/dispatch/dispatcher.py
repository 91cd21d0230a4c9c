"""The data plane without I/O: requests in, batches and answers out.

Rule 1: nothing here reads a clock, sleeps, starts a task or draws a random number. Time comes in as `now`, which
never goes back; work goes out as `Commands`. The server (`serve/runner.py`) and the simulator drive this same class.

Rule 2: an event method (`arrive`, `batch_done`, `replica_ready`, ...) only changes state. `step(now)` then decides:
what has expired, what is hopeless, which batches to run. A driver calls it once after all events of an instant, so
that a batch sees everything that arrived together, and again no later than `next_wakeup()`.

Rule 3: `flow.py` moves requests and items, `fleet.py` has the lanes; this file only decides, and it is the one place
where a batch is formed.
"""

from __future__ import annotations

from collections.abc import Sequence

from triscale.core.cluster import ReplicaId
from triscale.core.graph import Graph
from triscale.core.plan import Plan
from triscale.core.request import Outcome, Reason
from triscale.dispatch.accounts import Accounts
from triscale.dispatch.commands import Commands, KillReplica
from triscale.dispatch.door import Door
from triscale.dispatch.fleet import Fleet
from triscale.dispatch.flow import Flow
from triscale.dispatch.outlook import Outlook
from triscale.dispatch.rescue import best_in_time
from triscale.dispatch.results import ItemResult, Rejection
from triscale.dispatch.settings import Settings
from triscale.dispatch.stage import ServiceModel, StageState
from triscale.dispatch.work import Batch, Group, Item, Request

__all__ = ["Dispatcher"]

# Wake this much after an instant computed by subtraction, so that rounding cannot wake us too early for ever.
_AFTER = 1e-6


class Dispatcher:
    """Queues, batches, deadlines, drops, rescue, fan-out, joins and admission of one pipeline.

    `models[s][v]` predicts the latency of variant v of stage s; `fan_out[s][v][i]` is its mean fan-out to the
    stage's i-th child. Both are indexed as in `graph`, and both are corrected by what is measured.
    """

    def __init__(
        self,
        graph: Graph,
        models: Sequence[Sequence[ServiceModel]],
        fan_out: Sequence[Sequence[Sequence[float]]],
        plan: Plan,
        settings: Settings,
        now: float,
    ) -> None:
        self.graph = graph
        self.settings = settings
        self.accounts = Accounts([len(variants) for variants in graph.variants])
        self.stages = [StageState(graph, s, models[s], fan_out[s], now) for s in range(len(graph.stages))]
        slo = graph.pipeline.slo_s
        self._margin = settings.margin * slo
        self._grace = settings.late_grace * slo
        self._rescues = settings.drop == "reroute"
        self._drops = [
            settings.drop in ("per_stage", "reroute") or (settings.drop == "last_stage" and not children)
            for children in graph.children
        ]
        self._door = Door(self.stages, settings, slo)
        self._flow = Flow(graph, self.stages, self.accounts)
        self._fleet = Fleet(graph, self.stages)
        self._runs: list[Batch] = []
        self._held_until = float("inf")
        self._refresh_at = now
        self.outlook: Outlook
        self.plan: Plan
        self.follow(plan, now)

    # --- events: the plan and the lanes -------------------------------------------------------------------------

    def follow(self, plan: Plan, now: float) -> None:
        """Use this plan's shares, batch sizes and admission from now on."""
        self.plan = plan
        for stage, name in zip(self.stages, self.graph.stages, strict=True):
            limits = [variant.max_batch for variant in self.graph.pipeline.stages[name].variants]
            stage.follow(plan.stages[name], self.graph, limits)
        self._door.follow(plan, now)
        self._refresh(now)

    def share_cores(self, node: str, cores: float) -> None:
        """Lanes of `node` run only while one of its `cores` is free. Call before the node's replicas are ready."""
        self._fleet.share_cores(node, cores)

    def replica_ready(
        self, replica: ReplicaId, stage: str, variants: Sequence[str], lanes: int, threads: int, node: str, now: float
    ) -> None:
        """A replica can take work on so many lanes. ValueError when its id is taken, or its stage unknown."""
        self._fleet.ready(replica, stage, variants, lanes, threads, node, now)
        self._refresh(now)

    def resize(self, replica: ReplicaId, lanes: int, threads: int, now: float) -> None:
        """Use so many lanes of so many threads. Growing holds at once; a shrink ends with a LanesClosed order.

        Call after the engine granted more cores, and before it takes any away. Unknown replicas are ignored.
        """
        self._fleet.resize(replica, lanes, threads, now)
        self._refresh(now)

    def drain(self, replica: ReplicaId, now: float) -> None:
        """Give it no new work; a ReplicaDrained order follows when its last batch is done."""
        self._fleet.drain(replica, now)
        self._refresh(now)

    def replica_lost(self, replica: ReplicaId, now: float) -> None:
        """It is gone with whatever it ran: those items go back to their queues with the same deadlines."""
        self._lose_replica(replica, Reason.REPLICA_LOST, now)

    # --- events: requests and batches ---------------------------------------------------------------------------

    def arrive(
        self, number: int, payloads: Sequence[object], deadline: float, now: float, tag: object = None
    ) -> Request:
        """A request is at the door, with one root item per payload. It may end at once, refused."""
        request = Request(number, now, deadline, len(self.stages), tag)
        accounts = self.accounts
        accounts.arrived += 1
        accounts.live += 1
        refusal = self._door.refuse(deadline, accounts.live - 1, self.outlook, now)
        if refusal is not None:
            request.retry_after_s = refusal.retry_after_s
            self._flow.end(request, Outcome.SHED, refusal.reason, -1, now)
            return request
        if self.settings.drop != "none":
            self._flow.expire_at(request, deadline + self._grace)
        items = [Item(request, 0, payload, None, row, 0, 1.0, now) for row, payload in enumerate(payloads)]
        self._flow.admit(request, self.stages[0], items)
        return request

    def cancel(self, request: Request, now: float) -> None:
        """The client is gone: its items are not run any more. Requests that have ended are left alone."""
        if request.outcome is None:
            self._flow.end(request, Outcome.CANCELLED, Reason.CLIENT_GONE, -1, now)

    def abort(self, reason: Reason, now: float) -> None:
        """End every live request as failed (the server stops)."""
        live = {item.request for stage in self.stages for item in stage.queue.items()}
        live.update(item.request for batch in self._fleet.running.values() for item in batch.items)
        for request in sorted(live, key=lambda request: request.id):
            if request.outcome is None:
                self._flow.end(request, Outcome.FAILED, reason, -1, now)

    def batch_done(self, number: int, results: Sequence[ItemResult], now: float) -> None:
        """A batch has finished. Results of batches that are not running (their replica was given up) are ignored."""
        batch = self._fleet.running.get(number)
        if batch is None:
            return
        items = batch.items
        if len(results) != len(items):
            self.batch_failed(number, f"{len(results)} results came back for {len(items)} items", now)
            return
        self._fleet.finish(batch, now)
        stage = self.stages[batch.stage]
        stage.models[batch.variant].observe(len(items), now - batch.started)
        emitted = [0] * len(stage.children)
        complete = self._flow.complete
        for item, result in zip(items, results, strict=True):
            if item.request.outcome is not None:
                continue  # its request ended without it: the item is counted as abandoned
            if isinstance(result, Rejection):
                self._flow.give_up(item, Outcome.FAILED, Reason.REJECTED, now, result.message)
            else:
                complete(item, batch.variant, result[0], result[1], emitted, now)
        if emitted:
            stage.learn_fan_out(batch.variant, len(items), emitted)

    def batch_failed(self, number: int, message: str, now: float) -> None:
        """The model failed the batch. Its items are tried once more, each alone; an item that fails alone is lost."""
        batch = self._fleet.running.get(number)
        if batch is None:
            return
        self._fleet.finish(batch, now)
        for item in batch.items:
            if item.request.outcome is not None:
                continue
            if len(batch.items) > 1:
                self._flow.requeue(item, now)
            else:
                self._flow.give_up(item, Outcome.FAILED, Reason.MODEL_ERROR, now, message)

    # --- decisions ----------------------------------------------------------------------------------------------

    def step(self, now: float) -> Commands:
        """Decide on everything known at `now`."""
        if now >= self._refresh_at:
            self._refresh(now)
        self._flow.expire(now)
        self._kill_hung(now)
        for stage in self.stages:
            if self._drops[stage.index]:
                self._drop_hopeless(stage, now)
        self._fill_lanes(now)
        commands = Commands(self._runs, self._flow.ended, self._fleet.orders)
        self._runs, self._flow.ended, self._fleet.orders = [], [], []
        return commands

    def next_wakeup(self) -> float | None:
        """When `step` must be called even if nothing happens; None while there is nothing to wait for."""
        wake = min(self._held_until, self._flow.next_expiry(), self._fleet.next_hang())
        for stage in self.stages:
            if self._drops[stage.index]:
                head = stage.queue.head()
                if head is not None:
                    wake = min(wake, head.request.deadline - self.outlook.least[stage.index] + _AFTER)
        return wake if wake < float("inf") else None

    def live_items(self) -> list[int]:
        """Per stage: items queued and running, for `accounts.unbalanced`."""
        return [stage.live for stage in self.stages]

    def _kill_hung(self, now: float) -> None:
        while (batch := self._fleet.hung(now)) is not None:
            replica = batch.lane.replica.id
            why = f"a batch of {len(batch.items)} items ran for {now - batch.started:.1f} s"
            self._fleet.orders.append(KillReplica(replica, why))
            self._lose_replica(replica, Reason.MODEL_HUNG, now)

    def _lose_replica(self, replica: ReplicaId, reason: Reason, now: float) -> None:
        for item in self._fleet.lose(replica, now):
            if item.request.outcome is not None:
                continue
            if item.tries >= self.graph.pipeline.retries:
                self._flow.give_up(item, Outcome.FAILED, reason, now)
            else:
                self._flow.requeue(item, now)
        self._refresh(now)

    def _drop_hopeless(self, stage: StageState, now: float) -> None:
        """The queue is in the order of deadlines, so what cannot be answered in time any more stands in front."""
        least = self.outlook.least[stage.index]
        queue = stage.queue
        while True:
            head = queue.head()
            if head is None or head.request.deadline - now >= least:
                return
            queue.pop()
            self._flow.give_up(head, Outcome.DROPPED, Reason.PREDICTED_LATE, now)

    def _fill_lanes(self, now: float) -> None:
        """Form batches while an item and a lane for it are there; cores go to the earliest deadline."""
        self._held_until = float("inf")
        blocked = 0
        while True:
            chosen: StageState | None = None
            earliest = float("inf")
            for stage in self.stages:
                if blocked >> stage.index & 1:
                    continue
                head = stage.queue.head()
                if head is None or head.request.deadline >= earliest:
                    continue
                for group in stage.groups.values():
                    if group.available():
                        chosen = stage
                        earliest = head.request.deadline
                        break
            if chosen is None:
                return
            if not self._start_batch(chosen, now):
                blocked |= 1 << chosen.index

    def _start_batch(self, stage: StageState, now: float) -> bool:
        """Run the head of a stage that has a lane for it; False when it had better wait."""
        head = stage.queue.head()
        assert head is not None
        s = stage.index
        slack = head.request.deadline - now
        rest = self.outlook.planned[s]
        group, variant = self._planned_lane(stage, head.row)
        rescued = False
        if variant >= 0 and stage.models[variant].predict(1) + rest <= slack - self._margin:
            room = slack - self._margin - rest
        elif self._rescues:
            if variant < 0 and self._in_time_by_plan(stage, slack):
                return False  # on time: it waits for a lane that the plan gives it
            planned = variant
            group, variant = self._rescue_lane(stage, slack)
            rescued = variant != planned
            room = slack - self.outlook.options[s][0][0]
        else:
            room = slack - rest
        if group is None:
            return False  # what could run it is busy
        size = self._batch_size(stage, variant, head, room)
        full = stage.batch[variant]
        if stage.linger_s > 0.0 and size < full and not rescued and not head.solo:
            until = min(head.since + stage.linger_s, now + room - stage.models[variant].predict(full))
            if now < until:
                self._held_until = min(self._held_until, until + _AFTER)
                return False
        items = self._take(stage, size, now if rescued else None)
        counts = self.accounts.stages[s]
        if rescued:
            counts.rescued += len(items)
        else:
            stage.charge(variant, head.row, len(items))
        hangs_after = max(
            self.settings.hang_floor_s, self.settings.hang_factor * stage.models[variant].predict(len(items))
        )
        self._runs.append(self._fleet.start(stage, group, variant, items, now, hangs_after=hangs_after))
        counts.batches[variant] += 1
        counts.items_run[variant] += len(items)
        counts.sizes[len(items)] += 1
        return True

    def _planned_lane(self, stage: StageState, row: int) -> tuple[Group | None, int]:
        for group in stage.groups.values():
            if group.available():
                variant = stage.pick(group.variants, row)
                if variant >= 0:
                    return group, variant
        return None, -1

    def _rescue_lane(self, stage: StageState, slack: float) -> tuple[Group | None, int]:
        onward = self.outlook.options[stage.index]
        for room in (slack - self._margin, slack):
            for group in stage.groups.values():
                if group.available():
                    variant = best_in_time(stage, group.variants, onward, room)
                    if variant >= 0:
                        return group, variant
        return None, -1

    def _in_time_by_plan(self, stage: StageState, slack: float) -> bool:
        room = slack - self._margin - self.outlook.planned[stage.index]
        return any(stage.models[v].predict(1) <= room for v in stage.planned)

    def _batch_size(self, stage: StageState, variant: int, head: Item, room: float) -> int:
        """The largest batch that keeps its tightest item, the head, in time."""
        if head.solo:
            return 1
        predict = stage.models[variant].predict
        size = min(stage.batch[variant], len(stage.queue))
        while size > 1 and predict(size) > room:
            size -= 1
        return size

    def _take(self, stage: StageState, size: int, late_at: float | None) -> list[Item]:
        """The first `size` live items; with `late_at`, only as long as they too would be late by the plan."""
        queue = stage.queue
        items = [queue.pop()]
        while len(items) < size:
            item = queue.head()
            if item is None or item.solo:
                break
            if late_at is not None and self._in_time_by_plan(stage, item.request.deadline - late_at):
                break
            items.append(queue.pop())
        return items

    def _refresh(self, now: float) -> None:
        self.outlook = Outlook(self.stages, self._fleet.shared_cores, rescue=self._rescues)
        self._refresh_at = now + self.settings.refresh_s
