"""The docs cannot drift: what they name exists, and what exists is named."""

from __future__ import annotations

import re
from pathlib import Path

import click
import msgspec
import pytest

from tests.deploy.exposed import exposed
from triscale.cli.main import cli
from triscale.core.pipeline import Pipeline, Policy, ResourceLimits, Samples, Stage, Variant
from triscale.core.request import Outcome, Reason
from triscale.core.settings import Settings
from triscale.core.spec import load_pipeline
from triscale.policy.autoscalers.triscale import TriscaleOptions

ROOT = Path(__file__).resolve().parents[2]


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


def test_every_option_of_the_autoscaler_is_documented_with_its_default() -> None:
    page = (ROOT / "docs" / "autoscaler.md").read_text()
    for field in msgspec.structs.fields(TriscaleOptions):
        assert f"| `{field.name}` | {field.default:g} |" in page, f"docs/autoscaler.md: {field.name}"


def test_every_outcome_and_reason_is_documented() -> None:
    page = (ROOT / "docs" / "serving.md").read_text()
    for outcome in Outcome:
        assert f"`{outcome.label}`" in page
    for reason in Reason:
        if reason not in (Reason.NONE, Reason.CLIENT_GONE):
            assert f"`{reason}`" in page


def test_every_metric_is_documented_with_its_labels() -> None:
    page = (ROOT / "docs" / "observability.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `triscale_")]
    for family in exposed():
        name = {"counter": f"{family.name}_total", "info": f"{family.name}_info"}.get(family.type, family.name)
        described = [row for row in rows if f"`{name}`" in row]
        assert len(described) == 1, f"docs/observability.md describes {name} {len(described)} times"
        labels = [cell.strip() for cell in described[0].split("|")][3]
        own = "version" if family.type == "info" else ", ".join(getattr(family, "_labelnames", ()))
        assert labels == own, f"docs/observability.md gives {name} the labels {labels}, not {own}"
        assert family.documentation.endswith(".")


def test_every_alert_is_documented() -> None:
    page = (ROOT / "docs" / "observability.md").read_text()
    rules = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text()
    alerts = re.findall(r"- alert: (\w+)", rules)
    assert alerts
    assert [alert for alert in alerts if f"`{alert}`" not in page] == []


@pytest.mark.parametrize(
    "pipeline", sorted(ROOT.glob("examples/*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_every_example_is_valid(pipeline: Path) -> None:
    load_pipeline(pipeline)
