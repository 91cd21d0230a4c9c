"""A compiled graph has the pipeline's order and reachability."""

from __future__ import annotations

from triscale import Pipeline, Stage, Variant
from triscale.core.graph import Graph


def stage(*after: str, join: str = "each") -> Stage:
    return Stage(after=after, join=join, variants=(Variant(name="v", model="m:M"),))  # type: ignore[arg-type]


def test_stages_come_after_their_parents_whatever_the_order_of_the_file() -> None:
    pipeline = Pipeline(
        name="p",
        slo_ms=100,
        stages={
            "end": stage("left", "right", join="all"),
            "right": stage("root"),
            "root": stage(),
            "left": stage("root"),
        },
    )
    graph = Graph.of(pipeline)
    assert graph.stages == ("root", "right", "left", "end")
    assert graph.children == ((1, 2), (3,), (3,), ())
    assert graph.parents == ((), (0,), (0,), (2, 1))
    assert [set(above) for above in graph.ancestors] == [set(), {0}, {0}, {0, 1, 2}]
    assert graph.joins == (False, False, False, True)
