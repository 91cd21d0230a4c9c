"""Makes what runs equal to the plan, one step at a time, and never waits for it.

`pursue(plan)` starts what can be started now (`policy/reconcile.py` says what) and returns; whatever finishes later
(a launch, a resize, a drain, a death) leads to another look. A cold start therefore never stops a decision, and a plan
that is replaced half-way is simply not pursued further.

Per replica one resize is in flight, and the newest target wins; so it is with its variants (`control/holding.py`). A
replica that dies, or cannot be launched, again and again is launched more and more slowly, and never takes the others
down with it. Where a replica is refused the cores to grow, its node counts as full for a while, so that the next plan
does without them; where one cannot load another variant, its stage's are launched for a while. Requests are not this
file's business: the dispatcher requeues what a lost replica ran.

Nothing here needs to be kept: what runs is asked of the engine, so a controller that starts anew (`take_over`,
`restart`) goes on with it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from triscale.clock import Clock
from triscale.control.backoff import Backoff
from triscale.control.fleet import Fleet, Known
from triscale.control.holding import Holding
from triscale.control.inventory import Inventory
from triscale.core.cluster import Node, NodeId, Replica, ReplicaId, ReplicaSpec, Resized, Resizing
from triscale.core.plan import Drain, Hold, Launch, Plan, Resize
from triscale.core.ports import Engine, NodeDown, NodeUp, ReplicaExited, ReplicaReady, ReplicaResized
from triscale.core.snapshot import Phase, ReplicaView
from triscale.errors import EngineError
from triscale.observe.recorder import ControlRecorder
from triscale.policy.reconcile import reconcile

__all__ = ["Actuator"]

_log = logging.getLogger("triscale.control")

_HEALTHY_AFTER_S = 10.0
"""A replica that lived so long before it died starts with a clean record."""
_REFUSED_FOR_S = 10.0
"""A replica that could not grow is not asked to again for so long, nor its node counted on for more than it holds; nor
is any of a stage asked to load other variants when one could not."""
_GAIN = 0.3
"""Weight of the latest cold start, or resize, in the running mean of what one takes."""


class Actuator:
    """Carries out plans on an engine, and tells the fleet."""

    def __init__(
        self,
        engine: Engine,
        fleet: Fleet,
        clock: Clock,
        *,
        cold_start_s: float = 0.0,
        resize_s: float = 0.0,
        drain_grace_s: float = 30.0,
        on_crash: Callable[[ReplicaId, str], None] = lambda _replica, _reason: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        recorder: ControlRecorder | None = None,
    ) -> None:
        self._engine = engine
        self._fleet = fleet
        self._clock = clock
        self._grace = drain_grace_s
        self._on_crash = on_crash
        self._sleep = sleep
        self._recorder = recorder or ControlRecorder()
        self._ids = itertools.count(1)
        self._known: dict[ReplicaId, Known] = {}
        self._inventory = Inventory()
        self._grants: dict[NodeId, float] = {}
        self._backoff = Backoff()
        self._holding = Holding(engine, fleet, self._takes_work)
        self._no_holds: dict[str, float] = {}
        """Stage -> until when its replicas are not asked to hold other variants."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._launches: dict[ReplicaId, asyncio.Task[None]] = {}
        self._plan: Plan | None = None
        self._closing = False
        self._beginning = False
        self.cold_start_s = cold_start_s
        """What a launch takes: as expected, then as measured."""
        self.resize_s = resize_s
        """What a resize takes, likewise."""
        self.launches = 0
        self.launch_failures = 0
        self.resizes = 0
        self.holds = 0
        self.hold_failures = 0
        self.drains = 0
        self.deaths = 0
        """Steps begun, and replicas that died unasked, since the start."""

    @property
    def nodes(self) -> Sequence[Node]:
        """The nodes, as the engine last described them; those that refused cores with no more than they gave."""
        return self._inventory.seen(self._clock.now())

    @property
    def replicas(self) -> Sequence[ReplicaView]:
        """Every replica from the moment its launch begins until it is gone."""
        return tuple(known.view() for known in self._known.values())

    @property
    def grants(self) -> Mapping[NodeId, float]:
        """Node -> cores that its lanes share now; empty where every lane has cores of its own."""
        return dict(self._grants)

    async def begin(self, plan: Plan) -> None:
        """Take over what the engine runs already, then pursue `plan` until all that it wants is ready.

        EngineError when a replica cannot be launched: a server that cannot run its first plan should say so.
        """
        self._beginning = True
        try:
            await self.take_over(plan)
            results = await asyncio.gather(*self._launches.values(), return_exceptions=True)
        finally:
            self._beginning = False
        for result in results:
            if isinstance(result, Exception):  # a launch that was called off is not wanted any more
                raise result

    async def take_over(self, plan: Plan) -> None:
        """Adopt what the engine runs, then pursue `plan`, without waiting for what that needs to be launched."""
        self._inventory.know(await self._engine.nodes())
        for replica in await self._engine.replicas():
            self._adopt(replica)
        self.pursue(plan)

    async def restart(self, plan: Plan) -> None:
        """Break off every step, forget everything, and take over, as a new controller would. Requests flow on."""
        await self.close()
        self._known.clear()
        self._grants.clear()
        self._backoff.clear()
        self._no_holds.clear()
        self._plan, self._closing = None, False
        await self.take_over(plan)

    def pursue(self, plan: Plan) -> None:
        """Follow `plan` from now on, and start what can be started towards it. Returns at once."""
        if plan is not self._plan:
            self._plan = plan
            self._fleet.follow(plan)
        self._look()

    async def watch(self) -> None:
        """Follow the engine's events until cancelled."""
        async for event in self._engine.events():
            match event:
                case ReplicaExited():
                    self._exited(event)
                case ReplicaResized(replica, resized):
                    known = self._known.get(replica)
                    if known is not None and not known.resizing:
                        # What was deferred is done now, or the engine took something back.
                        known.reshaped(resized.lanes, resized.threads)
                        known.stay()
                        if not known.shaping.locked():  # else its lanes are closed until it holds other variants
                            self._fleet.resize(replica, resized.lanes, resized.threads)
                        self._look()
                case ReplicaReady(ready) if ready.spec.id not in self._known:
                    self._adopt(ready)  # an earlier controller's launch was still under way
                    self._look()
                case NodeUp(node):
                    self._inventory.up(node)
                    self._look()
                case NodeDown(node_id, reason):
                    self._node_is_gone(node_id, reason)
                case _:
                    pass

    async def close(self) -> None:
        """Start nothing any more. What runs goes on running: stopping it is the engine's affair."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _adopt(self, replica: Replica) -> None:
        """A replica that an earlier controller launched."""
        if replica.spec.id in self._known:
            return
        number = replica.spec.id.rpartition("-")[2]
        if number.isdecimal():
            self._ids = itertools.count(max(next(self._ids), int(number) + 1))
        known = Known(replica.spec, replica.spec, replica.node, Phase.READY, self._clock.now())
        if replica.draining:
            known.phase = Phase.DRAINING
            self._spawn(self._drained(replica.spec.id))
        elif not replica.spec.variants:
            known.tight = True  # an earlier controller was about to swap them: it can take no work
        else:
            try:
                self._fleet.attach(replica)
            except EngineError:
                return  # it has died since
        self._known[replica.spec.id] = known

    # --- one look -----------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Start every step that can be taken now."""
        plan = self._plan
        if plan is None or self._closing:
            return
        self._share_cores(plan, more=False)
        now = self._clock.now()
        for step in reconcile(plan, self.replicas, self.nodes, itertools.count(), self._may_hold(now)):
            match step:
                case Launch(spec):
                    if self._backoff.may_launch(spec.stage, now):
                        self._launch(replace(spec, id=ReplicaId(f"{spec.stage}-{next(self._ids)}")))
                case Resize(replica, lanes, threads):
                    self._resize(replica, lanes, threads)
                case Hold(replica, variants, swap):
                    self._hold(replica, variants, swap)
                case Drain(replica):
                    self._drain(replica)
        self._share_cores(plan, more=True)

    def _share_cores(self, plan: Plan, *, more: bool) -> None:
        """Grant each node's lanes what the plan says: less at once, more when its replicas have grown."""
        if plan.shared_cores <= 0.0:
            return
        growing = {
            known.node for known in self._known.values() if known.resizing and known.spec.cores > known.has.cores
        }
        for node in self._inventory.ids:
            cores = plan.cores_of(node)
            granted = self._grants.get(node)
            if granted is None or cores < granted or (more and cores > granted and node not in growing):
                self._grants[node] = cores
                self._fleet.share_cores(node, cores)

    # --- launches -----------------------------------------------------------------------------------------------

    def _launch(self, spec: ReplicaSpec) -> None:
        self.launches += 1
        node = spec.node or self._inventory.ids[0]
        self._known[spec.id] = Known(spec, spec, node, Phase.STARTING, self._clock.now())
        task = self._spawn(self._launched(spec))
        self._launches[spec.id] = task
        task.add_done_callback(lambda task: self._launch_is_over(spec.id, task))

    async def _launched(self, spec: ReplicaSpec) -> None:
        try:
            replica = await self._engine.launch(spec)
            self._fleet.attach(replica)
        except EngineError as error:
            self._known.pop(spec.id, None)
            self.launch_failures += 1
            if not self._beginning:  # `begin` raises what hinders it, and nothing is tried again
                self._failed(spec, f"could not be launched: {error}")
            raise
        known = self._known[spec.id]
        known.node = replica.node
        known.phase = Phase.READY
        known.has = known.spec = replica.spec
        known.since = self._clock.now()
        self.cold_start_s = _mean(self.cold_start_s, replica.ready_after_s)
        self._recorder.launched(spec.stage, replica.ready_after_s)
        _log.info("replica %s is ready after %.2f s", spec.id, replica.ready_after_s)
        self._look()

    def _launch_is_over(self, replica: ReplicaId, task: asyncio.Task[None]) -> None:
        self._launches.pop(replica, None)
        if task.cancelled() and self._known.pop(replica, None) is not None:
            self._look()  # it was called off, and its cores are free

    def _exited(self, event: ReplicaExited) -> None:
        self._fleet.detach(event.replica, event.reason)
        known = self._known.get(event.replica)
        if known is None or (event.replica in self._launches and known.phase is not Phase.READY):
            return  # a launch that fails says so itself
        del self._known[event.replica]
        if event.expected or self._closing or known.phase is Phase.DRAINING:
            self._look()
            return
        self._died(event.replica, event.reason)
        if self._clock.now() - known.since >= _HEALTHY_AFTER_S:
            self._backoff.lived(known.spec.stage)
        self._failed(known.spec, f"died: {event.reason}")
        self._look()

    def _node_is_gone(self, gone: NodeId, reason: str) -> None:
        """With everything on it; nobody is to blame, and the next plan has to do without it."""
        self._inventory.down(gone)
        reason = f"node {gone} is gone: {reason}"
        _log.warning("%s", reason)
        for replica, known in [(r, k) for r, k in self._known.items() if k.node == gone]:
            launch = self._launches.get(replica)
            if launch is not None and known.phase is not Phase.READY:
                launch.cancel()
                continue
            del self._known[replica]
            self._fleet.detach(replica, reason)
            if known.phase is Phase.READY:
                self._died(replica, reason)
        self._look()

    def _died(self, replica: ReplicaId, reason: str) -> None:
        self.deaths += 1
        self._on_crash(replica, reason)

    def _failed(self, spec: ReplicaSpec, why: str) -> None:
        """Count a failure of the stage; from the second in a row on, its next launch waits."""
        failures, delay = self._backoff.failed(spec.stage, self._clock.now())
        if delay:
            _log.warning("replica %s %s; failure %d in a row, next launch in %.1f s", spec.id, why, failures, delay)
        else:
            _log.warning("replica %s %s; a new one is launched", spec.id, why)
        if not self._closing:
            self._spawn(self._look_later(spec.stage, delay))

    async def _look_later(self, stage: str, delay: float) -> None:
        await self._sleep(delay)
        self._backoff.over(stage)
        self._look()

    # --- resizes ------------------------------------------------------------------------------------------------

    def _resize(self, replica: ReplicaId, lanes: int, threads: int) -> None:
        known = self._known[replica]
        if known.phase is not Phase.READY:
            return  # a replica that is starting is resized when it is there
        grows = lanes * threads > known.has.cores
        if grows and known.refused_until > self._clock.now():
            return
        known.spec = replace(known.spec, lanes=lanes, threads=threads)
        if not known.resizing:
            known.resizing = True
            self._spawn(self._resized(replica, known))

    async def _resized(self, replica: ReplicaId, known: Known) -> None:
        """Resize until it is as wanted: what is wanted may change meanwhile."""
        try:
            async with known.shaping:
                while self._takes_work(known) and not known.shaped:
                    wanted, had = known.spec, known.has
                    self.resizes += 1
                    began = self._clock.now()
                    if wanted.cores < had.cores or wanted.lanes < had.lanes:
                        closed = self._fleet.lanes_closed(replica)
                        self._fleet.resize(replica, min(wanted.lanes, had.lanes), had.threads)
                        await closed
                    result = await self._engine.resize(replica, wanted.lanes, wanted.threads)
                    self._fleet.resize(replica, result.lanes, result.threads)
                    took = self._clock.now() - began
                    self._recorder.resized(wanted.stage, took)
                    known.reshaped(result.lanes, result.threads)
                    if result.status is not Resizing.APPLIED:
                        self._refused(known, wanted, result)
                    elif wanted.cores > had.cores and wanted.lanes >= had.lanes:  # else it waited for batches to end
                        self.resize_s = _mean(self.resize_s, took)
        except EngineError as error:
            # It is gone, or cannot be talked to: its end is reported by an event of its own.
            known.stay()
            known.refused_until = self._clock.now() + _REFUSED_FOR_S
            _log.warning("replica %s could not be resized: %s", replica, error)
        finally:
            known.resizing = False
        self._look()

    def _refused(self, known: Known, wanted: ReplicaSpec, result: Resized) -> None:
        """It goes on as it is. What its node will never give is not planned with, until it is asked again."""
        until = self._clock.now() + _REFUSED_FOR_S
        known.refused_until = until
        known.stay()
        if result.status is Resizing.INFEASIBLE and wanted.cores > known.has.cores:
            shared = self._plan is not None and self._plan.shared_cores > 0.0
            held = sum(other.view().cores for other in self._known.values() if other.node == known.node)
            self._inventory.full(known.node, float(known.has.cores if shared else held), until)
        _log.warning(
            "replica %s has %d lanes of %d threads, not %d of %d: %s",
            known.spec.id,
            result.lanes,
            result.threads,
            wanted.lanes,
            wanted.threads,
            result.reason or result.status,
        )

    # --- variants -----------------------------------------------------------------------------------------------

    def _may_hold(self, now: float) -> set[ReplicaId]:
        """The replicas that can be given other variants."""
        if not self._engine.capabilities.hold:
            return set()
        return {
            replica
            for replica, known in self._known.items()
            if known.phase is Phase.READY and self._no_holds.get(known.spec.stage, now) <= now
        }

    def _hold(self, replica: ReplicaId, variants: tuple[str, ...], swap: bool) -> None:
        known = self._known[replica]
        known.spec = replace(known.spec, variants=variants)
        known.swap = swap
        if not known.loading:
            known.loading = True
            self.holds += 1
            self._spawn(self._held(known))

    async def _held(self, known: Known) -> None:
        began = self._clock.now()
        try:
            await self._holding.change(known)
        except EngineError as error:
            if self._takes_work(known):  # else its end is reported by an event of its own
                self._not_held(known, error)
        else:
            took = self._clock.now() - began
            _log.info("replica %s holds %s after %.2f s", known.spec.id, ", ".join(known.has.variants), took)
        finally:
            known.loading = False
        self._look()

    def _not_held(self, known: Known, error: EngineError) -> None:
        """It goes on with what it has; one that has nothing left is replaced."""
        self.hold_failures += 1
        self._no_holds[known.spec.stage] = self._clock.now() + _REFUSED_FOR_S
        _log.warning(
            "replica %s cannot hold %s, and goes on with %s: %s",
            known.spec.id,
            ", ".join(known.spec.variants),
            ", ".join(known.has.variants) or "nothing",
            error,
        )
        known.spec = replace(known.spec, variants=known.has.variants)
        if not known.has.variants:
            self._drain(known.spec.id)

    def _takes_work(self, known: Known) -> bool:
        """Whether it runs, and is not on its way out."""
        return self._known.get(known.spec.id) is known and known.phase is Phase.READY

    # --- drains -------------------------------------------------------------------------------------------------

    def _drain(self, replica: ReplicaId) -> None:
        known = self._known[replica]
        starting = known.phase is Phase.STARTING
        known.phase = Phase.DRAINING
        self.drains += 1
        if starting:
            self._launches[replica].cancel()
        else:
            self._spawn(self._drained(replica))

    async def _drained(self, replica: ReplicaId) -> None:
        await self._fleet.drain(replica)
        await self._engine.drain(replica, self._grace)
        self._known.pop(replica, None)
        self._look()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, EngineError):
            _log.error("a step of the controller failed", exc_info=error)


def _mean(mean: float, latest: float) -> float:
    return latest if mean <= 0.0 else mean + _GAIN * (latest - mean)
