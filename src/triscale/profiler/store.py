"""Profile files: read, written and cached per machine.

A profile is stale when it was made on another machine, or for other variants: each variant's hash covers its
definition in the pipeline file, its model's source and the files that its options name.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from triscale.core.pipeline import Pipeline, Variant
from triscale.core.profile import Profile
from triscale.errors import ConfigError
from triscale.profiler.machine import this_machine

__all__ = [
    "cache_path",
    "load_cached",
    "load_outdated",
    "missing_variants",
    "read_profile",
    "stale_reasons",
    "variant_hash",
    "write_profile",
]

_WIDTH = 120
"""Of a profile file."""


def cache_path(pipeline: Pipeline, import_roots: Sequence[str]) -> Path:
    """Where the profile of this pipeline, with these very variants, on this machine is cached."""
    digest = hashlib.sha256(this_machine().id.encode())
    for name, stage in pipeline.stages.items():
        for variant in stage.variants:
            digest.update(f"|{name}|{variant_hash(variant, import_roots)}".encode())
    return _cache() / f"{pipeline.name}-{digest.hexdigest()[:16]}.json"


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "triscale" / "profiles"


def load_cached(pipeline: Pipeline, import_roots: Sequence[str]) -> Profile | None:
    """The cached profile; None when there is none (any more) that can be read."""
    path = cache_path(pipeline, import_roots)
    try:
        profile = read_profile(path)
    except ConfigError:
        return None
    return profile if not missing_variants(pipeline, profile) else None


def load_outdated(pipeline: Pipeline) -> tuple[Profile, Path] | None:
    """The newest cached profile that has latencies of all the pipeline's variants, wherever and for whichever weights
    it was made; None without one. `stale_reasons` says what is wrong with it.
    """
    made: list[tuple[float, Path]] = []
    for path in _cache().glob(f"{pipeline.name}-*.json"):
        try:
            made.append((path.stat().st_mtime, path))
        except OSError:
            continue  # removed meanwhile
    for _, path in sorted(made, reverse=True):
        try:
            profile = read_profile(path)
        except ConfigError:
            continue
        if profile.pipeline == pipeline.name and not missing_variants(pipeline, profile):
            return profile, path
    return None


def read_profile(path: Path | str) -> Profile:
    """A profile file. ConfigError that names the file and what is wrong with it."""
    try:
        profile = msgspec.json.decode(Path(path).read_bytes(), type=Profile)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; make one with `triscale profile`") from None
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path}: is not a profile: {error}; make a new one with `triscale profile`") from None
    if profile.version != 1:
        raise ConfigError(f"{path}: has version {profile.version}, this triscale reads 1; make a new one")
    for stage, variants in profile.stages.items():
        for variant, measured in variants.items():
            if not measured.latency:
                raise ConfigError(f"{path}: stages.{stage}.{variant}.latency: has no points; profile the variant again")
    return profile


def write_profile(profile: Profile, path: Path) -> None:
    """Write it for people, and in one piece: readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(_lines(msgspec.to_builtins(profile)) + "\n", encoding="utf-8")
    temporary.replace(path)


def _lines(value: Any, indent: str = "") -> str:
    """JSON with whatever fits on a line on one line: a latency point, a path."""
    flat = msgspec.json.format(msgspec.json.encode(value), indent=0).decode()
    if len(indent) + len(flat) <= _WIDTH or not isinstance(value, dict | list | tuple) or not value:
        return flat
    deeper = f"{indent} "
    if isinstance(value, dict):
        parts = [f"{msgspec.json.encode(key).decode()}: {_lines(each, deeper)}" for key, each in value.items()]
        ends = "{}"
    else:
        parts = [_lines(each, deeper) for each in value]
        ends = "[]"
    return f"{ends[0]}\n{deeper}" + f",\n{deeper}".join(parts) + f"\n{indent}{ends[1]}"


def missing_variants(pipeline: Pipeline, profile: Profile) -> list[str]:
    """`stage/variant` of the pipeline that the profile has no latencies for."""
    return [
        f"{name}/{variant.name}"
        for name, stage in pipeline.stages.items()
        for variant in stage.variants
        if variant.name not in profile.stages.get(name, {})
    ]


def stale_reasons(pipeline: Pipeline, profile: Profile, import_roots: Sequence[str]) -> list[str]:
    """Why the profile may mislead, in words; empty when it fits this machine and these variants."""
    reasons: list[str] = []
    if profile.measured and profile.machine.id != this_machine().id:
        made_on = profile.machine.cpu or "another machine"
        reasons.append(f"it was made on {made_on} with {profile.machine.cores} cores, not on this machine")
    changed = [
        f"{name}/{variant.name}"
        for name, stage in pipeline.stages.items()
        for variant in stage.variants
        if (measured := profile.stages.get(name, {}).get(variant.name)) is not None
        and measured.weights not in ("", variant_hash(variant, import_roots))
    ]
    if changed:
        verb = "has changed since it was" if len(changed) == 1 else "have changed since they were"
        reasons.append(f"{', '.join(changed)} {verb} profiled")
    return reasons


def variant_hash(variant: Variant, import_roots: Sequence[str]) -> str:
    """Changes when the variant's definition, its model's source or a file named in its options changes."""
    definition = (
        variant.runtime,
        variant.model,
        variant.options,
        sorted(variant.latency_ms.items()),
        variant.max_batch,
    )
    digest = hashlib.sha256(msgspec.json.encode(definition, order="deterministic"))
    module = variant.model.partition(":")[0].replace(".", "/")
    names = [f"{module}.py", f"{module}/__init__.py", variant.model]
    names += [value for value in variant.options.values() if isinstance(value, str)]
    for name in names:
        for root in import_roots:
            file = Path(root) / name
            if name and file.is_file():
                with file.open("rb") as opened:
                    digest.update(hashlib.file_digest(opened, "sha256").digest())
                break
    return digest.hexdigest()[:16]
