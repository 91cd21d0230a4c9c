"""Processors for replicas: as many as they have cores, and nobody shares more than anybody else must."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from triscale.engines.cpus import assign

machines = st.lists(st.integers(0, 11), min_size=1, max_size=12, unique=True)
replicas = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 6), max_size=6)
sets = st.lists(st.integers(0, 11), max_size=6)


@given(machines, replicas, st.data())
def test_each_gets_as_many_as_it_has_cores_spread_as_evenly_as_can_be(
    cpus: list[int], cores: dict[str, int], data: st.DataObject
) -> None:
    assigned = assign(cpus, cores, {key: data.draw(sets) for key in cores})
    assert assigned.keys() == cores.keys()
    for key, own in assigned.items():
        assert len(set(own)) == len(own) == min(cores[key], len(cpus))
        assert set(own) <= set(cpus)
    load = [sum(cpu in own for own in assigned.values()) for cpu in cpus]
    assert max(load) - min(load) <= 1
    if sum(cores.values()) <= len(cpus):
        assert max(load) <= 1, "while there are enough, nobody shares"
    assert assign(cpus, cores, assigned) == assigned, "nobody moves without need"


@given(machines, st.lists(st.sampled_from("abcde"), max_size=12), st.integers(1, 12), st.data())
def test_where_a_nodes_cores_are_shared_whichever_lanes_run_find_processors_of_their_own(
    cpus: list[int], running: list[str], granted: int, data: st.DataObject
) -> None:
    """All replicas have as many lanes as the node grants cores, and no more than that run at a time."""
    granted = min(granted, len(cpus))
    assigned = assign(cpus, dict.fromkeys("abcde", granted), {key: data.draw(sets) for key in "abcde"})
    taken: dict[int, int] = {}

    def seat(lane: int, tried: set[int]) -> bool:
        """Whether a lane finds a processor, others moving over if they can."""
        for cpu in assigned[running[lane]]:
            if cpu not in tried:
                tried.add(cpu)
                if cpu not in taken or seat(taken[cpu], tried):
                    taken[cpu] = lane
                    return True
        return False

    assert all(seat(lane, set()) for lane in range(min(granted, len(running))))


def test_who_grows_keeps_what_it_has_and_nobody_else_moves() -> None:
    assert assign(range(6), {"a": 3, "b": 2}, {"a": (1, 4), "b": (0, 5)}) == {"a": (1, 2, 4), "b": (0, 5)}
    assert assign(range(2), {"a": 2, "b": 1}, {"a": (0,), "b": (1,)}) == {"a": (0, 1), "b": (1,)}


def test_who_shrinks_gives_back_what_others_use_too_or_from_the_end() -> None:
    assert assign(range(4), {"a": 1, "b": 2}, {"a": (0, 1), "b": (2, 3)}) == {"a": (0,), "b": (2, 3)}
    assert assign(range(2), {"a": 1, "b": 1}, {"a": (0, 1), "b": (0,)}) == {"a": (1,), "b": (0,)}


def test_the_last_to_come_moves_when_there_is_room_again() -> None:
    assert assign(range(3), {"a": 2, "b": 1}, {"a": (0, 1), "b": (1,)}) == {"a": (0, 1), "b": (2,)}
