"""Requests and items on their way through the graph: fan-out, joins, losses, and the one end of each request.

Every item enters a stage in `_admit` or `_emit` and leaves it once: completed, given up, or abandoned because its
request ended. Every request ends in `end`, once. Nothing here chooses lanes or variants; the dispatcher does.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from triscale.core.graph import Graph
from triscale.core.request import Outcome, Reason
from triscale.dispatch.accounts import Accounts
from triscale.dispatch.results import ItemResult, Rejection
from triscale.dispatch.stage import StageState
from triscale.dispatch.work import Batch, Drop, Item, Request

__all__ = ["Flow"]


class Flow:
    """The state of all live requests. Ended ones are handed over through `ended`."""

    __slots__ = (
        "_accounts",
        "_allow_partial",
        "_counts",
        "_expiries",
        "_graph",
        "_joins",
        "_serial",
        "_stages",
        "_ways",
        "ended",
        "live",
    )

    def __init__(self, graph: Graph, stages: Sequence[StageState], accounts: Accounts) -> None:
        self._graph = graph
        self._stages = stages
        self._accounts = accounts
        self._counts = accounts.stages
        self._allow_partial = graph.pipeline.partial == "allow"
        self._joins = tuple(s for s, join in enumerate(graph.joins) if join)
        # Per stage and child: the child, and the row of its share table for what variant 0 emits.
        self._ways = [[(stages[c], stages[c].rows[s]) for c in children] for s, children in enumerate(graph.children)]
        # Only serial numbers wait for their time: a heap of requests would keep the ended ones, and all that they
        # hold, until their deadlines have passed.
        self._expiries: list[tuple[float, int]] = []
        self._serial = 0
        self.live: dict[int, Request] = {}
        """By serial number: the requests that have not ended, in the order of arrival."""
        self.ended: list[Request] = []

    # --- in -----------------------------------------------------------------------------------------------------

    def arrive(self, number: int, deadline: float, now: float, tag: object) -> Request:
        """A request is at the door; it is live until it ends."""
        self._serial += 1
        request = Request(number, self._serial, now, deadline, len(self._stages), tag)
        self.live[self._serial] = request
        self._accounts.arrived += 1
        self._accounts.live += 1
        return request

    def enter(self, request: Request, payloads: Sequence[object], now: float) -> None:
        """A request is admitted. One without items is done, but for what gathers nothing."""
        if not payloads:
            self._advance(request, now)
            return
        self._admit(
            request, self._stages[0], [Item(request, 0, p, None, row, 0, 1.0, now) for row, p in enumerate(payloads)]
        )

    def _admit(self, request: Request, stage: StageState, items: list[Item]) -> None:
        """Items, at least one, enter a stage: the only way in, but for what a batch emits (`_emit`)."""
        count = len(items)
        request.pending += count
        request.live[stage.index] += count
        stage.live += count
        self._counts[stage.index].entered += count
        stage.queue.push(items, request.key)

    def requeue(self, item: Item, now: float, *, solo: bool) -> None:
        """An item's run ended without a result: it waits again, to be run `solo` when it may be the culprit."""
        item.solo = item.solo or solo
        item.since = now
        self._counts[item.stage].requeued += 1
        self._stages[item.stage].queue.push_one(item, item.request.key)

    # --- on -----------------------------------------------------------------------------------------------------

    def complete(self, batch: Batch, results: Sequence[ItemResult], now: float) -> None:
        """The items of a batch were run: outputs are kept, and what the items emitted enters the children.

        The hottest loop of the dispatcher, so the life of an item is written out here rather than in methods.
        """
        s, variant = batch.stage, batch.variant
        stage = self._stages[s]
        own_accuracy = stage.accuracy[variant]
        bit = 1 << variant
        ways = self._ways[s]
        emitted = [0] * len(ways)
        joins = self._joins
        completed = 0
        for item, result in zip(batch.items, results, strict=True):
            request = item.request
            if request.outcome is not None:
                continue  # its request ended without it: the item is counted as abandoned
            if isinstance(result, Rejection):
                self.give_up(item, Outcome.FAILED, Reason.REJECTED, now, result.message)
                continue
            completed += 1
            output, children = result
            request.used[s] |= bit
            accuracy = item.accuracy * own_accuracy
            if output is not None:
                request.outputs.append((item, output))
            is_end = True
            for position, payloads in enumerate(children):
                if payloads:
                    is_end = False
                    emitted[position] += len(payloads)
                    child, row = ways[position]
                    self._emit(item, child, payloads, row + variant, accuracy, now)
            if is_end:
                request.accuracy_sum += accuracy * item.weight
                request.answers += item.weight
            item.payload = None
            # Counted at once, not after the loop: the request may end, and settle its accounts, within it.
            stage.live -= 1
            request.live[s] -= 1
            request.pending -= 1
            if joins or not request.pending:
                self._advance(request, now)
        if completed:
            self._counts[s].completed += completed
            if ways:
                stage.learn_fan_out(variant, completed, emitted)

    def _emit(
        self, item: Item, child: StageState, payloads: Sequence[object], row: int, accuracy: float, now: float
    ) -> None:
        """What one item emitted for one child enters it, or is held until the child gathers."""
        request = item.request
        c = child.index
        if child.is_join:
            held = request.held.setdefault(c, [])
            held.extend((item, index, payload, accuracy) for index, payload in enumerate(payloads))
            return
        count = len(payloads)
        # `_admit`, written out; and one item without the comprehension, which costs as much as the item.
        if count == 1:
            child.queue.push_one(Item(request, c, payloads[0], item, 0, row, accuracy, now), request.key)
        else:
            child.queue.push(
                [Item(request, c, p, item, i, row, accuracy, now) for i, p in enumerate(payloads)], request.key
            )
        request.pending += count
        request.live[c] += count
        child.live += count
        self._counts[c].entered += count

    def give_up(self, item: Item, outcome: Outcome, reason: Reason, now: float, message: str = "") -> None:
        """An item, not queued any more, will not be completed. The pipeline says what it means for its request."""
        request = item.request
        s = item.stage
        self._counts[s].given_up[reason] += 1
        if request.lost_as is None:
            request.lost_as, request.lost_why, request.lost_at = outcome, reason, s
            request.message = message
        request.lost += 1
        request.lost_in |= 1 << s
        if request.dropped_items is not None and outcome is Outcome.DROPPED:
            request.dropped_items.append(Drop(s, item.since, now))
        request.answers += item.weight
        item.payload = None
        self._stages[s].live -= 1
        request.live[s] -= 1
        request.pending -= 1
        if self._allow_partial:
            self._advance(request, now)
        else:
            self.end(request, outcome, reason, s, now)

    def _advance(self, request: Request, now: float) -> None:
        """An item has left its stage: start the joins that waited for it, and answer if it was the last."""
        if self._joins:
            self._start_joins(request, now)
        if not request.pending:
            self._answer(request, now)

    def _start_joins(self, request: Request, now: float) -> None:
        for s in self._joins:
            above = self._graph.ancestors[s]
            # An earlier join that has not begun waits for a stage above it, which is above this one, too.
            if request.joined >> s & 1 or any(request.live[a] for a in above):
                continue
            request.joined |= 1 << s
            held = request.held.pop(s, [])
            if not held and any(request.lost_in >> a & 1 for a in above):
                continue  # what could have reached it was lost: there is nothing to answer with
            held.sort(key=lambda part: (*part[0].place(), s, part[1]))
            accuracy = sum(part[3] for part in held) / len(held) if held else 1.0
            item = Item(request, s, tuple(part[2] for part in held), None, 0, 0, accuracy, now)
            item.weight = max(1, len(held))
            self._admit(request, self._stages[s], [item])

    # --- out ----------------------------------------------------------------------------------------------------

    def _answer(self, request: Request, now: float) -> None:
        if request.lost_as is not None and not request.outputs:
            self.end(request, request.lost_as, request.lost_why, request.lost_at, now)
            return
        outcome = Outcome.LATE if now > request.deadline else Outcome.ANSWERED
        self.end(request, outcome, Reason.NONE, -1, now)

    def end(self, request: Request, outcome: Outcome, reason: Reason, stage: int, now: float) -> None:
        """A request ends: the only way out."""
        assert request.outcome is None, f"{request!r} would end twice"
        request.outcome = outcome
        request.reason = reason
        request.stage = stage
        request.ended = now
        del self.live[request.key[1]]
        accounts = self._accounts
        accounts.live -= 1
        accounts.outcomes[outcome] += 1
        if outcome is not Outcome.ANSWERED:
            accounts.causes[(outcome, stage, reason)] += 1
        if outcome <= Outcome.LATE:
            accounts.partial += request.lost > 0
        else:
            request.outputs.clear()
        request.held.clear()
        if request.pending:
            self._abandon(request)
        self.ended.append(request)

    def _abandon(self, request: Request) -> None:
        for s, live in enumerate(request.live):
            if live:
                stage = self._stages[s]
                stage.live -= live
                stage.queue.withdraw(request.key)
                self._counts[s].abandoned += live

    # --- expiry -------------------------------------------------------------------------------------------------

    def expire_at(self, request: Request, at: float) -> None:
        """From `at` on an answer is of no use to the client."""
        heapq.heappush(self._expiries, (at, request.key[1]))

    def expire(self, now: float) -> None:
        """End the live requests whose time is over."""
        expiries = self._expiries
        while expiries and expiries[0][0] <= now:
            request = self.live.get(heapq.heappop(expiries)[1])
            if request is not None:
                # The first stage that still holds it is where its time was lost.
                stage = next((s for s, live in enumerate(request.live) if live), -1)
                self.end(request, Outcome.DROPPED, Reason.EXPIRED, stage, now)

    def next_expiry(self) -> float:
        """When `expire` has something to do; infinity when never."""
        expiries = self._expiries
        while expiries and expiries[0][1] not in self.live:
            heapq.heappop(expiries)
        return expiries[0][0] if expiries else float("inf")
