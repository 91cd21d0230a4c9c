"""Drives the dispatcher in real time: the one place where its commands meet sockets, timers and clients.

Events (a call, a finished batch, a lost replica) change the dispatcher's state at once; one `step` per turn of the
event loop then decides for all of them together, which is what lets batches form under load without waiting. The
simulator does the same with a virtual clock.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence

from triscale.clock import Clock, wall
from triscale.core.cluster import Replica, ReplicaId
from triscale.core.pipeline import Pipeline
from triscale.core.plan import Plan
from triscale.core.request import Outcome, Reason
from triscale.dispatch.commands import KillReplica, LanesClosed, Order, ReplicaDrained
from triscale.dispatch.dispatcher import Dispatcher
from triscale.dispatch.results import ItemResult
from triscale.dispatch.work import Batch, Request
from triscale.errors import NotFound, NotReady, WireError
from triscale.observe.recorder import Recorder
from triscale.observe.request_trace import Origin, Tracer
from triscale.observe.window import ArrivalWindow
from triscale.replica.client import ReplicaClient
from triscale.serve.complaints import Complaints
from triscale.serve.explain import explain
from triscale.serve.service import Call, Reply
from triscale.serve.statistics import Duration, Statistics
from triscale.wire.payload import Payload

__all__ = ["Runner"]

_log = logging.getLogger("triscale.serve")

_LATEST_TIMER_SLACK_S = 0.0005
"""A timer that would fire at most so much too early is left alone: re-arming it costs more than one idle step."""


class Runner:
    """The inside of the server, for one pipeline: a `Service` to the doors, an observer to the replicas."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        recorder: Recorder,
        clock: Clock,
        kill: Callable[[ReplicaId, str], None],
        tracer: Tracer | None = None,
    ) -> None:
        """`tracer` follows requests, where tracing is on."""
        self.dispatcher = dispatcher
        self.recorder = recorder
        self.arrivals = ArrivalWindow(clock.now())
        """Requests at the door, refused ones included: the demand that the controller sees."""
        self._clock = clock
        self._kill = kill
        self._tracer = tracer
        self._graph = dispatcher.graph
        self._pipeline = dispatcher.graph.pipeline
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._live: dict[int, Request] = {}
        self._clients: dict[ReplicaId, ReplicaClient] = {}
        self._names: dict[ReplicaClient, ReplicaId] = {}
        self._batches: dict[int, Batch] = {}
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._accepting = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._waiting: dict[tuple[str, ReplicaId], asyncio.Future[None]] = {}
        self._used_names: dict[tuple[int, ...], Mapping[str, str]] = {}
        self._complaints = Complaints()

    # --- the doors' side ----------------------------------------------------------------------------------------

    @property
    def pipelines(self) -> Mapping[str, Pipeline]:
        """The one pipeline, by its name."""
        return {self._pipeline.name: self._pipeline}

    def ready(self, name: str = "") -> bool:
        """Whether requests are accepted and every stage has a lane."""
        known = not name or name == self._pipeline.name
        return known and self._accepting and all(stage.lanes for stage in self.dispatcher.stages)

    def submit(self, name: str, call: Call) -> int:
        """Start a call; see `serve.service.Service`."""
        if name != self._pipeline.name:
            raise NotFound(f"there is no pipeline {name!r} here; this server serves {self._pipeline.name!r}")
        if not self._accepting:
            raise NotReady(f"pipeline {name!r} is not ready; it is starting or shutting down")
        number = next(self._numbers)
        now = self._clock.now()
        self.arrivals.arrived(now)
        self._live[number] = request = self.dispatcher.arrive(number, call.rows, call.deadline, now, call)
        if self._tracer is not None:
            origin = Origin(call.arrived, call.traceparent, call.tracestate, call.request_id)
            call.traceparent = self._tracer.request_arrived(request, origin, now)
        self._idle.clear()
        self._soon()
        return number

    def cancel(self, handle: int) -> None:
        """The client is gone."""
        request = self._live.get(handle)
        if request is not None:
            request.tag = None
            self.dispatcher.cancel(request, self._clock.now())
            self._soon()

    def statistics(self, name: str) -> Statistics:
        """Totals for the protocol's statistics route. Queue and service times are the root stage's."""
        if name != self._pipeline.name:
            raise NotFound(f"there is no pipeline {name!r} here; this server serves {self._pipeline.name!r}")
        outcomes = self.dispatcher.accounts.outcomes
        spent = self.recorder.ended_s
        good = (Outcome.ANSWERED, Outcome.LATE)
        bad = (Outcome.DROPPED, Outcome.SHED, Outcome.FAILED, Outcome.CANCELLED)
        answered = sum(outcomes[outcome] for outcome in good)
        root = self.recorder.stages[0]
        served = sum(histogram.total for histogram in root.service_s)
        last = self.recorder.last_ended
        return Statistics(
            last_request_s=wall() - (self._clock.now() - last) if last is not None else 0.0,
            rows=self.dispatcher.accounts.stages[0].completed,
            batches=sum(self.dispatcher.accounts.stages[0].batches),
            success=Duration(count=answered, seconds=sum(spent[outcome] for outcome in good)),
            fail=Duration(count=sum(outcomes[o] for o in bad), seconds=sum(spent[o] for o in bad)),
            queue=Duration(count=answered, seconds=root.queue_s.total),
            compute_input=Duration(count=answered, seconds=0.0),
            compute_infer=Duration(count=answered, seconds=served),
            compute_output=Duration(count=answered, seconds=0.0),
            batch_sizes={
                size: Duration(count=int(count), seconds=seconds)
                for size, (count, seconds) in sorted(root.by_size.items())
            },
        )

    # --- the replicas' side -------------------------------------------------------------------------------------

    def attach(self, replica: Replica, client: ReplicaClient) -> None:
        """A replica can take work. One that is attached already keeps its batches and has this shape from now on."""
        spec, now = replica.spec, self._clock.now()
        self._soon()
        known = self._clients.get(spec.id) is client
        if known and self.dispatcher.replica_adopted(spec.id, spec.variants, spec.lanes, spec.threads, now):
            return
        self._clients[spec.id] = client
        self._names[client] = spec.id
        self.dispatcher.replica_ready(spec.id, spec.stage, spec.variants, spec.lanes, spec.threads, replica.node, now)
        client.observer = self

    def batch_done(self, client: ReplicaClient, batch_id: int, service_s: float, results: list[ItemResult]) -> None:  # noqa: ARG002
        """A replica has run a batch."""
        now = self._clock.now()
        batch = self._batches.pop(batch_id, None)
        if batch is not None:
            self.recorder.batch_ended(batch, now)
            if self._tracer is not None:
                self._tracer.batch_ended(batch, now, results)
        self.dispatcher.batch_done(batch_id, results, now)
        self._soon()

    def batch_failed(self, client: ReplicaClient, batch_id: int, kind: str, message: str) -> None:  # noqa: ARG002
        """A replica could not run a batch."""
        now = self._clock.now()
        batch = self._batches.pop(batch_id, None)
        if batch is not None:
            self.recorder.batch_ended(batch, now)
            if self._tracer is not None:
                self._tracer.batch_ended(batch, now, error=message)
            self._complain(batch, message, now)
        self.dispatcher.batch_failed(batch_id, message, now)
        self._soon()

    def _complain(self, batch: Batch, message: str, now: float) -> None:
        kept_back = self._complaints.about((batch.stage, batch.variant), now)
        if kept_back is not None:
            name = f"{self._graph.stages[batch.stage]}/{self._graph.variants[batch.stage][batch.variant]}"
            more = f" ({kept_back} more of its batches since the last line like this)" if kept_back else ""
            _log.warning("%s failed a batch: %s%s", name, message, more)

    def lost(self, client: ReplicaClient, reason: str) -> None:
        """A replica's connection is over."""
        replica = self._names.get(client)
        if replica is not None:
            self.detach(replica, reason)

    def detach(self, replica: ReplicaId, reason: str) -> None:
        """A replica is gone; what it ran is run elsewhere. Idempotent."""
        client = self._clients.pop(replica, None)
        if client is None:
            return
        self._names.pop(client, None)
        now = self._clock.now()
        lost = [number for number, batch in self._batches.items() if batch.lane.replica.id == replica]
        for number in lost:
            batch = self._batches.pop(number)
            if self._tracer is not None:
                self._tracer.batch_ended(batch, now, error=f"replica {replica} is gone: {reason}")
        if lost:
            _log.warning("replica %s is gone (%s); its %d batches are run again", replica, reason, len(lost))
        self.dispatcher.replica_lost(replica, now)
        for kind in ("drained", "closed"):
            self._resolve(kind, replica)
        self._soon()

    # --- the controller's side ----------------------------------------------------------------------------------

    def follow(self, plan: Plan) -> None:
        """Use this plan's shares, batch sizes and admission."""
        self.dispatcher.follow(plan, self._clock.now())
        self._soon()

    def share_cores(self, node: str, cores: float) -> None:
        """The lanes of a node run only while one of so many cores is free."""
        self.dispatcher.share_cores(node, cores)
        self._soon()

    def resize(self, replica: ReplicaId, lanes: int, threads: int) -> None:
        """Use so many lanes from now on; returns at once (see `lanes_closed` for a shrink)."""
        self.dispatcher.resize(replica, lanes, threads, self._clock.now())
        self._soon()

    def hold(self, replica: ReplicaId, variants: Sequence[str], *, changing: bool = False) -> None:
        """Give it batches of these variants only from now on; those that run are finished. See `variants_changed`."""
        self.dispatcher.variants_changed(replica, variants, self._clock.now(), changing=changing)
        self._soon()

    def lanes_closed(self, replica: ReplicaId) -> asyncio.Future[None]:
        """Done when a shrink has taken effect, or the replica is gone. Ask before shrinking."""
        return self._await("closed", replica)

    def drain(self, replica: ReplicaId) -> asyncio.Future[None]:
        """Give it no new work; done when its last batch is, or it is gone."""
        future = self._await("drained", replica)
        self.dispatcher.drain(replica, self._clock.now())
        self._soon()
        return future

    def open(self) -> None:
        """Accept requests."""
        self._accepting = True

    async def close(self, grace_s: float) -> None:
        """Accept no more requests, let those in the system end for at most `grace_s`, fail the rest."""
        self._accepting = False
        if self._live:
            try:
                async with asyncio.timeout(grace_s):
                    await self._idle.wait()
            except TimeoutError:
                _log.warning("%d requests were not done after %.1f s and are failed", len(self._live), grace_s)
                self.dispatcher.abort(Reason.SHUTDOWN, self._clock.now())
                self._step()
        if self._timer is not None:
            self._timer.cancel()

    # --- the drive ----------------------------------------------------------------------------------------------

    def _soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._step)

    def _on_timer(self) -> None:
        self._timer = None
        self._soon()

    def _step(self) -> None:
        self._scheduled = False
        now = self._clock.now()
        commands = self.dispatcher.step(now)
        # Orders first: a replica that is to be killed should not keep its cores from the batches that begin now.
        for order in commands.orders:
            self._obey(order)
        for batch in commands.runs:
            self._send(batch)
        for request in commands.ends:
            self._reply(request)
        wake = self.dispatcher.next_wakeup()
        if wake is None:
            return
        if self._timer is not None:
            if wake >= self._timer_at - _LATEST_TIMER_SLACK_S:
                return
            self._timer.cancel()
        self._timer_at = wake
        self._timer = self._loop.call_later(max(0.0, wake - now), self._on_timer)

    def _send(self, batch: Batch) -> None:
        self._batches[batch.id] = batch
        self.recorder.batch_started(batch)
        if self._tracer is not None:
            self._tracer.batch_started(batch)
        stage = batch.stage
        payloads = [item.payload for item in batch.items]
        parts = payloads if self._graph.joins[stage] else [(payload,) for payload in payloads]
        client = self._clients.get(batch.lane.replica.id)
        if client is None:
            return  # lost in this very turn: the dispatcher has been told, or is about to be
        try:
            client.run(batch.id, self._graph.variants[stage][batch.variant], parts)  # type: ignore[arg-type]
        except WireError as error:
            self._loop.call_soon(self.batch_failed, client, batch.id, "too_large", str(error))

    def _reply(self, request: Request) -> None:
        self._live.pop(request.id, None)
        if not self._live:
            self._idle.set()
        self.recorder.request_ended(request)
        variants = self._names_of(request.used)
        if self._tracer is not None:
            self._tracer.request_ended(request, variants)
        call = request.tag
        if not isinstance(call, Call):
            return  # cancelled: nobody is listening
        outcome = request.outcome
        assert outcome is not None
        stage = self._graph.stages[request.stage] if request.stage >= 0 else ""
        outputs: list[list[Payload]] = [[] for _ in call.rows]
        for row, payload in request.ordered_outputs():
            outputs[row].append(payload)  # type: ignore[arg-type]
        message = ""
        if outcome > Outcome.LATE:
            message = explain(
                self._pipeline.name,
                outcome,
                request.reason,
                stage,
                request.message,
                request.retry_after_s,
                self._pipeline.slo_s,
            )
        reply = Reply(
            outcome,
            request.ended,
            outputs,
            request.reason,
            stage,
            message,
            request.retry_after_s,
            request.lost,
            request.accuracy,
            variants,
            "" if self._tracer is None else call.traceparent,
        )
        try:
            call.on_done(reply)
        except Exception:  # noqa: BLE001 - one broken connection must not stop the others
            _log.exception("a door failed to send the reply of request %d", request.id)

    def _names_of(self, used: list[int]) -> Mapping[str, str]:
        """Stage -> the variants that ran, for each combination made once."""
        key = tuple(used)
        names = self._used_names.get(key)
        if names is None:
            names = self._used_names[key] = {
                self._graph.stages[s]: ",".join(n for v, n in enumerate(self._graph.variants[s]) if bits >> v & 1)
                for s, bits in enumerate(key)
                if bits
            }
        return names

    def _obey(self, order: Order) -> None:
        match order:
            case KillReplica(replica, reason):
                _log.error("replica %s hangs (%s) and is killed", replica, reason)
                self._kill(replica, reason)
            case LanesClosed(replica, _):
                self._resolve("closed", replica)
            case ReplicaDrained(replica):
                client = self._clients.pop(replica, None)
                if client is not None:
                    self._names.pop(client, None)
                for kind in ("drained", "closed"):  # a resize that was under way is done with, too
                    self._resolve(kind, replica)

    def _await(self, kind: str, replica: ReplicaId) -> asyncio.Future[None]:
        key = (kind, replica)
        future = self._waiting.get(key)
        if future is None or future.done():  # done: whoever waited was cancelled, and with it this
            future = self._waiting[key] = self._loop.create_future()
            if replica not in self._clients:
                self._resolve(kind, replica)
        return future

    def _resolve(self, kind: str, replica: ReplicaId) -> None:
        future = self._waiting.pop((kind, replica), None)
        if future is not None and not future.done():
            future.set_result(None)
