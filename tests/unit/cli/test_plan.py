"""The plan command: Loki's published pipeline planned with Loki's rules, and what is asked wrongly is told."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from triscale.cli.plan import plan
from triscale.errors import ConfigError

CAR_BRANCH = str(Path(__file__).resolve().parents[3] / "examples" / "traffic_analysis" / "car_branch.yaml")
AS_LOKI = ("--cores", "18", "--threads", "1", "--wait-model", "half_slo")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(plan, [CAR_BRANCH, *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def planned(*arguments: str) -> dict[str, Any]:
    document = json.loads(run(*arguments, "--json"))
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize(("demand", "cores"), [(50, 5), (100, 10), (150, 15), (190, 18)])
def test_hardware_scaling_takes_lokis_servers(demand: int, cores: int) -> None:
    found = planned("--demand", str(demand), *AS_LOKI)
    assert (found["mode"], found["cores"], found["served_fraction"]) == ("hardware", cores, 1.0)


@pytest.mark.parametrize(
    ("demand", "accuracy"), [(500, 88.49), (513, 87.82), (600, 84.05), (800, 77.06), (1000, 72.98)]
)
def test_accuracy_scaling_reaches_lokis_accuracies(demand: int, accuracy: float) -> None:
    found = planned("--demand", str(demand), *AS_LOKI)
    assert found["mode"] == "accuracy"
    assert found["accuracy"] * 100 == pytest.approx(accuracy, abs=0.1)


def test_the_document_has_its_stable_keys() -> None:
    found = planned("--demand", "300", *AS_LOKI)
    assert list(found) == [
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
    for variants in found["stages"].values():
        assert sum(variant["share"] for variant in variants.values()) == pytest.approx(1.0)
        for variant in variants.values():
            assert list(variant) == ["share", "batch", "threads", "lanes", "replicas", "utilisation", "latency_ms"]
    assert sum(path["share"] for path in found["paths"]) == pytest.approx(1.0)


def test_more_than_any_variant_can_carry_is_shed_not_refused() -> None:
    found = planned("--demand", "5000", *AS_LOKI)
    assert found["mode"] == "overload"
    assert 0.0 < found["served_fraction"] < 1.0


def test_a_sweep_shows_the_three_phases() -> None:
    found = json.loads(run("--sweep", "100:3000", *AS_LOKI, "--json"))
    modes = [each["mode"] for each in found]
    assert list(dict.fromkeys(modes)) == ["hardware", "accuracy", "overload"]
    for less, more in itertools.pairwise(found):
        assert more["accuracy"] <= less["accuracy"] + 2e-4, "more demand raises accuracy by no more than the gap"


def test_the_table_is_for_people_and_fits_their_terminals() -> None:
    text = run("--demand", "300", *AS_LOKI)
    assert "300 requests/s within 250 ms" in text
    assert "…" not in text
    assert "18 cores, accuracy 96." in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give either --demand R or --sweep LO:HI, for example --demand 100"),
        (("--demand", "1", "--sweep", "1:2"), "give either --demand R or --sweep LO:HI"),
        (("--sweep", "9:1"), "'9:1' is not LO:HI with LO below HI, for example 50:1000"),
        (("--demand", "-1"), "-1.0 is not in the range x>=0.0"),
    ],
)
def test_what_is_asked_wrongly_is_told(arguments: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(plan, [CAR_BRANCH, *arguments])
    assert result.exit_code == 2
    assert message in result.output


def test_without_latencies_there_is_nothing_to_plan_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = tmp_path / "pipeline.yaml"
    file.write_text("name: p\nslo_ms: 100\nstages: {a: {variants: [{name: v, model: 'm:M'}]}}\n")
    result = CliRunner().invoke(plan, [str(file), "--demand", "1"])
    assert isinstance(result.exception, ConfigError)
    assert "there are no latencies of 'p' to plan with; run `triscale profile" in str(result.exception)
