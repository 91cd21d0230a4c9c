"""What a simulation assumes about the world: delays, randomness, failures and how finely it reports."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from triscale.errors import ConfigError

__all__ = ["Failure", "FanOut", "Service", "SimSettings"]

Seconds: TypeAlias = Annotated[float, Meta(ge=0.0)]
Service: TypeAlias = Literal["profile", "fixed", "exponential"]
FanOut: TypeAlias = Literal["even", "binomial", "poisson", "geometric"]


class Failure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something breaks at a known time: a node with all that runs on it, or replicas of a stage. Name one of the two.

    The autoscaler learns of a dead replica at once, and of a dead node from the next snapshot.
    """

    at_s: Seconds
    node: str = ""
    """The node that goes down."""
    stage: str = ""
    """The stage that loses replicas, those that have been ready longest first."""
    replicas: Annotated[int, Meta(ge=1)] = 1
    """How many the stage loses."""
    down_s: Seconds | None = None
    """After how long the node is back, empty; None = never. A lost replica is replaced like any other: by a launch."""


class SimSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the simulated world behaves. Durations in seconds."""

    seed: int = 0
    """Of everything random. The same seed gives every policy the same arrivals and the same items per request."""
    cold_start_s: Seconds = 6.0
    """From a launch until the replica takes work, its first variant loaded."""
    load_s: Seconds | None = None
    """What each further variant of a replica adds to its cold start, and what loading another one into a live replica
    takes while it serves those that it holds. None = its profile's `load_s`; where that was not measured (0), nothing
    is added to a cold start, and a live replica takes a whole one (`cold_start_s`)."""
    hold: bool = True
    """Live replicas can be given other variants (`Engine.hold`). If not, replicas that hold them are launched in the
    place of those that do not, as on engines that know no better."""
    resize_s: Seconds = 0.05
    """From a resize until it holds."""
    hop_s: Seconds = 0.0
    """Network time to a replica, and the same back, beyond what is in the profile: a batch takes two hops longer."""
    tick_s: Annotated[float, Meta(gt=0.0)] | None = None
    """How often the autoscaler is asked; None = as often as it wants."""
    service: Service = "profile"
    """How long a batch takes. `profile`: drawn from a distribution through the profile's p50, p95 and p99. `fixed`:
    the profile's p50. `exponential`: exponential with the p50 as its mean, for comparison with queueing theory."""
    fan_out: FanOut = "even"
    """How the number of items that an item emits varies around its variant's mean m. `even`: m rounded down or up.
    `binomial`: each of 2m possible ones with probability 1/2, or as near as whole numbers allow. `poisson`, and
    `geometric` from 0 on: without an upper bound."""
    warmup_s: Seconds = 0.0
    """Requests that arrive earlier are simulated but not counted, and neither are the cores until then."""
    window_s: Annotated[float, Meta(gt=0.0)] = 1.0
    """Length of the windows of `Result.series`."""
    failures: tuple[Failure, ...] = ()
    first_demand: Annotated[float, Meta(ge=0.0)] | None = None
    """Requests/s that the first plan is made for; None = the mean of the first 10 seconds of the trace."""

    def __post_init__(self) -> None:
        problems = [f"simulation settings: {problem}" for problem in _broken_rules(self)]
        if problems:
            raise ConfigError(*problems)


def _broken_rules(settings: SimSettings) -> Iterator[str]:
    """Every rule that is broken; ranges too, because Python code does not pass msgspec's validation."""
    for name in ("cold_start_s", "load_s", "resize_s", "hop_s", "warmup_s", "first_demand"):
        value = getattr(settings, name)
        if value is not None and not 0.0 <= value < math.inf:
            yield f"`{name}` is {value!r}, but must be a finite number from 0 on"
    for name in ("tick_s", "window_s"):
        value = getattr(settings, name)
        if value is not None and not 0.0 < value < math.inf:
            yield f"`{name}` is {value!r}, but must be a finite number above 0"
    for index, failure in enumerate(settings.failures):
        if bool(failure.node) == bool(failure.stage):
            yield f"failures[{index}]: name either the `node` or the `stage` that fails"
        if not 0.0 <= failure.at_s < math.inf:
            yield f"failures[{index}].at_s is {failure.at_s!r}, but must be a finite number from 0 on"
        if failure.stage and failure.down_s is not None:
            yield f"failures[{index}].down_s: only a node comes back; a replica is replaced by a launch"
