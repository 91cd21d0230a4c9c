"""Traces go where they were asked to go, and what is missing for that is told with the next step."""

from __future__ import annotations

import sys

import pytest

from triscale.app.telemetry import tracer_for
from triscale.core.graph import Graph
from triscale.errors import ConfigError
from triscale.testing import builders

GRAPH = Graph.of(builders.pipeline(only=builders.stage(builders.variant("v", 10.0))))


def test_without_an_endpoint_nothing_is_traced() -> None:
    assert tracer_for(GRAPH, "") is None


def test_an_endpoint_is_a_url() -> None:
    with pytest.raises(ConfigError) as error:
        tracer_for(GRAPH, "localhost:4318")
    assert str(error.value) == "--otlp-endpoint localhost:4318: is not a URL; give one like http://localhost:4318"


def test_a_missing_package_is_told_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "triscale.observe.tracing", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError) as error:
        tracer_for(GRAPH, "http://localhost:4318")
    assert str(error.value).startswith("--otlp-endpoint http://localhost:4318: opentelemetry")
    assert str(error.value).endswith("is not installed; `pip install 'triscale[otel]'` installs what traces need")
