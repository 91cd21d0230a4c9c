"""Words for how a request ended: what happened, where, and what the client may do about it."""

from __future__ import annotations

from triscale.core.request import Outcome, Reason

__all__ = ["explain"]


def explain(
    pipeline: str, outcome: Outcome, reason: Reason, stage: str, detail: str, retry_after_s: float, slo_s: float
) -> str:
    """One sentence or two for the response's `error`; empty for answers."""
    if outcome is Outcome.ANSWERED or outcome is Outcome.LATE:
        return ""
    again = f"; try again in {max(retry_after_s, 0.001):.3g} s" if retry_after_s > 0.0 else ""
    where = f" at stage {stage!r}" if stage else ""
    why = f": {detail}" if detail else ""
    match reason:
        case Reason.OVERLOADED:
            return f"pipeline {pipeline!r} has more work than it can finish before this request's deadline{again}"
        case Reason.PLAN_SHEDS:
            return f"pipeline {pipeline!r} gets more requests than its plan can carry{again}"
        case Reason.QUEUE_FULL:
            return f"pipeline {pipeline!r} holds as many requests as it may{again}"
        case Reason.TOO_TIGHT:
            return (
                f"the deadline is shorter than the fastest path through pipeline {pipeline!r}; "
                f"allow more time (its objective is {slo_s * 1000:.0f} ms)"
            )
        case Reason.NO_CAPACITY:
            return f"pipeline {pipeline!r} has a stage without a working replica{again}"
        case Reason.PREDICTED_LATE:
            return f"dropped{where}: it could not have been answered before its deadline"
        case Reason.EXPIRED:
            return f"dropped{where}: its deadline passed"
        case Reason.REPLICA_LOST:
            return f"failed{where}: the replicas that ran it died each time"
        case Reason.MODEL_HUNG:
            return f"failed{where}: the model did not return, each time it was tried"
        case Reason.MODEL_ERROR:
            return f"failed{where}: the model raised an error{why}"
        case Reason.REJECTED:
            return f"rejected{where}{why or ': the input is not valid'}"
        case Reason.SHUTDOWN:
            return "the server stopped before the request was done; send it again elsewhere or later"
    return f"the request ended as {outcome.label}{where}{why}"
