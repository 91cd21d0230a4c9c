"""The plan command: Loki's published pipeline planned with Loki's rules, and what is asked wrongly is told."""

from __future__ import annotations

import itertools
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, Literal

import click
import pytest
from click.testing import CliRunner

from triscale.cli.plan import plan
from triscale.cli.plan_explain import explain_lines
from triscale.cli.plan_text import optimum_text
from triscale.core.figures import NOTHING
from triscale.core.plan import Plan
from triscale.errors import ConfigError
from triscale.policy.optimise.explain import Constraint, Explanation, Gain, Limit, WhatIf

ROOT = Path(__file__).resolve().parents[3]
CAR_BRANCH = str(ROOT / "examples" / "traffic_analysis" / "car_branch.yaml")
AS_LOKI = ("--cores", "18", "--threads", "1", "--wait-model", "half_slo")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(plan, [CAR_BRANCH, *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def planned(*arguments: str) -> dict[str, Any]:
    document = json.loads(run(*arguments, "--json"))
    assert isinstance(document, dict)
    return document


DOCUMENT = [
    "feasible",
    "mode",
    "demand",
    "served_fraction",
    "accuracy",
    "cores",
    "gap",
    "solve_s",
    "solver",
    "reason",
    "stages",
    "paths",
]
"""The keys of a plan's JSON form, which is promised to stay."""


def check_document(found: dict[str, Any]) -> None:
    """The whole form: keys, their order, and the types of their values."""
    assert list(found) == DOCUMENT
    assert [type(found[key]) for key in DOCUMENT] == [bool, str, *[float] * 4, float, float, str, str, dict, list]
    assert found["mode"] in ("hardware", "accuracy", "overload")
    for variants in found["stages"].values():
        for variant in variants.values():
            assert list(variant) == ["share", "batch", "threads", "lanes", "replicas", "utilisation", "latency_ms"]
            assert [type(value) for value in variant.values()] == [float, int, int, int, int, float, float]
    for path in found["paths"]:
        assert list(path) == ["variants", "share", "latency_ms"]
        assert list(path["variants"]) == list(found["stages"])


@pytest.mark.parametrize(("demand", "cores"), [(50, 5), (100, 10), (150, 15), (190, 18)])
def test_hardware_scaling_takes_lokis_servers(demand: int, cores: int) -> None:
    found = planned("--demand", str(demand), *AS_LOKI)
    assert (found["mode"], found["cores"], found["served_fraction"]) == ("hardware", cores, 1.0)


def test_hardware_scaling_ends_at_190() -> None:
    found = planned("--demand", "191", *AS_LOKI)
    assert (found["mode"], found["feasible"]) == ("accuracy", True)
    assert found["accuracy"] < planned("--demand", "190", *AS_LOKI)["accuracy"]


@pytest.mark.parametrize(
    ("demand", "accuracy"), [(500, 88.49), (513, 87.82), (600, 84.05), (800, 77.06), (1000, 72.98)]
)
def test_accuracy_scaling_reaches_lokis_accuracies(demand: int, accuracy: float) -> None:
    found = planned("--demand", str(demand), *AS_LOKI)
    assert found["mode"] == "accuracy"
    assert found["accuracy"] * 100 == pytest.approx(accuracy, abs=0.1)


@pytest.mark.parametrize("demand", ["0", "100", "300", "5000"])
def test_the_document_has_its_stable_form(demand: str) -> None:
    found = planned("--demand", demand, *AS_LOKI)
    check_document(found)
    for variants in found["stages"].values():
        assert sum(variant["share"] for variant in variants.values()) == pytest.approx(1.0)
    assert sum(path["share"] for path in found["paths"]) == pytest.approx(1.0)


def test_the_page_about_the_planner_shows_that_form_and_names_every_option_and_key() -> None:
    page = (ROOT / "docs" / "planner.md").read_text()
    (shown,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    check_document({**json.loads(shown), "stages": {"detect": {}, "vehicles": {}}})
    for option in plan.params:
        if isinstance(option, click.Option):
            assert option.opts[0] in page, f"docs/planner.md does not name {option.opts[0]}"
    why = planned("--demand", "100", *AS_LOKI, "--explain")["explain"]
    for key in (*why, *why["slowest_path"], *why["one_more_core"]["gain"], *why["longer_slo"]):
        assert f"`{key}`" in page, f"docs/planner.md does not name the explanation's {key}"


def test_a_plan_that_serves_nothing_has_that_form_too_and_says_by_how_much_the_slo_is_short() -> None:
    found = planned("--demand", "10", "--cores", "4", "--wait-model", "none", "--slo-ms", "5")
    check_document(found)
    assert (found["feasible"], found["mode"], found["served_fraction"]) == (False, "overload", 0.0)
    assert re.match(r"the SLO of 5 ms is [\d.]+ ms too short for the fastest path: raise it", found["reason"])


def test_more_than_any_variant_can_carry_is_shed_not_refused() -> None:
    found = planned("--demand", "5000", *AS_LOKI)
    assert found["mode"] == "overload"
    assert 0.0 < found["served_fraction"] < 1.0


def test_a_sweep_is_a_list_of_plans_and_shows_the_three_phases() -> None:
    found = json.loads(run("--sweep", "100:3000", "--steps", "12", *AS_LOKI, "--json"))
    assert [each["demand"] for each in found] == pytest.approx([100 + 2900 / 11 * i for i in range(12)])
    for each in found:
        check_document(each)
    modes = [each["mode"] for each in found]
    assert list(dict.fromkeys(modes)) == ["hardware", "accuracy", "overload"]
    for less, more in itertools.pairwise(found):
        assert more["accuracy"] <= less["accuracy"] + 2e-4, "more demand raises accuracy by no more than the gap"


def test_a_sweep_is_drawn_with_its_three_phases() -> None:
    text = run("--sweep", "20:3000", "--steps", "40", *AS_LOKI)
    for title in ("accuracy, %, over requests/s", "served, %", "cores"):
        assert f"\n{title}\n" in text
    bands = [line.strip() for line in text.splitlines() if line.strip().startswith("├")]
    assert len(bands) == 3
    assert all("accuracy" in band and "overload" in band for band in bands)
    assert re.search(r"\nhardware up to \d+ requests/s, accuracy up to 2,0\d\d requests/s, overload beyond\n", text)
    assert max(len(line) for line in text.splitlines()) <= 80
    without = run("--sweep", "20:100", "--steps", "2", *AS_LOKI)
    assert "served, %" not in without, "nothing is shed, so there is nothing to draw"
    assert "\nhardware throughout\n" in without


def test_a_drawing_has_a_curve_for_each_figure_and_a_tint_for_each_phase(tmp_path: Path) -> None:
    file = tmp_path / "new" / "sweep.svg"
    text = run("--sweep", "20:3000", "--steps", "8", *AS_LOKI, "--plot", str(file))
    assert f"drawn into {file}" in text
    root = ElementTree.fromstring(file.read_text())
    kinds = [element.get("class") for element in root.iter()]
    assert (kinds.count("line"), kinds.count("dot")) == (3, 24)
    assert {"hardware", "accuracy", "overload"} <= set(kinds)
    assert "var(" not in file.read_text(), "viewers of SVG files know no variables"
    tips = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert "car-branch within 250 ms on 18 cores" in tips
    assert "20 requests/s: 99.64 %, mode hardware" in tips


def test_a_page_has_the_drawing_and_the_plans(tmp_path: Path) -> None:
    file = tmp_path / "sweep.html"
    result = run("--sweep", "20:100", "--steps", "3", *AS_LOKI, "--plot", str(file), "--json")
    assert len(json.loads(result)) == 3, "what goes to the standard output is JSON alone"
    page = file.read_text()
    assert page.count("<tr>") == 4
    assert page.count("<svg") == 1
    assert "the most accurate variants that meet the SLO carry 60 requests/s" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", ""), "nothing is fetched from elsewhere"


def test_a_drawing_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sweep.png: its name ends in neither .svg nor .html, for example sweep.svg"):
        run("--sweep", "20:100", "--steps", "2", *AS_LOKI, "--plot", str(tmp_path / "sweep.png"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--plot .*sweep.svg: cannot be written"):
        run("--sweep", "20:100", "--steps", "2", *AS_LOKI, "--plot", str(tmp_path / "file" / "sweep.svg"))


def test_the_table_is_for_people_and_fits_their_terminals() -> None:
    text = run("--demand", "300", *AS_LOKI)
    assert "300 requests/s within 250 ms" in text
    assert "…" not in text
    assert "18 cores, accuracy 96." in text
    assert "replicas" not in text, "a replica each goes without saying"
    text = run("--demand", "300", "--nodes", "6x3", "--threads", "1")
    assert re.search(r"share +replicas +lanes", text)
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()[:-1]) <= 80


def test_a_plan_that_serves_nothing_has_no_accuracy_and_no_table() -> None:
    first, second, third = run("--demand", "10", "--cores", "4", "--slo-ms", "5").splitlines()
    assert first == "car-branch: 10 requests/s within 5 ms"
    assert second == f"0 cores, accuracy {NOTHING}; 100 % of the demand is shed"
    assert third.startswith("the SLO of 5 ms is ")
    swept = run("--sweep", "1:10", "--steps", "2", "--cores", "4", "--slo-ms", "5").splitlines()
    assert [line.split()[2:] for line in swept[1:3]] == [["0", NOTHING, "0", "%"]] * 2
    assert swept[-1] == third, "in place of plots of nothing"
    assert len(swept) == 5


def test_how_good_a_plan_is_said_in_plain_words() -> None:
    def words(solver: str, gap: float, mode: Literal["hardware", "accuracy"] = "accuracy") -> str:
        return optimum_text(Plan(stages={}, solver=solver, gap=gap, mode=mode))

    assert words("milp", 1e-9) == words("dp", 0.0, "hardware") == "proven optimal"
    assert words("milp", 0.005) == "at most 0.50 % from the optimum"
    assert words("milp", 0.00004) == "at most 0.004 % from the optimum"
    assert words("dp", 0.0) == "the best with one variant per stage"
    assert words("greedy", 1.0) == words("shared", 0.0) == "", "nothing is proven"


def test_the_summary_and_its_reason_write_figures_alike_and_one_core_is_one() -> None:
    text = run("--demand", "500", "--cores", "1")
    assert re.search(r"\n1 core, accuracy 50\.51 %; 81\.0 % of the demand is shed \(shared, [\d.]+ ms\)\n", text)
    assert "1 of 1 core carries 95.2 of 500 requests/s at 50.51 % accuracy; the other 81.0 % are shed" in text


def test_an_explanation_is_added_only_when_asked_for() -> None:
    found = planned("--demand", "500", *AS_LOKI, "--explain")
    assert list(found) == [*DOCUMENT, "explain"]
    why = found["explain"]
    assert list(why) == [
        "limits",
        "slowest_path",
        "one_more_core",
        "longer_slo",
        "hardware_until",
        "accuracy_until",
        "headroom",
    ]
    assert [limit["constraint"] for limit in why["limits"]] == ["slo", "cores"]
    cores = why["limits"][1]
    assert list(cores) == ["constraint", "stage", "used", "allowed", "bound", "factor", "gain"]
    assert (cores["used"], cores["allowed"], cores["bound"], cores["factor"]) == (18.0, 18.0, "most", 2.0)
    assert why["slowest_path"]["latency_ms"] <= why["slowest_path"]["slo_ms"] == 250.0
    nineteen = planned("--demand", "500", "--cores", "19", "--threads", "1", "--wait-model", "half_slo")
    gained = why["one_more_core"]["gain"]
    assert gained["accuracy"] == pytest.approx(nineteen["accuracy"] - found["accuracy"])
    assert why["hardware_until"] == pytest.approx(190.6, rel=2e-3)
    assert why["headroom"] == pytest.approx(why["accuracy_until"] - 500.0)


def test_an_explanation_for_people_says_what_binds_and_what_more_would_buy() -> None:
    text = run("--demand", "500", *AS_LOKI, "--explain")
    plain = " ".join(text.split())
    assert "cores 18 of 18 are in use; with twice the cores: accuracy +9.78 points" in plain
    assert "of 250 ms on the path detect/yolov5l -> vehicles/efficientnet-b3, 145 of them at detect" in plain
    assert re.search(
        r"one more core accuracy \+1\.\d\d points; the most accurate variants carry up to 19\d instead of 19\d", plain
    )
    assert "10 ms more SLO nothing at 500 requests/s" in plain
    assert re.search(r"up to 19\d requests/s hardware: the most accurate variants carry all of it", plain)
    assert re.search(r"now 500 requests/s; 1,5\d\d more until the mode changes", plain)
    assert max(len(line) for line in text[text.index("What limits it") :].splitlines()) <= 80


def test_an_explanation_of_overload_names_floors_bounds_and_memory() -> None:
    arguments = ("--demand", "4000", "--nodes", "1x9:64GB,1x9", "--wait-model", "half_slo", "--threads", "1")
    text = " ".join(run(*arguments, "--min-accuracy", "0.7", "--replicas", "detect=3..", "--explain").split())
    assert "min_accuracy at least 0.7, and the plan has 0.7" in text
    assert "requests/s more" in text
    floor = " ".join(run("--demand", "10", "--cores", "4", "--min-accuracy", "0.999", "--explain").split())
    assert "min_accuracy at least 0.999, and nothing is served; without the limit: 10 requests/s could be" in floor
    assert "beyond overload: the rest is shed" in text
    nothing = " ".join(run("--demand", "10", "--cores", "1", "--sharing", "dedicated", "--explain").split())
    assert "with twice the cores: 10 requests/s could be served at all, at 98.34 % accuracy What" in nothing
    assert "any demand overload: not one request can be served in time" in nothing
    shared = ("--demand", "10", "--nodes", "2x4", "--sharing", "shared", "--replicas", "detect=3..")
    assert "but it must have at least 3" in run(*shared)
    bounded = " ".join(run(*shared, "--explain").split())
    assert "replicas of detect 0, at least 3 are asked for; without the limit: 10 requests/s could be served" in bounded


def explained(plan_of: Plan, *limits: Limit) -> str:
    """The words for these limits and nothing else to tell."""
    nothing = WhatIf(Gain(0.0, 0.0, 0.0), 10.0, 20.0)
    found = Explanation(limits, None, nothing, nothing, 10.0, 20.0, 5.0)
    return " ".join(" ".join(explain_lines(found, plan_of, 80)).split())


def test_every_kind_of_limit_has_its_words() -> None:
    def limit(constraint: Constraint, used: float, allowed: float, gain: Gain, factor: float = 0.0) -> Limit:
        return Limit(constraint, "find", used, allowed, least=False, factor=factor, gain=gain)

    at_five = Plan(stages={}, demand=5.0)
    for found, words in (
        (limit("memory", 2**30, 2**31, Gain(2.5, -0.01, 0.0)), "memory 1.00 of 2.00 GB on all nodes together"),
        (
            limit("memory", 2**30, 2**31, Gain(2.5, -0.01, 0.0)),
            "without the limit: 2.5 requests/s more, accuracy -1.00",
        ),
        (
            limit("gpus", 1.0, 1.0, Gain(-3.0, 0.0, 1.0)),
            "GPUs 1 of 1 are in use; without the limit: 3 requests/s fewer",
        ),
        (limit("cores", 3.0, 4.0, Gain(0.0, 0.0, 1.0), 8.0), "with eight times the cores: 1 core fewer"),
        (limit("cores", 4.0, 4.0, Gain(0.0, 0.1, -4.0), 2.0), "with twice the cores: accuracy +10.00 points What"),
        (limit("replicas", 2.0, 2.0, Gain(0.0, 0.0, 2.0)), "replicas of find 2, at most 2 are allowed"),
        (limit("slo", 0.0, 0.25, Gain(5.0, 0.5, -2.0), 4.0), "SLO no path fits 250 ms; with four times the SLO: 5 req"),
    ):
        assert words in explained(at_five, found)
    assert "nothing but the demand" in explained(at_five)
    assert "no limit alone" in explained(Plan(stages={}, demand=5.0, mode="overload", feasible=False))
    assert "the plan is at most 5.00 % from the optimum, and smaller gains are not shown" in explained(
        Plan(stages={}, gap=0.05)
    )


def test_a_route_through_branches_names_the_stages_that_take_the_longest() -> None:
    both = str(ROOT / "examples" / "traffic_analysis")
    result = CliRunner().invoke(plan, [both, "--demand", "300", *AS_LOKI, "--explain"], catch_exceptions=False)
    text = " ".join(result.output.split())
    assert re.search(r"of 250 ms on the path detect/\S+ -> (vehicles|people)/\S+, \d+ of them", text)


def heavy(tmp_path: Path, resources: str = "", stage: str = "") -> str:
    """A pipeline of one stage whose better variant needs 3 GB and whose worse one needs a GPU."""
    file = tmp_path / "pipeline.yaml"
    file.write_text(
        f"name: p\nslo_ms: 200\n{resources}stages:\n  only:\n{stage}    variants:\n"
        "      - {name: big, runtime: emulated, latency_ms: {1: 10}, accuracy: 0.9, memory_mb: 3072}\n"
        "      - {name: on-gpu, runtime: emulated, latency_ms: {1: 5}, accuracy: 0.8, gpus: 1}\n"
    )
    return str(file)


def plan_of(file: str, *arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(plan, [file, *arguments, "--wait-model", "none", "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def test_nodes_have_cores_memory_and_gpus(tmp_path: Path) -> None:
    file = heavy(tmp_path)
    for nodes, variants in (
        ("4", {"big"}),
        ("2x2:4gb", {"big"}),
        ("2x2:2gb:1gpu", {"on-gpu"}),
        ("1x1:2GB:1gpu,1x4:4GB", {"big"}),
    ):
        found = plan_of(file, "--demand", "20", "--nodes", nodes)
        assert set(found["stages"]["only"]) == variants, nodes
    # A lane of big carries 90 requests/s here, one on a GPU 180.
    mixed = plan_of(file, "--demand", "250", "--nodes", "1x1:2GB:1gpu,1x2:4GB")
    assert {name: mine["lanes"] for name, mine in mixed["stages"]["only"].items()} == {"big": 2, "on-gpu": 1}
    nothing = plan_of(file, "--demand", "20", "--nodes", "4x8:1.5GB")
    assert nothing["served_fraction"] == 0.0


def test_the_memory_that_the_file_allows_is_kept(tmp_path: Path) -> None:
    found = plan_of(heavy(tmp_path, "resources: {cores: 4, memory_gb: 2}\n"), "--demand", "20")
    assert found["served_fraction"] == 0.0
    found = plan_of(heavy(tmp_path, "resources: {cores: 4, memory_gb: 4}\n"), "--demand", "20")
    assert set(found["stages"]["only"]) == {"big"}


def test_replica_bounds_come_from_the_file_and_the_command_line_overrides_them(tmp_path: Path) -> None:
    bounded = heavy(tmp_path, stage="    min_replicas: 2\n    max_replicas: 3\n")
    assert plan_of(bounded, "--demand", "20", "--nodes", "8")["stages"]["only"]["big"]["replicas"] == 2
    assert plan_of(bounded, "--demand", "500", "--nodes", "3x1,3x1,1x2")["served_fraction"] < 1.0
    overridden = ("--replicas", "only=4..5")
    assert plan_of(bounded, "--demand", "20", "--nodes", "8", *overridden)["stages"]["only"]["big"]["replicas"] == 4
    free = plan_of(bounded, "--demand", "500", "--nodes", "3x1,3x1,1x2", "--replicas", "only=1..")
    assert free["served_fraction"] == 1.0
    with pytest.raises(ConfigError, match=r"replicas.find: no such stage; the stages are: only"):
        plan_of(bounded, "--demand", "20", "--nodes", "8", "--replicas", "find=..2")


NODES_RULE = "write [COUNTx]CORES[:MEMORY][:GPUS], groups separated by commas, for example 4x8 or 2x16:64GB:1gpu,1x4"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give either --demand R or --sweep LO:HI, for example --demand 100"),
        (("--demand", "1", "--sweep", "1:2"), "give either --demand R or --sweep LO:HI"),
        (("--sweep", "9:1"), "'9:1' is not LO:HI with LO below HI, for example 50:1000"),
        (("--sweep", "1:x"), "'1:x' is not LO:HI with LO below HI, for example 50:1000"),
        (("--demand", "-1"), "-1.0 is not in the range x>=0.0"),
        (("--demand", "1", "--cores", "4", "--nodes", "4"), "give either --cores or --nodes: nodes say how many cores"),
        (("--demand", "1", "--steps", "4"), "--steps and --plot are for a sweep; add --sweep LO:HI"),
        (("--demand", "1", "--plot", "a.svg"), "--steps and --plot are for a sweep; add --sweep LO:HI"),
        (("--demand", "1", "--slo-ms", "nan"), "nan is not a time in milliseconds above 0, for example 250"),
        (
            ("--demand", "1", "--sharing", "shared", "--solver", "dp"),
            "--solver dp gives every lane cores of its own; leave it out, or write --sharing dedicated",
        ),
        (("--sweep", "1:2", "--steps", "1"), "1 is not in the range 2<=x<=1000"),
        (("--sweep", "1:2", "--explain"), "--explain is about one plan; give --demand R in place of --sweep"),
        (("--demand", "1", "--nodes", "4x"), f"'4x' does not begin with a number of cores: {NODES_RULE}"),
        (("--demand", "1", "--nodes", "4,"), f"'' does not begin with a number of cores: {NODES_RULE}"),
        (("--demand", "1", "--nodes", "0x4"), f"'0x4' has no node; both counts are at least 1: {NODES_RULE}"),
        (("--demand", "1", "--nodes", "4x0"), f"'4x0' has no core; both counts are at least 1: {NODES_RULE}"),
        (("--demand", "1", "--nodes", "4:8"), f"'8' in '4:8' is neither memory (64GB) nor GPUs (1gpu): {NODES_RULE}"),
        (("--demand", "1", "--nodes", "4:1gb:2gb"), f"'4:1gb:2gb' states its memory twice: {NODES_RULE}"),
        (("--demand", "1", "--nodes", "4:1gpu:2gpus"), f"'4:1gpu:2gpus' states its gpus twice: {NODES_RULE}"),
        (("--demand", "1", "--nodes", "4:0gb"), "'4:0gb' has no memory; leave it out where it is not limited"),
        (("--demand", "1", "--nodes", "9999x1,2x1"), "'9999x1,2x1' has more than 10000 nodes; plan for fewer"),
        (("--demand", "1", "--replicas", "detect"), "'detect' is not STAGE=MIN..MAX, of which one bound may be left"),
        (("--demand", "1", "--replicas", "detect=.."), "'detect=..' is not STAGE=MIN..MAX"),
        (
            ("--demand", "1", "--replicas", "detect=3..2"),
            "'detect=3..2' needs 1 <= MIN <= MAX, for example detect=2..4",
        ),
        (("--demand", "1", "--replicas", "detect=0..2"), "'detect=0..2' needs 1 <= MIN <= MAX"),
    ],
)
def test_what_is_asked_wrongly_is_told(arguments: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(plan, [CAR_BRANCH, *arguments])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_a_demand_that_is_no_number_is_told() -> None:
    with pytest.raises(ConfigError, match=r"demand: must be a finite number of requests/s >= 0, got nan"):
        run("--demand", "nan", *AS_LOKI)


def test_without_latencies_there_is_nothing_to_plan_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = tmp_path / "pipeline.yaml"
    file.write_text("name: p\nslo_ms: 100\nstages: {a: {variants: [{name: v, model: 'm:M'}]}}\n")
    result = CliRunner().invoke(plan, [str(file), "--demand", "1"])
    assert isinstance(result.exception, ConfigError)
    assert "there are no latencies of 'p' to plan with; run `triscale profile" in str(result.exception)
