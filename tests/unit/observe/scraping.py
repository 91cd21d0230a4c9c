"""Reads metrics as Prometheus would."""

from __future__ import annotations

from typing import TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from triscale.observe.metrics import render

Values: TypeAlias = "dict[tuple[str, tuple[tuple[str, str], ...]], float]"
"""(name, sorted labels) -> value."""


def scraped(registry: CollectorRegistry) -> Values:
    """All that it exposes."""
    text, _ = render(registry, "")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }
