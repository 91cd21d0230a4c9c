"""Processors for replicas: their own while there are enough, all for all otherwise."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from triscale.engines.cpus import assign

replicas = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 4), max_size=6)
sets = st.lists(st.integers(0, 11), max_size=4, unique=True)


@given(st.lists(st.integers(0, 11), min_size=1, max_size=12, unique=True), replicas, st.data())
def test_each_gets_its_own_while_there_are_enough_and_all_share_otherwise(
    cpus: list[int], cores: dict[str, int], data: st.DataObject
) -> None:
    held = {key: data.draw(sets) for key in cores}
    assigned = assign(cpus, cores, held)
    assert assigned.keys() == cores.keys()
    if sum(cores.values()) > len(cpus):
        assert all(set(own) == set(cpus) for own in assigned.values())
        return
    for key, own in assigned.items():
        assert len(set(own)) == len(own) == cores[key]
        assert set(own) <= set(cpus)
    flat = [cpu for own in assigned.values() for cpu in own]
    assert len(set(flat)) == len(flat), "nobody shares"
    assert assign(cpus, cores, assigned) == assigned, "and nobody moves without need"


def test_who_grows_keeps_what_it_has() -> None:
    assert assign(range(6), {"a": 3, "b": 2}, {"a": (1, 4), "b": (0, 5)}) == {"a": (1, 2, 4), "b": (0, 5)}


def test_who_shrinks_gives_back_from_the_end() -> None:
    assert assign(range(4), {"a": 1, "b": 2}, {"a": (0, 1), "b": (2, 3)}) == {"a": (0,), "b": (2, 3)}
