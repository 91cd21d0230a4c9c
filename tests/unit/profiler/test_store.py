"""Profile files: what is written is read, what is stale is said, what is broken is named."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from triscale import ConfigError, Pipeline, Stage, Variant
from triscale.core.profile import LatencyPoint, Machine, PathAccuracy, Profile, VariantProfile
from triscale.profiler.machine import this_machine
from triscale.profiler.store import (
    cache_path,
    load_cached,
    load_outdated,
    missing_variants,
    read_profile,
    stale_reasons,
    variant_hash,
    write_profile,
)

VARIANT = Variant(name="v", model="models:Echo", options={"size": 3})
PIPELINE = Pipeline(name="p", slo_ms=100, stages={"a": Stage(variants=(VARIANT,))})


def profile(weights: str = "", machine: Machine | None = None, *names: str) -> Profile:
    point = LatencyPoint(batch=1, p50_s=0.01, p95_s=0.02, p99_s=0.03, samples=9)
    variants = {name: VariantProfile(latency=(point,), weights=weights) for name in names or ("v",)}
    return Profile(pipeline="p", stages={"a": variants}, machine=machine or this_machine())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_profile(profile(), tmp_path / "deep" / "p.json")
    assert read_profile(tmp_path / "deep" / "p.json") == profile()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["p.json"], "nothing temporary is left"


def test_the_cache_is_per_machine_and_per_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert load_cached(PIPELINE, []) is None
    write_profile(profile(), cache_path(PIPELINE, []))
    assert load_cached(PIPELINE, []) == profile()
    changed = msgspec.structs.replace(VARIANT, options={"size": 4})
    assert load_cached(Pipeline(name="p", slo_ms=100, stages={"a": Stage(variants=(changed,))}), []) is None


def test_an_outdated_profile_is_found_by_the_pipelines_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert load_outdated(PIPELINE) is None
    folder = cache_path(PIPELINE, []).parent
    older, newer = folder / "p-1.json", folder / "p-2.json"
    write_profile(profile("older"), older)
    write_profile(profile("newer"), newer)
    os.utime(older, (1, 1))
    assert load_outdated(PIPELINE) == (profile("newer"), newer)
    newer.write_text("{")
    assert load_outdated(PIPELINE) == (profile("older"), older)
    write_profile(profile("", None, "w"), older)
    assert load_outdated(PIPELINE) is None, "it lacks a variant"
    write_profile(msgspec.structs.replace(profile(), pipeline="p-x"), folder / "p-x-1.json")
    assert load_outdated(PIPELINE) is None, "it is another pipeline's"


def test_the_file_is_for_people_too(tmp_path: Path) -> None:
    path = PathAccuracy(variants={"a": "v"}, accuracy=0.9, requests=5, error=0.01)
    full = msgspec.structs.replace(profile("hash"), paths=(path,))
    write_profile(full, tmp_path / "p.json")
    lines = [line.strip() for line in (tmp_path / "p.json").read_text().splitlines()]
    point = '{"batch": 1, "threads": 1, "lanes": 1, "p50_s": 0.01, "p95_s": 0.02, "p99_s": 0.03, "samples": 9}'
    assert f'"latency": [{point}],' in lines
    assert max(map(len, lines)) <= 125
    assert read_profile(tmp_path / "p.json") == full


def test_a_broken_cache_is_no_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = cache_path(PIPELINE, [])
    path.parent.mkdir(parents=True)
    path.write_text("{")
    assert load_cached(PIPELINE, []) is None


def test_the_hash_follows_the_models_source_and_the_files_of_its_options(tmp_path: Path) -> None:
    roots = [str(tmp_path)]
    variant = Variant(name="v", model="models:Echo", options={"weights": "w.bin"})
    seen = {variant_hash(variant, roots)}
    for file, text in (("models.py", "x = 1"), ("models.py", "x = 2"), ("w.bin", "1"), ("w.bin", "2")):
        (tmp_path / file).write_text(text)
        seen.add(variant_hash(variant, roots))
    assert len(seen) == 5


def test_another_machine_and_another_variant_make_it_stale() -> None:
    other = Machine(id="x", cpu="Some CPU", cores=64)
    assert stale_reasons(PIPELINE, profile(variant_hash(VARIANT, [])), []) == []
    assert stale_reasons(PIPELINE, profile("0" * 16, other), []) == [
        "it was made on Some CPU with 64 cores, not on this machine",
        "a/v has changed since it was profiled",
    ]


def test_many_changed_variants_are_one_reason() -> None:
    both = Stage(variants=(VARIANT, msgspec.structs.replace(VARIANT, name="w")))
    assert stale_reasons(Pipeline(name="p", slo_ms=100, stages={"a": both}), profile("0" * 16, None, "v", "w"), []) == [
        "a/v, a/w have changed since they were profiled"
    ]


def test_missing_variants_are_named() -> None:
    assert missing_variants(PIPELINE, profile("", None, "w")) == ["a/v"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a profile: Input data was truncated; make a new one with `triscale profile`"),
        ('{"pipeline": "p"}', "is not a profile: Object missing required field `stages`"),
        ('{"pipeline": "p", "stages": {}, "version": 7}', "has version 7, this triscale reads 1; make a new one"),
        ('{"pipeline": "p", "stages": {"a": {"v": {"latency": []}}}}', "stages.a.v.latency: has no points"),
        (
            '{"pipeline": "p", "stages": {"a": {"v": {"latency": [{"batch": 0, "p50_s": 1, "p95_s": 1, "p99_s": 1}]}}}}',  # noqa: E501
            "is not a profile: Expected `int` >= 1 - at `$.stages[...][...].latency[0].batch`",
        ),
    ],
)
def test_broken_files_are_named_with_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_profile(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="cannot be read: No such file or directory; make one with `triscale profile`"
    ):
        read_profile(tmp_path / "none.json")
