"""The load of a run on the command line: one SPEC, and the options that change it, the same for every command.

@click.argument("spec", metavar="TRACE")
@trace_options
def command(spec: str, **options: Unpack[TraceOptions]) -> None:
    trace = build_trace(spec, **options)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypedDict, TypeVar

import click

from triscale.errors import ConfigError
from triscale.traces.spec import parse_trace
from triscale.traces.trace import AnyTrace

__all__ = ["TraceOptions", "build_trace", "trace_options"]

F = TypeVar("F", bound=Callable[..., Any])


class TraceOptions(TypedDict, total=False):
    """What `trace_options` hands to a command, and `build_trace` takes."""

    trace_column: str | None
    trace_slice: str | None
    trace_stretch: float | None
    trace_range: str | None
    trace_scale: float | None


def _factor(text: str) -> float:
    """A number, or one over another: 1/60."""
    over, slash, under = text.partition("/")
    try:
        return float(over) / float(under) if slash else float(over)
    except (ValueError, ZeroDivisionError):
        raise click.BadParameter(f"{text!r} is not a factor, such as 2, 0.5 or 1/60") from None


_OPTIONS = (
    click.option("--column", "trace_column", metavar="NAME", help="Column of a CSV trace, by title or number from 1."),
    click.option(
        "--slice", "trace_slice", metavar="A:B", help="Only from second A to B of the trace; either may be left out."
    ),
    click.option(
        "--stretch",
        "trace_stretch",
        type=_factor,
        metavar="F",
        help="The same rates over F times the time; 1/60 makes minutes seconds.",
    ),
    click.option(
        "--range",
        "trace_range",
        metavar="LO:HI",
        help="Move the rates onto LO to HI requests/s, their shape preserved.",
    ),
    click.option("--scale", "trace_scale", type=_factor, metavar="F", help="The rates times F."),
)


def trace_options(command: F) -> F:
    """Add the options that change a trace; they reach the command as `TraceOptions`."""
    return functools.reduce(lambda inner, option: option(inner), reversed(_OPTIONS), command)


def build_trace(
    spec: str,
    *,
    trace_column: str | None = None,
    trace_slice: str | None = None,
    trace_stretch: float | None = None,
    trace_range: str | None = None,
    trace_scale: float | None = None,
) -> AnyTrace:
    """The trace of `spec`, then sliced, stretched, and scaled by a factor or onto a range, in this order.

    ConfigError when it cannot be made, or would send nothing.
    """
    if trace_range is not None and trace_scale is not None:
        raise ConfigError("--scale has no effect on the rates that --range sets; give one of them")
    trace: AnyTrace = parse_trace(spec, trace_column or "")
    if trace_slice is not None:
        start, end = _bounds("--slice", trace_slice, "10:60")
        trace = trace.sliced(start or 0.0, end)
    if trace_stretch is not None:
        trace = trace.stretched(trace_stretch)
    if trace_range is not None:
        low, high = _bounds("--range", trace_range, "50:425")
        if low is None or high is None:
            raise ConfigError(f"--range {trace_range!r} lacks a bound; it is LO:HI in requests/s, such as 50:425")
        trace = trace.to_range(low, high)
    if trace_scale is not None:
        trace = trace.scaled(trace_scale)
    if trace.expected() <= 0.0:
        raise ConfigError(f"trace {spec!r} is empty: its rate is 0 all the time, so no request would come")
    return trace


def _bounds(option: str, text: str, example: str) -> tuple[float | None, float | None]:
    """`A:B` as numbers; None for one that is left out."""
    first, colon, last = text.partition(":")
    try:
        bounds = (float(first) if first else None), (float(last) if last else None)
    except ValueError:
        colon = ""
    if not colon:
        raise ConfigError(f"{option} {text!r} is not two numbers with a colon between them, such as {example}")
    return bounds
