"""An autoscaler's options as a type: each one that is unknown or impossible is named, with what would be right.

A type of options is a frozen struct whose fields carry their rule in words, as the types here do. None stands for a
value that the autoscaler chooses.
"""

from __future__ import annotations

import difflib
import math
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from triscale.errors import ConfigError

__all__ = ["Above0", "Interval", "Seconds", "Ticks", "Whole", "read_options"]

Above0: TypeAlias = Annotated[float, Meta(gt=0.0, description="a number above 0")]
Whole: TypeAlias = Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="a whole number, at least 1")]
Ticks: TypeAlias = Annotated[Annotated[int, Meta(ge=0)] | None, Meta(description="a whole number of ticks, 0 or more")]
Interval: TypeAlias = Annotated[Annotated[float, Meta(gt=0.0)] | None, Meta(description="a number of seconds above 0")]
Seconds: TypeAlias = Annotated[
    Annotated[float, Meta(ge=0.0)] | None, Meta(description="a number of seconds, 0 or more")
]

T = TypeVar("T", bound=msgspec.Struct)


def read_options(policy: str, kind: type[T], options: Mapping[str, Any]) -> T:
    """`policy.options` of the autoscaler `policy` as a `kind`. ConfigError with every option that breaks a rule."""
    fields = typing.get_type_hints(kind, include_extras=True)
    problems = [problem for name, value in options.items() for problem in _problems(policy, str(name), value, fields)]
    if problems:
        raise ConfigError(*problems)
    return msgspec.convert(dict(options), kind)


def _problems(policy: str, name: str, value: Any, fields: Mapping[str, Any]) -> Iterator[str]:
    where = f"policy.options.{name}"
    if name not in fields:
        near = difflib.get_close_matches(name, fields, 1)
        hint = f"do you mean `{near[0]}`?" if near else f"its options are: {', '.join(fields)}"
        yield f"{where}: {policy} has no such option; {hint}"
        return
    try:
        msgspec.convert(value, fields[name])
        fits = not isinstance(value, float) or math.isfinite(value)
    except msgspec.ValidationError:
        fits = False
    if not fits:
        yield f"{where}: is {value!r}, but must be {_rule(fields[name])}"


def _rule(kind: Any) -> str:
    """What the field's type says of itself."""
    for note in getattr(kind, "__metadata__", ()):
        if isinstance(note, Meta) and note.description:
            return note.description
    return f"of the type {kind}"  # pragma: no cover - every option of the package has a description
