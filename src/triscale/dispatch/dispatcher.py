"""The data plane without I/O: requests in, batches and answers out.

Rule 1: nothing here reads a clock, sleeps, starts a task or draws a random number. Time comes in as `now`, which
never goes back; work goes out as `Commands`. The server (`serve/runner.py`) and the simulator drive this same class.

Rule 2: an event method (`arrive`, `batch_done`, `replica_ready`, ...) only changes state. `step(now)` then decides:
what has expired, what is hopeless, which batches to run. A driver calls it once after all events of an instant, so
that a batch sees everything that arrived together, and again no later than `next_wakeup()`.

Rule 3: `flow.py` moves requests and items, `fleet.py` has the lanes, `batching.py` is the one place where a batch is
formed; this file has the order in which things happen.
"""

from __future__ import annotations

from collections.abc import Sequence

from triscale.core.cluster import ReplicaId
from triscale.core.graph import Graph
from triscale.core.plan import Plan
from triscale.core.request import Outcome, Reason
from triscale.core.settings import Settings
from triscale.dispatch.accounts import Accounts
from triscale.dispatch.batching import AFTER, Batcher
from triscale.dispatch.commands import Commands
from triscale.dispatch.door import Door
from triscale.dispatch.fleet import Fleet
from triscale.dispatch.flow import Flow
from triscale.dispatch.outlook import Outlook
from triscale.dispatch.results import ItemResult
from triscale.dispatch.stage import ServiceModel, StageState
from triscale.dispatch.work import Item, Request

__all__ = ["Dispatcher"]


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
        self._grace = settings.late_grace
        self._rescues = settings.drop == "reroute"
        self._drops = [
            settings.drop in ("per_stage", "reroute") or (settings.drop == "last_stage" and not children)
            for children in graph.children
        ]
        self._door = Door(self.stages, settings, slo)
        self._flow = Flow(graph, self.stages, self.accounts)
        self._fleet = Fleet(graph, self.stages)
        self._batcher = Batcher(
            self.stages, self._flow, self._fleet, self.accounts, settings, self._drops, settings.margin * slo
        )
        self._refresh_at = now
        self._give_up_below: list[tuple[StageState, float]] = []
        """The stages where items are dropped, with the slack below which a waiting one is."""
        self.outlook: Outlook
        self.plan: Plan
        self.follow(plan, now)

    # --- events: the plan and the lanes -------------------------------------------------------------------------

    def follow(self, plan: Plan, now: float) -> None:
        """Use this plan's shares, batch sizes and admission from now on."""
        self.plan = plan
        shared = max((plan.shared_cores, *plan.node_cores.values()))
        for stage, name in zip(self.stages, self.graph.stages, strict=True):
            limits = [variant.max_batch for variant in self.graph.pipeline.stages[name].variants]
            stage.follow(plan.stages[name], self.graph, limits, shared if shared > 0.0 else float("inf"))
        self._door.follow(plan, now)
        self._refresh(now)

    def share_cores(self, node: str, cores: float) -> None:
        """Lanes of `node` run only while one of its `cores` is free.

        Call before the node's replicas are ready, and again when the cores change: fewer hold from the next batches on.
        """
        self._fleet.share_cores(node, cores)

    def replica_ready(
        self, replica: ReplicaId, stage: str, variants: Sequence[str], lanes: int, threads: int, node: str, now: float
    ) -> None:
        """A replica can take work on so many lanes. ValueError when its id is taken, or its stage unknown."""
        self._fleet.ready(replica, stage, variants, lanes, threads, node, now)

    def replica_adopted(
        self, replica: ReplicaId, variants: Sequence[str], lanes: int, threads: int, now: float
    ) -> bool:
        """A new controller took it over as it found it: what the last one had begun with it, a drain say, is off.

        The batches that it runs go on. False when it is unknown: then it is `replica_ready` as any other.
        """
        return self._fleet.adopt(replica, variants, lanes, threads, now)

    def resize(self, replica: ReplicaId, lanes: int, threads: int, now: float) -> None:
        """Use so many lanes of so many threads. Growing holds at once; a LanesClosed order says when all of it does.

        Call after the engine granted more cores, and before it takes any away. A later call supersedes a shrink
        that is not done yet: one order, with the lanes that there are then, answers both. Replicas that are unknown
        or draining are left alone.
        """
        self._fleet.resize(replica, lanes, threads, now)

    def variants_changed(
        self, replica: ReplicaId, variants: Sequence[str], now: float, *, changing: bool = False
    ) -> None:
        """It holds these variants, or is to be given no others' batches. ValueError when one is unknown, or none given.

        Call before the engine unloads a variant, with those that stay, and when it has loaded one. Batches that run
        are not touched. `changing`: others follow soon, and until then it does its part with these although the plan
        gives them no share. Replicas that are unknown or draining are left alone.
        """
        self._fleet.hold(replica, variants, now, changing=changing)

    def drain(self, replica: ReplicaId, now: float) -> None:
        """Give it no new work; a ReplicaDrained order follows when its last batch is done."""
        self._fleet.drain(replica, now)

    def replica_lost(self, replica: ReplicaId, now: float) -> None:
        """It is gone with whatever it ran: those items go back to their queues with the same deadlines."""
        self._run_again(self._fleet.lose(replica, now), Reason.REPLICA_LOST, now)

    # --- events: requests and batches ---------------------------------------------------------------------------

    def arrive(
        self, number: int, payloads: Sequence[object], deadline: float, now: float, tag: object = None
    ) -> Request:
        """A request is at the door, with one root item per payload. It may end at once, refused."""
        request = self._flow.arrive(number, deadline, now, tag)
        refusal = self._door.refuse(deadline, len(payloads), self.accounts.live - 1, self._current(now), now)
        if refusal is not None:
            request.retry_after_s = refusal.retry_after_s
            self._flow.end(request, Outcome.SHED, refusal.reason, -1, now)
            return request
        if self.settings.drop != "none":
            self._flow.expire_at(request, deadline + self._grace * max(0.0, deadline - now))
        self._flow.enter(request, payloads, now)
        return request

    def cancel(self, request: Request, now: float) -> None:
        """The client is gone: its items are not run any more. Requests that have ended are left alone."""
        if request.outcome is None:
            self._flow.end(request, Outcome.CANCELLED, Reason.CLIENT_GONE, -1, now)

    def abort(self, reason: Reason, now: float) -> None:
        """End every live request as failed (the server stops)."""
        for request in list(self._flow.live.values()):
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
        self._fleet.finish(batch)
        stage = self.stages[batch.stage]
        # What ran on other threads (a replica that is about to be resized) says nothing about the expected ones.
        if batch.group.threads == stage.threads[batch.variant]:
            stage.models[batch.variant].observe(len(items), now - batch.started)
        self._flow.complete(batch, results, now)

    def batch_failed(self, number: int, message: str, now: float) -> None:
        """The model failed the batch. Its items are tried once more, each alone; an item that fails alone is lost."""
        batch = self._fleet.running.get(number)
        if batch is None:
            return
        self._fleet.finish(batch)
        for item in batch.items:
            if item.request.outcome is not None:
                continue
            if len(batch.items) > 1:
                self._flow.requeue(item, now, solo=True)
            else:
                self._flow.give_up(item, Outcome.FAILED, Reason.MODEL_ERROR, now, message)

    # --- decisions ----------------------------------------------------------------------------------------------

    def step(self, now: float) -> Commands:
        """Decide on everything known at `now`."""
        self._flow.expire(now)
        self._kill_hung(now)
        self._current(now)
        for stage, least in self._give_up_below:
            if stage.queue.due < now + least:
                self._drop_hopeless(stage, now + least, now)
        self._batcher.fill(now)
        commands = Commands(self._batcher.runs, self._flow.ended, self._fleet.orders())
        self._batcher.runs, self._flow.ended = [], []
        return commands

    def next_wakeup(self) -> float | None:
        """When `step` must be called even if nothing happens; None while there is nothing to wait for."""
        wake = min(self._batcher.held_until, self._flow.next_expiry(), self._fleet.next_hang())
        for stage, least in self._give_up_below:
            due = stage.queue.due - least + AFTER
            if due < wake:
                wake = due
        return wake if wake < float("inf") else None

    def live_items(self) -> list[int]:
        """Per stage: items queued and running, for `accounts.unbalanced`."""
        return [stage.live for stage in self.stages]

    def waiting_since(self) -> float | None:
        """When the request that has been in the system longest arrived; None while there is none."""
        oldest = next(iter(self._flow.live.values()), None)
        return None if oldest is None else oldest.arrived

    def free_cores(self, node: str) -> float:
        """Shared cores of a node that no batch runs on; negative after a cut until enough batches are done.

        KeyError when the node's lanes do not share cores.
        """
        return self._fleet.cores[node].free

    def _kill_hung(self, now: float) -> None:
        while (batch := self._fleet.hung(now)) is not None:
            why = f"a batch of {len(batch.items)} items ran for {now - batch.started:.1f} s"
            self._run_again(self._fleet.give_up(batch.lane.replica.id, why, now), Reason.MODEL_HUNG, now)

    def _run_again(self, orphans: Sequence[Item], reason: Reason, now: float) -> None:
        """The replica that ran these items is gone."""
        retries = self.graph.pipeline.retries
        for item in orphans:
            if item.request.outcome is not None:
                continue
            if item.tries >= retries:
                self._flow.give_up(item, Outcome.FAILED, reason, now)
            else:
                # Its last try is its own: whoever kills a replica then is the culprit, and takes no one along.
                item.tries += 1
                self._flow.requeue(item, now, solo=item.tries == retries)

    def _drop_hopeless(self, stage: StageState, until: float, now: float) -> None:
        """The queue is in the order of deadlines, so what cannot be answered in time any more stands in front."""
        queue = stage.queue
        while queue.due < until:
            item = queue.at(0)
            queue.take(0, 1)
            self._flow.give_up(item, Outcome.DROPPED, Reason.PREDICTED_LATE, now)

    def _current(self, now: float) -> Outlook:
        """The predictions, renewed when they are old or lanes came or went."""
        if now >= self._refresh_at or self._fleet.changed:
            self._refresh(now)
        return self.outlook

    def _refresh(self, now: float) -> None:
        """Renew the predictions."""
        self._fleet.changed = False
        self.outlook = Outlook(
            self.stages,
            self._fleet.cores.values(),
            rescue=self.settings.drop == "reroute",
            spare_cores=self.plan.spare_cores,
            spare_after_s=self.plan.spare_after_s,
        )
        self._batcher.outlook = self.outlook
        self._give_up_below = [
            (stage, least)
            for stage, least, drops in zip(self.stages, self.outlook.least, self._drops, strict=True)
            if drops
        ]
        self._refresh_at = now + self.settings.refresh_s
