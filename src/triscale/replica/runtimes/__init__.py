"""Ready-made ways to get a `Model` from a variant's definition, one module each, imported only when used."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from triscale.core.model import Model
from triscale.core.pipeline import Variant

__all__ = ["build"]


def build(variant: Variant, children: Sequence[str], roots: Sequence[str]) -> Model:
    """The model of a variant, not yet loaded; ModelError when there is none.

    `children` are the stages that it may emit items for, `roots` the folders in which its files are looked for.
    """
    runtime = import_module(f"{__name__}.{variant.runtime}")
    model: Model = runtime.build(variant, children, roots)
    return model
