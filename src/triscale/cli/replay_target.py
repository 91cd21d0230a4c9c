"""From the options of `triscale replay` to a job: what the user leaves out is asked of the server."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

from triscale.core.pipeline import Pipeline
from triscale.core.spec import load_pipeline, pipeline_file
from triscale.errors import ConfigError
from triscale.observe.wording import count
from triscale.replica.config import import_roots
from triscale.traces.endpoint import Trust, endpoint_of
from triscale.traces.job import Job
from triscale.traces.payload import Payload, PayloadFiles, Synthetic, TensorMetadata
from triscale.traces.peer import Peer
from triscale.traces.trace import AnyTrace

__all__ = ["Wishes", "headers_of", "job_for", "payload_words"]

_SHAPE = re.compile(r"\d+(,\d+)*")


class Wishes(Struct, frozen=True, kw_only=True):
    """The options, as they were given."""

    target: str
    model: str | None = None
    pipeline: str | None = None
    payloads: tuple[str, ...] = ()
    header_length: int | None = None
    synthetic: Literal["random", "zeros"] | None = None
    shapes: tuple[str, ...] = ()
    """`NAME=1,16` each."""
    samples: int = 64
    encoding: Literal["auto", "binary", "json"] = "auto"
    slo_ms: float | None = None
    deadline_ms: float | None = None
    timeout_ms: float = 30_000.0
    seed: int = 0
    connections: int = 512
    headers: dict[str, str] = {}
    trust: Trust = Trust()
    record: str = ""


def headers_of(lines: Sequence[str], token: str) -> dict[str, str]:
    """`Name: value` options as headers, and the bearer token as one. ConfigError for what is none."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise ConfigError(f"--header {line!r} is not `Name: value`, such as 'Host: model.example.org'")
        headers[name.strip()] = value.strip()
    return headers


async def job_for(wishes: Wishes, trace: AnyTrace) -> Job:
    """The job. ConfigError when something is missing that the server does not tell either."""
    _check(wishes)
    pipeline = load_pipeline(wishes.pipeline) if wishes.pipeline is not None else None
    async with Peer(wishes.target, wishes.headers, wishes.trust) as peer:
        model = wishes.model or (pipeline.name if pipeline is not None else await _only_model(peer, wishes.target))
        inputs = await peer.inputs(model)
        slo_ms = wishes.slo_ms or wishes.deadline_ms or (pipeline.slo_ms if pipeline else None)
        slo_ms = slo_ms or await peer.objective_ms(model)
    if slo_ms is None:
        raise ConfigError(
            f"the server does not say within which time {model!r} is to answer, so nothing could be called late; "
            "give --slo-ms"
        )
    source = score = ""
    roots: tuple[str, ...] = ()
    if pipeline is not None and wishes.pipeline is not None:
        source, score = _samples(pipeline)
        roots = import_roots(pipeline_file(wishes.pipeline))
    return Job(
        url=wishes.target,
        model=model,
        slo_ms=slo_ms,
        trace=trace,
        source=source,
        score=score,
        payload=None if source else _payload(wishes, model, inputs),
        samples=wishes.samples,
        seed=wishes.seed,
        import_roots=roots,
        batched=pipeline is not None and pipeline.max_batch_size > 0,
        encoding=wishes.encoding,
        deadline_ms=wishes.deadline_ms,
        connections=wishes.connections,
        timeout_ms=wishes.timeout_ms,
        headers=wishes.headers,
        trust=wishes.trust,
        record=wishes.record,
    )


def payload_words(job: Job) -> str:
    """What the requests carry, for people."""
    match job.payload:
        case None:
            return f"samples of {job.source}"
        case PayloadFiles(paths=paths):
            return f"bodies recorded in {', '.join(Path(path).name for path in paths)}"
        case Synthetic(values=values, inputs=inputs):
            tensors = ", ".join(tensor.name for tensor in inputs)
            return f"{'zeros' if values == 'zeros' else 'random values'} as {tensors}"


def _check(wishes: Wishes) -> None:
    """What can be said before the server is asked."""
    given = {
        "--pipeline": wishes.pipeline is not None,
        "--payload": bool(wishes.payloads),
        "--synthetic": wishes.synthetic is not None,
    }
    chosen = [option for option, is_given in given.items() if is_given]
    if not chosen:
        raise ConfigError(
            "there is nothing to send: give --pipeline for its samples, --payload for recorded requests, or "
            "--synthetic for made-up tensors"
        )
    problems = []
    if len(chosen) > 1:
        problems.append(f"{' and '.join(chosen)} each say what to send; give one of them")
    if wishes.header_length is not None and not wishes.payloads:
        problems.append("--header-length is about the file of --payload; leave it out, or name the file")
    if wishes.shapes and wishes.synthetic is None:
        problems.append("--shape is about tensors that --synthetic makes up; leave it out, or give that")
    if (wishes.trust.cacert or wishes.trust.insecure) and not endpoint_of(wishes.target).tls:
        problems.append("--cacert and --insecure have no effect on a server without TLS; write https://")
    if problems:
        raise ConfigError(*problems)


async def _only_model(peer: Peer, target: str) -> str:
    models = await peer.models()
    if models is None:
        raise ConfigError(f"{target} does not list its models; name the one to send requests to with --model")
    if len(models) != 1:
        listed = f"serves {count(len(models))} models ({', '.join(models)})" if models else "serves no model"
        raise ConfigError(f"{target} {listed}; name the one to send requests to with --model")
    return models[0]


def _samples(pipeline: Pipeline) -> tuple[str, str]:
    if pipeline.samples is None:
        raise ConfigError(
            f"pipeline {pipeline.name!r} names no samples, so there is nothing to send; "
            "add `samples: {source: package.module:function}`, or give --payload or --synthetic"
        )
    return pipeline.samples.source, pipeline.samples.score


def _payload(wishes: Wishes, model: str, inputs: tuple[TensorMetadata, ...] | None) -> Payload:
    if wishes.synthetic is None:
        return PayloadFiles(
            paths=tuple(str(Path(path).absolute()) for path in wishes.payloads), header_length=wishes.header_length
        )
    if inputs is None:
        raise ConfigError(f"{wishes.target} does not tell the inputs of {model!r}, so none can be made up")
    shapes = {}
    for text in wishes.shapes:
        name, equals, extents = text.partition("=")
        if not equals or not _SHAPE.fullmatch(extents):
            raise ConfigError(f"--shape {text!r} is not NAME=EXTENT,EXTENT, such as image=1,3,224,224")
        shapes[name] = tuple(int(extent) for extent in extents.split(","))
    return Synthetic(inputs=inputs, values=wishes.synthetic, shapes=shapes)
