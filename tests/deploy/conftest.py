"""Every series' name, with its labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.deploy.exposed import exposed

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}


@pytest.fixture(scope="session")
def series() -> Mapping[str, frozenset[str]]:
    """Name of each series -> its labels."""
    found: dict[str, frozenset[str]] = {}
    for family in exposed():
        labels = frozenset(getattr(family, "_labelnames", ()))
        for suffix in _SUFFIXES.get(family.type, ("",)):
            found[family.name + suffix] = labels | {"le"} if suffix == "_bucket" else labels
    return found
