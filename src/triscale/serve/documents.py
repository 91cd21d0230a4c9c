"""What the protocol says about the server and its models, as JSON documents. A pipeline is one model. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from triscale.core.pipeline import Pipeline, TensorSpec
from triscale.serve.inference_protocol import VERSION

__all__ = ["EXTENSIONS", "config_document", "index_entry", "metadata_document", "server_document"]

EXTENSIONS = ("binary_tensor_data", "parameters", "schedule_policy", "model_configuration", "statistics")
"""Triton's names for what is spoken beyond the base protocol; of schedule_policy the timeout counts."""

_PLATFORM = "triscale_pipeline"
_BACKEND = "triscale"


def server_document(version: str) -> dict[str, object]:
    """GET /v2."""
    return {"name": "triscale", "version": version, "extensions": EXTENSIONS}


def metadata_document(pipeline: Pipeline) -> dict[str, object]:
    """GET /v2/models/{name}. With `max_batch_size` the shapes begin with the batch, as requests do."""
    batch = (-1,) if pipeline.max_batch_size else ()
    return {
        "name": pipeline.name,
        "versions": (VERSION,),
        "platform": _PLATFORM,
        "inputs": _metadata_tensors(pipeline.inputs, batch),
        "outputs": _metadata_tensors(pipeline.outputs, batch),
    }


def _metadata_tensors(specs: Mapping[str, TensorSpec], batch: tuple[int, ...]) -> list[dict[str, object]]:
    return [{"name": name, "datatype": spec.datatype, "shape": batch + spec.shape} for name, spec in specs.items()]


def config_document(pipeline: Pipeline) -> dict[str, object]:
    """GET /v2/models/{name}/config, in the form of Triton's model configuration; perf_analyzer asks for it."""
    return {
        "name": pipeline.name,
        "platform": _PLATFORM,
        "backend": _BACKEND,
        "max_batch_size": pipeline.max_batch_size,
        "input": _config_tensors(pipeline.inputs),
        "output": _config_tensors(pipeline.outputs),
        "parameters": {"slo_ms": {"string_value": f"{pipeline.slo_ms:g}"}},
    }


def _config_tensors(specs: Mapping[str, TensorSpec]) -> list[dict[str, object]]:
    return [
        {
            "name": name,
            "data_type": "TYPE_STRING" if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}",
            "dims": spec.shape,
        }
        for name, spec in specs.items()
    ]


def index_entry(pipeline: Pipeline, ready: bool) -> dict[str, str]:
    """One entry of POST /v2/repository/index."""
    state, reason = ("READY", "") if ready else ("UNAVAILABLE", "starting, draining or without capacity")
    return {"name": pipeline.name, "version": VERSION, "state": state, "reason": reason}
