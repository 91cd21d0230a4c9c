"""The papers' experiments run, are told from their figures, and find their places on the page."""

from __future__ import annotations

import re
from dataclasses import replace

import msgspec
import pytest

from benchmarks.papers import __main__ as program
from benchmarks.papers.ablation import ablation
from benchmarks.papers.capacity import Capacity, CapacitySearch
from benchmarks.papers.claims import Claim, Finding, against, fewer, times
from benchmarks.papers.experiment import Contender, Lab, Run
from benchmarks.papers.joint import joint_settings
from benchmarks.papers.motivation import motivation
from benchmarks.papers.report import PAGE, command, written
from benchmarks.papers.section import Section
from benchmarks.papers.settings import peak_rate, themis_settings, tune
from benchmarks.papers.tables import seconds_missed, table
from benchmarks.papers.worlds import Case, joint_case, loki_case, themis_cases
from triscale.app.simulation import run_simulation
from triscale.core.graph import Graph
from triscale.observe.simulation_document import Violations
from triscale.policy.autoscalers.interface import Setting
from triscale.policy.autoscalers.registry import make_autoscaler
from triscale.sim.result import Result

STATIC = Contender("static")


@pytest.fixture(scope="module")
def case() -> Case:
    return loki_case("a few seconds", "poisson:rate=40,seconds=3")


@pytest.fixture(scope="module")
def result(case: Case) -> Result:
    return Run(case, STATIC, seed=0)()


def changed(result: Result, violations: int, accuracy: float = 1.0, core_seconds: float = 100.0) -> list[Result]:
    return [
        msgspec.structs.replace(
            result,
            requests=1000,
            violations=Violations(dropped=violations),
            accuracy=accuracy,
            core_seconds=core_seconds,
        )
    ]


def test_an_experiment_runs_and_its_claims_carry_the_figures_of_its_table() -> None:
    with Lab(seeds=1, part=0.03) as lab:
        section = ablation(lab)
    assert len(section.claims) == len(section.blocks) == 2
    for claim, block in zip(section.claims, section.blocks, strict=True):
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines()[2:]]
        shares = [float(row[3]) for row in rows]
        assert [float(found) for found in re.findall(r"([\d.]+) %", str(claim))] == pytest.approx(shares, abs=0.01)
        assert claim.holds == (shares == sorted(shares, reverse=True))


def test_the_motivation_comes_out_as_published() -> None:
    with Lab(seeds=1) as lab:
        (claim,) = motivation(lab).claims
    assert claim.holds, str(claim)


def test_a_run_is_the_simulation_of_its_case(case: Case, result: Result) -> None:
    alone = run_simulation(case.pipeline, case.profile, case.trace, "static", case.nodes, case.world)
    assert result.violations == alone.violations
    assert result.core_seconds == alone.core_seconds


def test_processes_find_what_one_process_finds(case: Case, result: Result) -> None:
    with Lab(jobs=2, seeds=1) as lab:
        (found,) = lab.each([case], [STATIC]).of(case, STATIC)
    assert msgspec.structs.replace(found, wall_s=0.0) == msgspec.structs.replace(result, wall_s=0.0)


def test_the_best_setting_has_the_fewest_violations_and_published_ones_stay_in_the_comparison(case: Case) -> None:
    poor = Contender("inferline", "published", {"beta": 1.0})
    rich = Contender("inferline", "rich", {"beta": 3.0})
    with Lab(seeds=1) as lab:
        (tuned,) = tune(lab, [case], [{"inferline": [poor, rich]}], seeds=1)
    missed = {who.name: tuned.results.of(case, who)[0].violations.total for who in (poor, rich)}
    assert missed[tuned.best["inferline"].name] == min(missed.values())
    assert tuned.contenders()[0] is poor


def test_every_setting_is_one_that_its_policy_takes() -> None:
    video, joint = themis_cases()[0], joint_case("joint", "poisson:rate=80")
    for case, settings in ((video, themis_settings(peak_rate(video))), (joint, joint_settings(joint))):
        setting = Setting(graph=Graph.of(case.pipeline), profile=case.profile, nodes=case.nodes)
        for policy, tried in settings.items():
            assert len({who.name for who in tried}) == len(tried)
            for who in tried:
                assert make_autoscaler(policy, replace(setting, options=who.options)).name == who.policy


def test_violations_in_some_seconds_are_counted_from_those_seconds_alone(result: Result) -> None:
    series = result.series
    lost = msgspec.structs.replace(series, answered=[0, *series.answered[1:]])
    assert seconds_missed(msgspec.structs.replace(result, series=lost), [0]) == 100.0
    assert seconds_missed(msgspec.structs.replace(result, series=lost), [1, 2]) == seconds_missed(result, [1, 2])


@pytest.mark.parametrize("highest", [60.0, 193.0, 1571.0])
def test_capacity_is_the_highest_demand_that_is_carried_even_above_one_that_is_not(
    case: Case, monkeypatch: pytest.MonkeyPatch, highest: float
) -> None:
    def carried(_: CapacitySearch, rate: float) -> Capacity | None:
        return Capacity(rate, 0.9) if rate <= highest and not 0.5 * highest < rate < 0.7 * highest else None

    monkeypatch.setattr(CapacitySearch, "_carried", carried)
    found = CapacitySearch(case, STATIC, 0, 0.0, seconds=1.0, warmup_s=0.0)()
    assert highest / 1.03 <= found.rate <= highest


@pytest.mark.parametrize(("mine", "theirs", "holds"), [(10, 100, True), (11, 100, False), (0, 0, True), (1, 0, False)])
def test_a_tenth_is_at_most_a_tenth(result: Result, mine: int, theirs: int, holds: bool) -> None:
    assert fewer("here", changed(result, mine), changed(result, theirs), 10.0).holds is holds


@pytest.mark.parametrize(
    ("accuracy", "core_seconds", "holds"), [(1.0, 100.0, True), (0.99, 100.0, False), (1.0, 102.0, False)]
)
def test_fewer_violations_do_not_count_at_a_lower_accuracy_or_a_higher_cost(
    result: Result,
    accuracy: float,
    core_seconds: float,
    holds: bool,
) -> None:
    mine = changed(result, 10, accuracy, core_seconds)
    assert against("here", mine, changed(result, 100), 3.0).holds is holds


@pytest.mark.parametrize(
    ("theirs", "mine", "said"),
    [
        (132, 10, "13.2 times fewer"),
        (10, 25, "2.5 times more"),
        (5, 0, "all of them fewer"),
        (0, 5, "they have none"),
        (0, 0, "none on either side"),
        (3, 3, "as many"),
    ],
)
def test_times_are_said_in_words(theirs: int, mine: int, said: str) -> None:
    assert times(theirs, mine) == said


def test_a_claim_says_where_it_holds_and_where_not() -> None:
    holds, fails = Finding("video", holds=True, figures="1 on 20"), Finding("nlp", holds=False, figures="5 on 4")
    claim = Claim("a is better", [holds, fails])
    assert str(claim) == ("claim: a is better: **holds** on video (1 on 20); **does not hold** on nlp (5 on 4)")
    assert not claim.holds


def test_a_section_replaces_its_own_part_of_the_page_and_nothing_else() -> None:
    page = "before\n<!-- begin themis -->\nold\n<!-- end themis -->\nafter\n"
    section = Section("themis", [table(("policy", "cores"), [("a", "1")])])
    new = written(page, [section], seeds=3)
    assert new.startswith("before\n<!-- begin themis -->\n")
    assert new.endswith("| a | 1 |\n<!-- end themis -->\nafter\n")
    assert command("themis", 3) in new
    assert "old" not in new
    assert written(new, [section], seeds=3) == new


def test_a_page_without_a_place_for_a_section_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"put `<!-- begin loki -->` and `<!-- end loki -->` where"):
        written("prose", [Section("loki", [])], seeds=3)


def test_the_page_has_a_place_for_every_experiment() -> None:
    page = PAGE.read_text()
    for name in program.EXPERIMENTS:
        assert written(page, [Section(name, [])], seeds=3) != ""


def test_a_rehearsal_is_not_written_on_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["--quick", "--write"])
    assert "a rehearsal" in capsys.readouterr().err


def test_an_unknown_experiment_is_answered_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["--experiments", "lokki"])
    assert "there is no experiment 'lokki'; there are themis, motivation, loki" in capsys.readouterr().err
