"""A whole profile: latencies first, then with what is left of the time the accuracies of the paths.

Here the profiler meets the server: an answer is scored as a client would get it, gathered by `serve/gather.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from triscale.clock import Clock
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.profile import Profile
from triscale.profiler.accuracy import Judge, measure_accuracy, sample_cost_s
from triscale.profiler.measure import Effort, Progress, profile_pipeline
from triscale.profiler.samples import sample_requests, score_function
from triscale.serve.gather import OutputSchema
from triscale.wire.payload import Field, Kind, Payload, unpack

__all__ = ["FEWEST_LABELLED", "answers_of", "measure"]

_SAMPLES = 24
"""Samples whose items latencies are measured with."""
_SEED = 1
_FOR_LATENCIES = 2.0 / 3.0
"""Part of the budget, where accuracies are measured as well."""
_MARGIN = 0.75
"""Part of the time left that the models may take: samples must be made and answers scored, too."""
FEWEST_LABELLED = 30
"""Labelled samples for which there must be time: fewer would know less of a variant than its file says."""


async def measure(
    pipeline: Pipeline,
    import_roots: Sequence[str],
    clock: Clock,
    *,
    effort: Effort,
    budget_s: float,
    cores: int,
    most_labelled: int,
    on_progress: Callable[[Progress], None],
) -> Profile:
    """Profile the pipeline on its own samples in about `budget_s` seconds.

    At most `most_labelled` samples, and as many as there is time for, are run through the paths; none where that would
    be fewer than `FEWEST_LABELLED`. Raises what `sample_requests`, `profile_pipeline` and `measure_accuracy` raise.
    """
    started = clock.now()
    samples = sample_requests(pipeline, import_roots, _SAMPLES, _SEED)
    score = score_function(pipeline, import_roots) if most_labelled else None
    for_latencies = budget_s * _FOR_LATENCIES if score else budget_s

    def tell(progress: Progress, after_s: float) -> None:
        on_progress(Progress(progress.what, clock.now() - started, progress.left_s + after_s))

    profile = await profile_pipeline(
        pipeline,
        import_roots,
        samples,
        clock,
        effort=effort,
        budget_s=for_latencies,
        cores=cores,
        on_progress=lambda progress: tell(progress, budget_s - for_latencies),
    )
    if score is None or pipeline.samples is None:
        return profile
    left_s = max(started + budget_s - clock.now(), budget_s - for_latencies)
    fitting = int(_MARGIN * left_s / max(1e-6, sample_cost_s(Graph.of(pipeline), profile, cores)))
    if fitting < min(FEWEST_LABELLED, most_labelled):
        return profile
    labelled = sample_requests(pipeline, import_roots, min(most_labelled, fitting), _SEED)
    judge = Judge(answers_of(pipeline), score, pipeline.samples.score)
    return await measure_accuracy(
        pipeline,
        import_roots,
        profile,
        labelled,
        judge,
        clock,
        cores=cores,
        on_progress=lambda progress: tell(progress, 0.0),
    )


def answers_of(pipeline: Pipeline) -> Callable[[Sequence[Payload]], dict[str, npt.NDArray[np.generic]]]:
    """A function from what the stages put out for one request to the tensors of its response, as a client reads them.

    It raises ModelError when the outputs do not make the tensors that the pipeline declares.
    """
    schema = OutputSchema(pipeline)
    batched = pipeline.max_batch_size > 0

    def answer(outputs: Sequence[Payload]) -> dict[str, npt.NDArray[np.generic]]:
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        for tensor in schema.gather([outputs]):
            head = Field(tensor.name, Kind.TENSOR, tensor.nbytes, tensor.datatype, tuple(tensor.shape))
            value = unpack(Payload(msgspec.msgpack.encode([head]), tensor.buffers, tensor.nbytes))[tensor.name]
            assert isinstance(value, np.ndarray)
            # A sample is one row, in a pipeline whose requests are batches of rows.
            arrays[tensor.name] = value.reshape(value.shape[1:]) if batched and value.shape[:1] == (1,) else value
        return arrays

    return answer
