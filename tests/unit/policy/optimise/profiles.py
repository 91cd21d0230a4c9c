"""Profiles out of what a pipeline states."""

from __future__ import annotations

import msgspec

from triscale.core.pipeline import Pipeline
from triscale.core.profile import Profile, inline_profile


def profile_of(spec: Pipeline, memory_bytes: int = 0) -> Profile:
    """What the pipeline states, and that every variant takes so much memory."""
    found = inline_profile(spec)
    assert found is not None
    stages = {
        name: {own: msgspec.structs.replace(mine, memory_bytes=memory_bytes) for own, mine in variants.items()}
        for name, variants in found.stages.items()
    }
    return msgspec.structs.replace(found, stages=stages)
