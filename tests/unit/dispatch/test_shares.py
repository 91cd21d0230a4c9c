"""The plan's shares: followed as credits where lanes hold several variants, else by which lanes have room."""

from __future__ import annotations

from collections import Counter

import pytest

from triscale.core.pipeline import Pipeline
from triscale.core.settings import Settings
from triscale.dispatch.stage import Routes
from triscale.testing.builders import pipeline, plan, stage, variant
from triscale.testing.world import World


def two_variants() -> Pipeline:
    return pipeline(s=stage(variant("big", 10.0, accuracy=0.9), variant("small", 10.0, accuracy=0.6)))


def run_on(world: World, stage: int = 0) -> list[int]:
    """Items run per variant."""
    return world.dispatcher.accounts.stages[stage].items_run


@pytest.mark.parametrize("batch", [1, 3])
def test_shares_converge_to_the_plan(batch: int) -> None:
    what = two_variants()
    world = World(what, plan(what, {"s": {"big": 0.7, "small": 0.3}}, batch=batch))
    world.replica("s-0", "s", lanes=2)
    for number in range(1000):
        world.at(number * 0.006, world.arrive)
    world.run()
    assert sum(run_on(world)) == 1000
    assert run_on(world)[0] == pytest.approx(700, abs=2 * batch)


def test_at_no_time_is_a_variant_more_than_a_batch_ahead_of_its_share() -> None:
    routes = Routes([0.6, 0.3, 0.1])
    routes.survey((0, 1, 2), {})
    ran: Counter[int] = Counter()
    for number in range(1, 500):
        variant = routes.pick((0, 1, 2))
        routes.charge(variant, 4, [4, 4, 4])
        ran[variant] += 4
        for v, share in enumerate((0.6, 0.3, 0.1)):
            assert abs(ran[v] - share * 4 * number) <= 8


def test_shares_are_those_of_the_variants_that_are_there() -> None:
    """Without the third, 0.6 to 0.2 is three to one."""
    routes = Routes([0.6, 0.2, 0.2])
    routes.survey((0, 1), {})
    assert routes.shares == pytest.approx([0.75, 0.25, 0.0])
    routes.survey((2,), {})
    assert routes.shares == [0.0, 0.0, 1.0]


def test_lanes_that_are_about_to_hold_what_is_planned_do_their_part_until_then() -> None:
    routes = Routes([0.0, 0.6, 0.4])
    routes.survey((0, 1, 2), {0: 0.5})
    assert routes.variants == (0, 1, 2)
    assert routes.shares == pytest.approx([0.5, 0.3, 0.2])
    routes.survey((1, 2), {})
    assert routes.shares == pytest.approx([0.0, 0.6, 0.4])
    routes.survey((0,), {0: 1.0})
    assert routes.shares == [1.0, 0.0, 0.0], "nothing of the plan's is there yet"


def test_where_nothing_planned_is_there_the_others_count_alike() -> None:
    routes = Routes([1.0, 0.0, 0.0])
    routes.survey((1, 2), {})
    assert (routes.variants, routes.shares) == ((1, 2), [0.0, 0.5, 0.5])


def test_a_variant_that_was_away_is_owed_no_more_than_a_few_batches() -> None:
    routes = Routes([0.5, 0.5])
    routes.survey((0, 1), {})
    for _ in range(1000):
        routes.charge(0, 4, [4, 4])
    turns = 0
    while routes.pick((0, 1)) == 1:
        routes.charge(1, 4, [4, 4])
        turns += 1
    assert turns <= 8


def test_shares_can_depend_on_what_the_parent_ran_on() -> None:
    """Items from `big` go to `b/slow`, those from `small` mostly to `b/fast`."""
    what = pipeline(
        10_000.0,
        a=stage(variant("big", 5.0, accuracy=0.9), variant("small", 5.0, accuracy=0.6)),
        b=stage(variant("slow", 5.0, accuracy=0.9), variant("fast", 5.0, accuracy=0.6), after="a"),
    )
    by_parent = {"b": {"big": {"slow": 1.0}, "small": {"slow": 0.25, "fast": 0.75}}}
    shares = {"a": {"big": 0.5, "small": 0.5}, "b": {"slow": 0.6, "fast": 0.4}}
    world = World(what, plan(what, shares, by_parent=by_parent))
    world.replica("a-0", "a")
    world.replica("b-0", "b", lanes=2)
    taken: Counter[tuple[int, int]] = Counter()

    def note(batch: object) -> float:
        for item in batch.items:  # type: ignore[attr-defined]
            if item.parent is not None:
                parent_variant = item.request.used[0].bit_length() - 1
                taken[parent_variant, batch.variant] += 1  # type: ignore[attr-defined]
        return 0.005

    world.service_s = note
    for number in range(400):
        world.at(number * 0.006, world.arrive)
    world.run()
    assert taken[0, 0] == 200
    assert taken[0, 1] == 0
    assert taken[1, 0] == pytest.approx(50, abs=2)
    assert taken[1, 1] == pytest.approx(150, abs=2)


def test_a_batch_holds_only_items_whose_path_has_a_share_in_its_variant() -> None:
    what = pipeline(
        10_000.0,
        a=stage(variant("big", 5.0, accuracy=0.9), variant("small", 5.0, accuracy=0.6)),
        b=stage(variant("slow", 5.0, accuracy=0.9), variant("fast", 5.0, accuracy=0.6), after="a"),
    )
    by_parent = {"b": {"big": {"slow": 1.0}, "small": {"fast": 1.0}}}
    shares = {"a": {"big": 0.5, "small": 0.5}, "b": {"slow": 0.5, "fast": 0.5}}
    world = World(what, plan(what, shares, by_parent=by_parent, batch={"a": 1, "b": 8}))
    world.replica("a-0", "a", lanes=4)
    for _ in range(4):
        world.arrive()
    world.run(until=0.01)
    world.replica("b-0", "b")
    world.run()
    runs = [line.split(" ", 3)[3] for line in world.log if " b/" in line]
    assert runs == ["b/slow on b-0: r0/", "b/fast on b-0: r1/", "b/slow on b-0: r2/", "b/fast on b-0: r3/"]


def test_an_item_whose_lanes_are_busy_does_not_hold_up_those_of_other_paths() -> None:
    what = pipeline(
        10_000.0,
        a=stage(variant("big", 5.0, accuracy=0.9), variant("small", 5.0, accuracy=0.6)),
        b=stage(variant("slow", 50.0, accuracy=0.9), variant("fast", 5.0, accuracy=0.6), after="a"),
    )
    by_parent = {"b": {"big": {"slow": 1.0}, "small": {"fast": 1.0}}}
    shares = {"a": {"big": 2 / 3, "small": 1 / 3}, "b": {"slow": 0.5, "fast": 0.5}}
    world = World(what, plan(what, shares, by_parent=by_parent))
    world.replica("a-0", "a", lanes=3)
    world.replica("slow", "b", "slow")
    world.replica("fast", "b", "fast")
    for _ in range(3):
        world.arrive()
    world.run(until=0.005)
    runs = [line for line in world.log if " b/" in line]
    assert len(runs) == 2, "one of the two items of `big` waits, that of `small` does not"


def test_a_new_plan_holds_for_items_that_wait_already() -> None:
    """Their paths were known under the old plan, which told them apart; the new one does not."""
    what = pipeline(
        10_000.0,
        a=stage(variant("big", 5.0, accuracy=0.9), variant("small", 5.0, accuracy=0.6)),
        b=stage(variant("slow", 5.0, accuracy=0.9), variant("fast", 5.0, accuracy=0.6), after="a"),
    )
    told_apart = plan(what, {"a": {"small": 1.0}}, by_parent={"b": {"small": {"slow": 1.0}}})
    world = World(what, told_apart)
    world.replica("a-0", "a")
    world.arrive()
    world.run(until=0.005)
    world.dispatcher.follow(plan(what, {"b": {"fast": 1.0}}), world.now)
    world.replica("b-0", "b")
    world.run()
    assert "0.005 run b1 b/fast on b-0: r0/" in world.log


def test_two_parents_with_variants_in_the_same_places_are_told_apart() -> None:
    """`by_parent` names `x2`; what `x1`, the first variant of the other parent, emits follows the shares of all."""
    what = pipeline(
        10_000.0,
        a=stage(variant("r", 5.0)),
        x=stage(variant("x1", 5.0), after="a"),
        y=stage(variant("x2", 5.0), after="a"),
        b=stage(variant("slow", 5.0, accuracy=0.9), variant("fast", 5.0, accuracy=0.6), after=("x", "y")),
    )
    world = World(what, plan(what, by_parent={"b": {"x2": {"fast": 1.0}}}))
    for name in what.stages:
        world.replica(f"{name}-0", name, lanes=2)
    world.arrive()
    world.run()
    assert run_on(world, 3) == [1, 1]


def test_the_most_accurate_lanes_are_filled_first() -> None:
    """With lanes of their own, a variant's share is what its lanes can carry; while there is room, accuracy wins."""
    what = two_variants()
    world = World(what, plan(what, {"s": {"big": 0.5, "small": 0.5}}))
    world.replica("small", "s", "small")
    world.replica("big", "s", "big")
    world.arrive()
    world.run()
    world.arrive()
    world.arrive()
    world.run()
    assert [line.split(": ")[0] for line in world.log if "run" in line] == [
        "0 run b0 s/big on big",
        "0.01 run b1 s/big on big",
        "0.01 run b2 s/small on small",
    ]


def test_lanes_that_share_cores_follow_the_shares_although_each_holds_one_variant() -> None:
    """Otherwise the accurate lanes would take every core, and the plan's mix would never run."""
    what = two_variants()
    world = World(what, plan(what, {"s": {"big": 0.5, "small": 0.5}}))
    world.share_cores("node", 1)
    world.replica("big", "s", "big")
    world.replica("small", "s", "small")
    for number in range(100):
        world.at(number * 0.010, world.arrive)
    world.run()
    assert run_on(world) == [50, 50]


def test_rescued_items_are_not_charged_to_the_shares() -> None:
    what = pipeline(s=stage(variant("big", 40.0, accuracy=0.9), variant("small", 5.0, accuracy=0.6)))
    world = World(what, plan(what, {"s": {"big": 0.5, "small": 0.5}}), settings=Settings(admission=False))
    world.replica("s-0", "s", lanes=4)
    world.arrive(within_s=0.03)  # big's turn, but only small is in time
    world.run()
    world.arrive()
    world.run()
    assert [line.split()[3] for line in world.log if "run" in line] == ["s/small", "s/big"]
