"""What `triscale plan` reads from text: nodes, replica bounds, an objective and a range of demands, each in a short
grammar.

The functions are callbacks of click's options: they take its context, the option and what was written, and return the
value; click adds the option's name to what they refuse.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import click
import msgspec

from triscale.core.cluster import Node, NodeId
from triscale.policy.optimise.settings import ReplicaBounds

__all__ = ["bounds_of", "nodes_of", "objective_of", "range_of"]

_MOST_NODES = 10_000
_GROUP = re.compile(r"^(?:(?P<count>\d+)x)?(?P<cores>\d+)$")
_MEMORY = re.compile(r"^(?P<number>\d+(?:\.\d+)?)(?P<unit>[mgt])b$")
_GPUS = re.compile(r"^(?P<gpus>\d+)gpus?$")
_BOUNDS = re.compile(r"^(?P<least>\d*)\.\.(?P<most>\d*)$")
_UNITS = {"m": 2**20, "g": 2**30, "t": 2**40}
"""As in pipeline files, whose `memory_mb` counts 2^20 bytes."""
_NODES_RULE = "write [COUNTx]CORES[:MEMORY][:GPUS], groups separated by commas, for example 4x8 or 2x16:64GB:1gpu,1x4"


def nodes_of(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[Node, ...] | None:
    """`[COUNTx]CORES[:MEMORY][:GPUS],...` as nodes."""
    if text is None:
        return None
    nodes: list[Node] = []
    for group in text.split(","):
        count, node = _group(group.strip().lower())
        if len(nodes) + count > _MOST_NODES:
            raise click.BadParameter(f"{text!r} has more than {_MOST_NODES} nodes; plan for fewer")
        first = len(nodes) + 1
        nodes += [msgspec.structs.replace(node, id=NodeId(f"node-{first + i}")) for i in range(count)]
    return tuple(nodes)


def _group(text: str) -> tuple[int, Node]:
    """How many nodes are like this, and one of them."""
    size, *extras = text.split(":")
    shape = _GROUP.match(size)
    if shape is None:
        raise click.BadParameter(f"{text!r} does not begin with a number of cores: {_NODES_RULE}")
    count, cores = int(shape["count"] or 1), int(shape["cores"])
    if count < 1 or cores < 1:
        lacking = "node" if count < 1 else "core"
        raise click.BadParameter(f"{text!r} has no {lacking}; both counts are at least 1: {_NODES_RULE}")
    stated: dict[str, int] = {}
    for extra in extras:
        if memory := _MEMORY.match(extra):
            key, number = "memory", int(float(memory["number"]) * _UNITS[memory["unit"]])
        elif gpus := _GPUS.match(extra):
            key, number = "gpus", int(gpus["gpus"])
        else:
            raise click.BadParameter(f"{extra!r} in {text!r} is neither memory (64GB) nor GPUs (1gpu): {_NODES_RULE}")
        if key in stated:
            raise click.BadParameter(f"{text!r} states its {key} twice: {_NODES_RULE}")
        if key == "memory" and number < 1:
            raise click.BadParameter(f"{text!r} has no memory; leave it out where it is not limited")
        stated[key] = number
    node = Node(id=NodeId(""), cores=cores, memory_bytes=stated.get("memory", 0), gpus=stated.get("gpus", 0))
    return count, node


def bounds_of(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> Mapping[str, ReplicaBounds]:
    """Each `STAGE=MIN..MAX` as stage -> bounds; of several for one stage the last holds."""
    found: dict[str, ReplicaBounds] = {}
    for text in texts:
        stage, _, bounds = text.partition("=")
        shape = _BOUNDS.match(bounds)
        if not stage or shape is None or bounds == "..":
            raise click.BadParameter(
                f"{text!r} is not STAGE=MIN..MAX, of which one bound may be left out; for example detect=2..4 or "
                "detect=..2"
            )
        least, most = int(shape["least"] or 1), int(shape["most"]) if shape["most"] else None
        if least < 1 or (most is not None and most < least):
            raise click.BadParameter(f"{text!r} needs 1 <= MIN <= MAX, for example {stage}=2..4")
        found[stage] = ReplicaBounds(least, most)
    return found


def objective_of(_context: click.Context, _option: click.Parameter, value: float | None) -> float | None:
    """Milliseconds of a latency objective."""
    if value is not None and not 0.0 < value < float("inf"):
        raise click.BadParameter(f"{value:g} is not a time in milliseconds above 0, for example 250")
    return value


def range_of(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[float, float] | None:
    """`LO:HI` as two numbers."""
    if text is None:
        return None
    low, colon, high = text.partition(":")
    try:
        found = float(low), float(high)
    except ValueError:
        found = (0.0, 0.0)
    if not colon or not 0.0 <= found[0] < found[1] < float("inf"):
        raise click.BadParameter(f"{text!r} is not LO:HI with LO below HI, for example 50:1000")
    return found
