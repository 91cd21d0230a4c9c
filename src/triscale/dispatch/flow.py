"""Requests and items on their way through the graph: fan-out, joins, losses, and the one end of each request.

Every item enters a stage in `admit` and leaves it once: completed, given up, or abandoned because its request ended.
Every request ends in `end`, once. Nothing here chooses lanes or variants; the dispatcher does.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from triscale.core.graph import Graph
from triscale.core.request import Outcome, Reason
from triscale.dispatch.accounts import Accounts
from triscale.dispatch.stage import StageState
from triscale.dispatch.work import Item, Request

__all__ = ["Flow"]


class Flow:
    """The state of all live requests. Ended ones are handed over through `ended`."""

    __slots__ = ("_accounts", "_allow_partial", "_expiries", "_graph", "_joins", "_serial", "_stages", "ended")

    def __init__(self, graph: Graph, stages: Sequence[StageState], accounts: Accounts) -> None:
        self._graph = graph
        self._stages = stages
        self._accounts = accounts
        self._allow_partial = graph.pipeline.partial == "allow"
        self._joins = tuple(s for s, join in enumerate(graph.joins) if join)
        self._expiries: list[tuple[float, int, Request]] = []
        self._serial = 0
        self.ended: list[Request] = []

    # --- in -----------------------------------------------------------------------------------------------------

    def admit(self, request: Request, stage: StageState, items: Sequence[Item]) -> None:
        """Items enter a stage: the only way in."""
        count = len(items)
        request.pending += count
        request.live[stage.index] += count
        stage.live += count
        self._accounts.stages[stage.index].entered += count
        push = stage.queue.push
        for item in items:
            push(item)

    def requeue(self, item: Item, now: float) -> None:
        """An item's run ended without a result: it waits again, and will be run alone in case it is the culprit."""
        item.tries += 1
        item.solo = True
        item.since = now
        self._accounts.stages[item.stage].requeued += 1
        self._stages[item.stage].queue.push(item)

    # --- on -----------------------------------------------------------------------------------------------------

    def complete(
        self,
        item: Item,
        variant: int,
        output: object | None,
        children: Sequence[Sequence[object]],
        emitted: list[int],
        now: float,
    ) -> None:
        """An item was run: its output is kept, what it emitted enters the children (and is counted in `emitted`)."""
        request = item.request
        stage = self._stages[item.stage]
        request.used[item.stage] |= 1 << variant
        accuracy = item.accuracy * stage.accuracy[variant]
        if output is not None:
            request.outputs.append((item, output))
        is_end = True
        for position, payloads in enumerate(children):
            if not payloads:
                continue
            is_end = False
            emitted[position] += len(payloads)
            child = self._stages[stage.children[position]]
            if child.is_join:
                held = request.held.setdefault(child.index, [])
                held.extend((item, index, payload, accuracy) for index, payload in enumerate(payloads))
                continue
            row = child.rows.get(variant, 0) if child.rows else 0
            c = child.index
            self.admit(
                request,
                child,
                [Item(request, c, p, item, index, row, accuracy, now) for index, p in enumerate(payloads)],
            )
        if is_end:
            request.accuracy_sum += accuracy * item.weight
            request.answers += item.weight
        item.payload = None
        self._accounts.stages[item.stage].completed += 1
        self._leave(item, now)

    def give_up(self, item: Item, outcome: Outcome, reason: Reason, now: float, message: str = "") -> None:
        """An item will not be completed. What that means for its request is the pipeline's choice (`partial`)."""
        request = item.request
        self._accounts.stages[item.stage].given_up[reason] += 1
        if request.lost_as is None:
            request.lost_as, request.lost_why, request.lost_at = outcome, reason, item.stage
            request.message = message
        request.lost += 1
        request.answers += item.weight
        if self._allow_partial:
            self._leave(item, now)
            return
        request.live[item.stage] -= 1
        self._stages[item.stage].live -= 1
        self.end(request, outcome, reason, item.stage, now)

    def _leave(self, item: Item, now: float) -> None:
        """An item has left its stage; start the joins that waited for it, and answer if it was the last."""
        request = item.request
        request.live[item.stage] -= 1
        self._stages[item.stage].live -= 1
        request.pending -= 1
        if self._joins:
            self._start_joins(request, now)
        if request.pending == 0:
            self._answer(request, now)

    def _start_joins(self, request: Request, now: float) -> None:
        for s in self._joins:
            above = self._graph.ancestors[s]
            if request.joined >> s & 1 or any(request.live[a] for a in above):
                continue
            if any(a in above and not request.joined >> a & 1 for a in self._joins):
                continue
            request.joined |= 1 << s
            held = request.held.pop(s, [])
            if not held and request.lost:
                continue  # all that could have reached it was lost: there is nothing to answer with
            held.sort(key=lambda part: (*part[0].place(), part[1]))
            accuracy = sum(part[3] for part in held) / len(held) if held else 1.0
            item = Item(request, s, tuple(part[2] for part in held), None, 0, 0, accuracy, now)
            item.weight = max(1, len(held))
            self.admit(request, self._stages[s], [item])

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
        for s, live in enumerate(request.live):
            if live:
                state = self._stages[s]
                state.live -= live
                accounts.stages[s].abandoned += live
                state.queue.compact(state.live)
        self.ended.append(request)

    # --- expiry -------------------------------------------------------------------------------------------------

    def expire_at(self, request: Request, at: float) -> None:
        """From `at` on an answer is of no use to the client."""
        self._serial += 1
        heapq.heappush(self._expiries, (at, self._serial, request))

    def expire(self, now: float) -> None:
        """End the live requests whose time is over."""
        expiries = self._expiries
        while expiries and expiries[0][0] <= now:
            request = heapq.heappop(expiries)[2]
            if request.outcome is None:
                # The first stage that still holds it is where its time was lost.
                stage = next((s for s, live in enumerate(request.live) if live), -1)
                self.end(request, Outcome.DROPPED, Reason.EXPIRED, stage, now)

    def next_expiry(self) -> float:
        """When `expire` has something to do; infinity when never."""
        expiries = self._expiries
        while expiries and expiries[0][2].outcome is not None:
            heapq.heappop(expiries)
        return expiries[0][0] if expiries else float("inf")
