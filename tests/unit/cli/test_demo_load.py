from __future__ import annotations

from typing import Any

import pytest

from triscale.cli.demo_load import WARM_UP, counted, made_up_inputs, phases_of, surge_index
from triscale.core.pipeline import Pipeline, Stage, TensorSpec, Variant
from triscale.errors import ConfigError
from triscale.policy.autoscalers.ceiling import Ceiling
from triscale.traces.results import Latency, PhaseResult, ReplayResult, Seconds

CEILING = Ceiling(variants={"detect": "large"}, accuracy=0.9, within_slo_per_s=4.0, capacity_per_s=7.0)


def pipeline(runtime: str = "emulated", **more: Any) -> Pipeline:
    variant = Variant(name="a", runtime="emulated", latency_ms={1: 1.0})
    if runtime == "python":
        variant = Variant(name="a", model="somewhere:Model")
    return Pipeline(name="p", slo_ms=100.0, stages={"detect": Stage(variants=(variant,))}, **more)


def phase(name: str, seconds: float) -> PhaseResult:
    counts: dict[str, Any] = dict.fromkeys(("sent", "answered", "late", "dropped", "shed", "failed", "cancelled"), 0)
    return PhaseResult(
        name=name, seconds=seconds, rate_per_s=1.0, attainment=None, goodput_per_s=0.0, latency_ms=Latency(), **counts
    )


def result(*phases: PhaseResult) -> ReplayResult:
    columns = {name: tuple(range(5)) for name in Seconds.__struct_fields__}
    return ReplayResult(
        pipeline="p", slo_ms=100.0, phases=phases, series=Seconds(**columns), latencies_ms=((1.5, 7.0), (2.5, 8.0))
    )


def test_the_load_fits_surges_to_twice_the_capacity_and_fits_again() -> None:
    phases = phases_of(CEILING, 60.0, None)
    assert [phase.name for phase in phases] == [WARM_UP, "calm", "surge", "calm again"]
    assert [phase.rate_per_s for phase in phases] == pytest.approx([2.4, 2.4, 14.0, 2.4])
    assert [phase.seconds for phase in phases] == pytest.approx([5.0, 15.0, 25.0, 20.0])


def test_a_rate_needs_no_ceiling() -> None:
    for ceiling in (None, CEILING):
        phases = phases_of(ceiling, 12.0, 20.0)
        assert [phase.rate_per_s for phase in phases] == [20.0, 20.0, 100.0, 20.0]


def test_replicas_that_start_slowly_are_waited_for() -> None:
    assert phases_of(CEILING, 24.0, None, cold_start_s=2.0)[0].seconds == 8


def test_without_ceiling_and_rate_there_is_nothing_to_send() -> None:
    with pytest.raises(
        ConfigError, match=r"no variants of this pipeline meet its objective .* give a rate with --rate"
    ):
        phases_of(None, 60.0, None)


def test_the_warm_up_is_not_counted() -> None:
    found, skipped = counted(result(phase(WARM_UP, 2.0), phase("calm", 3.0)))
    assert skipped == 2.0
    assert [phase.name for phase in found.phases] == ["calm"]
    assert found.series.sent == (2, 3, 4)
    assert found.latencies_ms == ((0.5, 8.0),)


@pytest.mark.parametrize("phases", [(WARM_UP,), ("trace",)])
def test_where_nothing_came_after_it_a_warm_up_is_what_there_is(phases: tuple[str, ...]) -> None:
    whole = result(*(phase(name, 2.0) for name in phases))
    assert counted(whole) == (whole, 0.0)


def test_the_surge_is_known_by_its_name() -> None:
    assert surge_index(["calm", "surge", "calm again"]) == 1
    assert surge_index(["calm"]) is None


def test_pipelines_that_only_emulate_take_whatever_they_declare() -> None:
    assert [tensor.shape for tensor in made_up_inputs(pipeline()).inputs] == [(1,)]
    declared = made_up_inputs(pipeline(inputs={"frame": TensorSpec(datatype="UINT8", shape=(-1, 3))}, max_batch_size=8))
    assert [(tensor.name, tensor.datatype, tensor.shape) for tensor in declared.inputs] == [
        ("frame", "UINT8", (1, -1, 3))
    ]


def test_pipelines_that_compute_need_samples() -> None:
    with pytest.raises(ConfigError, match="'p' names no samples, so there is nothing to send that stage 'detect'"):
        made_up_inputs(pipeline("python"))
