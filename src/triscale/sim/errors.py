"""What is wrong when a simulation cannot go on."""

from __future__ import annotations

from triscale.errors import TriscaleError

__all__ = ["SimulationError"]


class SimulationError(TriscaleError):
    """A promise that every run keeps was broken, in the simulator or in what it drives; the message says which."""
