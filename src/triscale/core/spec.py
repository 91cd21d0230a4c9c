"""The pipeline file: from YAML to a `Pipeline`, with every mistake reported at once.

Each message names the file and line, the path inside it, the value, the rule and the next step. msgspec checks
types and ranges and stops at the first error, so the file is checked part by part, and what it rejects is noted,
replaced by something harmless, and checked again.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

import msgspec

from triscale.core.pipeline import Pipeline, Stage, TensorSpec, Variant
from triscale.core.yaml_marks import MarkedData, Path, parse, show
from triscale.errors import ConfigError

__all__ = ["load_pipeline", "pipeline_file", "read_pipeline"]

_MOST_PROBLEMS = 50
_GIVE = "give a pipeline's YAML file, or the folder of its pipeline.yaml"

_HINTS: Mapping[str, str] = {
    "accuracy": "an accuracy is a share between 0 and 1, not a percentage",
    "min_accuracy": "an accuracy is a share between 0 and 1, not a percentage",
    "slo_ms": "the latency objective is in milliseconds and above 0, for example 800",
    "max_batch": "the largest batch, in items: 1 to 4096",
    "batch": "a batch is counted in items: at least 1",
    "retries": "0 to 10 times",
    "partial": "`allow` answers with what is there, `deny` fails the request",
    "join": "`each` takes every item by itself, `all` gathers those of one request",
    "runtime": "write python, onnx or emulated",
    "datatype": "use a type of the Open Inference Protocol such as FP32, UINT8, INT64 or BYTES",
    "shape": "a list of extents, -1 for any, for example [-1, 4]",
    "fan_out": "mean items per child stage: a mapping of stage names to numbers of at least 0",
    "latency_ms": "a mapping of batch sizes to milliseconds, for example {1: 10, 8: 45}",
    "variants": "a list with at least one {name: ..., model: ..., accuracy: ...}",
    "stages": "a mapping of stage names to stages, with at least one",
    "cores": "a number above 0; leave it out to use all",
    "name": "letters, digits, '-', '_' and '.', beginning with a letter",
}

# Something valid for a required key whose own value was rejected, so that the rest can still be checked.
_STAND_INS: Mapping[str, Any] = {
    "name": "unnamed",
    "slo_ms": 1000.0,
    "source": "unnamed:unnamed",
    "datatype": "FP32",
    "shape": [1],
    "variants": [{"name": "unnamed", "model": "unnamed:Unnamed"}],
    "stages": {"unnamed": {"variants": [{"name": "unnamed", "model": "unnamed:Unnamed"}]}},
}

_UNKNOWN = re.compile(r"unknown field `(?P<key>[^`]*)`")
_MISSING = re.compile(r"missing required field `(?P<key>[^`]*)`")
_AT = re.compile(r" - at `(?P<path>\$[^`]*)`$")
_STEP = re.compile(r"\.(?P<key>[^.\[\]]+)|\[(?P<index>\d+)\]|\[(?P<any>\.\.\.)\]")


def pipeline_file(path: str | FilePath) -> FilePath:
    """The pipeline file that `path` means: itself, or `pipeline.yaml` in it. ConfigError when there is none."""
    file = FilePath(path)
    if file.is_dir():
        file = file / "pipeline.yaml"
    if not file.is_file():
        raise ConfigError(f"{file}: there is no such file; {_GIVE}")
    return file


def load_pipeline(path: str | FilePath, overrides: Sequence[str] = ()) -> Pipeline:
    """Read and check a pipeline file. `overrides` are `path.to.key=value` (the value is YAML). ConfigError."""
    file = pipeline_file(path)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}; {_GIVE}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not a text file in UTF-8; {_GIVE}") from None
    return read_pipeline(text, str(file), overrides)


def read_pipeline(text: str, source: str = "pipeline.yaml", overrides: Sequence[str] = ()) -> Pipeline:
    """Like `load_pipeline`, from text; `source` is what errors call it."""
    marked = parse(text, source)
    for override in overrides:
        _override(marked, override)
    messages = _check(marked).messages(source)
    if messages:
        raise ConfigError(*messages)
    return msgspec.convert(marked.data, Pipeline)


def _override(marked: MarkedData, override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override}: is not `path.to.key=value`, for example slo_ms=500")
    parsed = parse(value, f"--set {override}").data if value.strip() else None
    steps: list[str | int] = [
        int(step) if step.isdigit() else step for step in re.split(r"[.\[\]]+", key.strip()) if step
    ]
    here: Any = marked.data
    for at, step in enumerate(steps[:-1]):
        try:
            here = here.setdefault(step, {}) if isinstance(here, dict) else here[step]
        except (KeyError, IndexError, TypeError):
            raise ConfigError(f"--set {override}: there is no {show(tuple(steps[: at + 1]))} in the file") from None
    try:
        here[steps[-1]] = parsed
    except (IndexError, TypeError):
        raise ConfigError(f"--set {override}: there is no {show(tuple(steps))} in the file") from None


class _Problems:
    """Collects what is wrong, once for each path, in the order of the file."""

    def __init__(self, marked: MarkedData) -> None:
        self._marked = marked
        self._found: dict[tuple[Path, str], int] = {(path, text): line for path, line, text in marked.problems}
        self._paths = {path for path, _ in self._found}

    def add(self, path: Path, message: str) -> None:
        """Note a problem, unless something at or above `path` is known to be wrong already."""
        if not any(path[: len(known)] == known for known in self._paths):
            self._found[path, message] = self._marked.line(path)
            self._paths.add(path)

    def messages(self, source: str) -> list[str]:
        """One line each, as a user reads them."""
        ordered = sorted(self._found.items(), key=lambda entry: entry[1])
        return [f"{source}:{line}: {show(path)}: {message}" for (path, message), line in ordered]


def _check(marked: MarkedData) -> _Problems:
    """Check part by part, innermost first, so that each error has its exact path; then the rules of the whole."""
    problems = _Problems(marked)
    data = copy.deepcopy(marked.data)
    if not isinstance(data, dict):
        kind = type(data).__name__
        problems.add((), f"is a {kind}, not a mapping; a pipeline file begins with `name:`, `slo_ms:` and `stages:`")
        return problems
    stages = data.get("stages")
    if isinstance(stages, dict):
        for name, stage in stages.items():
            variants = stage.get("variants") if isinstance(stage, dict) else None
            for index, variant in enumerate(variants if isinstance(variants, list) else ()):
                _check_part(variant, Variant, ("stages", name, "variants", index), problems)
            _check_part(stage, Stage, ("stages", name), problems)
    for group in ("inputs", "outputs"):
        specs = data.get(group)
        for name, spec in specs.items() if isinstance(specs, dict) else ():
            _check_part(spec, TensorSpec, (group, name), problems)
    _check_part(data, Pipeline, (), problems)
    return problems


def _check_part(data: Any, kind: type[msgspec.Struct], at: Path, problems: _Problems) -> None:
    """Note all that keeps `data` from being a `kind`; repair it in place, so that what is around it can be checked."""
    for _ in range(_MOST_PROBLEMS):
        try:
            msgspec.convert(data, kind)
        except msgspec.ValidationError as error:
            path, message = _explain(str(error), data, kind)
            problems.add((*at, *path), message)
            if not _repair(data, path, unknown=bool(_UNKNOWN.search(str(error)))):
                return
        except ConfigError as error:
            for problem in error.problems:
                where, _, message = problem.partition(": ")
                problems.add((*at, *_path(f"$.{where}")), message)
            return
        else:
            return


def _explain(error: str, data: object, kind: type[msgspec.Struct]) -> tuple[Path, str]:
    """Msgspec's message as (path, what is wrong and what to do)."""
    at = _AT.search(error)
    path = _path(at["path"]) if at else ()
    if unknown := _UNKNOWN.search(error):
        key = unknown["key"]
        known = [field.encode_name for field in msgspec.structs.fields(kind)]
        close = difflib.get_close_matches(key, known, 1, cutoff=0.6)
        advice = f"did you mean `{close[0]}`?" if close else f"the keys here are {', '.join(known)}"
        return (*path, key), f"is not a key that belongs here; {advice}"
    if missing := _MISSING.search(error):
        key = missing["key"]
        return (*path, key), f"is missing; {_HINTS.get(key, 'see docs/pipelines.md')}"
    rule = error[: at.start()] if at else error
    rule = rule[0].lower() + rule[1:]
    hints = [_HINTS[step] for step in reversed(path) if isinstance(step, str) and step in _HINTS]
    got = "" if ", got" in rule or "enum value" in rule else f", got {_value(data, path)!r}"
    return path, f"{rule}{got}; {hints[0] if hints else 'see docs/pipelines.md'}"


def _path(text: str) -> Path:
    """`$.a[0].b` as a path. msgspec writes `[...]` for a mapping's value without its key: the path ends there."""
    steps: list[str | int] = []
    for step in _STEP.finditer(text):
        if step["any"]:
            break
        steps.append(int(step["index"]) if step["index"] else step["key"])
    return tuple(steps)


def _value(data: object, path: Path) -> object:
    here: Any = data
    for step in path:
        try:
            here = here[step]
        except (KeyError, IndexError, TypeError):
            return None
    return here


def _repair(data: Any, path: Path, *, unknown: bool) -> bool:
    """Replace what was rejected by something valid, or remove it; False when that cannot be done."""
    if not path:
        return False
    here: Any = _value(data, path[:-1])
    key = path[-1]
    if isinstance(here, dict):
        if key in _STAND_INS and not unknown:
            stand_in = copy.deepcopy(_STAND_INS[str(key)])
            changed = here.get(key) != stand_in
            here[key] = stand_in
            return bool(changed)
        return here.pop(key, None) is not None
    if isinstance(here, list) and isinstance(key, int) and key < len(here):
        del here[key]
        return True
    return False
