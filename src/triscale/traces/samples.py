"""Sample requests: the user's source of them made into bytes to send, and the user's score of what came back."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from triscale.core.sample import Sample
from triscale.errors import ConfigError
from triscale.traces.http_client import endpoint_of
from triscale.traces.infer_codec import Outputs, encode_inputs, http_request
from triscale.traces.job import Job

__all__ = ["Prepared", "load_function", "make_samples", "prepare"]


class Prepared(Struct, frozen=True):
    """All that a run sends, made before its clock starts."""

    samples: tuple[Sample, ...]
    requests: tuple[bytes, ...]
    """One HTTP request for each sample."""
    score: Callable[[Any, Outputs], float] | None = None
    """The job's score function."""


def load_function(spec: str, roots: Sequence[str], key: str) -> Callable[..., Any]:
    """The function `package.module:name`, looked for in `roots` first; ConfigError names `key` and what is amiss."""
    module_name, colon, name = spec.partition(":")
    if not colon or not module_name or not name:
        raise ConfigError(f"{key} is written `package.module:function`, got {spec!r}")
    for root in reversed(roots):
        if root not in sys.path:
            sys.path.insert(0, root)
    try:
        function = getattr(importlib.import_module(module_name), name)
    except ImportError as error:
        places = ", ".join(roots) or "the installed packages"
        raise ConfigError(
            f"{key}: cannot import {module_name!r} ({error}); looked in {places}. Name the folder that holds it"
        ) from error
    except AttributeError:
        raise ConfigError(f"{key}: the module {module_name!r} has no {name!r}") from None
    if not callable(function):
        raise ConfigError(f"{key}: {spec!r} is a {type(function).__name__}, not a function")
    return function  # type: ignore[no-any-return]  # what the user's function takes is checked by calling it


def make_samples(
    source: Callable[[int, int], Iterable[Sample]], job: Job, on_made: Callable[[int], None]
) -> list[Sample]:
    """Up to `job.samples` samples from `source`; `on_made` hears how many there are so far."""
    made: list[Sample] = []
    for sample in source(job.samples, job.seed):
        if not isinstance(sample, Sample):
            raise ConfigError(f"source: {job.source!r} yields triscale.Sample, but item {len(made)} is {sample!r:.80}")
        made.append(sample)
        on_made(len(made))
        if len(made) == job.samples:
            break
    if not made:
        raise ConfigError(f"source: {job.source!r} yielded no sample for count={job.samples}, seed={job.seed}")
    return made


def prepare(job: Job, on_made: Callable[[int], None] = lambda _: None) -> Prepared:
    """Call the job's source and encode what it yields. ConfigError when either is not possible."""
    source = load_function(job.source, job.import_roots, "source")
    score = load_function(job.score, job.import_roots, "score") if job.score else None
    samples = make_samples(source, job, on_made)
    authority = endpoint_of(job.url).authority
    path = f"/v2/models/{quote(job.model, safe='')}/infer"
    requests = []
    for number, sample in enumerate(samples):
        try:
            head, raw = encode_inputs(sample.inputs, job.batched)
        except TypeError as error:
            raise ConfigError(f"source: sample {number} of {job.source!r}: {error}") from None
        requests.append(http_request(authority, path, head, raw, job.headers))
    return Prepared(tuple(samples), tuple(requests), score)
