"""Where traces go: a collector, if one was named, through the packages of the `otel` extra."""

from __future__ import annotations

from triscale.core.graph import Graph
from triscale.errors import ConfigError
from triscale.observe.request_trace import Tracer

__all__ = ["tracer_for"]


def tracer_for(graph: Graph, endpoint: str) -> Tracer | None:
    """Sends spans to the OTLP/HTTP collector at `endpoint`; None where that is empty.

    ConfigError when it is no URL, or OpenTelemetry is not installed.
    """
    if not endpoint:
        return None
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigError(f"--otlp-endpoint {endpoint}: is not a URL; give one like http://localhost:4318")
    try:
        from triscale.observe.tracing import OtelTracer, otlp_provider
    except ImportError as error:
        raise ConfigError(
            f"--otlp-endpoint {endpoint}: {error.name or 'OpenTelemetry'} is not installed; "
            "`pip install 'triscale[otel]'` installs what traces need"
        ) from None
    return OtelTracer(graph, otlp_provider(endpoint, graph.pipeline.name))
