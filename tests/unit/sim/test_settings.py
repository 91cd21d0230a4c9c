"""Simulation settings say which rule is broken."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from triscale.errors import ConfigError
from triscale.sim.settings import Failure, SimSettings


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"cold_start_s": -1.0}, "`cold_start_s` is -1.0, but must be a finite number from 0 on"),
        ({"hop_s": math.nan}, "`hop_s` is nan, but must be a finite number from 0 on"),
        ({"window_s": 0.0}, "`window_s` is 0.0, but must be a finite number above 0"),
        ({"tick_s": math.inf}, "`tick_s` is inf, but must be a finite number above 0"),
        ({"failures": (Failure(at_s=1.0),)}, "failures[0]: name either the `node` or the `stage` that fails"),
        (
            {"failures": (Failure(at_s=1.0, node="n"), Failure(at_s=1.0, node="n", stage="s"))},
            "failures[1]: name either the `node` or the `stage` that fails",
        ),
        (
            {"failures": (Failure(at_s=1.0, stage="s", down_s=2.0),)},
            "failures[0].down_s: only a node comes back; a replica is replaced by a launch",
        ),
    ],
)
def test_a_broken_rule_is_named(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SimSettings(**fields)
    assert str(caught.value) == f"simulation settings: {problem}"


def test_settings_go_through_json_and_back() -> None:
    settings = SimSettings(seed=3, load_s=0.5, failures=(Failure(at_s=9.0, node="n1", down_s=30.0),))
    assert msgspec.json.decode(msgspec.json.encode(settings), type=SimSettings) == settings
