"""The `python` runtime: a class of the user's own, named `package.module:Class`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from triscale.core.model import Model
from triscale.core.pipeline import Variant
from triscale.errors import ModelError

__all__ = ["build"]


def build(variant: Variant, children: Sequence[str], roots: Sequence[str]) -> Model:  # noqa: ARG001 - a runtime's signature
    """Import the class and make one; ModelError says what is missing and where it was looked for."""
    module_name, _, class_name = variant.model.partition(":")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        # Only a module on the way to the model's own is the file's mistake; another one is missing in the model's code.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ModelError(f"importing it failed: {error}") from error
        raise ModelError(
            f"there is no module {error.name!r}; looked in {', '.join(roots) or 'no folder'} and in the installed "
            "packages (a pipeline's models are found from its file's folder and from where triscale was started)"
        ) from error
    except Exception as error:
        raise ModelError(f"importing it failed: {type(error).__name__}: {error}") from error
    kind = getattr(module, class_name, None)
    if kind is None:
        there = sorted(n for n, found in vars(module).items() if isinstance(found, type) and issubclass(found, Model))
        models = f", but {', '.join(there)}" if there else " and no other triscale.Model"
        raise ModelError(f"module {module_name} has no class {class_name!r}{models}; correct the variant's `model`")
    if not (isinstance(kind, type) and issubclass(kind, Model)):
        raise ModelError(f"{class_name!r} is not a subclass of triscale.Model")
    return kind()
