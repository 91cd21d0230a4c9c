"""Fan-out and join: what an item emits, when a join begins, what a lost item means, and the order of the outputs."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Literal

import pytest

from triscale.core.pipeline import Pipeline, Stage
from triscale.core.request import Outcome, Reason
from triscale.dispatch.work import Batch, Item
from triscale.testing.builders import pipeline, plan, stage, variant
from triscale.testing.world import World


def v(ms: float = 10.0, **fan_out: float) -> Stage:
    return stage(variant("v", ms, accuracy=0.9, fan_out=fan_out))


def world_of(what: Pipeline, lanes: int = 4) -> World:
    world = World(what, plan(what))
    for name in what.stages:
        world.replica(f"{name}-0", name, lanes=lanes)
    return world


def runs(world: World) -> list[str]:
    """`stage: items` of every batch."""
    return [f"{line.split()[3].split('/')[0]}: {line.split(': ')[1]}" for line in world.log if " run " in line]


def test_every_emitted_item_is_an_item_of_the_child() -> None:
    world = world_of(pipeline(a=v(b=3), b=stage(variant("v", 10.0), after="a")))
    world.arrive()
    world.run()
    assert runs(world) == ["a: r0", "b: r0/0", "b: r0/1", "b: r0/2"]
    assert world.log[-1] == "0.02 end r0 answered"


def test_a_request_that_emits_nothing_is_answered_where_it_is() -> None:
    world = world_of(pipeline(a=v(b=0), b=stage(variant("v", 10.0), after="a")))
    request = world.arrive()
    world.run()
    assert world.log[-1] == "0.01 end r0 answered"
    assert request.accuracy == pytest.approx(0.9)


def test_a_request_without_items_is_answered_at_once() -> None:
    world = world_of(pipeline(a=v()))
    world.arrive(rows=0)
    world.run()
    assert world.log == ["0 arrive r0", "0 end r0 answered"]


class TestJoin:
    """`each` takes every item by itself, `all` one per request made of everything that was emitted for it."""

    def test_a_join_begins_when_everything_before_it_is_done(self) -> None:
        what = pipeline(
            a=v(b=2), b=stage(variant("v", 10.0), after="a"), c=stage(variant("v", 5.0), after="b", join="all")
        )
        world = world_of(what, lanes=1)
        world.arrive()
        world.run()
        assert runs(world) == ["a: r0", "b: r0/0", "b: r0/1", "c: ('r0/0/', 'r0/1/')"]
        assert world.log[-1] == "0.035 end r0 answered"

    def test_requests_are_gathered_each_by_itself(self) -> None:
        what = pipeline(a=v(c=2), c=stage(variant("v", 5.0), after="a", join="all"))
        world = world_of(what)
        world.arrive()
        world.arrive()
        world.run()
        assert runs(world)[2:] == ["c: ('r0/0', 'r0/1')", "c: ('r1/0', 'r1/1')"]

    def test_what_is_gathered_is_in_the_order_of_emission_whatever_finished_first(self) -> None:
        what = pipeline(
            a=v(b=3), b=stage(variant("v", 10.0), after="a"), c=stage(variant("v", 5.0), after="b", join="all")
        )
        world = world_of(what)
        world.service_s = lambda batch: 0.09 - 0.01 * batch.id
        world.arrive()
        world.run()
        assert runs(world)[-1] == "c: ('r0/0/', 'r0/1/', 'r0/2/')"

    def test_a_join_of_nothing_still_runs_once(self) -> None:
        what = pipeline(
            a=v(b=0), b=stage(variant("v", 10.0), after="a"), c=stage(variant("v", 5.0), after="b", join="all")
        )
        world = world_of(what)
        world.arrive()
        world.run()
        assert runs(world) == ["a: r0", "c: ()"]

    def test_rows_of_a_request_are_gathered_together(self) -> None:
        what = pipeline(a=v(), c=stage(variant("v", 5.0), after="a", join="all"))
        world = world_of(what)
        request = world.arrive(rows=3)
        world.run()
        assert runs(world)[-1] == "c: ('r0[0]/', 'r0[1]/', 'r0[2]/')"
        assert [row for row, _ in request.ordered_outputs()] == [0]

    def test_a_join_of_joins_waits_for_both(self) -> None:
        """b and d gather in turn; d also takes what a emits directly, and puts b's part, made of everything, last."""
        what = pipeline(
            a=v(b=2, d=1),
            b=stage(variant("v", 10.0), after="a", join="all"),
            d=stage(variant("v", 10.0), after=("a", "b"), join="all"),
        )
        world = world_of(what)
        world.arrive()
        world.run()
        assert runs(world) == ["a: r0", "b: ('r0/0', 'r0/1')", "d: ('r0/', \"('r0/0', 'r0/1')/\")"]

    def test_both_sides_of_a_diamond_are_gathered(self) -> None:
        what = pipeline(
            a=v(b=1, c=2),
            b=stage(variant("v", 30.0), after="a"),
            c=stage(variant("v", 10.0), after="a"),
            d=stage(variant("v", 5.0), after=("b", "c"), join="all"),
        )
        world = world_of(what)
        world.arrive()
        world.run()
        assert runs(world)[-1] == "d: ('r0//', 'r0/0/', 'r0/1/')"
        assert world.log[-1] == "0.045 end r0 answered"

    def test_a_diamond_without_a_join_runs_every_item_of_either_side(self) -> None:
        what = pipeline(
            a=v(),
            b=stage(variant("v", 30.0), after="a"),
            c=stage(variant("v", 10.0), after="a"),
            d=stage(variant("v", 5.0), after=("b", "c")),
        )
        world = world_of(what)
        world.arrive()
        world.run()
        assert sorted(runs(world))[-2:] == ["d: r0//", "d: r0//"]


class TestLostItems:
    """One of three items of `b` is refused by the model."""

    def world(
        self, partial: Literal["allow", "deny"], *, join: bool = False, lost: Callable[[Item], bool] | None = None
    ) -> World:
        a, b = v(b=3), stage(variant("v", 10.0), after="a")
        c = stage(variant("v", 5.0), after="b", join="all")
        what = pipeline(partial=partial, a=a, b=b, c=c) if join else pipeline(partial=partial, a=a, b=b)
        world = world_of(what)
        which = lost or (lambda item: item.index == 1)
        world.rejects = lambda item: "unreadable" if item.stage == 1 and which(item) else None
        return world

    def test_deny_fails_the_request_with_the_reason_and_abandons_the_rest(self) -> None:
        world = self.world("deny")
        request = world.arrive()
        world.run()
        assert (request.outcome, request.reason, request.stage) == (Outcome.FAILED, Reason.REJECTED, 1)
        assert request.message == "unreadable"
        assert request.outputs == []
        counts = world.dispatcher.accounts.stages[1]
        assert (counts.completed, counts.given_up[Reason.REJECTED], counts.abandoned) == (1, 1, 1)

    def test_allow_answers_with_what_is_there_and_says_what_is_missing(self) -> None:
        world = self.world("allow")
        request = world.arrive()
        world.run()
        assert world.log[-1] == "0.02 end r0 answered without 1"
        assert [output for _, output in request.ordered_outputs()] == ["r0/0", "r0/2"]
        assert request.accuracy == pytest.approx(0.9 * 2 / 3), "a lost item counts as wrong"
        assert world.dispatcher.accounts.partial == 1

    def test_allow_with_nothing_left_ends_as_the_first_item_was_lost(self) -> None:
        world = self.world("allow", lost=lambda _: True)
        request = world.arrive()
        world.run()
        assert (request.outcome, request.reason, request.lost) == (Outcome.FAILED, Reason.REJECTED, 3)
        assert world.dispatcher.accounts.partial == 0

    def test_a_join_gathers_what_is_left(self) -> None:
        world = self.world("allow", join=True)
        request = world.arrive()
        world.run()
        assert runs(world)[-1] == "c: ('r0/0/', 'r0/2/')"
        assert world.log[-1] == "0.025 end r0 answered without 1"
        assert request.accuracy == pytest.approx(0.9 * 2 / 3)

    def test_a_join_of_which_everything_was_lost_does_not_run(self) -> None:
        world = self.world("allow", join=True, lost=lambda _: True)
        request = world.arrive()
        world.run()
        assert not any(run.startswith("c") for run in runs(world))
        assert request.outcome is Outcome.FAILED

    def test_a_loss_elsewhere_does_not_keep_an_empty_join_from_running(self) -> None:
        """d gathers what c emits: nothing. That an item of b was lost is no reason not to run it."""
        what = pipeline(
            partial="allow",
            a=v(b=1, c=1),
            b=stage(variant("v", 10.0), after="a"),
            c=stage(variant("v", 10.0, fan_out={"d": 0}), after="a"),
            d=stage(variant("v", 5.0), after="c", join="all"),
        )
        world = world_of(what)
        world.rejects = lambda item: "unreadable" if item.stage == 1 else None
        world.arrive()
        world.run()
        assert runs(world)[-1] == "d: ()"


def test_outputs_are_in_the_order_of_emission_whatever_finished_first() -> None:
    """Two rows, two items each, run in an order that reverses them."""
    world = world_of(pipeline(a=v(b=2), b=stage(variant("v", 10.0), after="a")), lanes=8)

    def reversed_order(batch: Batch) -> float:
        item = batch.items[0]
        return 0.01 if item.parent is None else 0.1 - 0.02 * item.parent.index - 0.01 * item.index

    world.service_s = reversed_order
    request = world.arrive(rows=2)
    world.run()
    assert [line.split()[-1] for line in world.log if "done" in line][2:] == ["b5", "b4", "b3", "b2"]
    assert request.ordered_outputs() == [(0, "r0[0]/0"), (0, "r0[0]/1"), (1, "r0[1]/0"), (1, "r0[1]/1")]


def test_outputs_of_different_children_are_in_the_order_of_the_graph() -> None:
    what = pipeline(a=v(b=2, c=3), b=stage(variant("v", 30.0), after="a"), c=stage(variant("v", 10.0), after="a"))
    world = world_of(what)
    request = world.arrive()
    world.run()
    assert [item.stage for item, _ in request.outputs] == [2, 2, 2, 1, 1], "c finished first"
    assert [output for _, output in request.ordered_outputs()] == ["r0/0", "r0/1", "r0/0", "r0/1", "r0/2"]


def test_outputs_of_grandchildren_follow_the_order_of_their_parents() -> None:
    """d's items come by way of b (first in the graph, last to finish), one, and of c, two."""
    what = pipeline(
        a=v(),
        b=stage(variant("v", 30.0), after="a"),
        c=stage(variant("v", 10.0), after="a"),
        d=stage(variant("v", 5.0), after=("b", "c")),
    )
    world = world_of(what)
    world.emits = lambda item, _: [1 + (item.stage == 2)] * len(what.children(world.graph.stages[item.stage]))
    request = world.arrive()
    world.run()
    assert [output for _, output in request.ordered_outputs()] == ["r0//", "r0//0", "r0//1"]


class Output:
    """Something that can be watched being freed."""


def test_an_answer_that_was_read_is_freed_with_its_request_and_no_later() -> None:
    """Without the help of the garbage collector, which would come when it likes."""
    world = world_of(pipeline(a=v(b=2), b=stage(variant("v", 10.0), after="a")))
    request = world.arrive()
    world.run()
    request.outputs = [(item, Output()) for item, _ in request.outputs]
    watched = [weakref.ref(output) for _, output in request.outputs]
    gc.disable()
    try:
        assert request.ordered_outputs() is request.ordered_outputs()
        assert all(ref() is not None for ref in watched)
        world.requests.clear()
        del request
        assert [ref() for ref in watched] == [None, None]
    finally:
        gc.enable()


def test_payloads_are_let_go_when_their_item_is_done() -> None:
    world = world_of(pipeline(a=v(b=1), b=stage(variant("v", 10.0), after="a")))
    request = world.arrive()
    world.run()
    ((item, _),) = request.outputs
    assert item.payload is None
    assert item.parent is not None
    assert item.parent.payload is None


def test_what_was_held_for_a_join_is_let_go_when_the_request_ends() -> None:
    world = world_of(pipeline(a=v(c=2), c=stage(variant("v", 5.0), after="a", join="all")), lanes=1)
    request = world.arrive(rows=2)
    world.run(until=0.01)
    assert len(request.held[1]) == 2
    world.cancel(request)
    assert request.held == {}


def test_an_answer_at_the_very_deadline_is_in_time() -> None:
    world = world_of(pipeline(1000.0, a=v()))
    world.service_s = lambda _: 0.5
    world.arrive(within_s=0.5)
    world.run()
    assert world.log[-1] == "0.5 end r0 answered"


def test_the_accuracy_of_an_answer_is_the_mean_over_its_paths() -> None:
    what = pipeline(
        a=v(b=1, c=1),
        b=stage(variant("v", 10.0, accuracy=0.8), after="a"),
        c=stage(variant("v", 10.0, accuracy=0.5), after="a"),
    )
    world = world_of(what)
    request = world.arrive()
    world.run()
    assert request.accuracy == pytest.approx(0.9 * (0.8 + 0.5) / 2)


def test_the_request_remembers_which_variants_ran() -> None:
    what = pipeline(s=stage(variant("x", 10.0), variant("y", 10.0)))
    world = World(what, plan(what, {"s": {"x": 0.5, "y": 0.5}}))
    world.replica("s-0", "s", lanes=2)
    request = world.arrive(rows=2)
    world.run()
    assert request.used == [0b11]
