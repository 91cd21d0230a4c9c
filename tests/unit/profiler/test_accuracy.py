"""Accuracies: what a run will cost, and what a judge accepts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest

from triscale import ConfigError
from triscale.core.graph import Graph
from triscale.core.profile import inline_profile
from triscale.profiler.accuracy import Judge, sample_cost_s
from triscale.testing.builders import pipeline, stage, variant

Outputs = Mapping[str, npt.NDArray[np.generic]]


def test_the_cost_of_a_sample_counts_what_paths_share_once() -> None:
    graph = Graph.of(
        pipeline(
            a=stage(
                variant("x", 10.0, fan_out={"b": 3.0}, accuracy=0.9, max_batch=1),
                variant("y", 4.0, fan_out={"b": 2.0}, accuracy=0.8, max_batch=1),
            ),
            b=stage(variant("x", 5.0, max_batch=1), variant("y", 1.0, max_batch=1), after="a"),
            c=stage(variant("x", 2.0, max_batch=1), after="b", join="all"),
        )
    )
    profile = inline_profile(graph.pipeline)
    assert profile is not None
    # Each of a's variants once, both of b's on what either found, c once for each of the four paths.
    one_core = (10.0 + 4.0 + (3.0 + 2.0) * (5.0 + 1.0) + 4 * 2.0) / 1000.0
    assert sample_cost_s(graph, profile, 1) == pytest.approx(one_core)
    assert sample_cost_s(graph, profile, 4) == pytest.approx(one_core / 4)


def judged(score: object) -> Judge:
    def function(truth: object, outputs: Outputs) -> float:
        assert truth == "truth"
        assert outputs == {}
        if isinstance(score, Exception):
            raise score
        return score  # type: ignore[return-value]

    return Judge(lambda _: {}, function, "m:score")


def test_a_judge_scores_the_answer() -> None:
    assert judged(0.25)("truth", []) == 0.25


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (1.5, r"samples.score: m:score returned 1.5; return a score in \[0, 1\]"),
        (float("nan"), "m:score returned nan"),
        (KeyError("text"), "samples.score: m:score raised KeyError: 'text'"),
        ("good", "m:score raised ValueError: could not convert string to float"),
    ],
)
def test_a_score_that_is_none_is_named(score: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        judged(score)("truth", [])
