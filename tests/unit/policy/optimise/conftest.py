"""Loki's traffic analysis, planned as the paper plans it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from triscale.core.graph import Graph
from triscale.core.profile import inline_profile
from triscale.core.spec import load_pipeline
from triscale.policy.optimise import Problem, Settings

EXAMPLES = Path(__file__).parents[4] / "examples"

LOKI = Settings(wait="half_slo", service_quantile="p50", utilisation=1.0, threads=(1,))


@pytest.fixture(scope="session")
def example() -> Callable[..., Problem]:
    """`example(name, cores, settings)`: the problem of an example pipeline, for no demand yet."""

    def make(name: str, cores: int, settings: Settings = LOKI) -> Problem:
        spec = load_pipeline(EXAMPLES / name)
        profile = inline_profile(spec)
        assert profile is not None
        return Problem.of(Graph.of(spec), profile, 0.0, cores, settings)

    return make


@pytest.fixture(scope="session")
def loki() -> Settings:
    """The paper's assumptions: medians, half the SLO for waiting, lanes used up to the brim."""
    return LOKI
