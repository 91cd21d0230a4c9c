"""Profile files: read, written and cached per machine.

A profile is stale when it was made on another machine, or for other variants: each variant's hash covers its
definition in the pipeline file, its model's source and the files that its options name.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from triscale.core.pipeline import Pipeline, Variant
from triscale.core.profile import Profile
from triscale.errors import ConfigError
from triscale.profiler.machine import this_machine

__all__ = [
    "cache_path",
    "load_cached",
    "missing_variants",
    "read_profile",
    "stale_reasons",
    "variant_hash",
    "write_profile",
]


def cache_path(pipeline: Pipeline, import_roots: Sequence[str]) -> Path:
    """Where the profile of this pipeline, with these very variants, on this machine is cached."""
    digest = hashlib.sha256(this_machine().id.encode())
    for name, stage in pipeline.stages.items():
        for variant in stage.variants:
            digest.update(f"|{name}|{variant_hash(variant, import_roots)}".encode())
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "triscale" / "profiles" / f"{pipeline.name}-{digest.hexdigest()[:16]}.json"


def load_cached(pipeline: Pipeline, import_roots: Sequence[str]) -> Profile | None:
    """The cached profile; None when there is none (any more) that can be read."""
    path = cache_path(pipeline, import_roots)
    try:
        profile = read_profile(path)
    except ConfigError:
        return None
    return profile if not missing_variants(pipeline, profile) else None


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
    """Write it in one piece: readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(profile), indent=1)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(text + b"\n")
    temporary.replace(path)


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
    for name, stage in pipeline.stages.items():
        for variant in stage.variants:
            measured = profile.stages.get(name, {}).get(variant.name)
            if measured is not None and measured.weights and measured.weights != variant_hash(variant, import_roots):
                reasons.append(f"{name}/{variant.name} has changed since it was profiled")
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
