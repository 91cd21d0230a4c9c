"""Where a pipeline's models are imported from."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from triscale.core.cluster import ReplicaId, ReplicaSpec
from triscale.core.pipeline import Variant
from triscale.replica.config import ReplicaConfig, import_roots


def test_the_root_is_the_nearest_folder_that_is_not_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "project" / "shop" / "ocr"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package.parent / "__init__.py").touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert import_roots(package / "pipeline.yaml") == (str(tmp_path / "project"), str(elsewhere))


def test_a_folder_that_is_no_package_is_its_own_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert import_roots("pipeline.yaml") == (str(tmp_path),), "named once"


def test_a_config_survives_its_way_as_json() -> None:
    config = ReplicaConfig(
        spec=ReplicaSpec(id=ReplicaId("s-1"), stage="s", variants=("v",), cpus=(0, 1)),
        variants=(Variant(name="v", runtime="emulated", latency_ms={1: 2.0, 8: 5.5}, options={"a": [1, None]}),),
        children=("t",),
    )
    assert msgspec.json.decode(msgspec.json.encode(config), type=ReplicaConfig) == config
