"""One simulated world: put together, run to its end, its books checked and its result written."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

from triscale.clock import monotonic
from triscale.core.cluster import Node
from triscale.core.graph import Graph
from triscale.core.profile import Profile
from triscale.core.request import Reason
from triscale.dispatch.assemble import make_dispatcher
from triscale.observe.window import ArrivalWindow
from triscale.policy.autoscalers.interface import Autoscaler
from triscale.policy.plan_rules import broken_rules
from triscale.sim.agenda import Agenda
from triscale.sim.books import check, write
from triscale.sim.controller import Controller, check_first
from triscale.sim.cores import CoreLedger
from triscale.sim.engine import Engine
from triscale.sim.fan_out import Emission
from triscale.sim.history import History
from triscale.sim.loop import run
from triscale.sim.result import Result
from triscale.sim.service import StageService
from triscale.sim.settings import SimSettings
from triscale.sim.tally import Tally
from triscale.sim.work_log import WorkLog

__all__ = ["Arrivals", "World"]

_FIRST_S = 10.0
"""The part of the trace that the first plan is made for, unless a demand is given."""
_PATIENCE_S = 60.0
_PATIENCE_SLOS = 10.0
"""After the end of the trace, what is left is failed when no batch has run for the longer of these."""
_PROGRESS = 0.01


class Arrivals(Protocol):
    """When requests arrive: any trace of `triscale.traces`."""

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        ...

    def arrivals(self, rng: random.Random) -> Iterator[float]:
        """Seconds from the start, ascending, all below `seconds`."""
        ...


class World:
    """Everything of one run. The inputs have been checked (`run.simulate`)."""

    def __init__(
        self,
        graph: Graph,
        profile: Profile,
        trace: Arrivals,
        autoscaler: Autoscaler,
        nodes: Sequence[Node],
        settings: SimSettings,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        self._graph = graph
        self._profile = profile
        self._trace = trace
        self._autoscaler = autoscaler
        self._settings = settings
        self._progress = progress
        self._told = 0.0
        self._active_at = 0.0
        """When a batch was last seen to run, or the trace to go on."""
        self._tick_s = settings.tick_s or autoscaler.tick_s
        plan = autoscaler.first(self._first_demand())
        check_first(autoscaler.name, broken_rules(plan, graph, nodes))
        self.dispatcher = make_dispatcher(graph, profile, plan, 0.0, autoscaler.dispatch)
        stages = len(graph.stages)
        self.agenda = Agenda()
        self.ledger = CoreLedger(stages + 1, settings.warmup_s, trace.seconds)
        self.tally = Tally(settings.warmup_s, trace.seconds, settings.window_s)
        self.work = WorkLog(stages, shared=plan.shared_cores > 0.0)
        self.history = History(self.dispatcher, self.ledger, self.work)
        self.arrivals = ArrivalWindow(0.0)
        self.engine = Engine(
            graph, profile, nodes, settings, self.dispatcher, self.ledger, self.agenda, self.work.interrupted
        )
        self.engine.open(plan, 0.0)
        self.controller = Controller(autoscaler, self.dispatcher, self.engine, self.arrivals, settings, plan)
        for failure in settings.failures:
            self.agenda.at(failure.at_s, partial(self.engine.fail, failure))
        self.agenda.at(settings.warmup_s, self._begin)
        self.agenda.at(self._tick_s, partial(self._tick, 1))

    def run(self) -> Result:
        """Let everything happen."""
        settings = self._settings
        service = [
            StageService(
                [self._profile.stages[name][own] for own in self._graph.variants[s]],
                settings.service,
                self._rng(f"service of {name}"),
            )
            for s, name in enumerate(self._graph.stages)
        ]
        began = monotonic()
        arrived = run(
            self.agenda,
            self._trace.arrivals(self._rng("arrivals")),
            self._trace.seconds,
            self.dispatcher,
            self.engine,
            service,
            Emission(self._graph, self._profile, settings.fan_out, settings.seed),
            self.work,
            self.tally,
            self.arrivals,
            settings.hop_s,
        )
        wall_s = monotonic() - began
        self.tally.settle()
        check(self.dispatcher, self.tally, arrived)
        self._tell(1.0)
        return write(
            self._autoscaler.name,
            settings,
            self._trace.seconds,
            self.dispatcher,
            self.engine,
            self.controller,
            self.ledger,
            self.tally,
            self.history,
            wall_s,
        )

    # --- what recurs --------------------------------------------------------------------------------------------

    def _tick(self, number: int, now: float) -> None:
        self.controller.tick(now)
        if now <= self._trace.seconds or self.work.running:
            self._active_at = now
        elif now - self._active_at > max(_PATIENCE_S, _PATIENCE_SLOS * self._graph.pipeline.slo_s):
            self.controller.complain(
                f"{self.dispatcher.accounts.live} requests were left after the trace that nothing would run", now
            )
            self.dispatcher.abort(Reason.SHUTDOWN, now)
        done = now / self._trace.seconds
        if done >= self._told + _PROGRESS:
            self._tell(min(1.0, done))
        # Multiplied, not added up: rounding errors do not pile up over a day.
        self.agenda.at((number + 1) * self._tick_s, partial(self._tick, number + 1))

    def _begin(self, now: float) -> None:
        """The warm-up is over: the windows begin."""
        self.history.begin(now)
        self.agenda.at(self._window_end(1), partial(self._close_window, 1))

    def _close_window(self, number: int, now: float) -> None:
        self.history.close_window(now, self.controller.plan.capacity)
        oldest = self.dispatcher.waiting_since()
        self.tally.settle(now if oldest is None else oldest)
        if now < self._trace.seconds:
            self.agenda.at(self._window_end(number + 1), partial(self._close_window, number + 1))

    def _window_end(self, number: int) -> float:
        if number >= len(self.tally.accuracy_sum):
            return self._trace.seconds
        return self._settings.warmup_s + number * self._settings.window_s

    def _tell(self, done: float) -> None:
        if self._progress is not None and done > self._told:
            self._told = done
            self._progress(done)

    # --- chance -------------------------------------------------------------------------------------------------

    def _rng(self, purpose: str) -> random.Random:
        """A stream of its own for each purpose, so that none of them changes the others."""
        return random.Random(f"{self._settings.seed}: {purpose}")  # noqa: S311 - a simulation

    def _first_demand(self) -> float:
        if self._settings.first_demand is not None:
            return self._settings.first_demand
        seconds = min(_FIRST_S, self._trace.seconds)
        early = itertools.takewhile(lambda at: at < seconds, self._trace.arrivals(self._rng("arrivals")))
        return sum(1 for _ in early) / seconds
