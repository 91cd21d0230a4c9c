"""A variant's `options` as a type: unknown names, wrong types and values out of range are told apart, and told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from triscale import ConfigError

__all__ = ["parse"]

T = TypeVar("T", bound=msgspec.Struct)


def parse(kind: type[T], options: Mapping[str, object]) -> T:
    """`options` as a `kind`; ConfigError that names the option, the rule and the options that there are."""
    try:
        return msgspec.convert(dict(options), kind)
    except msgspec.ValidationError as error:
        known = ", ".join(kind.__struct_fields__)
        raise ConfigError(f"options {dict(options)!r} of a variant: {error}. The options are: {known}.") from None
