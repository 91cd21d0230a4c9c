"""The simulated control loop: every tick a snapshot, a decision, and its check; what was decided and what was wrong."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from triscale.core.plan import Plan
from triscale.dispatch.dispatcher import Dispatcher
from triscale.errors import ConfigError
from triscale.observe.simulation_document import Decision
from triscale.observe.snapshots import snapshot_of
from triscale.observe.window import ArrivalWindow
from triscale.policy.autoscalers.interface import Autoscaler
from triscale.policy.plan_rules import broken_rules
from triscale.sim.engine import Engine
from triscale.sim.settings import SimSettings

__all__ = ["Controller", "check_first"]

_MOST_DECISIONS = 10_000
_MOST_PROBLEMS = 100


def check_first(policy: str, rules: Iterable[str]) -> None:
    """ConfigError when the first plan breaks a rule: there is no earlier one to go on with."""
    problems = [f"policy {policy}: its first plan is impossible: {rule}" for rule in rules]
    if problems:
        raise ConfigError(*problems)


def _serves_none(plan: Plan, slo_s: float) -> bool:
    """Whether the plan itself says that none of the requests can be carried, rather than not all of them."""
    if plan.feasible:
        return False
    return plan.served_fraction <= 0.0 or all(path.latency_s > slo_s for path in plan.paths)


class Controller:
    """Asks the autoscaler and follows it, as long as what it says is possible."""

    def __init__(
        self,
        autoscaler: Autoscaler,
        dispatcher: Dispatcher,
        engine: Engine,
        arrivals: ArrivalWindow,
        settings: SimSettings,
        plan: Plan,
    ) -> None:
        self._autoscaler = autoscaler
        self._dispatcher = dispatcher
        self._engine = engine
        self._arrivals = arrivals
        self._settings = settings
        self.plan = plan
        """In force."""
        self.changes = 0
        """Of plan, the first not counted."""
        self.decisions: list[Decision] = []
        self._problems: dict[str, tuple[float, int]] = {}
        """Rule -> when it was first broken, and how often."""
        if _serves_none(plan, dispatcher.graph.pipeline.slo_s):
            self.complain(f"by its first plan no request can be served as asked: {plan.reason}", 0.0)
        self._note(0.0)

    def tick(self, now: float) -> None:
        """Decide."""
        engine = self._engine
        snapshot = snapshot_of(
            self._dispatcher,
            self._arrivals,
            engine.views(),
            engine.nodes,
            self.plan,
            now,
            cold_start_s=engine.cold_start_s,
            resize_s=self._settings.resize_s,
        )
        plan = self._autoscaler.decide(snapshot)
        if plan is self.plan:
            return
        broken = list(broken_rules(plan, self._dispatcher.graph, engine.nodes, self.plan))
        for rule in broken:
            self.complain(f"impossible plan ignored: {rule}", now)
        if broken:
            return
        self.plan = plan
        self.changes += 1
        self._dispatcher.follow(plan, now)
        engine.follow(plan, now)
        self._note(now)

    def problems(self) -> list[str]:
        """Everything that was wrong, in the order in which it first was."""
        name = self._autoscaler.name
        return [
            f"policy {name}: {what} (at {first:.1f} s{f', {times} times in all' if times > 1 else ''})"
            for what, (first, times) in self._problems.items()
        ]

    def complain(self, what: str, now: float) -> None:
        """Something is wrong; the run goes on."""
        if what in self._problems or len(self._problems) < _MOST_PROBLEMS:
            first, times = self._problems.get(what, (now, 0))
            self._problems[what] = first, times + 1

    def _note(self, now: float) -> None:
        plan = self.plan
        decision = Decision(
            t=now,
            reason=plan.reason,
            demand=plan.demand,
            capacity=plan.capacity,
            cores=plan.cores,
            accuracy=plan.accuracy,
            mode=plan.mode,
        )
        last = self.decisions[-1] if self.decisions else None
        alike = last is not None and replace(decision, t=last.t) == last
        if not alike and len(self.decisions) < _MOST_DECISIONS:
            self.decisions.append(decision)
