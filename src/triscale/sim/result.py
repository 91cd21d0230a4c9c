"""What a simulation found, and how long it took: the result that the simulator hands back."""

from __future__ import annotations

from typing import Any

import msgspec

from triscale.observe.simulation_document import SimulationView

__all__ = ["Result"]


class Result(SimulationView, frozen=True, kw_only=True):
    """One policy on one trace: all that its pages show (`observe/simulation_document.py`), and `wall_s`."""

    wall_s: float = 0.0
    """How long the simulation took. The only figure that differs between two runs."""

    def summary(self) -> dict[str, Any]:
        """The stable short form that `--json` prints."""
        return {
            "policy": self.policy,
            "seed": self.seed,
            "requests": self.requests,
            "attainment": self.attainment,
            "violations": msgspec.to_builtins(self.violations),
            "accuracy": self.accuracy,
            "core_seconds": self.core_seconds,
            "mean_cores": self.mean_cores,
            "latency_ms": {"p50": self.latency_ms.p50, "p95": self.latency_ms.p95, "p99": self.latency_ms.p99},
            "simulated_s": self.simulated_s,
            "wall_s": self.wall_s,
            "items": self.items,
        }

    def report(self) -> bytes:
        """Everything as JSON, but for `wall_s`: byte for byte the same for the same inputs and seed."""
        document = msgspec.to_builtins(self)
        del document["wall_s"]
        return msgspec.json.encode(document)
