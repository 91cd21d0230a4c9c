"""Where batches are formed: which item, on which variant, in which company, on which lane, or not yet.

The head of a stage's queue (the earliest deadline) is looked at first. If the plan's variant can run it in a full
batch and in time, that is it. If not, in this order:
1. the batch shrinks until the head is in time;
2. a faster variant rescues it, the most accurate that will do;
3. it is given up, if the stage is *crowded*: working off the queue takes a large part of the last item's slack.

While more waits than there are idle lanes, neither 1 nor 2 may waste a lane: a batch must do nearly the work per
second that the plan's would (`sizing.pace`). Without that, a queue of items that are all nearly late is run in
batches of one, and goodput collapses just when load is highest.

An item counts with its siblings: what its request still has at the stage is run by the same lanes, and must be in
time together; if that cannot be, as many as possible are. (On a simulated OCR pipeline at twice its planned capacity
this raised attainment from 95.7 to 99.2 % and cut the lines lost per page from 1.3 to 0.3.)

An item that none of the idle lanes can save, but a busy one may, is left waiting and does not hold up the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from triscale.core.request import Outcome, Reason
from triscale.core.settings import Settings
from triscale.dispatch.accounts import Accounts
from triscale.dispatch.fleet import Fleet
from triscale.dispatch.flow import Flow
from triscale.dispatch.outlook import Outlook
from triscale.dispatch.rescue import best_in_time
from triscale.dispatch.sizing import largest, pace, quickest
from triscale.dispatch.stage import Routes, StageState
from triscale.dispatch.work import Batch, Group, Item

__all__ = ["AFTER", "Batcher"]

AFTER = 1e-6
"""Wake this much after an instant computed by subtraction, so that rounding cannot wake us too early for ever."""
_CROWDED = 0.5
"""A stage is crowded when working off its queue takes more than this part of the last item's slack."""
_LOOK_AHEAD = 64
"""Items looked at for one that need not wait although the head had better."""


class _Choice(NamedTuple):
    """A batch to be: at most `size` items from `position` in the queue on."""

    group: Group
    variant: int
    position: int
    size: int
    rescued: bool = False
    on_time_from: float = float("inf")
    """Of a rescue: the deadline from which on an item is on time without it."""


class _Case(NamedTuple):
    """An item that the plan's full batch would make late, and what there is to run it on."""

    stage: StageState
    groups: Sequence[Group]
    """With an idle lane each."""
    position: int
    item: Item
    group: Group | None
    """The plan's choice and its variant; None and -1 where no idle lane holds what the plan gives the item."""
    planned: int
    waiting: int
    """Items from this one on that could run with it, itself included."""
    pace: float
    """Items per second of lane that its batch must reach."""
    together: float
    """Items of its request that each lane of the stage has to run, at least 1."""
    now: float


_Verdict: TypeAlias = _Choice | int | None
"""A batch to run, the position to look at next, or None: all had better wait."""


class Batcher:
    """Fills idle lanes. `outlook` is kept up to date by the dispatcher."""

    __slots__ = (
        "_accounts",
        "_drops",
        "_fleet",
        "_flow",
        "_gave_up",
        "_margin",
        "_rescues",
        "_settings",
        "_stages",
        "held_until",
        "outlook",
        "runs",
    )

    def __init__(
        self,
        stages: Sequence[StageState],
        flow: Flow,
        fleet: Fleet,
        accounts: Accounts,
        settings: Settings,
        drops: Sequence[bool],
        margin_s: float,
    ) -> None:
        self._stages = stages
        self._flow = flow
        self._fleet = fleet
        self._accounts = accounts
        self._settings = settings
        self._drops = drops
        self._margin = margin_s
        self._rescues = settings.drop == "reroute"
        self._gave_up = False
        self.outlook: Outlook
        self.held_until = float("inf")
        """When an item that had better wait, although a lane is idle, must be looked at again."""
        self.runs: list[Batch] = []

    def fill(self, now: float) -> None:
        """Form batches while an item and a lane for it are there; cores go to the earliest deadline."""
        self.held_until = float("inf")
        for cores in self._fleet.cores.values():
            cores.reserved = False
        done = 0
        while True:
            chosen: StageState | None = None
            earliest = float("inf")
            for stage in self._stages:
                if stage.idle and not done >> stage.index & 1:
                    due = stage.queue.due
                    if due < earliest or (chosen is not None and due == earliest and _precedes(stage, chosen)):
                        chosen, earliest = stage, due
            if chosen is None:
                return
            ran = self._start(chosen, now)
            if self._gave_up or (ran and self._fleet.cores):
                # A loss may have let a join begin; cores that were taken leave other stages other lanes to choose from.
                self._gave_up = False
                done = 0
            if not ran:
                done |= 1 << chosen.index

    def _start(self, stage: StageState, now: float) -> bool:
        """Run the most urgent item of a stage that can be run; False when all had better wait."""
        groups = stage.available()
        if not groups:
            _reserve(stage, stage.routes[stage.queue.at(0).row])
            return False
        choice = self._choose(stage, groups, now)
        if choice is None:
            return False
        group, variant, position, _, rescued, _ = choice
        items = _company(stage, choice)
        if stage.linger_s > 0.0 and not rescued and self._lingers(stage, items, variant, now):
            return False
        size = len(items)
        stage.queue.take(position, size)
        counts = self._accounts.stages[stage.index]
        if rescued:
            counts.rescued += size
        elif stage.by_path:
            for item in items:
                stage.routes[item.row].charge(variant, 1, stage.batch)
        else:
            stage.routes[0].charge(variant, size, stage.batch)
        expected = stage.models[variant].predict(size)
        hang = max(self._settings.hang_floor_s, self._settings.hang_factor * expected)
        self.runs.append(self._fleet.start(stage, group, variant, items, expected, hang, now))
        counts.batches[variant] += 1
        counts.items_run[variant] += size
        counts.sizes[size] += 1
        return True

    # --- which item, on which variant ---------------------------------------------------------------------------

    def _choose(self, stage: StageState, groups: Sequence[Group], now: float) -> _Choice | None:
        """The first item that a lane of `groups` should run, and how; None when all had better wait."""
        queue = stage.queue
        reserve = self._margin + self.outlook.planned[stage.index]
        position = 0
        while position < len(queue):
            item = queue.at(position)
            routes = stage.routes[item.row]
            group, planned = _planned_lane(groups, routes)
            waiting = 1 if item.solo else len(queue) - position
            together = item.request.live[stage.index] / self.outlook.lanes[stage.index]
            if group is not None:
                size = min(stage.batch[planned], waiting)
                rounds = together / size if together > size else 1.0
                if stage.models[planned].predict(size) * rounds <= item.request.deadline - now - reserve:
                    return _Choice(group, planned, position, size)
            goal = pace(stage, groups, planned if planned >= 0 else routes.variants[0], waiting)
            together = 1.0 if item.solo else max(1.0, together)
            case = _Case(stage, groups, position, item, group, planned, waiting, goal, together, now)
            verdict = self._rescue(case) if self._rescues else self._run_late(case)
            if not isinstance(verdict, int):
                return verdict
            position = verdict
        return None

    def _rescue(self, case: _Case) -> _Verdict:
        """Shrink the batch, use a faster variant, give the item up, or wait for a lane that can save it."""
        stage, groups, position, item, group, planned, waiting, goal, together, now = case
        deadline = item.request.deadline
        slack = deadline - now
        reserve = self._margin + self.outlook.planned[stage.index]
        by_plan = (planned,) if group is not None else stage.routes[item.row].variants
        here = min(quickest(stage, v, waiting, goal, together) for v in by_plan)
        if here <= slack - reserve:
            if group is not None:
                return _Choice(group, planned, position, largest(stage, planned, waiting, slack - reserve, together))
            # It waits for a lane that the plan gives it, until that would make it late.
            self.held_until = min(self.held_until, deadline - reserve - here + AFTER)
            return _next_unlike(stage, position)
        onward = self.outlook.options[stage.index]
        fastest = onward[0][0]
        idle = _held(groups)
        alone = {v: quickest(stage, v, waiting, goal, 1.0) for v in idle}
        times = {v: quickest(stage, v, waiting, goal, together) for v in idle} if together > 1.0 else alone
        for room in (slack - self._margin, slack):
            v = best_in_time(stage, times, onward, room)
            if v >= 0 and v in by_plan and goal and now >= self._crowded_from(stage, by_plan[0]):
                # The plan's own variant saves it only if nothing waits further on, which is not so where work piles up:
                # it would be lost there instead, with all that it emits.
                return self._give_up(stage, position, now)
            if v >= 0:
                size = largest(stage, v, waiting, slack - fastest, together)
                return _Choice(_holder(groups, v), v, position, size, v != planned, self._on_time_from(case, by_plan))
        if together > 1.0 and min(alone.values()) + fastest <= slack:
            return self._run_anyhow(case, by_plan)
        everywhere = min(quickest(stage, v, waiting, goal, 1.0) for v in stage.resident)
        if everywhere + fastest > slack:
            if goal and now >= self._crowded_from(stage, by_plan[0]):
                return self._give_up(stage, position, now)
            return self._run_anyhow(case, by_plan)
        # A busy lane may still save it, but not for ever. The idle ones can save those that have this much slack.
        self.held_until = min(self.held_until, deadline - fastest - everywhere + AFTER)
        return max(position + 1, stage.queue.position(now + fastest + _quickest_alone(stage, idle)))

    def _on_time_from(self, case: _Case, by_plan: Sequence[int]) -> float:
        """The deadline from which on others are on time without a rescue, though they are left to the next lane.

        The item's own siblings are as late as it is.
        """
        stage = case.stage
        here = min(quickest(stage, v, case.waiting, case.pace, 1.0) for v in by_plan)
        if case.pace:
            here *= 1.0 + 1.0 / self.outlook.lanes[stage.index]
        others = case.now + self._margin + self.outlook.planned[stage.index] + here
        return max(others, math.nextafter(case.item.request.deadline, math.inf))

    def _run_anyhow(self, case: _Case, by_plan: Sequence[int]) -> _Verdict:
        """No batch saves it and its siblings, or none that is worth the lane: the one that does most per second."""
        stage, groups, position, item, _, planned, waiting, goal, _, now = case
        room = item.request.deadline - now - self.outlook.options[stage.index][0][0]
        best: tuple[float, int, int] | None = None
        idle = _held(groups)
        for v in idle:
            size = largest(stage, v, waiting, room, 1.0)
            seconds = stage.models[v].predict(size)
            if seconds <= room and (best is None or size / seconds > best[0]):
                best = size / seconds, v, size
        if best is None:
            if goal:
                self.held_until = min(self.held_until, self._crowded_from(stage, by_plan[0]) + AFTER)
            least = item.request.deadline - room + _quickest_alone(stage, idle)
            return max(position + 1, stage.queue.position(least))
        _, v, size = best
        return _Choice(_holder(groups, v), v, position, size, v != planned, self._on_time_from(case, by_plan))

    def _run_late(self, case: _Case) -> _Verdict:
        """The same where nothing is rescued: the item is run by the plan, late or not, or dropped."""
        stage, _, position, item, group, planned, waiting, goal, _, now = case
        if group is None:
            return _next_unlike(stage, position)
        s = stage.index
        slack = item.request.deadline - now
        here = quickest(stage, planned, waiting, goal, 1.0)
        for room in (slack - self.outlook.planned[s] - self._margin, slack - self.outlook.planned[s]):
            if here <= room:
                return _Choice(group, planned, position, largest(stage, planned, waiting, room, 1.0))
        room = slack - self.outlook.options[s][0][0]
        if not self._drops[s]:
            return _Choice(group, planned, position, min(stage.batch[planned], waiting))  # late, whatever its size
        if stage.models[planned].predict(1) > room or (goal and now >= self._crowded_from(stage, planned)):
            return self._give_up(stage, position, now)
        return _Choice(group, planned, position, largest(stage, planned, waiting, room, 1.0))

    def _give_up(self, stage: StageState, position: int, now: float) -> int:
        item = stage.queue.at(position)
        stage.queue.take(position, 1)
        self._flow.give_up(item, Outcome.DROPPED, Reason.PREDICTED_LATE, now)
        self._gave_up = True
        return 0  # its request may have ended, and taken more from the queue

    def _crowded_from(self, stage: StageState, variant: int) -> float:
        """When working off the queue as it is takes a large part of the slack of its last item."""
        full = stage.batch[variant]
        drain = len(stage.queue) * stage.models[variant].typical(full) / (full * self.outlook.lanes[stage.index])
        return stage.queue.last_deadline() - self.outlook.least[stage.index] - drain / _CROWDED

    def _lingers(self, stage: StageState, items: list[Item], variant: int, now: float) -> bool:
        """Whether a batch had better wait for company: not past its linger time, nor past the slack of its head."""
        full = stage.batch[variant]
        if len(stage.queue) >= full or items[0].solo:
            return False
        latest = items[0].request.deadline - self._margin - self.outlook.planned[stage.index]
        until = min(min(item.since for item in items) + stage.linger_s, latest - stage.models[variant].predict(full))
        if now >= until:
            return False
        self.held_until = min(self.held_until, until + AFTER)
        return True


def _precedes(stage: StageState, other: StageState) -> bool:
    """Whether the request at the head of one queue arrived before that of the other, with the same deadline."""
    mine, theirs = stage.queue.head_key(), other.queue.head_key()
    return mine is not None and theirs is not None and mine < theirs


def _reserve(stage: StageState, routes: Routes) -> None:
    """Only cores are missing: later deadlines may not take the ones that are free, lest wide lanes starve."""
    for group in stage.groups:
        cores = group.cores
        if group.idle and cores is not None and group.threads <= cores.total and routes.pick(group.variants) >= 0:
            cores.reserved = True


def _planned_lane(groups: Sequence[Group], routes: Routes) -> tuple[Group | None, int]:
    """The lanes and the variant whose turn it is by the plan: the most accurate lanes with room.

    Lanes that share cores take them from each other: among those the credits decide, then who has more cores free.
    """
    best: Group | None = None
    best_variant = -1
    for group in groups:
        variant = routes.pick(group.variants)
        if variant < 0 or (best is not None and group.cores is None):
            continue
        if group.cores is None:
            return group, variant
        if best is None:
            best, best_variant = group, variant
            continue
        assert best.cores is not None
        ahead = routes.credits[variant] - routes.credits[best_variant]
        if ahead > 1e-9 or (variant == best_variant and group.cores.free > best.cores.free):
            best, best_variant = group, variant
    return best, best_variant


def _held(groups: Sequence[Group]) -> Sequence[int]:
    """The variants that some lane of these groups holds."""
    if len(groups) == 1:
        return groups[0].variants
    return list(dict.fromkeys(v for group in groups for v in group.variants))


def _company(stage: StageState, choice: _Choice) -> list[Item]:
    """The batch: those behind the first item as far as the choice suits them too."""
    _, variant, position, size, rescued, on_time_from = choice
    queue = stage.queue
    items = queue.slice(position, size)
    if rescued and size > 1:
        # An item that is on time is never touched.
        del items[max(1, queue.position(on_time_from) - position) :]
    mixed = stage.by_path and not rescued
    for index in range(1, len(items)):
        item = items[index]
        if item.solo or (mixed and stage.routes[item.row].shares[variant] <= 0.0):
            del items[index:]
            break
    return items


def _holder(groups: Sequence[Group], variant: int) -> Group:
    return next(group for group in groups if variant in group.variants)


def _quickest_alone(stage: StageState, variants: Sequence[int]) -> float:
    return min(stage.models[v].predict(1) for v in variants)


def _next_unlike(stage: StageState, position: int) -> int | None:
    """Where to go on behind an item that had better wait: those due later had better, too, unless they differ.

    That is, the plan has other lanes for their path, they need no company, or more siblings make them late earlier.
    None when there is no such item nearby.
    """
    queue = stage.queue
    s = stage.index
    first = queue.at(position)
    routes, solo, siblings = stage.routes[first.row], first.solo, first.request.live[s]
    for other in range(position + 1, min(len(queue), _LOOK_AHEAD)):
        item = queue.at(other)
        if item.request.live[s] > siblings or item.solo is not solo or stage.routes[item.row] is not routes:
            return other
    return None
