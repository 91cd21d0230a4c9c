"""Every policy is made by its name, and a name that there is not says which there are."""

from __future__ import annotations

import msgspec
import pytest

from tests.unit.policy.autoscalers.chains import chain, seen
from triscale.core.cluster import Node, NodeId
from triscale.core.plan import Plan
from triscale.core.settings import Settings
from triscale.errors import ConfigError
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.registry import AUTOSCALERS, make_autoscaler, no_such_policy


def setting() -> Setting:
    known = chain()
    return Setting(graph=known.graph, profile=known.profile, nodes=known.nodes, future=lambda _: 10.0)


@pytest.mark.parametrize("name", AUTOSCALERS)
def test_each_is_made_by_its_name_and_keeps_the_contract(name: str) -> None:
    autoscaler = make_autoscaler(name, setting())
    assert autoscaler.name == name
    assert autoscaler.tick_s > 0.0
    assert isinstance(autoscaler.dispatch, Settings)
    plan = autoscaler.first(10.0)
    assert set(plan.stages) == {"detect", "classify"}
    for counts in ([10], [10] * 5, [0] * 60, [400] * 10):
        plan = autoscaler.decide(seen(plan, counts))
        assert isinstance(plan, Plan)
        assert msgspec.json.encode(plan)


@pytest.mark.parametrize("name", AUTOSCALERS)
def test_each_has_a_plan_when_no_node_is_ready(name: str) -> None:
    autoscaler = make_autoscaler(name, setting())
    down = [Node(id=NodeId("n0"), cores=32, ready=False)]
    plan = autoscaler.first(10.0)
    for second in (1.0, 2.0, 15.0, 30.0):
        plan = autoscaler.decide(seen(plan, [10] * 5, nodes=down, now=second))
    assert set(plan.stages) == {"detect", "classify"}


@pytest.mark.parametrize("name", AUTOSCALERS)
def test_each_refuses_an_option_that_it_does_not_have(name: str) -> None:
    known = setting()
    wrong = Setting(
        graph=known.graph, profile=known.profile, nodes=known.nodes, future=known.future, options={"speeed": 1}
    )
    with pytest.raises(ConfigError, match="speeed"):
        make_autoscaler(name, wrong)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        make_autoscaler("thermis", setting())
    assert str(caught.value) == (
        "policy.name: there is no policy 'thermis'; do you mean 'themis'? The policies are: triscale, themis, loki, "
        "horizontal, vertical, inferline, proteus, hpa, static, oracle"
    )
    assert no_such_policy("magic").startswith("there is no policy 'magic'; the policies are: triscale, themis, ")
