"""Late items: predicted and dropped on arrival, on a timer and at dispatch; expired and answered on a timer."""

from __future__ import annotations

from typing import Literal

import pytest

from triscale.core.pipeline import Pipeline
from triscale.core.request import Outcome, Reason
from triscale.core.settings import Settings
from triscale.testing.builders import pipeline, plan, stage, variant
from triscale.testing.world import World

Drop = Literal["none", "last_stage", "per_stage", "reroute"]


def two_stages(slo_ms: float = 100.0) -> Pipeline:
    """10 ms, then 20 ms."""
    return pipeline(slo_ms, a=stage(variant("v", 10.0)), b=stage(variant("v", 20.0), after="a"))


def world_of(drop: Drop = "reroute", *, lanes: int = 1, grace: float = 0.1) -> World:
    what = two_stages()
    world = World(what, plan(what), settings=Settings(drop=drop, admission=False, margin=0.0, late_grace=grace))
    world.replica("a-0", "a", lanes=lanes)
    world.replica("b-0", "b", lanes=lanes)
    return world


def test_an_item_is_dropped_on_arrival_when_the_rest_of_its_path_does_not_fit() -> None:
    """29 ms are left where 10 + 20 are needed."""
    world = world_of()
    world.arrive(within_s=0.029)
    world.arrive(within_s=0.031)
    world.run(until=0.0)
    assert world.log[2:] == ["0 run b0 a/v on a-0: r1", "0 end r0 dropped predicted_late at a"]


def test_an_item_that_waits_is_dropped_on_a_timer_when_it_becomes_hopeless() -> None:
    """The lane is busy until 10 ms; r1, due at 35 ms, cannot start later than at 5 ms."""
    world = world_of()
    world.arrive()
    world.run(until=0.001)
    world.arrive(within_s=0.034)
    world.run(until=0.009)
    assert world.log[-1] == "0.005001 end r1 dropped predicted_late at a"


def test_an_item_is_dropped_where_it_enters_when_upstream_took_longer_than_predicted() -> None:
    world = world_of()
    world.service_s = lambda batch: 0.085 if batch.stage == 0 else 0.02
    world.arrive()
    world.run()
    assert world.log == [
        "0 arrive r0",
        "0 run b0 a/v on a-0: r0",
        "0.085 done b0",
        "0.085 end r0 dropped predicted_late at b",
    ]


def test_a_drop_names_its_stage_and_its_reason_and_is_counted_once() -> None:
    world = world_of()
    request = world.arrive(within_s=0.001)
    world.run()
    assert (request.outcome, request.reason, request.stage) == (Outcome.DROPPED, Reason.PREDICTED_LATE, 0)
    accounts = world.dispatcher.accounts
    assert accounts.causes == {(Outcome.DROPPED, 0, Reason.PREDICTED_LATE): 1}
    assert accounts.stages[0].given_up == {Reason.PREDICTED_LATE: 1}


def test_an_answer_within_the_grace_is_late_and_still_sent() -> None:
    world = world_of(grace=0.1)
    world.service_s = lambda batch: 0.09 if batch.stage else 0.015
    world.arrive()
    world.run()
    assert world.log[-1] == "0.105 end r0 late"


def test_after_the_grace_the_request_ends_on_a_timer_though_its_batch_still_runs() -> None:
    world = world_of(grace=0.1)
    world.service_s = lambda batch: 1.0 if batch.stage else 0.01
    request = world.arrive()
    world.run()
    assert world.log[-2:] == ["0.11 end r0 dropped expired at b", "1.01 done b1"]
    assert request.reason is Reason.EXPIRED
    assert world.dispatcher.accounts.stages[1].abandoned == 1


def test_the_grace_is_a_part_of_the_time_that_the_request_had() -> None:
    world = world_of(grace=0.5)
    world.service_s = lambda batch: 1.0 if batch.stage else 0.01
    world.arrive(within_s=0.06)
    world.run(until=0.2)
    assert world.log[-1] == "0.09 end r0 dropped expired at b"


def test_the_lane_of_an_expired_request_is_busy_until_its_batch_is_done() -> None:
    world = world_of(grace=0.0)
    world.service_s = lambda batch: 0.5 if batch.id == 1 else batch.expected
    world.arrive()
    world.at(0.45, world.arrive)
    world.run()
    assert "0.51 run b3 b/v on b-0: r1/" in world.log


class TestDropSettings:
    """r1 and r2 wait behind r0 at `a` and are then too late; what happens differs by setting."""

    def late_at_once(self, drop: Drop) -> list[str]:
        world = world_of(drop)
        world.arrive(within_s=0.025)
        world.run()
        return world.log[1:]

    def test_none_runs_everything_however_late(self) -> None:
        assert self.late_at_once("none") == [
            "0 run b0 a/v on a-0: r0",
            "0.01 done b0",
            "0.01 run b1 b/v on b-0: r0/",
            "0.03 done b1",
            "0.03 end r0 late",
        ]

    def test_none_never_expires_a_request(self) -> None:
        world = world_of("none")
        world.service_s = lambda _: 5.0
        world.arrive()
        world.run()
        assert world.log[-1] == "10 end r0 late"

    def test_last_stage_drops_only_where_there_are_no_children(self) -> None:
        assert self.late_at_once("last_stage") == [
            "0 run b0 a/v on a-0: r0",
            "0.01 done b0",
            "0.01 end r0 dropped predicted_late at b",
        ]

    @pytest.mark.parametrize("drop", ["per_stage", "reroute"])
    def test_the_others_drop_at_the_first_stage_that_knows(self, drop: Drop) -> None:
        assert self.late_at_once(drop) == ["0 end r0 dropped predicted_late at a"]

    @pytest.mark.parametrize(("drop", "answered"), [("per_stage", 0), ("reroute", 1)])
    def test_only_reroute_tries_a_faster_variant_first(self, drop: Drop, answered: int) -> None:
        what = pipeline(100.0, s=stage(variant("slow", 50.0, accuracy=0.9), variant("fast", 5.0, accuracy=0.8)))
        world = World(what, plan(what), settings=Settings(drop=drop, admission=False))
        world.replica("s-0", "s")
        world.arrive(within_s=0.03)
        world.run()
        assert world.dispatcher.accounts.outcomes[Outcome.ANSWERED] == answered

    def test_per_stage_drops_what_the_variant_of_the_plan_cannot_do_in_time(self) -> None:
        """Both variants are planned and it is the slow one's turn: 40 ms do not fit into 30 ms."""
        what = pipeline(100.0, s=stage(variant("slow", 40.0, accuracy=0.9), variant("fast", 5.0, accuracy=0.8)))
        shares = {"s": {"slow": 0.5, "fast": 0.5}}
        world = World(what, plan(what, shares), settings=Settings(drop="per_stage", admission=False))
        world.replica("s-0", "s", "slow")
        world.replica("s-1", "s", "fast")
        world.arrive(within_s=0.03)
        world.run()
        assert world.log[-1] == "0 end r0 dropped predicted_late at s"


def test_an_unlikely_branch_does_not_make_an_item_hopeless() -> None:
    """One item in five goes on to the slow stage; the other four would be dropped for nothing."""
    what = pipeline(100.0, a=stage(variant("v", 10.0, fan_out={"b": 0.2})), b=stage(variant("v", 80.0), after="a"))
    world = World(what, plan(what))
    world.replica("a-0", "a")
    world.replica("b-0", "b")
    world.emits = lambda _item, _variant: [0] * (_item.stage == 0)
    world.arrive(within_s=0.05)
    world.run()
    assert world.log[-1] == "0.01 end r0 answered"


def test_predictions_follow_what_lanes_there_are() -> None:
    """The fast lane's loss makes 20 ms of slack hopeless, which is known at once."""
    what = pipeline(100.0, s=stage(variant("slow", 50.0, accuracy=0.9), variant("fast", 5.0, accuracy=0.8)))
    world = World(what, plan(what))
    world.replica("s-0", "s", "slow")
    world.replica("s-1", "s", "fast")
    assert world.dispatcher.outlook.least == [0.05], "as planned, before any step has looked at the lanes"
    world.run(until=0.001)
    assert world.dispatcher.outlook.least == [0.005]
    world.lose("s-1")
    world.arrive(within_s=0.02)
    world.run()
    assert world.log[-1] == "0.001 end r0 dropped predicted_late at s"
