"""The compare command: all policies meet the same load, one that fails does not take the others with it."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from tests.unit.cli.simulation_form import KEYS
from triscale.cli.compare import compare
from triscale.cli.compare_text import print_comparison
from triscale.cli.main import main
from triscale.cli.simulate_pool import Task, run_all
from triscale.cli.simulate_scenario import Scenario
from triscale.core.figures import NOTHING
from triscale.errors import ConfigError
from triscale.observe.simulation_comparison import Standing
from triscale.observe.simulation_statistics import Interval

EXAMPLE = str(Path(__file__).resolve().parents[3] / "examples" / "traffic_analysis")
SPIKE = ("--trace", "spike:base=10,peak=80,start=2,length=4,seconds=10", "--cores", "3")
STATIC_AND_HPA = ("--policies", "static,hpa", "--seeds", "2", "--jobs", "1")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(compare, [EXAMPLE, *SPIKE, *arguments])


def compared(*arguments: str) -> list[dict[str, Any]]:
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.output
    documents = json.loads(result.stdout)
    assert isinstance(documents, list)
    return documents


@pytest.fixture(scope="module")
def page_and_documents(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[dict[str, Any]]]:
    path = tmp_path_factory.mktemp("compare") / "page.html"
    documents = compared(*STATIC_AND_HPA, "--jobs", "2", "--report", str(path))
    return path.read_bytes(), documents


def test_results_come_in_the_order_of_the_policies_and_the_seeds(
    page_and_documents: tuple[bytes, list[dict[str, Any]]],
) -> None:
    _, documents = page_and_documents
    assert [(each["policy"], each["seed"]) for each in documents] == [
        ("static", 0),
        ("static", 1),
        ("hpa", 0),
        ("hpa", 1),
    ]
    assert list(documents[0]) == KEYS


def test_all_policies_meet_the_same_requests(page_and_documents: tuple[bytes, list[dict[str, Any]]]) -> None:
    _, documents = page_and_documents
    by_seed = {each["seed"]: each["requests"] for each in documents}
    assert all(each["requests"] == by_seed[each["seed"]] for each in documents)
    assert by_seed[0] != by_seed[1]


def test_one_process_after_the_other_gives_the_same_bytes(
    page_and_documents: tuple[bytes, list[dict[str, Any]]], tmp_path: Path
) -> None:
    page, documents = page_and_documents
    path = tmp_path / "page.html"
    again = compared(*STATIC_AND_HPA, "--report", str(path))
    assert [each | {"wall_s": 0.0} for each in again] == [each | {"wall_s": 0.0} for each in documents]
    assert path.read_bytes() == page


def test_figures_stand_side_by_side_with_their_intervals() -> None:
    result = invoke(*STATIC_AND_HPA)
    assert result.exit_code == 0, result.output
    header, static, hpa = (line.split() for line in result.output.splitlines()[2:5])
    assert " ".join(header) == "policy attainment % violations vs first accuracy % core-s p99 ms"
    assert static[0] == "static"
    assert static[5] == "1.00"
    assert hpa[0] == "hpa"
    assert "±" in result.output.splitlines()[3]
    assert "means of 2 seeds, ± half of a 95 % confidence interval" in result.output


def test_a_policy_that_cannot_be_run_is_named_and_the_others_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    result = invoke(*STATIC_AND_HPA, "--option", "hpa.tick=1", "--report", str(path))
    assert result.exit_code == 2
    assert result.stderr.count("hpa: policy.options.tick: hpa has no such option; do you mean `tick_s`?") == 1
    assert "static" in result.stdout
    assert "hpa: policy.options.tick" in path.read_text()


def test_a_policy_whose_first_plan_can_serve_nothing_says_so_once_for_all_seeds() -> None:
    result = invoke(*STATIC_AND_HPA, "--slo-ms", "20")
    assert result.exit_code == 0
    told = [line for line in result.stderr.splitlines() if line.startswith("warning: policy hpa: by its first plan ")]
    assert len(told) == 1
    assert "warning" not in result.stdout


def test_a_ratio_to_the_first_is_not_nothing_where_it_is_little() -> None:
    one = Interval(1.0, None)
    found = [
        Standing(
            policy=policy,
            runs=(),
            attainment=None,
            violations=one,
            relative=relative,
            accuracy=None,
            core_seconds=one,
            p99_ms=None,
        )
        for policy, relative in (("hpa", 1.0), ("static", 0.0004), ("oracle", None))
    ]
    out = io.StringIO()
    print_comparison(Console(file=out, width=120), found)
    rows = {line.split()[0]: line.split() for line in out.getvalue().splitlines() if line.strip()}
    assert [rows[each.policy][3] for each in found] == ["1.00", "0.0004", NOTHING]


def test_options_reach_the_policy_that_they_name() -> None:
    documents = compared("--policies", "static,hpa", "--seeds", "1", "--jobs", "1", "--option", "static.cores=2")
    assert documents[0]["mean_cores"] == 2.0


def test_the_distance_to_the_oracle_is_told() -> None:
    result = invoke("--policies", "static,oracle", "--seeds", "1", "--jobs", "1")
    assert result.exit_code == 0, result.output
    assert "static against the oracle: " in result.output
    assert "±" not in result.output, "one seed tells nothing of the spread"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--policies", "static,lokki"),
            "--policies: there is no policy 'lokki'; do you mean 'loki'? The policies are",
        ),
        (("--policies", "hpa,static,hpa"), "--policies: hpa is named twice; name it once"),
        (("--policies", ","), "--policies: names no policy; the policies are: triscale"),
        (("--policies", "hpa", "--option", "tick_s=1"), "--option tick_s=1: does not begin with one of the policies"),
        (("--policies", "hpa", "--option", "loki.tick_s=1"), "write POLICY.KEY=VALUE, for example hpa.tick_s=1"),
        (
            ("--policies", "hpa", "--option", "hpa.tick_s"),
            "--option hpa.tick_s: is not KEY=VALUE, for example hpa.tick_s=1",
        ),
        (("--policies", "static", "--option", "cores=1"), "write POLICY.KEY=VALUE, for example static.cores=1"),
        (("--policies", "hpa", "--seeds", "0"), "0 is not in the range x>=1"),
        ((), "Missing option '--policies'"),
    ],
)
def test_what_is_asked_wrongly_is_told_before_anything_is_run(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["triscale", "compare", EXAMPLE, *SPIKE, *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


class Standin:
    """In place of a `Scenario`: what its runs do is their policy's name."""

    def run(self, policy: str, seed: int, options: Mapping[str, Any], progress: Callable[[float], None]) -> Any:
        progress(0.5)
        if policy == "refuse":
            raise ConfigError("first", "second")
        if policy == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if policy == "leave":
            os._exit(3)
        return policy, seed


def run_standins(policies: Sequence[str], jobs: int, progress: Callable[[int, float], None]) -> list[Any]:
    return list(run_all(cast("Scenario", Standin()), [Task(policy, 7) for policy in policies], jobs, progress))


def test_tasks_end_in_their_order_whatever_becomes_of_the_others() -> None:
    told: list[tuple[int, float]] = []
    found = run_standins(["a", "die", "refuse", "leave", "b"], 2, lambda number, part: told.append((number, part)))
    assert found[0] == ("a", 7)
    assert found[4] == ("b", 7)
    messages = [error.problems for error in found[1:4]]
    assert messages == [
        ("its process was killed by signal 9; was there enough memory?",),
        ("first", "second"),
        ("its process ended with status 3; what it wrote above says why",),
    ]
    assert sorted(told) == [(number, 0.5) for number in range(5)]
    assert multiprocessing.active_children() == []


def test_an_interruption_ends_the_workers() -> None:
    def interrupt(number: int, part: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_standins(["a", "b", "c"], 2, interrupt)
    assert multiprocessing.active_children() == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
