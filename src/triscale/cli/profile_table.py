"""A profile as tables for people: what each variant takes, what it brings along, and what the paths are worth."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from triscale.core.figures import counted
from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.profile import LatencyPoint, PathAccuracy, Profile, VariantProfile
from triscale.policy.latency import LatencyModel
from triscale.profiler.paths import stated_accuracy

__all__ = ["print_profile"]

_MEANING = """\
On one lane: a batch of one, then the batch that costs least per item, and how
many items/s one core does with it. threads "2: x1.80": a lane of 2 threads is
1.80 times as fast. lanes "2: x1.30": with 2 lanes at work, each takes 1.30
times as long as alone.
"""
_WIDE = 96
"""Characters of a terminal from which columns stand apart."""
_BUSY = 0.2
"""Cores of other processes that are worth a warning."""
_PATHS = 12
"""Paths that are shown; all are in the file."""
_NONE_RIGHT = """\
Plans made from this profile take every path to be worthless. Look at the pipeline's `samples.score` first: it gets
the outputs as clients do, as numpy arrays, and text as arrays of bytes (outputs["label"][0] == b"car"). Mend it and
profile again; docs/pipelines.md says more under "Samples and scores".\
"""
_LARGE_GAP = 0.01
"""Difference between a path and the product that is worth a sentence."""


def print_profile(graph: Graph, measured: Profile, console: Console) -> None:
    """Print the tables."""
    machine = measured.machine
    console.print(f"{measured.pipeline} on {machine.cpu}, {counted(machine.cores, 'core')}\n", highlight=False)
    variants = [(f"{stage}/{name}", found) for stage, all_ in measured.stages.items() for name, found in all_.items()]
    console.print(_latencies(variants, console.width))
    console.print(_MEANING, highlight=False, soft_wrap=True)
    if machine.others_cores >= _BUSY:
        console.print(
            f"Other processes used {machine.others_cores:.1f} of {counted(machine.cores, 'core')} meanwhile: latencies "
            "may be too long, and what lanes and threads gain too small. Profile again on a quiet machine.\n",
            soft_wrap=True,
            highlight=False,
        )
    console.print(_rest(graph.pipeline, measured))
    if measured.paths:
        console.print()
        console.print(_paths(graph, measured))
        console.print(f"\n{_in_words(graph, measured)}", highlight=False, soft_wrap=True)


def _latencies(variants: Sequence[tuple[str, VariantProfile]], width: int) -> Table:
    columns = ("", "p50 ms", "p95", "batch", "p50 ms", "p95", "items/s", "threads", "lanes")
    table = _table(*columns, gap=2 if width >= _WIDE else 1)
    for title, variant in variants:
        alone = _alone(variant)
        one, best = alone[0], min(alone, key=lambda point: point.p50_s / point.batch)
        table.add_row(
            title,
            *_times(one),
            str(best.batch),
            *_times(best),
            _rate(best),
            _threads(variant),
            _lanes(variant),
        )
    return table


def _rest(pipeline: Pipeline, measured: Profile) -> Table:
    table = _table("", "load s", "start s", "MiB", "fan-out", "accuracy", "stated")
    for stage, variants in measured.stages.items():
        for name, variant in variants.items():
            stated = pipeline.stages[stage].variant(name).accuracy
            table.add_row(
                f"{stage}/{name}",
                f"{variant.load_s:.2f}",
                f"{variant.start_s:.2f}",
                f"{variant.memory_bytes / 2**20:.0f}",
                ", ".join(f"{mean:.2f} {child}" for child, mean in variant.fan_out.items()),
                "" if variant.accuracy is None else f"{variant.accuracy:.3f}",
                f"{stated:.3f}",
            )
    return table


def _paths(graph: Graph, measured: Profile) -> Table:
    pipeline = graph.pipeline
    chosen = [stage for stage, spec in pipeline.stages.items() if len(spec.variants) > 1] or [pipeline.root]
    table = _table(" -> ".join(chosen), "accuracy", "", "product stated")
    for path in measured.paths[:_PATHS]:
        names = " -> ".join(path.variants[stage] for stage in chosen)
        table.add_row(names, f"{path.accuracy:.3f}", f"± {path.error:.3f}", f"{_product(graph, path):.3f}")
    return table


def _in_words(graph: Graph, measured: Profile) -> str:
    paths = measured.paths
    words = f"measured on {paths[0].requests} labelled samples"
    if all(path.accuracy == 0.0 for path in paths):
        return f"{words}: not one answer was right.\n{_NONE_RIGHT}"
    if len(paths) > _PATHS:
        words += f"; {len(paths) - _PATHS} more paths are in the file"
    gaps = [_product(graph, path) - path.accuracy for path in paths]
    least, most = min(gaps), max(gaps)
    if max(abs(least), abs(most)) >= _LARGE_GAP:
        words += f"; the product of the stated accuracies is off by {least:+.3f} to {most:+.3f}"
    return words


def _product(graph: Graph, path: PathAccuracy) -> float:
    way = tuple(graph.variant(s, path.variants[stage]) for s, stage in enumerate(graph.stages))
    return stated_accuracy(graph, way)


def _times(point: LatencyPoint) -> tuple[str, str]:
    return f"{point.p50_s * 1000:.3g}", f"{point.p95_s * 1000:.3g}"


def _rate(point: LatencyPoint) -> str:
    """Items per second of one core."""
    rate = point.batch / (point.p50_s * point.threads) if point.p50_s > 0.0 else 0.0
    return f"{rate:.1f}" if rate < 100.0 else f"{rate:.0f}"


def _alone(variant: VariantProfile) -> list[LatencyPoint]:
    """The points of one lane with the fewest threads, by batch."""
    fewest = min(point.threads for point in variant.latency)
    found = [point for point in variant.latency if point.threads == fewest]
    lanes = min(point.lanes for point in found)
    return sorted((point for point in found if point.lanes == lanes), key=lambda point: point.batch)


def _threads(variant: VariantProfile) -> str:
    """The speed-up of the smallest batch with most threads."""
    model = LatencyModel(variant, "p50")
    least, most = model.threads[0], model.threads[-1]
    batch = _alone(variant)[0].batch
    return f"{most}: x{model(batch, least) / model(batch, most):.2f}" if most > least else ""


def _lanes(variant: VariantProfile) -> str:
    """The slowdown with most lanes."""
    most = max(point.lanes for point in variant.latency)
    return f"{most}: x{LatencyModel(variant, 'p50').contention(most):.2f}" if most > 1 else ""


def _table(*columns: str, gap: int = 2) -> Table:
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False)
    for index, column in enumerate(columns):
        if index:
            table.add_column(column, justify="right", no_wrap=True)
        else:  # where a terminal is narrow, names break rather than numbers
            table.add_column(column, overflow="fold")
    return table
