"""What the planner may assume and must respect; the defaults are triscale's, the others reproduce the papers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from triscale.core.pipeline import Pipeline
from triscale.errors import ConfigError
from triscale.policy.latency import Quantile
from triscale.policy.waiting import WaitRule

__all__ = ["ReplicaBounds", "Settings"]


@dataclass(frozen=True, slots=True)
class ReplicaBounds:
    """How many replicas a stage must and may have."""

    least: int = 1
    most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to plan. Raises ConfigError, naming each setting that breaks a rule."""

    wait: WaitRule = "queue"
    wait_quantile: float = 0.95
    """Quantile of the wait that must fit (`queue` only)."""
    service_quantile: Quantile = "p95"
    """Quantile of the service latency that must fit."""
    sharing: Literal["dedicated", "shared"] = "dedicated"
    """`dedicated`: every lane has cores of its own. `shared`: a node's lanes share its cores, earliest deadline first;
    for nodes with fewer cores than the pipeline has stages."""
    utilisation: float = 0.9
    """Most of its time that a lane (`shared`: a core) is counted on."""
    hop_s: float = 0.0
    """Time from one stage to the next, and from the door to the first, taken off the SLO."""
    min_accuracy: float = 0.0
    threads: tuple[int, ...] = ()
    """Threads per lane to choose from; empty: those measured."""
    batches: tuple[int, ...] = ()
    """Batch sizes to choose from; empty: those measured and the powers of two between them."""
    replicas: Mapping[str, ReplicaBounds] = field(default_factory=dict)
    """Stage -> bounds; a stage not named has those of the pipeline file."""
    replica_cores: int | None = None
    """Most cores of one replica; None: a replica may fill its node, so that there are as few as can be."""
    gap: float = 1e-4
    """Relative distance to the optimum at which a search may stop."""
    time_limit_s: float = 1.0
    """After which a search returns the best plan so far (needs a clock)."""
    node_limit: int = 20_000
    """After so many subproblems likewise, clock or not."""

    def __post_init__(self) -> None:
        problems = [f"{name}: {rule}" for name, rule in self._broken()]
        if problems:
            raise ConfigError(*problems)

    def bounds(self, stage: str) -> ReplicaBounds:
        """The replica bounds of a stage."""
        return self.replicas.get(stage, ReplicaBounds())

    def bounded_by(self, pipeline: Pipeline) -> Settings:
        """The same with the pipeline's own replica bounds for the stages that `replicas` does not name."""
        stated = {
            name: ReplicaBounds(stage.min_replicas, stage.max_replicas)
            for name, stage in pipeline.stages.items()
            if name not in self.replicas and (stage.min_replicas > 1 or stage.max_replicas is not None)
        }
        return replace(self, replicas={**self.replicas, **stated}) if stated else self

    def _broken(self) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        if not 0.0 < self.wait_quantile < 1.0:
            found.append(("wait_quantile", f"must lie between 0 and 1, got {self.wait_quantile!r}"))
        if not 0.0 < self.utilisation <= 1.0:
            found.append(("utilisation", f"must be above 0 and at most 1, got {self.utilisation!r}"))
        if self.wait == "queue" and self.utilisation >= 1.0:
            found.append(("utilisation", "must be below 1 where waits are predicted: a full queue never empties"))
        if not 0.0 <= self.min_accuracy <= 1.0:
            found.append(("min_accuracy", f"must lie in [0, 1], got {self.min_accuracy!r}"))
        if not self.hop_s >= 0.0:
            found.append(("hop_s", f"must be at least 0 seconds, got {self.hop_s!r}"))
        for name, numbers in (("threads", self.threads), ("batches", self.batches)):
            if any(number < 1 for number in numbers):
                found.append((name, f"must be whole numbers of at least 1, got {list(numbers)}"))
        if self.replica_cores is not None and self.replica_cores < 1:
            found.append(("replica_cores", f"must be at least 1, got {self.replica_cores}"))
        for stage, bounds in self.replicas.items():
            if bounds.least < 0 or (bounds.most is not None and bounds.most < max(1, bounds.least)):
                found.append((f"replicas.{stage}", f"needs 0 <= least <= most, got {bounds.least}..{bounds.most}"))
        return found
