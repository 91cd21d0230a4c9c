"""Autoscalers by name: what `policy.name` of a pipeline file and `--policy` can say."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from types import MappingProxyType

from triscale.errors import ConfigError
from triscale.policy.autoscalers.interface import Autoscaler, Setting

__all__ = ["AUTOSCALERS", "make_autoscaler", "no_such_policy"]

AUTOSCALERS: Mapping[str, str] = MappingProxyType(
    {
        "triscale": "triscale.policy.autoscalers.triscale:Triscale",
        "themis": "triscale.policy.autoscalers.themis:Themis",
        "loki": "triscale.policy.autoscalers.loki:Loki",
        "horizontal": "triscale.policy.autoscalers.horizontal:Horizontal",
        "vertical": "triscale.policy.autoscalers.vertical:Vertical",
        "inferline": "triscale.policy.autoscalers.inferline:InferLine",
        "proteus": "triscale.policy.autoscalers.proteus:Proteus",
        "hpa": "triscale.policy.autoscalers.hpa:Hpa",
        "static": "triscale.policy.autoscalers.static:Static",
        "oracle": "triscale.policy.autoscalers.oracle:Oracle",
    }
)
"""Name -> `module:class`; imported when it is made, so that using one does not load the solvers of all."""


def no_such_policy(name: str) -> str:
    """What to say of a name that is no policy's."""
    near = difflib.get_close_matches(name, AUTOSCALERS, 1)
    hint = f"do you mean {near[0]!r}? The" if near else "the"
    return f"there is no policy {name!r}; {hint} policies are: {', '.join(AUTOSCALERS)}"


def make_autoscaler(name: str, setting: Setting) -> Autoscaler:
    """The autoscaler of that name, for this setting. ConfigError for an unknown name or what its options get wrong."""
    where = AUTOSCALERS.get(name)
    if where is None:
        raise ConfigError(f"policy.name: {no_such_policy(name)}")
    module, _, attribute = where.partition(":")
    made: Autoscaler = getattr(importlib.import_module(module), attribute)(setting)
    return made
