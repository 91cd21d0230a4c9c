"""Serve pipelines of machine-learning models under one latency objective.

The names here are what model code and scripts use; everything else is reached through the `triscale` command.
"""

from triscale.core.model import Data, Item, Model, Rejected, Resources, Result, Value
from triscale.core.pipeline import Pipeline, Policy, ResourceLimits, Samples, Stage, TensorSpec, Variant
from triscale.core.sample import Sample
from triscale.errors import ConfigError, TriscaleError

__all__ = [
    "ConfigError",
    "Data",
    "Item",
    "Model",
    "Pipeline",
    "Policy",
    "Rejected",
    "ResourceLimits",
    "Resources",
    "Result",
    "Sample",
    "Samples",
    "Stage",
    "TensorSpec",
    "TriscaleError",
    "Value",
    "Variant",
    "__version__",
]

__version__ = "0.1.0"
