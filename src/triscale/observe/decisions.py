"""The decision log: what was decided, from what, and why, for whoever asks later.

The last decisions are kept in memory for the status and the dashboard. Each goes to the log as one line of `key=value`
pairs, so that it can be found next to what it caused, and, if asked for, to a file as one line of JSON.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from triscale.core.plan import Plan
from triscale.core.snapshot import Phase, Snapshot
from triscale.errors import ConfigError

__all__ = ["KINDS", "Decision", "DecisionFile", "DecisionLog", "DecisionsDocument", "Kind", "decision_of"]

_log = logging.getLogger("triscale.decisions")

_MOST = 1000
_SAME = 1e-6

Kind: TypeAlias = Literal["accuracy_down", "accuracy_up", "cores_down", "cores_up", "other"]
"""Which way a decision went; where accuracy changes, it says more than the cores do."""
KINDS: tuple[Kind, ...] = ("accuracy_down", "accuracy_up", "cores_down", "cores_up", "other")


class Decision(Struct, frozen=True, kw_only=True):
    """A change of plan."""

    number: int
    """Counts up from 1."""
    wall_s: float
    """When, as Unix time."""
    policy: str
    reason: str
    mode: str
    """`hardware`, `accuracy` or `overload`: which aim of the planner is being met."""
    demand: float
    """Requests/s planned for."""
    arrivals: float
    """Requests/s that arrived in the second before."""
    queued: int
    """Items that waited, over all stages."""
    cores: float
    cores_before: float
    accuracy: float
    accuracy_before: float
    served_fraction: float
    variants: Mapping[str, Mapping[str, float]]
    """Stage -> variant -> share."""
    ready: int
    """Replicas that could take work."""
    starting: int
    decide_s: float
    """From looking to having the plan, the way to the process that decides and back included."""

    @property
    def kind(self) -> Kind:
        """Its reason in one word of few; `other` is another mix, batch or placement of the same size."""
        if abs(self.accuracy - self.accuracy_before) > _SAME:
            return "accuracy_up" if self.accuracy > self.accuracy_before else "accuracy_down"
        if abs(self.cores - self.cores_before) > _SAME:
            return "cores_up" if self.cores > self.cores_before else "cores_down"
        return "other"


class DecisionsDocument(Struct, frozen=True, kw_only=True):
    """Decisions in order, and how far they go."""

    started_s: float
    """When the server started, as Unix time: another one means that numbers began anew."""
    last: int
    """Number of the latest decision: ask for those since it next time."""
    decisions: Sequence[Decision]


class DecisionLog:
    """The last thousand decisions, oldest first, and counts over all."""

    def __init__(self, write: Callable[[Decision], None] = lambda _decision: None) -> None:
        """`write` is told of each decision, too."""
        self._decisions: deque[Decision] = deque(maxlen=_MOST)
        self._write = write
        self.total = 0
        self.counts: Counter[tuple[str, Kind]] = Counter()
        """(mode, kind) -> decisions."""

    def add(self, decision: Decision) -> None:
        """Keep it, and write it to the log."""
        self._decisions.append(decision)
        self.total += 1
        self.counts[decision.mode, decision.kind] += 1
        self._write(decision)
        _log.info(
            "decision=%d policy=%s mode=%s demand=%.1f arrivals=%.1f queued=%d cores=%g accuracy=%.4f served=%.3f "
            "ready=%d starting=%d decide_ms=%.1f reason=%r",
            decision.number,
            decision.policy,
            decision.mode,
            decision.demand,
            decision.arrivals,
            decision.queued,
            decision.cores,
            decision.accuracy,
            decision.served_fraction,
            decision.ready,
            decision.starting,
            1000.0 * decision.decide_s,
            decision.reason,
        )

    def since(self, number: int = 0, most: int = _MOST) -> Sequence[Decision]:
        """Those after decision `number`, oldest first; of more than `most` the latest."""
        return [decision for decision in self._decisions if decision.number > number][-most:]


class DecisionFile:
    """A file with one decision a line, as JSON, written to its end as they come.

    It is opened for appending, so whoever rotates logs may copy and truncate it. A disk that is full costs lines, never
    the control loop.
    """

    def __init__(self, path: Path, pipeline: str) -> None:
        """ConfigError when it cannot be opened."""
        self._path = path
        self._pipeline = pipeline
        self._failing = False
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise ConfigError(
                f"--decision-log {path}: cannot be written to: {error.strerror}; name a file in a folder that exists"
            ) from None

    def write(self, decision: Decision) -> None:
        """Append it."""
        document = {"pipeline": self._pipeline, **msgspec.structs.asdict(decision), "kind": decision.kind}
        try:
            self._file.write(msgspec.json.encode(document) + b"\n")
        except OSError as error:
            if not self._failing:
                _log.error("%s: decisions are not written to it: %s", self._path, error)
            self._failing = True
        else:
            self._failing = False

    def close(self) -> None:
        """No more decisions come."""
        self._file.close()


def decision_of(number: int, wall_s: float, policy: str, snapshot: Snapshot, plan: Plan, decide_s: float) -> Decision:
    """The change from the snapshot's plan to `plan`, with what it was decided from."""
    return Decision(
        number=number,
        wall_s=wall_s,
        policy=policy,
        reason=plan.reason,
        mode=plan.mode,
        demand=plan.demand,
        arrivals=snapshot.rate(1.0),
        queued=sum(stage.queued for stage in snapshot.stages.values()),
        cores=plan.cores,
        cores_before=snapshot.plan.cores,
        accuracy=plan.accuracy,
        accuracy_before=snapshot.plan.accuracy,
        served_fraction=plan.served_fraction,
        variants={
            name: {variant: each.share for variant, each in stage.variants.items() if each.share > 0.0}
            for name, stage in plan.stages.items()
        },
        ready=sum(view.phase is Phase.READY for view in snapshot.replicas),
        starting=sum(view.phase is Phase.STARTING for view in snapshot.replicas),
        decide_s=decide_s,
    )
