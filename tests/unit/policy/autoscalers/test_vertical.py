"""Sponge changes cores and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.policy.autoscalers.chains import VIDEO, broken, chain, drive, shape
from triscale.errors import ConfigError
from triscale.policy.autoscalers.vertical import Vertical

PAPER = {"models": VIDEO, "window_s": 1.0}


@pytest.mark.parametrize(("rate", "expected"), [(5, [1, 1]), (10, [2, 1]), (15, [4, 2]), (20, [6, 2])])
def test_the_plan_is_the_papers(rate: int, expected: list[int]) -> None:
    assert shape(Vertical(chain(PAPER)).first(float(rate))) == [(1, cores) for cores in expected]


def test_cores_grow_and_shrink_in_the_same_tick() -> None:
    autoscaler = Vertical(chain(PAPER))
    plans = drive(autoscaler, autoscaler.first(5.0), [5, 20, 10, 5])
    assert [[cores for _, cores in shape(plan)] for plan in plans] == [[1, 1], [6, 2], [2, 1], [1, 1]]


def test_a_guard_keeps_cores_for_its_ticks() -> None:
    autoscaler = Vertical(chain({**PAPER, "stabilisation": 2}))
    plans = drive(autoscaler, autoscaler.first(20.0), [20, 10, 20, 10, 10, 10])
    assert [shape(plan)[0][1] for plan in plans] == [6, 6, 6, 2, 2, 2]


def test_where_the_cores_of_one_replica_end_none_is_added() -> None:
    setting = chain(PAPER)
    autoscaler = Vertical(setting)
    plan = drive(autoscaler, autoscaler.first(5.0), [62])[-1]
    assert shape(plan)[0] == (1, 8)
    assert not plan.feasible
    assert broken(plan, setting) == []


def test_for_a_peak_there_are_as_many_replicas_as_carry_it_with_the_most_cores() -> None:
    # The paper's `vomax` of the video pipeline: 3 and 2.
    autoscaler = Vertical(chain({**PAPER, "replicas": "peak", "peak_rate": 62}))
    plans = drive(autoscaler, autoscaler.first(5.0), [5, 62])
    assert [count for count, _ in shape(plans[0])] == [3, 2]
    assert plans[1].feasible
    assert plans[1].capacity >= 62


@settings(max_examples=30, deadline=None)
@given(
    arrivals=st.lists(st.integers(0, 200), min_size=1, max_size=20),
    cores=st.lists(st.integers(2, 12), min_size=1, max_size=3),
    replicas=st.integers(1, 2),
)
def test_whatever_arrives_the_number_of_replicas_stays(arrivals: list[int], cores: list[int], replicas: int) -> None:
    replicas = min(replicas, sum(cores) // 2)
    setting = chain({"replicas": replicas}, nodes=cores)
    autoscaler = Vertical(setting)
    for plan in drive(autoscaler, autoscaler.first(1.0), arrivals, cores=cores):
        assert broken(plan, setting, cores) == []
        assert [count for count, _ in shape(plan)] == [replicas, replicas]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replicas": "peak"}, "is `peak`, but how high that is is not said; state `peak_rate`"),
        ({"replicas": "many"}, "policy.options.replicas: is 'many', but must be a whole number, at least 1, or `peak`"),
        ({"replicas": 0}, "policy.options.replicas: is 0, but must be a whole number"),
        ({"peak_rate": -1.0}, "policy.options.peak_rate: is -1.0, but must be a number of requests/s above 0"),
    ],
)
def test_wrong_options_are_named_with_their_rule(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Vertical(chain(options))
