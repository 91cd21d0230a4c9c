"""How long a stage whose replicas die, or cannot be launched, waits before the next launch."""

from __future__ import annotations

__all__ = ["Backoff"]

_FIRST_S = 0.1
_LONGEST_S = 30.0


class Backoff:
    """Per stage: the first failure costs nothing, from the second in a row on each waits twice as long as the last."""

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}

    def failed(self, stage: str, now: float) -> tuple[int, float]:
        """Count a failure: (how many in a row, seconds that the next launch has to wait)."""
        failures = self._failures.get(stage, 0) + 1
        self._failures[stage] = failures
        delay = min(_LONGEST_S, _FIRST_S * 2.0 ** (failures - 2)) if failures > 1 else 0.0
        self._not_before[stage] = now + delay
        return failures, delay

    def lived(self, stage: str) -> None:
        """A replica of the stage has lived long enough: what it dies of now is news."""
        self._failures.pop(stage, None)

    def over(self, stage: str) -> None:
        """The wait is over."""
        self._not_before.pop(stage, None)

    def may_launch(self, stage: str, now: float) -> bool:
        """Whether nothing has to be waited for."""
        return self._not_before.get(stage, 0.0) <= now

    def clear(self) -> None:
        """Forget everything."""
        self._failures.clear()
        self._not_before.clear()
