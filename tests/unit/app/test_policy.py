"""A server starts whatever its first plan can do, and says what it cannot, with what to do about it."""

from __future__ import annotations

import pytest

from triscale.app.policy import Chosen, choose_policy
from triscale.core.cluster import Node, NodeId
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline, Policy, Stage, Variant
from triscale.core.profile import inline_profile


def pipeline(slo_ms: float = 250.0) -> Pipeline:
    """Two stages: 200 + 200 ms with the most accurate variants, 20 + 20 ms with the others."""

    def stage(after: tuple[str, ...]) -> Stage:
        slow = Variant(name="slow", runtime="emulated", latency_ms={1: 200.0}, accuracy=0.9, max_batch=1)
        fast = Variant(name="fast", runtime="emulated", latency_ms={1: 20.0}, accuracy=0.8, max_batch=1)
        return Stage(variants=(slow, fast), after=after)

    return Pipeline(name="two", slo_ms=slo_ms, stages={"see": stage(()), "read": stage(("see",))})


def chosen(policy: str, slo_ms: float = 250.0, demand: float = 0.0, **variants: str) -> Chosen:
    wanted = pipeline(slo_ms)
    nodes = [Node(id=NodeId("node"), cores=6.0)]
    return choose_policy(Graph.of(wanted), inline_profile(wanted), nodes, variants, Policy(name=policy), demand)


@pytest.mark.parametrize("policy", ["hpa", "themis", "horizontal", "vertical"])
def test_a_policy_whose_variants_are_never_in_time_is_told_of_with_another_that_is(policy: str) -> None:
    (warning,) = chosen(policy).warnings
    assert warning == (
        f"under policy {policy} no request can be answered in time: its variants take 400 ms, and the objective is 250 "
        "ms; use --policy triscale, which finds variants that are in time, faster variants (--variant STAGE=NAME, or "
        "others in the pipeline file), or a longer objective (--set slo_ms=..., above 400)"
    )


@pytest.mark.parametrize("policy", ["hpa", "triscale", "static"])
def test_a_policy_that_is_in_time_has_nothing_to_say(policy: str) -> None:
    assert chosen(policy, slo_ms=1000.0).warnings == ()


@pytest.mark.parametrize("policy", ["triscale", "static", "hpa"])
def test_where_no_variants_are_in_time_no_other_policy_is_advised(policy: str) -> None:
    (warning,) = chosen(policy, slo_ms=30.0).warnings
    assert f"under policy {policy} no request can be answered in time: " in warning
    assert "--policy" not in warning
    assert "--set slo_ms" in warning


def test_variants_asked_for_by_name_that_are_never_in_time_are_told_of() -> None:
    unused, warning = chosen("triscale", see="slow", read="slow").warnings
    assert unused.startswith("policy 'triscale' is not used: variants were asked for by name")
    assert "no request can be answered in time: its variants take 400 ms" in warning


def test_a_demand_that_the_first_plan_cannot_carry_is_not_taken_for_an_objective_that_is_too_short() -> None:
    (warning,) = chosen("triscale", demand=5000.0).warnings
    assert warning.startswith("the expected 5000 requests/s (--demand) are too many: ")
