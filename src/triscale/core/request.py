"""How a request ends: exactly one outcome, and for every outcome but ANSWERED a reason."""

from __future__ import annotations

import enum

__all__ = ["Outcome", "Reason"]


class Outcome(enum.IntEnum):
    """The end of a request. Every request that arrives reaches exactly one of these.

    Attainment is the share of ANSWERED among all; the other five count against it.
    """

    ANSWERED = 0
    """Answered correctly within its deadline."""
    LATE = 1
    """Answered, but after its deadline."""
    DROPPED = 2
    """Admitted, then given up at a stage because its deadline could not be met."""
    SHED = 3
    """Refused at the door: the work already admitted leaves no room for it."""
    FAILED = 4
    """A model or a replica failed it, or its input was rejected by a model."""
    CANCELLED = 5
    """The client went away before the answer was ready."""

    @property
    def label(self) -> str:
        """The lower-case name used in metrics, headers and reports."""
        return self.name.lower()


class Reason(enum.StrEnum):
    """Why a request was not answered in time."""

    NONE = ""
    PREDICTED_LATE = "predicted_late"
    """Dropped: its predicted finish was past its deadline, and no faster variant could recover the lateness."""
    EXPIRED = "expired"
    """Dropped: its deadline passed while it waited or ran."""
    OVERLOADED = "overloaded"
    """Shed: the predicted finish behind the work already admitted was past its deadline."""
    PLAN_SHEDS = "plan_sheds"
    """Shed: the plan carries only a part of the demand, and this request is of the excess."""
    QUEUE_FULL = "queue_full"
    """Shed: the limit on requests in the system is reached."""
    TOO_TIGHT = "too_tight"
    """Shed: the deadline is shorter than the fastest path through an idle pipeline."""
    NO_CAPACITY = "no_capacity"
    """Shed: a stage has no replica that could run it."""
    REPLICA_LOST = "replica_lost"
    """Failed: the replicas running its items died more often than the pipeline retries."""
    MODEL_ERROR = "model_error"
    """Failed: the model raised, or returned something its contract does not allow."""
    MODEL_HUNG = "model_hung"
    """Failed: the model did not return, on each of the tries."""
    REJECTED = "rejected"
    """Failed: a model refused the input as invalid (the client's mistake)."""
    CLIENT_GONE = "client_gone"
    """Cancelled: the client closed its connection."""
    SHUTDOWN = "shutdown"
    """Failed: the server stopped before the request was done."""
