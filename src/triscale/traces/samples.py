"""What a run sends, made before its clock starts: samples of the user's source, recorded bodies or made-up tensors."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from triscale.core.sample import Sample
from triscale.errors import ConfigError
from triscale.traces.endpoint import endpoint_of
from triscale.traces.infer_codec import Outputs, encode_inputs, encode_inputs_as_json
from triscale.traces.job import Job
from triscale.traces.payload import PayloadFiles
from triscale.traces.peer import model_path
from triscale.traces.recorded import read_bodies
from triscale.traces.synthetic import synthetic_samples
from triscale.traces.template import Body, Template

__all__ = ["Prepared", "encoded", "load_function", "make_samples", "prepare"]


class Prepared(Struct, frozen=True):
    """All that a run sends."""

    samples: tuple[Sample, ...]
    """Empty where recorded bodies are sent."""
    templates: tuple[Template, ...]
    """The request of each sample or recorded body."""
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
    """Make what the job sends, in binary unless it wants JSON. ConfigError when that is not possible."""
    if isinstance(job.payload, PayloadFiles):
        return Prepared((), tuple(_templates(job, read_bodies(job.payload))))
    if job.payload is not None:
        payload = job.payload
        samples = make_samples(lambda count, seed: synthetic_samples(payload, count, seed), job, on_made)
        score = None
    else:
        source = load_function(job.source, job.import_roots, "source")
        score = load_function(job.score, job.import_roots, "score") if job.score else None
        samples = make_samples(source, job, on_made)
    return encoded(job, Prepared(tuple(samples), (), score), "json" if job.encoding == "json" else "binary")


def encoded(job: Job, prepared: Prepared, encoding: Literal["binary", "json"]) -> Prepared:
    """The same samples written in an encoding; ConfigError for a value that cannot be."""
    return replace(prepared, templates=tuple(_templates(job, _bodies(job, prepared.samples, encoding))))


def _bodies(job: Job, samples: Sequence[Sample], encoding: Literal["binary", "json"]) -> Iterator[Body]:
    # Tensors made up from a model's metadata have its shapes, the batch included.
    batched = job.batched and job.payload is None
    for number, sample in enumerate(samples):
        try:
            if encoding == "json":
                yield Body(encode_inputs_as_json(sample.inputs, batched))
            else:
                yield Body(*encode_inputs(sample.inputs, batched), binary=True)
        except TypeError as error:
            origin = repr(job.source) if job.source else "the synthetic payload"
            raise ConfigError(f"source: sample {number} of {origin}: {error}") from None


def _templates(job: Job, bodies: Iterable[Body]) -> Iterator[Template]:
    endpoint = endpoint_of(job.url)
    path = model_path(endpoint.prefix, job.model) + "/infer"
    for body in bodies:
        yield Template(endpoint.authority, path, body, job.headers, deadline=job.deadline_ms is not None)
