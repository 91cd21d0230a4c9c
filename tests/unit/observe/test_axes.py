"""Every held core belongs to exactly one axis: there at the start, grown in place, or come with a new replica."""

from __future__ import annotations

from tests.unit.observe.live_scene import NODE, view
from triscale.core.cluster import NodeId
from triscale.core.snapshot import Phase
from triscale.observe.axes import Axes, CoreAxes


def test_what_is_there_before_the_opening_is_the_start() -> None:
    axes = CoreAxes()
    axes.observe([view("a-1", "a", 2)], {})
    axes.open()
    assert axes.observe([view("a-1", "a", 2)], {}) == Axes(start=2.0)


def test_growth_in_place_is_up_and_a_later_replica_is_out() -> None:
    axes = CoreAxes()
    axes.observe([view("a-1", "a", 2)], {})
    axes.open()
    assert axes.observe([view("a-1", "a", 5), view("a-2", "a", 3, Phase.STARTING)], {}) == Axes(
        start=2.0, up=3.0, out=3.0
    )
    found = axes.observe([view("a-1", "a", 1), view("a-2", "a", 4, Phase.DRAINING)], {})
    assert found == Axes(start=1.0, up=1.0, out=3.0)
    assert found.total == 5.0


def test_a_replica_that_went_and_came_back_is_new() -> None:
    axes = CoreAxes()
    axes.observe([view("a-1", "a", 2)], {})
    axes.open()
    assert axes.observe([], {}) == Axes()
    assert axes.observe([view("a-1", "a", 2)], {}) == Axes(out=2.0)


def test_shared_cores_are_counted_once_per_node_and_only_while_a_replica_is_there() -> None:
    axes, other = CoreAxes(), NodeId("other")
    replicas = [view("a-1", "a", 4), view("b-1", "b", 4)]
    assert axes.observe(replicas, {NODE: 4.0, other: 2.0}) == Axes(start=4.0)
    axes.open()
    assert axes.observe(replicas, {NODE: 7.0, other: 2.0}) == Axes(start=4.0, up=3.0)
    replicas.append(view("a-2", "a", 2, node=other))
    assert axes.observe(replicas, {NODE: 7.0, other: 2.0}) == Axes(start=4.0, up=3.0, out=2.0)
