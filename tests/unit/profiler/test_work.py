"""Items between stages: the dispatcher's order, and its joins."""

from __future__ import annotations

from triscale import Sample
from triscale.core.graph import Graph
from triscale.profiler.work import Work, entering, of_samples, passed_on
from triscale.testing.builders import pipeline, stage, variant
from triscale.wire.payload import Payload, pack, unpack

V = variant("v", 1.0)
DIAMOND = Graph.of(
    pipeline(a=stage(V), b=stage(V, after="a"), c=stage(V, after="a"), d=stage(V, after=("b", "c"), join="all"))
)


def texts(*names: str) -> list[Payload]:
    return [pack({"x": name}) for name in names]


def test_what_is_emitted_knows_its_place() -> None:
    (item,) = of_samples([Sample({"x": "r"})])
    to_b, to_c = passed_on(DIAMOND, 0, item, (None, [texts("b0", "b1"), texts("c0")]))
    assert [work.place for work in to_b] == [(0, 0, 1, 0), (0, 0, 1, 1)]
    assert [work.place for work in to_c] == [(0, 0, 2, 0)]
    assert all(work.sample == 0 for work in (*to_b, *to_c))


def test_a_join_gathers_in_the_order_of_emission_and_runs_for_a_sample_that_emitted_nothing() -> None:
    (first, second) = of_samples([Sample({"x": "r"}), Sample({"x": "empty"})])
    to_b, to_c = passed_on(DIAMOND, 0, first, (None, [texts("b0", "b1"), texts("c0")]))
    to_join: list[Work] = []
    for stage_index, works in ((2, to_c), (1, to_b[::-1])):  # as they happen to finish
        for work in works:
            (found,) = passed_on(DIAMOND, stage_index, work, (None, [list(work.parts)]))
            to_join += found
    assert second.sample == 1
    joined = entering(DIAMOND, 3, to_join, range(2))
    assert [[unpack(part)["x"] for part in item.parts] for item in joined] == [["b0", "b1", "c0"], []]
    assert [item.place for item in joined] == [(3, 0), (3, 0)]


def test_without_a_join_every_item_enters_on_its_own() -> None:
    items = of_samples([Sample({"x": "r"}), Sample({"x": "s"})])
    assert entering(DIAMOND, 1, items, range(2)) == items
