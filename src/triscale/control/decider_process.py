"""An autoscaler's own process: `python -m triscale.control.decider_process SOCKET PARENT`, started by a server.

Makes the autoscaler of the recipe that comes first, then answers each ask with a plan. While there is none, and the
last one changed nothing, it thinks ahead: one bit at a time, so that no ask waits for more than one, and resting as
long as each took, so that it never takes more than half a core from those who serve.

It ends when its server does: its end of the sockets is closed, or the kernel kills it. Signals to the server's whole
group or unit (Ctrl-C, a service manager) are not its own to act on: it goes on deciding while requests are finished.
"""

from __future__ import annotations

import signal
import socket
import sys
import traceback
from typing import Protocol

from triscale.clock import Clock, SystemClock
from triscale.control.decider_messages import Answer, Ask, Decided, Failed, Pipe, Ready, Recipe, Unprepared
from triscale.core.plan import Plan
from triscale.policy.autoscalers.interface import Autoscaler, Provident
from triscale.replica.process import die_with_parent

__all__ = ["Asker", "answer", "main"]


class Asker(Protocol):
    """The server, as seen from here (`decider_messages.Pipe`)."""

    def receive(self) -> Ask | None:
        """The next ask; None when no more will come."""
        ...

    def waits(self, seconds: float) -> bool:
        """Whether `receive` would return at once; waits for that so long."""
        ...

    def send(self, message: Answer) -> None:
        """OSError when the server is gone."""
        ...


def answer(asker: Asker, autoscaler: Autoscaler, clock: Clock) -> None:
    """Answer until no more asks come."""
    plan: Plan | None = None
    while (ask := asker.receive()) is not None:
        snapshot = ask.snapshot(plan)
        plan = snapshot.plan
        try:
            wanted = autoscaler.decide(snapshot)
        except Exception:  # noqa: BLE001 - the server logs it, and asks again
            asker.send(Failed(ask.number, traceback.format_exc()))
            continue
        same = wanted is plan
        asker.send(Decided(ask.number, None if same else wanted))
        if same and isinstance(autoscaler, Provident):
            _think_ahead(asker, autoscaler, clock)


def _think_ahead(asker: Asker, autoscaler: Provident, clock: Clock) -> None:
    """Until something waits to be answered, or all is thought of."""
    rest_s, more = 0.0, True
    while more and not asker.waits(rest_s):
        began = clock.now()
        try:
            more = autoscaler.prepare()
        except Exception:  # noqa: BLE001 - as when deciding
            asker.send(Unprepared(traceback.format_exc()))
            return
        rest_s = clock.now() - began


def main() -> None:
    """Serve the server that started this process."""
    sock, parent = int(sys.argv[1]), int(sys.argv[2])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if not die_with_parent(parent):
        return
    pipe = Pipe(socket.socket(fileno=sock))
    recipe: Recipe | None = pipe.receive()
    if recipe is None:
        return
    autoscaler = recipe.make()
    try:
        pipe.send(Ready())
        answer(pipe, autoscaler, SystemClock())
    except (BrokenPipeError, ConnectionResetError):
        return  # nobody is there to be told


if __name__ == "__main__":
    main()
