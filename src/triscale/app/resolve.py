"""What to serve with: which profile, how many cores, which plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from triscale.core.graph import Graph
from triscale.core.pipeline import Pipeline
from triscale.core.plan import Plan
from triscale.core.profile import Profile, inline_profile
from triscale.engines.machine import usable_cores
from triscale.errors import ConfigError
from triscale.policy.autoscalers.static import static_plan
from triscale.profiler.store import load_cached, load_outdated, missing_variants, read_profile, stale_reasons

__all__ = ["cores_for", "plan_for", "profile_for"]


def cores_for(pipeline: Pipeline, asked: int | None) -> int:
    """Cores to plan for: what was asked, else the pipeline's limit, else all that this process may use."""
    if asked is not None:
        return asked
    if pipeline.resources.cores is not None:
        return max(1, int(pipeline.resources.cores))
    return usable_cores()


def profile_for(pipeline: Pipeline, import_roots: Sequence[str], path: str | None) -> tuple[Profile | None, list[str]]:
    """The profile to use, and warnings about it: the file asked for, the cached one, or the pipeline file's own.

    Without any of them, the newest cached one of other weights or another machine: wrong latencies are corrected while
    serving, unknown ones have to be learned.
    """
    if path is None:
        exact = load_cached(pipeline, import_roots) or inline_profile(pipeline)
        if exact is not None:
            return exact, []
        outdated = load_outdated(pipeline)
        if outdated is None:
            advice = "no profile of this pipeline on this machine: latencies are learned while serving; "
            return None, [advice + "`triscale profile` measures them first"]
        profile, made = outdated
        return profile, _warnings(made, pipeline, profile, import_roots)
    profile = read_profile(Path(path))
    missing = missing_variants(pipeline, profile)
    if missing:
        raise ConfigError(f"{path}: has no latencies of {', '.join(missing)}; profile the pipeline again")
    return profile, _warnings(path, pipeline, profile, import_roots)


def _warnings(path: Path | str, pipeline: Pipeline, profile: Profile, import_roots: Sequence[str]) -> list[str]:
    reasons = stale_reasons(pipeline, profile, import_roots)
    return [f"{path}: {'; '.join(reasons)}. `triscale profile` measures anew"] if reasons else []


def plan_for(graph: Graph, profile: Profile | None, cores: int, variants: Mapping[str, str]) -> Plan:
    """The plan of the pipeline's policy. ConfigError when `variants` names what there is not."""
    for stage, name in variants.items():
        if stage not in graph.stages:
            raise ConfigError(
                f"--variant {stage}={name}: there is no stage {stage!r}; choose of {', '.join(graph.stages)}"
            )
        known = graph.variants[graph.stage(stage)]
        if name not in known:
            raise ConfigError(
                f"--variant {stage}={name}: stage {stage!r} has no variant {name!r}; it has {', '.join(known)}"
            )
    return static_plan(graph, profile, cores, variants)
