"""The profile command: what it takes, what it shows, and who warns of an outdated profile."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console

from triscale.cli.plan import plan
from triscale.cli.profile import profile
from triscale.cli.profile_table import print_profile
from triscale.cli.serve import serve
from triscale.core.graph import Graph
from triscale.core.profile import LatencyPoint, Machine, PathAccuracy, Profile, VariantProfile
from triscale.core.spec import load_pipeline
from triscale.errors import ConfigError
from triscale.profiler.machine import this_machine
from triscale.profiler.store import cache_path, variant_hash, write_profile

PIPELINE = """\
name: p
slo_ms: 100
stages:
  detect:
    variants:
      - {name: large, model: "m:Large", accuracy: 0.9}
      - {name: small, model: "m:Small", accuracy: 0.8}
  read: {after: detect, variants: [{name: only, model: "m:Read", accuracy: 0.95}]}
"""


def point(batch: int, ms: float, threads: int = 1, lanes: int = 1) -> LatencyPoint:
    seconds = ms / 1000.0
    return LatencyPoint(
        batch=batch, threads=threads, lanes=lanes, p50_s=seconds, p95_s=1.2 * seconds, p99_s=1.5 * seconds
    )


LARGE = (point(1, 20), point(4, 60), point(1, 22, lanes=2), point(1, 12.5, threads=2))


def made(machine: Machine | None = None, weights: str = "") -> Profile:
    def variant(*latency: LatencyPoint, accuracy: float, fan_out: dict[str, float] | None = None) -> VariantProfile:
        return VariantProfile(
            latency=latency, accuracy=accuracy, fan_out=fan_out or {}, load_s=0.5, start_s=0.75, memory_bytes=3 * 2**20,
            weights=weights,
        )  # fmt: skip

    return Profile(
        pipeline="p",
        machine=machine or this_machine(),
        stages={
            "detect": {
                "large": variant(*LARGE, accuracy=0.89, fan_out={"read": 3.5}),
                "small": variant(point(1, 5), accuracy=0.7, fan_out={"read": 2.0}),
            },
            "read": {"only": variant(point(1, 1), point(8, 4), accuracy=0.94)},
        },
        paths=(
            PathAccuracy(variants={"detect": "large", "read": "only"}, accuracy=0.84, requests=50, error=0.02),
            PathAccuracy(variants={"detect": "small", "read": "only"}, accuracy=0.66, requests=50, error=0.03),
        ),
    )


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = tmp_path / "pipeline.yaml"
    found.write_text(PIPELINE)
    return found


def shown(measured: Profile, file: Path, width: int) -> str:
    out = io.StringIO()
    print_profile(Graph.of(load_pipeline(file)), measured, Console(file=out, width=width))
    return out.getvalue()


def test_the_tables_say_what_was_measured(file: Path) -> None:
    rows = {line.split()[0]: line.split() for line in shown(made(), file, 120).splitlines() if line.strip()}
    assert rows["detect/small"][1:] == ["0.50", "0.75", "3", "2.00", "read", "0.700", "0.800"]
    assert rows["read/only"][1:] == ["0.50", "0.75", "3", "0.940", "0.950"]
    text = shown(made(), file, 120)
    latencies = next(line.split() for line in text.splitlines() if line.startswith("detect/large"))
    assert latencies[1:] == ["20", "24", "4", "60", "72", "66.7", "2:", "x1.60", "2:", "x1.10"]
    paths = [line.split() for line in text.splitlines() if line.startswith(("large", "small"))]
    assert paths == [["large", "0.840", "±", "0.020", "0.855"], ["small", "0.660", "±", "0.030", "0.760"]]
    assert "measured on 50 labelled samples; the product of the stated accuracies is off by +0.015 to +0.100" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_tables_fit_terminals_and_break_names_rather_than_numbers(file: Path, width: int) -> None:
    text = shown(made(), file, width)
    assert "…" not in text
    table = [line.rstrip() for line in text.splitlines() if line.startswith(("detect", "read", "large", "small"))]
    assert max(map(len, table)) <= width
    assert "x1.60" in text


def test_scores_that_are_all_zero_point_at_the_score_function(file: Path) -> None:
    whole = made()
    wrong = tuple(msgspec.structs.replace(path, accuracy=0.0, error=0.0) for path in whole.paths)
    text = shown(msgspec.structs.replace(whole, paths=wrong), file, 80)
    assert "measured on 50 labelled samples: not one answer was right." in text
    assert "`samples.score`" in text
    assert "not one answer" not in shown(made(), file, 80)


def test_a_plan_for_fewer_cores_than_stages_shares_them_unless_told_otherwise(file: Path) -> None:
    write_profile(made(), cache_path(load_pipeline(file), (str(file.parent),)))

    def feasible(*arguments: str) -> bool:
        done = CliRunner().invoke(plan, [str(file), "--demand", "1", "--cores", "1", "--json", *arguments])
        return bool(msgspec.json.decode(done.stdout)["feasible"])

    assert feasible()
    assert feasible("--sharing", "shared")
    assert not feasible("--sharing", "dedicated")


def test_a_busy_machine_is_told(file: Path) -> None:
    busy = made(Machine(cpu="Some CPU", cores=4, others_cores=1.3))
    assert "Other processes used 1.3 of 4 cores meanwhile" in shown(busy, file, 120)
    assert "Other processes" not in shown(made(), file, 120)


def invoked(command: click.Command, *arguments: str) -> tuple[str, str]:
    """What it printed, and the message of the error it ended with."""
    result = CliRunner().invoke(command, arguments)
    return result.output, str(result.exception) if result.exception is not None else ""


OTHER = Machine(id="x", cpu="Some CPU", cores=64)


@pytest.mark.parametrize(
    ("command", "arguments"),
    # Serving would go on until told to stop; a variant that is not there ends it once the profile is read.
    [(serve, ("--variant", "detect=none")), (plan, ("--demand", "1", "--cores", "2"))],
    ids=["serve", "plan"],
)
@pytest.mark.parametrize("where", ["given", "cached"])
def test_serve_and_plan_warn_of_another_machine_and_other_weights(
    file: Path, tmp_path: Path, command: click.Command, arguments: Sequence[str], where: str
) -> None:
    path = tmp_path / "old.json"
    if where == "cached":
        path = cache_path(load_pipeline(file), []).parent / "p-0123456789abcdef.json"
    write_profile(made(OTHER, "0" * 16), path)
    given = ("--profile", str(path)) if where == "given" else ()
    output, _ = invoked(command, str(file), *given, *arguments)
    assert (
        f"warning: {path}: it was made on Some CPU with 64 cores, not on this machine; detect/large, detect/small, "
        "read/only have changed since they were profiled. `triscale profile` measures anew"
    ) in output


@pytest.mark.parametrize("command", [serve, plan], ids=["serve", "plan"])
def test_a_fitting_profile_is_used_without_a_word(file: Path, tmp_path: Path, command: click.Command) -> None:
    pipeline = load_pipeline(file)
    fresh = Profile(
        pipeline="p",
        machine=this_machine(),
        stages={
            stage: {
                variant.name: VariantProfile(latency=(point(1, 5),), weights=variant_hash(variant, []))
                for variant in spec.variants
            }
            for stage, spec in pipeline.stages.items()
        },
    )
    path = tmp_path / "new.json"
    write_profile(fresh, path)
    arguments = ("--variant", "detect=none") if command is serve else ("--demand", "1", "--cores", "2")
    output, _ = invoked(command, str(file), "--profile", str(path), *arguments)
    assert "warning" not in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--batches", "1,x"), "'1,x' is not a list of whole numbers above 0, for example 1,2,4"),
        (("--lanes", "0"), "'0' is not a list of whole numbers above 0"),
        (("--quick", "--threads", "2"), "--quick has a grid of its own; leave out --batches, --threads and --lanes"),
        (("--lanes", "1,9", "--cores", "2"), "--lanes 9: is more than 2 cores can keep busy; write at most 2"),
        (("--accuracy-samples", "-1"), "-1 is not in the range x>=0"),
    ],
)
def test_what_is_asked_wrongly_is_told(file: Path, arguments: Sequence[str], message: str) -> None:
    result = CliRunner().invoke(profile, [str(file), *arguments])
    assert result.exit_code == 2
    assert message in result.output


def test_more_threads_than_cores_are_refused(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sampled.py").write_text(
        "import triscale\ndef one(count, seed):\n    yield triscale.Sample({'x': 1})\n"
    )
    file.write_text(PIPELINE + "samples: {source: 'sampled:one'}\n")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(profile, [str(file), "--threads", "4", "--cores", "2", "--json"])
    assert isinstance(result.exception, ConfigError)
    assert "no lane of 4 threads fits 2 cores; ask for fewer threads, or give more cores" in str(result.exception)


def test_a_pipeline_that_states_all_its_latencies_and_has_no_samples_needs_no_profile(file: Path) -> None:
    file.write_text(
        "name: p\nslo_ms: 100\nstages: {a: {variants: [{name: v, runtime: emulated, latency_ms: {1: 10}}]}}\n"
    )
    _, error = invoked(profile, str(file))
    assert error.startswith("pipeline 'p' names no samples to measure with, and needs no profile: its file states")


def test_what_was_measured_is_shown_and_cached_even_if_it_cannot_be_written_elsewhere(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triscale.cli.profile._measure", lambda *_, **__: made())
    (tmp_path / "plain").write_text("")
    out = tmp_path / "plain" / "p.json"
    output, error = invoked(profile, str(file), "--out", str(out))
    assert "detect/large" in output
    assert error.startswith(f"--out {out}: cannot be written: ")
    assert cache_path(load_pipeline(file), (str(file.parent),)).is_file()
    output, error = invoked(profile, str(file), "--out", str(tmp_path / "p.json"))
    assert (f"written to {tmp_path / 'p.json'}" in output, error) == (True, "")
