"""Example requests: what a pipeline's `samples.source` yields."""

from __future__ import annotations

from dataclasses import dataclass

from triscale.core.model import Data

__all__ = ["Sample"]


@dataclass(frozen=True, slots=True)
class Sample:
    """The inputs of one request and, where known, the truth to score its answer against.

    `truth` must be something JSON can hold; None = unlabelled. `weight` tells how often it stands for a real
    request (profiles average over samples).
    """

    inputs: Data
    truth: object = None
    weight: float = 1.0
