"""`triscale validate`: check a pipeline file without running anything."""

from __future__ import annotations

import click
import msgspec

from triscale.cli.options import pipeline_argument, set_option
from triscale.core.figures import counted
from triscale.core.graph import Graph
from triscale.core.spec import load_pipeline, pipeline_file
from triscale.errors import ConfigError
from triscale.policy.autoscalers.registry import AUTOSCALERS, no_such_policy

__all__ = ["validate"]


@click.command()
@pipeline_argument
@set_option
@click.option("--json", "as_json", is_flag=True, help="Print the pipeline as one JSON document.")
def validate(pipeline: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check PIPELINE, a YAML file or the folder of a pipeline.yaml, and say what it describes.

    All mistakes are reported at once; the exit status is 2 when there are any. Models are not imported: whether they
    are there, `triscale profile` or `triscale serve` says.

    \b
    Example: triscale validate examples/digits
    """
    checked = load_pipeline(pipeline, overrides)
    if checked.policy.name not in AUTOSCALERS:
        raise ConfigError(f"{pipeline_file(pipeline)}: policy.name: {no_such_policy(checked.policy.name)}")
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(checked)).decode())
        return
    graph = Graph.of(checked)
    variants = sum(len(names) for names in graph.variants)
    parts = f"{counted(len(graph.stages), 'stage')}, {counted(variants, 'variant')}, SLO {checked.slo_ms:g} ms"
    click.echo(f"{checked.name}: {parts}: valid")
    for s, stage in enumerate(graph.stages):
        after = f" after {', '.join(graph.stages[p] for p in graph.parents[s])}" if graph.parents[s] else ""
        names = ", ".join(f"{n} ({a:g})" for n, a in zip(graph.variants[s], graph.accuracy[s], strict=True))
        click.echo(f"  {stage}{after}: {names}")
