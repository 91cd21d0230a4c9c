"""Admission: refuse at once what could only be late, so that what is admitted keeps its deadline.

Overload is normal operation. Without a door, goodput falls as load rises, because every lane is busy with items
that will be dropped later; with it, goodput stays at capacity.
"""

from __future__ import annotations

from triscale.core.plan import Plan
from triscale.core.request import Reason
from triscale.core.settings import Settings
from triscale.dispatch.outlook import Outlook
from triscale.dispatch.stage import StageState

__all__ = ["Door", "Refusal"]


class Refusal:
    """Why a request is not admitted, and when it is worth trying again."""

    __slots__ = ("reason", "retry_after_s")

    def __init__(self, reason: Reason, retry_after_s: float) -> None:
        self.reason = reason
        self.retry_after_s = retry_after_s


class Door:
    """Decides on each request as it arrives, from the work already admitted and the plan."""

    __slots__ = ("_depth", "_filled_at", "_rate", "_settings", "_slo", "_stages", "_tokens")

    def __init__(self, stages: list[StageState], settings: Settings, slo_s: float) -> None:
        self._stages = stages
        self._settings = settings
        self._slo = slo_s
        self._rate = 0.0
        """Requests per second that the plan admits; 0 = all."""
        self._depth = 0.0
        self._tokens = 0.0
        self._filled_at = 0.0

    def follow(self, plan: Plan, now: float) -> None:
        """Take over what the plan says of the demand it cannot carry."""
        shedding = self._rate > 0.0
        if shedding:
            self._fill(now)
        self._rate = (plan.capacity or plan.demand * plan.served_fraction) if plan.served_fraction < 1.0 else 0.0
        # Half an SLO's worth of requests: bursts shorter than that are carried by the queues.
        self._depth = max(1.0, 0.5 * self._slo * self._rate)
        # A new plan is no new burst: what was used up stays used up.
        self._tokens = min(self._tokens, self._depth) if shedding else self._depth
        self._filled_at = now

    def refuse(self, deadline: float, rows: int, live: int, outlook: Outlook, now: float) -> Refusal | None:
        """None to admit a request of so many rows, with `live` requests in the system."""
        if live >= self._settings.max_requests:
            return Refusal(Reason.QUEUE_FULL, outlook.door_wait())
        if not self._settings.admission:
            return None
        for stage in self._stages:
            since = stage.without_lanes_since
            # A replica that is being restarted is worth waiting for, but not longer than a request may take.
            if since is not None and now - since > self._slo:
                return Refusal(Reason.NO_CAPACITY, max(1.0, self._slo))
        slack = deadline - now
        if outlook.path > slack:
            return Refusal(Reason.TOO_TIGHT, 0.0)
        need = outlook.door_wait(rows) + outlook.door_path(rows)
        if need > slack:
            return Refusal(Reason.OVERLOADED, need - slack)
        if self._rate > 0.0:
            self._fill(now)
            if self._tokens < 1.0:
                return Refusal(Reason.PLAN_SHEDS, (1.0 - self._tokens) / self._rate)
            self._tokens -= 1.0
        return None

    def _fill(self, now: float) -> None:
        self._tokens = min(self._depth, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
