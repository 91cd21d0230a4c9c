"""The server of one live run, a process of its own: `python -m benchmarks.live.server`, its setup on standard input.

It says in a line of JSON when it is ready, serves until its standard input says anything more or ends, and then says
in another line what happened.
"""

from __future__ import annotations

import logging
import sys

import msgspec

from benchmarks.live.dilation import dilate, run
from benchmarks.live.setup import Setup

__all__: list[str] = []

_MOST_COMPLAINTS = 50


class Complaints(logging.Handler):
    """Keeps what is worse than information: each text once, with how often it came."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: dict[str, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        text = f"{record.levelname.lower()}: {record.getMessage()}"
        if record.exc_info:
            text += f" ({record.exc_info[1]!r})"
        if text in self._said or len(self._said) < _MOST_COMPLAINTS:
            self._said[text] = self._said.get(text, 0) + 1

    def texts(self) -> tuple[str, ...]:
        """In the order in which they first came."""
        return tuple(f"{text} ({times} times)" if times > 1 else text for text, times in self._said.items())


def main() -> None:
    """Serve."""
    setup = msgspec.json.decode(sys.stdin.buffer.readline(), type=Setup)
    dilate(setup.dilation)
    complaints = Complaints()
    logging.getLogger().addHandler(complaints)
    # Only now, so that nothing of the server holds on to the real clock.
    from benchmarks.live.serving import serve

    run(serve(setup, complaints.texts))


if __name__ == "__main__":
    main()
