"""The event loop: the clock jumps from one event to the next, and nothing waits.

At one instant, events happen in the order in which they were put down (finished batches, replicas, ticks), then
requests arrive, then the engine acts on what has changed, and then the dispatcher decides on all of it together, as it
does once per turn of the server's event loop.

Written for speed: one event per batch, arrivals drawn one at a time, nothing kept of a request that has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from math import inf

from triscale.dispatch.dispatcher import Dispatcher
from triscale.observe.window import ArrivalWindow
from triscale.sim.agenda import Agenda
from triscale.sim.engine import Engine
from triscale.sim.errors import SimulationError
from triscale.sim.fan_out import Emission
from triscale.sim.service import StageService
from triscale.sim.tally import Tally
from triscale.sim.work_log import WorkLog

__all__ = ["run"]

_MOST_IDLE_STEPS = 1000
"""Wakeups in a row that may do nothing."""


def run(  # noqa: C901 - one loop, written out for speed
    agenda: Agenda,
    arrivals: Iterator[float],
    until: float,
    dispatcher: Dispatcher,
    engine: Engine,
    service: Sequence[StageService],
    emission: Emission,
    work: WorkLog,
    tally: Tally,
    window: ArrivalWindow,
    hop_s: float,
) -> int:
    """Let everything happen until `until` and then until no request is left; returns how many arrived.

    SimulationError when arrivals go back in time, a wakeup is asked for at the same instant, or wakeups go on and on
    without any effect.
    """
    events = agenda.events
    accounts = dispatcher.accounts
    slo = dispatcher.graph.pipeline.slo_s
    arrive, step, next_wakeup = dispatcher.arrive, dispatcher.step, dispatcher.next_wakeup
    batch_done, results = dispatcher.batch_done, emission.results
    counted, ended = window.arrived, tally.ended
    start, finish = work.start, work.finish
    draws = [stage.draw for stage in service]
    keyed = emission.keyed
    hops = 2.0 * hop_s
    same = (None,)
    number = idle = 0
    now = 0.0
    wake = inf
    arrivals = _ascending(arrivals)
    arrival = next(arrivals, inf)
    while arrival < inf or accounts.live or now < until:
        now = events[0][0]  # there is always one: the ticks go on
        woken = wake < now and wake < arrival
        if woken:
            now = wake
        elif arrival < now:
            now = arrival
        while events and events[0][0] <= now:
            _, _, batch, action = heappop(events)
            if batch is None:
                assert action is not None, "an event is a batch or an action"
                action(now)
            elif finish(batch, now):
                batch_done(batch.id, results(batch), now)
        while arrival <= now:
            counted(now)
            arrive(number, (number,) if keyed else same, now + slo, now)
            number += 1
            arrival = next(arrivals, inf)
        while True:
            if engine.changed:
                engine.settle(now)
            commands = step(now)
            if commands.runs or commands.ends or commands.orders:
                woken = False
            for order in commands.orders:
                engine.obey(order, now)
            serial = agenda.serial
            for batch in commands.runs:
                threads = batch.group.threads
                took = draws[batch.stage](batch.variant, len(batch.items), threads, start(batch, now)) + hops
                serial += 1
                heappush(events, (now + took, serial, batch, None))
            agenda.serial = serial
            for request in commands.ends:
                ended(request)
                # Outputs refer back to the request; such a circle would be kept until the next garbage collection.
                request.outputs.clear()
            if not commands.orders:
                break
        if engine.grants.cutting:
            engine.grants.settle(now)
        due = next_wakeup()
        wake = inf if due is None else due
        if wake <= now:
            raise SimulationError(f"woke at t={now!r} and asked to be woken at t={wake!r} again")
        idle = idle + 1 if woken else 0  # it was only a wakeup, and nothing came of it
        if idle > _MOST_IDLE_STEPS:
            raise SimulationError(f"{idle} wakeups in a row did nothing, the last at t={now!r}")
    return number


def _ascending(arrivals: Iterator[float]) -> Iterator[float]:
    last = 0.0
    for arrival in arrivals:
        if not arrival >= last:  # not a number is not, either
            raise SimulationError(f"the trace goes back in time: after t={last!r} a request arrives at t={arrival!r}")
        last = arrival
        yield arrival
