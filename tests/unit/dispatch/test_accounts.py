"""Exact accounting: what came in is live or has left, and what does not add up is said in words."""

from __future__ import annotations

from triscale.core.request import Outcome, Reason
from triscale.dispatch.accounts import Accounts
from triscale.testing.builders import pipeline, plan, stage, variant
from triscale.testing.world import World


def test_accounts_that_add_up_have_nothing_to_say() -> None:
    accounts = Accounts([1, 2])
    accounts.arrived = 3
    accounts.live = 1
    accounts.outcomes[Outcome.ANSWERED] = 2
    accounts.stages[1].entered = 5
    accounts.stages[1].completed = 2
    accounts.stages[1].abandoned = 1
    accounts.stages[1].given_up[Reason.EXPIRED] = 1
    assert list(accounts.unbalanced([0, 1])) == []


def test_what_does_not_add_up_is_named() -> None:
    accounts = Accounts([1, 1])
    accounts.arrived = 3
    accounts.stages[1].entered = 5
    assert list(accounts.unbalanced([0, 4])) == [
        "3 requests arrived, but 0 are live and 0 ended",
        "stage 1: 5 items entered, but 4 are live and 0 left",
    ]


def test_every_item_and_request_is_counted() -> None:
    """Two requests of three items each: one answered, one of which an item is refused; the world checks the balance."""
    what = pipeline(a=stage(variant("v", 10.0, fan_out={"b": 3})), b=stage(variant("v", 5.0), after="a"))
    world = World(what, plan(what, batch=2))
    world.replica("a-0", "a")
    world.replica("b-0", "b")
    world.rejects = lambda item: "no" if item.stage == 1 and item.request.id == 1 and item.index == 0 else None
    world.arrive()
    world.arrive()
    world.run()
    accounts = world.dispatcher.accounts
    assert (accounts.arrived, accounts.live) == (2, 0)
    assert accounts.outcomes[Outcome.ANSWERED] == 1
    assert accounts.causes == {(Outcome.FAILED, 1, Reason.REJECTED): 1}
    a, b = accounts.stages
    assert (a.entered, a.completed, a.batches, a.items_run, a.sizes) == (2, 2, [1], [2], {2: 1})
    assert (b.entered, b.completed, b.given_up, b.abandoned) == (6, 3, {Reason.REJECTED: 1}, 2)
    assert b.items_run == [4], "the two abandoned items were never run"
