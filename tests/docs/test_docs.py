"""The docs cannot drift: what they name exists, and what exists is named."""

from __future__ import annotations

import re
from pathlib import Path

import click
import msgspec
import pytest

from triscale.cli.main import cli
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline, Policy, ResourceLimits, Samples, Stage, Variant
from triscale.core.request import Outcome, Reason
from triscale.core.settings import Settings
from triscale.core.spec import load_pipeline
from triscale.dispatch.dispatcher import Dispatcher
from triscale.observe.metrics import PipelineCollector
from triscale.observe.recorder import Recorder
from triscale.policy.autoscalers.static import static_plan
from triscale.policy.learned import LearnedTimes

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/README.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_inside_the_project_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_both_walks_take_at_most_six_files() -> None:
    walks = (ROOT / "docs" / "walkthrough.md").read_text().split("\n## ")[1:3]
    assert len(walks) == 2
    for walk in walks:
        steps = re.findall(r"^\d\. ", walk, re.MULTILINE)
        assert 1 <= len(steps) <= 6


def test_every_command_is_in_the_readme_and_has_an_example() -> None:
    readme = (ROOT / "README.md").read_text()
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        assert f"triscale {name}" in readme, f"README.md does not name `triscale {name}`"
        assert "Example: " in (command.help or ""), f"`triscale {name} --help` has no example"


def test_every_key_of_a_pipeline_file_is_documented() -> None:
    page = (ROOT / "docs" / "pipelines.md").read_text()
    for struct in (Pipeline, Stage, Variant, ResourceLimits, Policy, Samples, Settings):
        for field in msgspec.structs.fields(struct):
            assert f"`{field.encode_name}`" in page, f"docs/pipelines.md does not name {struct.__name__}.{field.name}"


def test_every_outcome_and_reason_is_documented() -> None:
    page = (ROOT / "docs" / "serving.md").read_text()
    for outcome in Outcome:
        assert f"`{outcome.label}`" in page
    for reason in Reason:
        if reason not in (Reason.NONE, Reason.CLIENT_GONE):
            assert f"`{reason}`" in page


def test_every_metric_is_documented() -> None:
    page = (ROOT / "docs" / "serving.md").read_text()
    pipeline = load_pipeline(ROOT / "examples" / "digits")
    graph = Graph.of(pipeline)
    models = [[LearnedTimes() for _ in names] for names in graph.variants]
    fan_out = [[[1.0] * len(graph.children[s]) for _ in names] for s, names in enumerate(graph.variants)]
    dispatcher = Dispatcher(graph, models, fan_out, static_plan(graph, None, 1), pipeline.dispatch, 0.0)
    for family in PipelineCollector(dispatcher, Recorder(graph), "0").collect():
        name = {"counter": f"{family.name}_total", "info": f"{family.name}_info"}.get(family.type, family.name)
        assert f"`{name}`" in page, f"docs/serving.md does not name {name}"
        assert family.documentation.endswith(".")


@pytest.mark.parametrize(
    "pipeline", sorted(ROOT.glob("examples/*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_every_example_is_valid(pipeline: Path) -> None:
    load_pipeline(pipeline)
