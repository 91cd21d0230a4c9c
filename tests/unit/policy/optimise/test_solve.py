"""Plans for the papers' pipelines, for worlds without a good plan, and for settings that do not fit together."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from tests.unit.policy.optimise.profiles import profile_of
from triscale.core.cluster import Node, NodeId
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline, Stage
from triscale.core.profile import PathAccuracy, inline_profile
from triscale.errors import ConfigError
from triscale.policy.optimise import Problem, ReplicaBounds, Settings, solve
from triscale.policy.optimise.check import violations
from triscale.policy.optimise.solve import best_suffice
from triscale.testing.builders import pipeline, stage, variant

Example = Callable[..., Problem]


def problem(spec: Pipeline, demand: float, nodes: list[Node] | int = 8, settings: Settings | None = None) -> Problem:
    profile = inline_profile(spec)
    assert profile is not None
    return Problem.of(Graph.of(spec), profile, demand, nodes, settings)


def two_stages(slo_ms: float = 400.0) -> Pipeline:
    return pipeline(
        slo_ms,
        find=stage(variant("good", 40.0, accuracy=1.0), variant("quick", 10.0, accuracy=0.8)),
        read=stage(variant("good", 20.0, accuracy=0.9), variant("quick", 5.0, accuracy=0.6), after="find"),
    )


class TestLoki:
    """One branch of traffic analysis on 18 servers (figures: arXiv 2407.03583 and its simulator's profiles)."""

    @pytest.mark.parametrize(("demand", "cores"), [(50, 5), (100, 10), (150, 15), (190, 18)])
    def test_while_hardware_suffices_the_best_variants_run_on_few_servers(
        self, example: Example, demand: int, cores: int
    ) -> None:
        plan = solve(example("traffic_analysis/car_branch.yaml", 18).at(demand))
        assert (plan.mode, plan.cores, plan.served_fraction, plan.gap) == ("hardware", cores, 1.0, 0.0)
        assert set(plan.paths[0].variants.values()) == {"yolov5x", "efficientnet-b6"}

    def test_hardware_scaling_ends_at_190(self, example: Example) -> None:
        assert solve(example("traffic_analysis/car_branch.yaml", 18).at(191)).mode == "accuracy"

    @pytest.mark.parametrize(
        ("demand", "accuracy"), [(500, 0.8849), (513, 0.8782), (600, 0.8405), (800, 0.7706), (1000, 0.7298)]
    )
    def test_beyond_that_accuracy_gives_way(
        self, example: Example, loki: Settings, demand: int, accuracy: float
    ) -> None:
        world = example("traffic_analysis/car_branch.yaml", 18).at(demand)
        plan = solve(world)
        # The paper counts accuracies from the best variants that were profiled.
        assert plan.accuracy == pytest.approx(accuracy, abs=1e-3)
        assert plan.mode == "accuracy"
        assert plan.gap <= loki.gap
        profile = inline_profile(world.graph.pipeline)
        assert profile is not None
        assert violations(plan, world.graph, profile, world.nodes, loki) == []

    def test_the_three_phases_follow_each_other(self, example: Example) -> None:
        world = example("traffic_analysis/car_branch.yaml", 18)
        plans = [solve(world.at(float(demand))) for demand in (50, 190, 400, 1500, 2500, 5000)]
        assert [plan.mode for plan in plans] == ["hardware", "hardware", "accuracy", "accuracy", "overload", "overload"]
        assert [plan.accuracy for plan in plans] == sorted((plan.accuracy for plan in plans), reverse=True)
        # The detector is spared while the classifier can give way.
        assert set(solve(world.at(200)).stages["detect"].variants) == {"yolov5x"}
        assert plans[4].served_fraction * 2500 == pytest.approx(plans[5].served_fraction * 5000, rel=1e-4)

    @pytest.mark.parametrize("settings", [None, Settings(sharing="shared")])
    def test_whether_the_best_suffice_is_what_the_plan_s_mode_says(
        self, example: Example, loki: Settings, settings: Settings | None
    ) -> None:
        world = example("traffic_analysis/car_branch.yaml", 18, settings or loki)
        for demand in (0.0, 100.0, 190.0, 191.0, 5000.0):
            assert best_suffice(world.at(demand)) == (solve(world.at(demand)).mode == "hardware")

    def test_with_both_branches_every_frame_visits_each(self, example: Example) -> None:
        plan = solve(example("traffic_analysis/pipeline.yaml", 18).at(500))
        for name in ("detect", "vehicles", "people"):
            assert sum(mine.share for mine in plan.stages[name].variants.values()) == pytest.approx(1.0)
        assert all(set(path.variants) == {"detect", "vehicles", "people"} for path in plan.paths)
        assert plan.accuracy == pytest.approx(0.8928, abs=1e-3)

    def test_variants_that_never_meet_the_slo_are_no_yardstick(self, example: Example) -> None:
        plan = solve(example("social_media/pipeline.yaml", 20).at(50))
        assert plan.mode == "hardware"
        assert plan.paths[0].variants["caption"] == "clip-vit-b16"


@pytest.mark.parametrize("name", ["video_monitoring", "audio_sentiment", "nlp"])
def test_themis_pipelines_run_on_a_few_one_core_lanes(example: Example, name: str) -> None:
    plan = solve(example(f"{name}/pipeline.yaml", 32, Settings()).at(8))
    assert plan.mode == "hardware"
    assert plan.cores <= 12
    assert max(path.latency_s for path in plan.paths) <= {"video_monitoring": 0.78, "audio_sentiment": 1.35}.get(
        name, 2.55
    )


class TestWorldsWithoutAGoodPlan:
    def test_no_demand_keeps_one_lane_of_the_best_of_each_stage(self) -> None:
        plan = solve(problem(two_stages(), 0.0))
        assert (plan.mode, plan.demand, plan.cores, plan.served_fraction) == ("hardware", 0.0, 2.0, 1.0)
        assert plan.accuracy == pytest.approx(0.9)

    def test_an_slo_below_the_fastest_path_says_by_how_much(self) -> None:
        world = problem(two_stages(slo_ms=10.0), 5.0, settings=Settings(wait="none"))
        plan = solve(world)
        assert not best_suffice(world)
        assert (plan.feasible, plan.served_fraction, plan.mode) == (False, 0.0, "overload")
        assert plan.reason.startswith("the SLO of 10 ms is 5 ms too short for the fastest path")

    def test_no_cores_at_all(self) -> None:
        plan = solve(problem(two_stages(), 5.0, 0))
        assert plan.reason == "there is not a whole core on any node that is ready"
        assert plan.served_fraction == 0.0

    def test_a_node_that_is_not_ready_does_not_count(self) -> None:
        nodes = [Node(id=NodeId("a"), cores=8, ready=False)]
        assert solve(problem(two_stages(), 5.0, nodes)).served_fraction == 0.0

    def test_fewer_cores_than_stages_suggests_sharing_them(self) -> None:
        plan = solve(problem(two_stages(), 5.0, 1))
        assert plan.served_fraction == 0.0
        assert plan.reason == (
            "1 core cannot give each of 2 stages a lane of its own: let them share cores (`triscale plan --sharing "
            "shared`), or add cores"
        )

    def test_threads_that_no_node_has(self) -> None:
        plan = solve(problem(two_stages(), 5.0, 2, Settings(threads=(4,))))
        assert plan.reason == "no node has the cores for one lane of find"

    def test_an_accuracy_that_no_variant_has(self) -> None:
        plan = solve(problem(two_stages(), 5.0, settings=Settings(min_accuracy=0.95)))
        assert plan.reason == "min_accuracy 0.95 is above the best variants' 0.9"
        assert not plan.feasible

    @pytest.mark.parametrize("solver", ["auto", "milp", "greedy", "dp"])
    def test_what_is_too_much_is_shed_and_the_rest_keeps_the_accuracy_floor(self, solver: str) -> None:
        settings = Settings(wait="none", utilisation=1.0, min_accuracy=0.85)
        plan = solve(problem(two_stages(), 1000.0, 6, settings), solver)  # type: ignore[arg-type]
        assert plan.mode == "overload"
        # Four lanes find at 40 ms, two read at 20 ms: 100 requests/s, and no quicker variant may help.
        assert plan.served_fraction == pytest.approx(0.1, rel=2e-3)
        assert plan.accuracy >= 0.85
        assert "are shed" in plan.reason
        assert plan.capacity == pytest.approx(100.0, rel=2e-3)

    def test_bounds_that_leave_no_room_are_said(self) -> None:
        settings = Settings(wait="none", replicas={"find": ReplicaBounds(least=9)})
        plan = solve(problem(two_stages(), 5.0, 8, settings))
        assert plan.reason == "the nodes' cores, memory and replica bounds leave no room for one replica of each stage"

    def test_a_profile_of_one_point_is_enough(self) -> None:
        assert solve(problem(pipeline(400.0, only=stage(variant("v", {4: 40.0}))), 10.0)).mode == "hardware"


class TestBadInput:
    def test_a_demand_that_is_no_number(self) -> None:
        with pytest.raises(ConfigError, match=r"demand: must be a finite number of requests/s >= 0, got nan"):
            problem(two_stages(), float("nan"))
        with pytest.raises(ConfigError, match="got -1"):
            problem(two_stages(), 1.0).at(-1.0)

    def test_everything_wrong_with_a_profile_is_said_at_once(self) -> None:
        spec = two_stages()
        profile = inline_profile(spec)
        assert profile is not None
        find = dict(profile.stages["find"])
        point = find["good"].latency[0]
        find["good"] = msgspec.structs.replace(
            find["good"],
            latency=(msgspec.structs.replace(point, p50_s=float("nan")),),
            accuracy=1.2,
            fan_out={"read": -1.0},
        )
        del find["quick"]
        broken = msgspec.structs.replace(
            profile,
            stages={**profile.stages, "find": find},
            paths=(PathAccuracy(variants={"find": "none"}, accuracy=2.0),),
        )
        with pytest.raises(ConfigError) as caught:
            Problem.of(Graph.of(spec), broken, 1.0, 4)
        assert caught.value.problems == (
            "profile: stages.find.good.latency[0].p50_s: must be a finite number of seconds above 0, got nan",
            "profile: stages.find.good.fan_out.read: must be a finite number of items >= 0, got -1.0",
            "profile: stages.find.good.accuracy: must lie in [0, 1], got 1.2",
            "profile: stages.find.quick: is missing or empty; measure it with `triscale profile`",
            "profile: paths[0]: names find.none, which the pipeline does not have",
            "profile: paths[0].accuracy: must lie in [0, 1], got 2.0",
        )

    def test_replica_bounds_for_a_stage_that_is_not_there(self) -> None:
        with pytest.raises(ConfigError, match=r"replicas.sing: no such stage; the stages are: find, read"):
            problem(two_stages(), 1.0, 4, Settings(replicas={"sing": ReplicaBounds(1)}))

    def test_a_node_with_a_strange_number_of_cores(self) -> None:
        with pytest.raises(ConfigError, match=r"nodes: a has nan cores"):
            problem(two_stages(), 1.0, [Node(id=NodeId("a"), cores=float("nan"))])

    def test_mixing_solvers_do_not_know_how_fast_batches_fill(self) -> None:
        with pytest.raises(
            ConfigError, match=r"use the solver dp with it \(`--solver dp`\), or another wait rule \(`--wait-model`\)"
        ):
            solve(problem(two_stages(), 1.0, 4, Settings(wait="batch_fill", utilisation=1.0)), "milp")

    def test_settings_say_what_is_wrong_with_them(self) -> None:
        with pytest.raises(ConfigError) as caught:
            Settings(
                wait_quantile=1.0,
                utilisation=1.0,
                min_accuracy=1.5,
                hop_s=-1.0,
                threads=(0,),
                batches=(1, -2),
                replica_cores=0,
                replicas={"a": ReplicaBounds(3, 2)},
            )
        assert [line.split(":")[0] for line in caught.value.problems] == [
            "wait_quantile",
            "utilisation",
            "min_accuracy",
            "hop_s",
            "threads",
            "batches",
            "replica_cores",
            "replicas.a",
        ]
        with pytest.raises(ConfigError, match="above 0 and at most 1, got 2"):
            Settings(utilisation=2.0)


class TestWhatAPlanSays:
    def test_the_path_may_decide_the_variant(self) -> None:
        spec = pipeline(
            1000.0,
            find=stage(variant("good", 40.0, accuracy=1.0), variant("quick", 10.0, accuracy=0.8)),
            read=stage(variant("good", 20.0, accuracy=1.0), variant("quick", 5.0, accuracy=0.8), after="find"),
        )
        plan = solve(problem(spec, 210.0, 5, Settings(wait="none", utilisation=1.0)))
        assert plan.mode == "accuracy"
        # The best follow the best: products of accuracies are worth more that way.
        assert plan.stages["read"].by_parent["good"].get("good", 0.0) > plan.stages["read"].by_parent["quick"].get(
            "good", 0.0
        )
        assert plan.accuracy == pytest.approx(sum(path.share * path.accuracy for path in plan.paths))

    def test_measured_path_accuracies_replace_products(self) -> None:
        spec = two_stages()
        profile = inline_profile(spec)
        assert profile is not None
        measured = tuple(
            PathAccuracy(variants={"find": f, "read": r}, accuracy=a)
            for f, r, a in (("good", "good", 0.7), ("quick", "good", 0.75))
        )
        graph = Graph.of(spec)
        plan = solve(Problem.of(graph, msgspec.structs.replace(profile, paths=measured), 5.0, 8))
        assert plan.paths[0].variants["find"] == "quick"
        assert plan.accuracy == pytest.approx(0.75)

    def test_what_runs_is_kept_among_equals(self) -> None:
        twins = pipeline(400.0, only=stage(variant("left", 40.0), variant("right", 40.0)))
        for name in ("left", "right"):
            world = problem(twins, 10.0)
            alone = Pipeline(
                name="t", slo_ms=400.0, stages={"only": Stage(variants=(twins.stages["only"].variant(name),))}
            )
            running = solve(problem(alone, 10.0))
            assert set(solve(world.at(30.0, running=running)).stages["only"].variants) == {name}

    def test_drift_is_planned_with(self) -> None:
        spec = two_stages()
        profile = inline_profile(spec)
        assert profile is not None
        graph = Graph.of(spec)
        calm = solve(Problem.of(graph, profile, 50.0, 20))
        slow = solve(Problem.of(graph, profile, 50.0, 20, drift={("find", "good"): 2.0}))
        assert slow.stages["find"].variants["good"].lanes > calm.stages["find"].variants["good"].lanes

    def test_hops_take_their_part_of_the_slo(self) -> None:
        world = problem(two_stages(100.0), 5.0, 8, Settings(wait="none", hop_s=0.02))
        assert solve(world).paths[0].latency_s == pytest.approx(0.1)
        assert solve(problem(two_stages(100.0), 5.0, 8, Settings(wait="none", hop_s=0.025))).accuracy < 0.9

    def test_the_clock_only_measures_and_stops(self, example: Example) -> None:
        ticks = itertools.count()
        world = example("traffic_analysis/car_branch.yaml", 18, Settings(time_limit_s=30.0, gap=0.0)).at(513)
        plan = solve(world, clock=lambda: float(next(ticks)))
        assert plan.served_fraction == 1.0
        assert plan.gap > 0.0
        assert 30.0 <= plan.solve_s < 60.0
        rushed = replace(world, settings=replace(world.settings, time_limit_s=0.0))
        # The greedy plan is there when time is up before anything else was tried.
        assert solve(rushed, clock=lambda: float(next(ticks))).accuracy > 0.8

    def test_ten_thousand_lanes_are_no_harder(self, example: Example) -> None:
        for rule in (Settings(), Settings(wait="half_slo", utilisation=1.0)):
            plan = solve(example("traffic_analysis/car_branch.yaml", 10_000, rule).at(300_000))
            assert plan.mode == "accuracy"
            assert plan.gap <= rule.gap
            assert plan.cores > 9_900


class TestCapacity:
    def nodes(self, *cores: int, memory: int = 0, gpus: int = 0) -> list[Node]:
        return [Node(id=NodeId(f"n{i}"), cores=c, memory_bytes=memory, gpus=gpus) for i, c in enumerate(cores)]

    def test_a_lane_does_not_span_nodes(self) -> None:
        spec = pipeline(200.0, only=stage(variant("v", 10.0)))
        profile = inline_profile(spec)
        assert profile is not None
        wide = {
            "only": {
                "v": msgspec.structs.replace(
                    profile.stages["only"]["v"],
                    latency=tuple(
                        msgspec.structs.replace(point, threads=4) for point in profile.stages["only"]["v"].latency
                    ),
                )
            }
        }
        profile = msgspec.structs.replace(profile, stages=wide)
        settings = Settings(wait="none", utilisation=1.0)
        together = solve(Problem.of(Graph.of(spec), profile, 250.0, self.nodes(8, 4), settings))
        assert (together.mode, together.cores) == ("hardware", 12.0)
        apart = solve(Problem.of(Graph.of(spec), profile, 250.0, self.nodes(6, 6), settings))
        assert apart.served_fraction == pytest.approx(0.8, rel=1e-4)

    def test_memory_bounds_which_variants_are_resident(self) -> None:
        spec = two_stages()
        profile = profile_of(spec, memory_bytes=10)
        settings = Settings(wait="none", utilisation=1.0)
        for memory, most in ((40, 4), (30, 3), (20, 2)):
            world = Problem.of(Graph.of(spec), profile, 150.0, self.nodes(4, memory=memory), settings)
            plan = solve(world)
            assert sum(len(planned.variants) for planned in plan.stages.values()) <= most
            assert plan.mode == "accuracy"
            assert violations(plan, world.graph, profile, world.nodes, settings) == []
        assert (
            solve(Problem.of(Graph.of(spec), profile, 5.0, self.nodes(4, memory=10), settings)).served_fraction == 0.0
        )

    def test_gpus_are_whole_devices(self) -> None:
        quick = variant("on-gpu", 10.0, accuracy=1.0)
        spec = pipeline(
            200.0, only=stage(msgspec.structs.replace(quick, gpus=1), variant("on-cpu", 50.0, accuracy=0.9))
        )
        settings = Settings(wait="none", utilisation=1.0)
        plan = solve(problem(spec, 240.0, self.nodes(4, 4, gpus=1), settings))
        assert plan.stages["only"].variants["on-gpu"].lanes == 2
        assert plan.stages["only"].variants["on-cpu"].lanes == 2
        assert solve(problem(spec, 50.0, self.nodes(4), settings)).accuracy == pytest.approx(0.9)

    def test_replica_bounds_shape_the_groups(self) -> None:
        settings = Settings(wait="none", replicas={"find": ReplicaBounds(2), "read": ReplicaBounds(1, 1)})
        plan = solve(problem(two_stages(), 50.0, self.nodes(8, 8), settings))
        assert sum(group.replicas for group in plan.stages["find"].groups) >= 2
        assert sum(group.replicas for group in plan.stages["read"].groups) == 1

    def test_bounds_of_the_pipeline_hold_where_the_settings_name_no_others(self) -> None:
        spec = two_stages()
        find = msgspec.structs.replace(spec.stages["find"], min_replicas=2, max_replicas=2)
        spec = msgspec.structs.replace(spec, stages={**spec.stages, "find": find})
        replicas = {}
        for settings in (Settings(wait="none"), Settings(wait="none", replicas={"find": ReplicaBounds(3)})):
            world = problem(spec, 50.0, self.nodes(8, 8), settings)
            plan = solve(world)
            profile = inline_profile(spec)
            assert profile is not None
            assert violations(plan, world.graph, profile, world.nodes, settings) == []
            replicas[len(settings.replicas)] = sum(group.replicas for group in plan.stages["find"].groups)
        assert replicas == {0: 2, 1: 3}

    def test_the_checker_knows_the_bounds_of_the_pipeline(self) -> None:
        spec = two_stages()
        free = problem(spec, 50.0, 8, Settings(wait="none"))
        plan = solve(free)
        bounded = msgspec.structs.replace(spec.stages["read"], min_replicas=4)
        spec = msgspec.structs.replace(spec, stages={**spec.stages, "read": bounded})
        profile = inline_profile(spec)
        assert profile is not None
        found = violations(plan, Graph.of(spec), profile, free.nodes, Settings(wait="none"))
        assert found == ["read: 1 replicas, allowed are 4 to None"]

    @pytest.mark.parametrize(("bounds", "rule"), [(ReplicaBounds(3), "at least 3"), (ReplicaBounds(1, 1), "at most 1")])
    def test_shared_nodes_have_a_replica_each_or_say_that_the_bounds_forbid_it(
        self, bounds: ReplicaBounds, rule: str
    ) -> None:
        how = Settings(sharing="shared", replicas={"read": bounds})
        plan = solve(problem(two_stages(), 5.0, self.nodes(4, 4), how))
        assert plan.served_fraction == 0.0
        assert plan.reason == (
            "where cores are shared every node has one replica of each stage, so 2 of read, "
            f"but it must have {rule}: change the bounds, or give each lane cores of its own (`triscale plan "
            "--sharing dedicated`)"
        )
        fitting = Settings(sharing="shared", replicas={"read": ReplicaBounds(2, 2)})
        assert solve(problem(two_stages(), 5.0, self.nodes(4, 4), fitting)).served_fraction == 1.0

    def test_replicas_may_be_kept_small(self) -> None:
        plan = solve(problem(two_stages(), 60.0, 8, Settings(wait="none", replica_cores=1)))
        assert all(group.lanes == 1 for planned in plan.stages.values() for group in planned.groups)
        assert sum(g.replicas for g in plan.stages["find"].groups) == plan.stages["find"].variants["good"].lanes
