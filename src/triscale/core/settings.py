"""The data plane's settings. The defaults are triscale's; the others exist so that baselines can be run on it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

__all__ = ["Settings"]

Part = Annotated[float, Meta(ge=0.0, le=1.0)]
Positive = Annotated[float, Meta(gt=0.0)]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the dispatcher treats lateness, overload and failure: the key `dispatch` of a pipeline file."""

    drop: Literal["none", "last_stage", "per_stage", "reroute"] = "reroute"
    """What happens to an item that is predicted to be late. `none`: it is run all the same. `last_stage`: dropped,
    but only at a stage without children. `per_stage`: dropped at any stage. `reroute`: recovered by a faster
    variant here or downstream if possible, else dropped. (The four policies of Loki's ablation, on one absolute
    deadline.)"""
    admission: bool = True
    """Refuse at the door what would be late behind the work already admitted."""
    margin: Part = 0.05
    """Part of the SLO kept in reserve when choosing variants and batch sizes; dropping does not use it."""
    late_grace: Part = 0.1
    """Part of the time a request had by which its answer may be late and still be sent; then it is dropped as expired.
    Not used with `drop: none`."""
    max_requests: Annotated[int, Meta(ge=1)] = 100_000
    """Requests in the system at once; more are shed."""
    hang_factor: Annotated[float, Meta(ge=1.0)] = 20.0
    hang_floor_s: Positive = 10.0
    """A batch that runs longer than max(hang_floor_s, hang_factor * its predicted latency) means that its lane
    hangs: its replica is killed."""
    refresh_s: Positive = 0.25
    """How often predictions are renewed from measured latencies and fan-outs."""
