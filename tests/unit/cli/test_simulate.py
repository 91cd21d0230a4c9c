"""The simulate command: its figures and their stable form, what it is told wrongly, and that a seed decides it all."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.unit.cli.simulation_form import KEYS
from triscale.app.simulation import options_of, run_simulation, window_for
from triscale.cli.main import main
from triscale.cli.simulate import simulate
from triscale.core.cluster import Node, NodeId
from triscale.core.pipeline import Pipeline, Policy
from triscale.core.profile import inline_profile
from triscale.core.settings import Settings
from triscale.errors import ConfigError
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.registry import make_autoscaler
from triscale.policy.autoscalers.static import Static
from triscale.sim.settings import SimSettings
from triscale.testing.builders import pipeline as build_pipeline
from triscale.testing.builders import stage, variant
from triscale.traces.spec import parse_trace

EXAMPLE = str(Path(__file__).resolve().parents[3] / "examples" / "traffic_analysis")
ROOMY = ("--trace", "poisson:rate=10,seconds=10", "--nodes", "2x8", "--policy", "static")
CROWDED = ("--trace", "spike:base=10,peak=80,start=2,length=4,seconds=10", "--cores", "3", "--policy", "static")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(simulate, [EXAMPLE, *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def simulated(*arguments: str) -> dict[str, Any]:
    document = json.loads(run(*arguments, "--json"))
    assert isinstance(document, dict)
    return document


def test_the_document_has_its_stable_keys() -> None:
    found = simulated(*ROOMY)
    assert list(found) == KEYS
    assert list(found["violations"]) == ["late", "dropped", "shed", "failed"]
    assert list(found["latency_ms"]) == ["p50", "p95", "p99"]
    assert (found["policy"], found["seed"], found["simulated_s"]) == ("static", 0, 10.0)
    assert (found["mean_cores"], found["core_seconds"]) == (16.0, 160.0)


def test_enough_cores_answer_all_and_too_few_do_not() -> None:
    roomy, crowded = simulated(*ROOMY), simulated(*CROWDED)
    assert roomy["attainment"] == 1.0
    assert sum(roomy["violations"].values()) == 0
    missed = sum(crowded["violations"].values())
    assert missed > 0
    assert crowded["attainment"] == pytest.approx(1.0 - missed / crowded["requests"])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    first = simulated(*CROWDED, "--report", str(tmp_path / "a.html"))
    again = simulated(*CROWDED, "--report", str(tmp_path / "b.html"))
    assert {**first, "wall_s": 0.0} == {**again, "wall_s": 0.0}
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert simulated(*CROWDED, "--seed", "1")["requests"] != first["requests"]


def test_what_is_printed_says_where_and_why_requests_were_lost() -> None:
    text = run(*CROWDED)
    assert "requests answered within 250 ms under static" in text
    assert "no plans, no launches, no resizes, no drains" in text
    assert "p99.9" in text
    assert "dropped  at detect: could no longer be answered in time" in text
    assert "answered in time" in text.splitlines()[-1]
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())


def hopeless(*arguments: str) -> Result:
    """A policy that runs the most accurate variants alone, which take longer than the objective."""
    load = ("--trace", "poisson:rate=10,seconds=2", "--nodes", "2x8", "--policy", "hpa", "--slo-ms", "5")
    return CliRunner().invoke(simulate, [EXAMPLE, *load, *arguments])


def test_where_the_first_plan_can_serve_nothing_its_reason_is_a_warning_and_on_the_page(tmp_path: Path) -> None:
    why = (
        "policy hpa: by its first plan no request can be served as asked: the most accurate variants, which hpa runs, "
    )
    result = hopeless()
    assert result.stderr.startswith(f"warning: {why}take 53 ms on 1 + 1 + 1 cores, and the objective is 5 ms")
    assert result.stdout.startswith("0 % of ")
    path = tmp_path / "page.html"
    result = hopeless("--json", "--report", str(path))
    assert list(json.loads(result.stdout)) == KEYS, "what goes to the standard output is JSON alone"
    assert f"warning: {why}" in result.stderr
    assert why in path.read_text()


@pytest.mark.parametrize("policy", ["triscale", "static", "loki"])
def test_every_kind_of_policy_says_why_nothing_can_be_in_time(policy: str) -> None:
    assert (
        f"warning: policy {policy}: by its first plan no request can be served" in hopeless("--policy", policy).stderr
    )


def test_a_plan_that_carries_a_part_is_no_warning() -> None:
    crowded = ("--trace", "poisson:rate=2000,seconds=1", "--cores", "4", "--policy", "triscale")
    result = CliRunner().invoke(simulate, [EXAMPLE, *crowded])
    assert "% of" in result.stdout.splitlines()[0]
    assert result.stderr == ""


def test_one_of_a_kind_is_not_written_as_several() -> None:
    text = run("--trace", "even:rate=1,seconds=1", "--cores", "1", "--policy", "static")
    assert "100 % of 1 request\n" in "\n".join(line.rstrip() + "\n" for line in text.splitlines())
    assert "1 core-second, 1.0 cores on average" in text


def test_a_report_is_written_and_named(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    assert f"report with plots: {path}" in run(*CROWDED, "--report", str(path)).replace("\n", " ")
    page = path.read_text()
    assert "spike:base=10,peak=80,start=2,length=4,seconds=10" in page
    assert "1 node of 3 cores" in page


def test_options_of_the_scenario_reach_it() -> None:
    slow = simulated(*ROOMY, "--hop", "30")["latency_ms"]["p50"]
    # Two hops at each of two stages on the way.
    assert slow >= simulated(*ROOMY)["latency_ms"]["p50"] + 100.0
    assert simulated(*ROOMY, "--warmup", "5")["requests"] < simulated(*ROOMY)["requests"]
    assert simulated(*ROOMY, "--scale", "2")["requests"] > 1.5 * simulated(*ROOMY)["requests"]
    assert simulated(*ROOMY, "--slo-ms", "60")["accuracy"] < simulated(*ROOMY)["accuracy"]
    assert simulated(*ROOMY, "--option", "cores=4")["mean_cores"] == 4.0


def test_without_drops_requests_are_late_and_with_admission_they_are_shed() -> None:
    late = simulated(*CROWDED, "--drop", "none", "--no-admission")["violations"]
    assert late["late"] > 0
    assert late["dropped"] == late["shed"] == 0
    assert simulated(*CROWDED, "--drop", "per_stage", "--admission")["violations"]["shed"] > 0


def test_a_node_that_fails_costs_core_seconds_until_it_is_back() -> None:
    broken = simulated(*ROOMY, "--fail", "node-2@4+3", "--cold-start", "0")
    assert broken["core_seconds"] == pytest.approx(16 * 10 - 8 * 3, abs=1.0)
    run(*ROOMY, "--fail", "detect@4")


def test_the_policy_and_its_options_are_the_pipeline_files_by_default() -> None:
    assert simulated(*ROOMY[:4])["policy"] == "static"
    assert simulated(*ROOMY[:4], "--set", "policy.options={cores: 5}")["mean_cores"] == 5.0
    stated = ("--set", "policy.options={cores: 5}", "--option", "cores=6")
    assert simulated(*ROOMY[:4], *stated)["mean_cores"] == 6.0


def toy(**changes: Any) -> Pipeline:
    made = build_pipeline(200.0, detect=stage(variant("big", 40, accuracy=1.0), variant("small", 10, accuracy=0.8)))
    return Pipeline(name="toy", slo_ms=made.slo_ms, stages=made.stages, **changes)


def simulate_toy(policy: str, monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline, **arguments: Any) -> Settings:
    """The dispatch settings that the policy was simulated with."""
    seen: list[Any] = []

    def watched(name: str, setting: Setting) -> Any:
        seen.append((setting, make_autoscaler(name, setting)))
        return seen[-1][1]

    monkeypatch.setattr("triscale.app.simulation.make_autoscaler", watched)
    profile = inline_profile(pipeline)
    assert profile is not None
    nodes = [Node(id=NodeId("node-1"), cores=2)]
    settings = SimSettings(cold_start_s=3.0, resize_s=1.0)
    run_simulation(pipeline, profile, parse_trace("even:rate=5,seconds=3"), policy, nodes, settings, **arguments)
    setting, autoscaler = seen[0]
    assert (setting.future is not None) == (policy == "oracle")
    assert (setting.cold_start_s, setting.resize_s) == ((0.0, 0.0) if policy == "oracle" else (3.0, 1.0))
    dispatch = autoscaler.dispatch
    assert isinstance(dispatch, Settings)
    return dispatch


@pytest.mark.parametrize("policy", ["static", "oracle", "horizontal"])
def test_only_the_oracle_is_told_the_future_and_acts_at_once(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_toy(policy, monkeypatch, toy())


def test_the_data_plane_is_the_files_or_the_published_systems_or_what_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = toy(dispatch=Settings(drop="last_stage", margin=0.2))
    assert simulate_toy("static", monkeypatch, mine) == Settings(drop="last_stage", margin=0.2)
    assert simulate_toy("horizontal", monkeypatch, mine) == Settings(drop="per_stage", admission=False)
    asked = simulate_toy("horizontal", monkeypatch, mine, drop="none", admission=True)
    assert asked == Settings(drop="none", admission=True)
    assert Static.dispatch == Settings(), "a run leaves the next one's settings alone"


def test_options_go_over_those_of_a_file_that_names_the_same_policy() -> None:
    file = toy(policy=Policy(name="static", options={"cores": 2, "demand": 5.0}))
    assert options_of(file, "static", {"cores": 3}) == {"cores": 3, "demand": 5.0}
    assert options_of(file, "horizontal", {"cores": 3}) == {"cores": 3}


def test_windows_are_fine_for_short_runs_and_few_for_long_ones() -> None:
    assert window_for(10.0) == 0.5
    assert window_for(3600.0) == 15.0
    assert 86_400.0 / window_for(86_400.0) <= 300


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*ROOMY[:4], "--policy", "trscale"), "--policy: there is no policy 'trscale'; do you mean 'triscale'?"),
        (("--trace", "poison:rate=1"), "trace 'poison:rate=1': is neither a file nor a kind of trace"),
        (("--trace", "poisson:rate=0"), "trace 'poisson:rate=0' is empty"),
        (("--trace", "poisson:rate=5,seconds=5", "--warmup", "5"), "--warmup 5: nothing would be counted"),
        (("--trace", "poisson:rate=5", "--cores", "0"), "0 is not in the range x>=1"),
        (("--trace", "poisson:rate=5", "--nodes", "2x0"), "'2x0' has no core"),
        (("--trace", "poisson:rate=5", "--nodes", "2x4", "--cores", "4"), "give either --cores or --nodes"),
        ((*ROOMY, "--option", "cores"), "--option cores: is not KEY=VALUE, for example cores=1"),
        ((*ROOMY, "--option", "core=3"), "policy.options.core: static has no such option; do you mean `cores`?"),
        ((*ROOMY, "--fail", "node-9@3"), "--fail node-9@3: 'node-9' is neither a node nor a stage; nodes are node-1"),
        ((*ROOMY, "--fail", "node-1"), "--fail node-1: is not WHAT@SECONDS or WHAT@SECONDS+SECONDS"),
        ((*ROOMY, "--fail", "node-1@1.2.3"), "--fail node-1@1.2.3: is not WHAT@SECONDS"),
        ((*ROOMY, "--fail", "node-1@10"), "--fail node-1@10: the trace is over by then, after 10 s; take an earlier"),
        ((*ROOMY, "--slo-ms", "nan"), "nan is not a time in milliseconds above 0, for example 250"),
        ((*ROOMY, "--slo-ms", "0"), "0 is not a time in milliseconds above 0, for example 250"),
        ((*ROOMY, "--fail", "detect@3+2"), "a lost replica of detect is replaced, not repaired; write detect@3"),
        ((), "Missing option '--trace'"),
    ],
)
def test_what_is_asked_wrongly_is_told_with_status_2(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["triscale", "simulate", EXAMPLE, *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_trace_that_cannot_be_read_names_its_file(tmp_path: Path) -> None:
    file = tmp_path / "broken.txt"
    file.write_text("12\nmany\n3\n")
    result = CliRunner().invoke(simulate, [EXAMPLE, "--trace", str(file)])
    assert isinstance(result.exception, ConfigError)
    assert str(file) in str(result.exception)


def test_without_latencies_there_is_nothing_to_simulate_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = tmp_path / "pipeline.yaml"
    file.write_text("name: p\nslo_ms: 100\nstages: {a: {variants: [{name: v, model: 'm:M'}]}}\n")
    result = CliRunner().invoke(simulate, [str(file), "--trace", "poisson:rate=1"])
    assert isinstance(result.exception, ConfigError)
    assert "there are no latencies of 'p' to simulate with; run `triscale profile" in str(result.exception)


def test_a_report_that_cannot_be_written_is_told_before_anything_is_run(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    result = CliRunner().invoke(simulate, [EXAMPLE, *ROOMY, "--report", str(tmp_path / "plain" / "page.html")])
    assert isinstance(result.exception, ConfigError)
    assert "--report" in str(result.exception)
    assert result.stdout == ""
