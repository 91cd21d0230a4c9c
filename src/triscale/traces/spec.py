"""A trace in one word of the command line.

    SPEC   = KIND ":" KEY "=" VALUE { "," KEY "=" VALUE }      poisson:rate=50,seconds=60
           | KIND                                              themis
           | "file:path=" PATH { "," KEY "=" VALUE }           file:path=trace.csv,column=rps,each=60
           | PATH                                              counts.txt

A value is a number, a word, or several numbers with "/" between them. The keys of a kind are the fields of its shape,
plus `process` and `cv2`: how arrivals scatter around the rate. A file that is named like a kind is written ./themis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar, get_origin

import msgspec
from msgspec import Struct

from triscale.errors import ConfigError
from triscale.traces.processes import Even, Gamma, Poisson, Process
from triscale.traces.published import AzureDay, ThemisSlice
from triscale.traces.readers.azure import is_azure, read_azure
from triscale.traces.readers.counts import read_counts
from triscale.traces.readers.table import head_of
from triscale.traces.readers.timestamps import count_timestamps
from triscale.traces.shapes import Constant, Diurnal, Levels, Mmpp, Ramp, Spike, Staircase
from triscale.traces.trace import AnyShape, AnyTrace, Paced, Recorded

__all__ = ["KINDS", "Kind", "parse_trace"]

_PROCESSES = ("poisson", "even", "gamma")
_FORMATS = {
    "counts": ("column", "each", "process", "cv2"),
    "timestamps": ("column",),
    "azure": ("app", "function", "process", "cv2"),
}
"""Formats of files -> the keys that each takes."""


class Kind(NamedTuple):
    """One kind of trace."""

    shape: type[AnyShape] | None
    """None: a file."""
    example: str
    meaning: str
    process: str = ""
    """Fixed by the kind; empty: chosen by `process=`."""


KINDS: Mapping[str, Kind] = {
    "poisson": Kind(Constant, "poisson:rate=50,seconds=60", "one rate, independent arrivals", "poisson"),
    "even": Kind(Constant, "even:rate=50,seconds=60", "one rate, equal gaps", "even"),
    "gamma": Kind(Constant, "gamma:rate=50,cv2=4,seconds=60", "one rate, gaps of chosen burstiness", "gamma"),
    "mmpp": Kind(Mmpp, "mmpp:rates=50/200,dwell=10/2,seconds=300", "random bursts: states with a rate each"),
    "diurnal": Kind(Diurnal, "diurnal:low=50,high=425,seconds=600", "days: a sinusoid"),
    "ramp": Kind(Ramp, "ramp:from=10,to=500,seconds=300", "a straight line"),
    "staircase": Kind(Staircase, "staircase:from=20,to=120,step=20,each=10", "equal steps, up or down"),
    "levels": Kind(Levels, "levels:rates=20/80/40,each=10", "steps by hand"),
    "spike": Kind(Spike, "spike:base=20,peak=120,start=10,length=5,seconds=30", "one sudden peak"),
    "themis": Kind(ThemisSlice, "themis:divider=4.384", "like the slice that Themis was measured on"),
    "azure-day": Kind(AzureDay, "azure-day:low=50,high=425", "like the day that Loki was measured on"),
    "file": Kind(None, "file:path=trace.csv,column=rps", "a recording; its bare path will do"),
}


def parse_trace(spec: str, column: str = "") -> AnyTrace:
    """The trace that `spec` describes; `column` is that of a file. ConfigError says what is amiss and what would do."""
    name, colon, rest = spec.partition(":")
    if name not in KINDS and _exists(spec):
        return _file(spec, spec, {}, column)
    with _blaming(spec):
        if name not in KINDS:
            raise ConfigError(
                f"is neither a file nor a kind of trace; kinds are {', '.join(KINDS)}; for example "
                f"{KINDS['poisson'].example}"
            )
        keys = _keys(rest) if colon else {}
        if name != "file":
            if column:
                raise ConfigError(f"is generated and has no column {column!r}; leave --column out")
            return _generated(spec, name, keys)
        path = keys.pop("path", "")
        if not path:
            raise ConfigError(f"path is missing; for example {KINDS['file'].example}")
    return _file(spec, path, keys, column)


def _exists(path: str) -> bool:
    try:
        return bool(path) and Path(path).exists()
    except OSError:  # too long for a path
        return False


@contextmanager
def _blaming(spec: str) -> Iterator[None]:
    """Problems begin with the trace that has them; those of a file begin with the file as it is."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(*(f"trace {spec!r}: {problem}" for problem in error.problems)) from None


def _keys(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(",") if text else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key or not value:
            raise ConfigError(f"{part!r} is not KEY=VALUE, such as seconds=60; several are parted by commas")
        if key in found:
            raise ConfigError(f"{key} is given twice; give it once")
        found[key] = value
    return found


def _generated(spec: str, name: str, keys: dict[str, str]) -> Paced:
    kind = KINDS[name]
    assert kind.shape is not None
    try:
        process = _process(keys, kind.process)
        return Paced(name=spec, shape=_shape(kind.shape, keys), process=process)
    except ConfigError as error:
        raise ConfigError(*(f"{problem}; for example {kind.example}" for problem in error.problems)) from None


ShapeT = TypeVar("ShapeT", bound=Struct)


def _shape(shape: type[ShapeT], keys: dict[str, str]) -> ShapeT:
    """A shape from its keys as text."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
    unknown = [key for key in keys if key not in fields]
    missing = [key for key, field in fields.items() if field.required and key not in keys]
    problems = [f"there is no key {key!r}; keys are {', '.join(fields)}" for key in unknown]
    problems += [f"{key} is missing" for key in missing]
    values = {}
    for key, text in keys.items():
        if key in unknown:
            continue
        field = fields[key]
        several = get_origin(field.type) is tuple
        try:
            values[field.name] = msgspec.convert(text.split("/") if several else text, field.type, strict=False)
        except msgspec.ValidationError:
            wanted = "numbers with / between them" if several else "a whole number" if field.type is int else "a number"
            problems.append(f"{key} is {text!r}, but it takes {wanted}")
    if problems:
        raise ConfigError(*problems)
    return shape(**values)


def _process(keys: dict[str, str], fixed: str) -> Process:
    """What `process` and `cv2` say, taken out of the keys."""
    name = fixed or keys.pop("process", "gamma" if "cv2" in keys else "poisson")
    if name not in _PROCESSES:
        raise ConfigError(f"process is {name!r}, but it is one of {', '.join(_PROCESSES)}")
    if name != "gamma":
        if "cv2" in keys:
            raise ConfigError(f"cv2 is for gamma arrivals, but these are {name}; leave it out, or take process=gamma")
        return Even() if name == "even" else Poisson()
    if "cv2" not in keys:
        raise ConfigError("gamma arrivals need cv2, the squared coefficient of variation of their gaps, such as cv2=4")
    return _shape(Gamma, {"cv2": keys.pop("cv2")})


def _file(spec: str, path: str, keys: dict[str, str], column: str) -> AnyTrace:
    """A trace from a file; what the keys do not say is read from it."""
    head = head_of(path)
    said = keys.pop("format", "")
    form = said or head.get("format", "") or ("azure" if is_azure(path) else "counts")
    with _blaming(spec):
        if form not in _FORMATS:
            raise ConfigError(f"format is {form!r}, but it is one of {', '.join(_FORMATS)}")
        if column:
            keys["column"] = column
        unknown = [key for key in keys if key not in _FORMATS[form]]
        if unknown:
            known = ", ".join(("path", "format", *_FORMATS[form]))
            raise ConfigError(f"there is no key {unknown[0]!r} for a file of the format {form}; keys are {known}")
        process = _process(keys, "")
        each = _shape(_Each, {"each": keys.pop("each", head.get("each", "1"))}).each
    if form == "timestamps":
        # Absolute: the trace may travel to a process in another folder.
        path = str(Path(path).absolute())
        return Recorded(name=spec, shape=count_timestamps(path, **keys), path=path, column=keys.get("column", ""))
    shape = (
        read_azure(path, **keys) if form == "azure" else read_counts(path, each=each, guess=not (said or head), **keys)
    )
    return Paced(name=spec, shape=shape, process=process)


class _Each(Struct, frozen=True):
    """The key `each` of a file of counts."""

    each: float

    def __post_init__(self) -> None:
        if not 0.0 < self.each < float("inf"):
            raise ConfigError(f"each is {self.each!r}, but a row covers a finite number of seconds above 0")
