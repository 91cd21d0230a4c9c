"""The demo's load: it fits, surges to twice what the most accurate variants can carry, and fits again.

Before it comes a warm-up at the first rate, which is sent and answered like the rest but not counted: servers that
have just started know neither the load nor how fast the machine really is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from triscale.core.pipeline import Pipeline
from triscale.errors import ConfigError
from triscale.policy.autoscalers.ceiling import Ceiling
from triscale.traces.arrivals import Phase
from triscale.traces.payload import Synthetic, TensorMetadata
from triscale.traces.results import ReplayResult, Seconds

__all__ = ["CALM", "SURGE", "WARM_UP", "counted", "made_up_inputs", "phases_of", "surge_index"]

CALM = 0.6
"""Part of the random arrivals that the most accurate variants answer within the SLO."""
SURGE = 2.0
"""The surge over all that they can carry."""
WARM_UP = "warm-up"
_SURGE = "surge"
_WARM_UP = 1.0 / 12.0
"""Length of the warm-up in parts of the rest, in whole seconds..."""
_COLD_STARTS = 3.0
"""...with time for so many cold starts."""
_LENGTHS = (("calm", 0.25), (_SURGE, 5.0 / 12.0), ("calm again", 1.0 / 3.0))
_SURGE_OVER_CALM = 5.0
"""Where the rate is given: about what the OCR example's two ceilings make of it."""


def phases_of(
    ceiling: Ceiling | None, seconds: float, rate: float | None, cold_start_s: float = 0.0
) -> tuple[Phase, ...]:
    """A warm-up, and phases of so many seconds; `rate`: of the calm ones. ConfigError without rate and ceiling."""
    if rate is not None:
        calm, surge = rate, _SURGE_OVER_CALM * rate
    elif ceiling is not None:
        calm, surge = CALM * ceiling.within_slo_per_s, SURGE * ceiling.capacity_per_s
    else:
        raise ConfigError(
            "no variants of this pipeline meet its objective on these cores, so there is no load that fits; "
            "give a rate with --rate, more cores with --cores, or a longer objective with --set slo_ms=..."
        )
    warm_up = Phase(WARM_UP, calm, math.ceil(_WARM_UP * seconds + _COLD_STARTS * cold_start_s))
    rest = (Phase(name, surge if name == _SURGE else calm, seconds * part) for name, part in _LENGTHS)
    return (warm_up, *rest)


def counted(result: ReplayResult) -> tuple[ReplayResult, float]:
    """The result without the warm-up, and how many seconds that was; as it is where nothing else was sent."""
    first = result.phases[0]
    if first.name != WARM_UP or len(result.phases) == 1:
        return result, 0.0
    start = round(first.seconds)
    columns = {name: tuple(getattr(result.series, name)[start:]) for name in Seconds.__struct_fields__}
    rest = msgspec.structs.replace(
        result,
        phases=result.phases[1:],
        series=Seconds(**columns),
        latencies_ms=tuple((at - start, latency) for at, latency in result.latencies_ms if at >= start),
    )
    return rest, first.seconds


def surge_index(names: Sequence[str]) -> int | None:
    """Which of the phases is the surge; None where it was not begun."""
    return names.index(_SURGE) if _SURGE in names else None


def made_up_inputs(pipeline: Pipeline) -> Synthetic:
    """Inputs for a pipeline that names no samples and only emulates. ConfigError for one that computes."""
    real = [name for name, stage in pipeline.stages.items() if any(v.runtime != "emulated" for v in stage.variants)]
    if real:
        raise ConfigError(
            f"pipeline {pipeline.name!r} names no samples, so there is nothing to send that stage {real[0]!r} "
            "understands; add `samples: {source: package.module:function}`"
        )
    rows = (1,) if pipeline.max_batch_size > 0 else ()
    declared = tuple(
        TensorMetadata(name=name, datatype=spec.datatype, shape=(*rows, *spec.shape))
        for name, spec in pipeline.inputs.items()
    )
    return Synthetic(inputs=declared or (TensorMetadata(name="x", datatype="FP32", shape=(1,)),))
