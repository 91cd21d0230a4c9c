"""The settings live with the pipeline file, where users write them; the data plane only reads them."""

from triscale.core.settings import Settings

__all__ = ["Settings"]
