"""The pipeline's own sample requests, and its function that scores the answers to them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from triscale.core.pipeline import Pipeline
from triscale.core.sample import Sample
from triscale.errors import ConfigError
from triscale.traces.samples import load_function

__all__ = ["sample_requests", "score_function"]


def sample_requests(pipeline: Pipeline, import_roots: Sequence[str], count: int, seed: int) -> list[Sample]:
    """So many samples of the pipeline's source. ConfigError when it names none, or the source gives none."""
    if pipeline.samples is None:
        raise ConfigError(
            f"pipeline {pipeline.name!r} names no samples, so there is nothing to measure its variants with; "
            "add `samples: {source: package.module:function}`, or give every variant `latency_ms`"
        )
    source = load_function(pipeline.samples.source, import_roots, "samples.source")
    samples = list(itertools.islice(source(count, seed), count))
    wrong = next((sample for sample in samples if not isinstance(sample, Sample)), None)
    if wrong is not None:
        raise ConfigError(
            f"samples.source: {pipeline.samples.source} yielded a {type(wrong).__name__}; yield triscale.Sample objects"
        )
    if not samples:
        raise ConfigError(f"samples.source: {pipeline.samples.source} yielded nothing; yield at least one sample")
    return samples


def score_function(pipeline: Pipeline, import_roots: Sequence[str]) -> Callable[[Any, Any], float] | None:
    """The pipeline's `samples.score`; None when it names none: its samples are unlabelled."""
    if pipeline.samples is None or not pipeline.samples.score:
        return None
    return load_function(pipeline.samples.score, import_roots, "samples.score")
