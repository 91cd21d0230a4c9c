"""What is served with: the profile asked for, a cached one, the file's own, or none; a plan of variants that exist."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from triscale import ConfigError, ResourceLimits, Stage, Variant
from triscale.app.resolve import cores_for, plan_for, profile_for
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.profile import Profile, inline_profile
from triscale.dispatch.assemble import make_dispatcher
from triscale.policy.latency import ServiceTimes
from triscale.policy.learned import LearnedTimes
from triscale.profiler.store import cache_path, write_profile
from triscale.testing.builders import pipeline, stage, variant

STATED = pipeline(
    a=stage(variant("big", 20.0, accuracy=0.9, fan_out={"b": 3.0}), variant("small", 5.0, accuracy=0.5)),
    b=stage(variant("only", 5.0), after="a"),
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def made() -> Profile:
    profile = inline_profile(STATED)
    assert profile is not None
    return Profile(pipeline="test", stages=profile.stages)


def unstated() -> Pipeline:
    return Pipeline(name="p", slo_ms=100, stages={"a": Stage(variants=(Variant(name="v", model="m:M"),))})


def test_without_a_measurement_the_file_is_believed() -> None:
    profile, warnings = profile_for(STATED, [], None)
    assert profile == inline_profile(STATED)
    assert warnings == []


def test_a_cached_measurement_wins_over_the_file() -> None:
    write_profile(made(), cache_path(STATED, []))
    assert profile_for(STATED, [], None) == (made(), [])


def test_with_nothing_known_it_says_what_that_means() -> None:
    profile, (warning,) = profile_for(unstated(), [], None)
    assert profile is None
    assert warning == (
        "no profile of this pipeline on this machine: latencies are learned while serving; "
        "`triscale profile` measures them first"
    )


def test_a_profile_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    write_profile(Profile(pipeline="x", stages={"a": {"big": made().stages["a"]["big"]}}), path)
    with pytest.raises(
        ConfigError, match=r"other.json: has no latencies of a/small, b/only; profile the pipeline again"
    ):
        profile_for(STATED, [], str(path))


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({"c": "big"}, "--variant c=big: there is no stage 'c'; choose of a, b"),
        ({"a": "huge"}, "--variant a=huge: stage 'a' has no variant 'huge'; it has big, small"),
    ],
)
def test_a_variant_that_does_not_exist_is_named_with_those_that_do(variants: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_for(Graph.of(STATED), None, 2, variants)
    assert str(caught.value) == message


def test_cores_are_those_asked_for_else_the_files_else_the_machines() -> None:
    assert cores_for(replace(STATED, resources=ResourceLimits(cores=3)), 5) == 5
    assert cores_for(replace(STATED, resources=ResourceLimits(cores=3)), None) == 3
    assert cores_for(STATED, None) >= 1


def test_a_dispatcher_expects_what_was_profiled_and_learns_the_rest() -> None:
    graph = Graph.of(STATED)
    known = make_dispatcher(graph, made(), plan_for(graph, made(), 2, {}), 0.0)
    assert [type(model) for model in known.stages[0].models] == [ServiceTimes, ServiceTimes]
    assert known.stages[0].models[0].typical(1) == pytest.approx(0.020)
    assert known.stages[0].fan_out == [[3.0], [1.0]]
    blind = make_dispatcher(graph, None, plan_for(graph, None, 2, {}), 0.0)
    assert [type(model) for model in blind.stages[0].models] == [LearnedTimes, LearnedTimes]
    assert blind.stages[0].fan_out == [[3.0], [1.0]], "a fan-out that the file states is known all the same"
