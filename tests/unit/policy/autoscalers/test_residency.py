"""Memory is divided among the stages once; within its part, a stage holds what plans use, and always its fastest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from triscale.core.cluster import Node, NodeId
from triscale.core.graph import Graph
from triscale.core.plan import Plan, StagePlan, VariantPlan
from triscale.core.profile import inline_profile
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.residency import Residency, is_worth
from triscale.testing.builders import pipeline, stage, variant

MIB = 2**20
NAMES = ("best", "good", "fair", "fast")


def setting(room_mb: float, sizes: tuple[float, ...] = (400.0, 300.0, 200.0, 100.0)) -> Setting:
    """Two stages of the same four variants."""
    variants = [
        replace(variant(name, ms, accuracy=accuracy), memory_mb=mb)
        for name, ms, accuracy, mb in zip(NAMES, (40.0, 30.0, 20.0, 10.0), (1.0, 0.9, 0.8, 0.7), sizes, strict=True)
    ]
    of = pipeline(1000.0, a=stage(*variants), b=stage(*variants, after="a"))
    profile = inline_profile(of)
    assert profile is not None
    nodes = (Node(id=NodeId("n"), cores=8, memory_bytes=int(room_mb * MIB)),)
    return Setting(graph=Graph.of(of), profile=profile, nodes=nodes)


def using(**shares: float) -> Plan:
    """Both stages' shares."""
    one = StagePlan(variants={name: VariantPlan(share=share) for name, share in shares.items()})
    return Plan(stages={"a": one, "b": one})


def test_memory_that_suffices_is_not_divided() -> None:
    for room in (0.0, 2000.0):
        found = Residency(setting(room))
        assert not found.scarce
        assert found.rooms == {"a": 0, "b": 0}


def test_each_stage_has_what_it_holds_at_first_and_an_equal_part_of_what_is_left() -> None:
    found = Residency(setting(1500.0))
    assert found.variants == {"a": ("best", "fair", "fast"), "b": ("best", "fair", "fast")}
    assert found.rooms == {"a": 750 * MIB, "b": 750 * MIB}


def test_what_a_plan_uses_comes_in_the_place_of_what_it_does_not() -> None:
    found = Residency(setting(1000.0))
    assert found.variants["a"] == ("best", "fast")
    assert found.for_plan(using(good=1.0))["a"] == ("good", "fast")
    assert found.for_plan(using(best=1.0))["a"] == ("best", "fast")


def test_of_what_does_not_fit_together_the_larger_share_stays() -> None:
    found = Residency(setting(1000.0))
    assert found.for_plan(using(best=0.4, good=0.6))["a"] == ("good", "fast")
    assert found.for_plan(using(best=0.6, good=0.4))["a"] == ("best", "fast")


def test_what_is_left_is_filled_with_what_is_resident_and_then_with_the_smallest() -> None:
    found = Residency(setting(1500.0))
    assert found.for_plan(using(good=1.0))["a"] == ("good", "fair", "fast")


@given(
    room=st.floats(1000.0, 1800.0),
    sizes=st.tuples(*(st.floats(1.0, 250.0) for _ in NAMES)),
    shares=st.tuples(*(st.floats(0.0, 1.0) for _ in NAMES)),
)
def test_whatever_is_planned_the_fastest_is_held_and_no_stage_holds_more_than_its_part(
    room: float, sizes: tuple[float, ...], shares: tuple[float, ...]
) -> None:
    its = setting(room, sizes)
    found = Residency(its)
    if not found.scarce:
        return
    assert sum(found.rooms.values()) <= its.nodes[0].memory_bytes
    for name, held in found.for_plan(using(**dict(zip(NAMES, shares, strict=True)))).items():
        assert "fast" in held
        assert sum(its.profile.stages[name][v].memory_bytes for v in held) <= found.rooms[name]


@pytest.mark.parametrize(
    ("served", "accuracy", "worth"), [(1.0, 0.91, True), (1.0, 0.9005, False), (0.9, 1.0, False), (1.0, 0.5, False)]
)
def test_more_accuracy_is_worth_a_load_where_as_much_is_carried(served: float, accuracy: float, worth: bool) -> None:
    have = Plan(stages={}, accuracy=0.9)
    assert is_worth(Plan(stages={}, served_fraction=served, accuracy=accuracy), have) is worth


def test_more_that_is_carried_is_worth_a_load_whatever_the_accuracy() -> None:
    have = Plan(stages={}, served_fraction=0.8, accuracy=0.9)
    assert is_worth(Plan(stages={}, served_fraction=0.9, accuracy=0.7), have)
