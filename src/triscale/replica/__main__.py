"""The worker program: `python -m triscale.replica` with a ReplicaConfig on its standard input.

Loads the models, then serves one connection at a time. Replies go over the socket only; standard output and error
are free for models to print to.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import traceback

import msgspec

from triscale.core.model import Resources
from triscale.errors import ModelError, TriscaleError, WireError
from triscale.replica.address import bound
from triscale.replica.config import ReplicaConfig
from triscale.replica.connection import Connection
from triscale.replica.process import die_with_parent, run_on
from triscale.replica.residents import Residents
from triscale.replica.server import Session
from triscale.wire.frames import Fatal

_GRACE_FOR_A_WAITING_SERVER = 1.0
"""Seconds in which a server that waits for this replica is told why it did not start."""


class Program:
    """One run of the worker program."""

    def __init__(self, config: ReplicaConfig) -> None:
        self._config = config
        self._session: Session | None = None
        self._terminating = False

    def run(self) -> int:
        """Load and serve: the process's exit code."""
        config = self._config
        if config.parent_pid and not die_with_parent(config.parent_pid):
            return 1
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C at the terminal is the parent's to act on
        sys.setswitchinterval(0.0005)
        sys.path[:0] = config.import_roots
        listener = bound(config.listen) if config.listen else socket.socket(fileno=config.listen_fd)
        if config.spec.cpus:
            run_on(config.spec.cpus)
        resources = Resources(threads=config.spec.threads, lanes=config.spec.lanes)
        residents = Residents(
            config.spec.stage,
            config.variants,
            config.children,
            config.import_roots,
            resources,
            config.spec.memory_bytes,
        )
        try:
            for variant in config.spec.variants:
                residents.load(variant)
        except ModelError as error:
            return self._give_up(listener, error)
        if config.listen:
            print(f"replica {config.spec.id} listens at {config.listen}", flush=True)  # noqa: T201 - for logs
        self._drain_on_sigterm()
        ended = False
        while not (ended or self._terminating):
            ended = self._serve(listener.accept()[0], residents)
        residents.close()
        return 0

    def _serve(self, sock: socket.socket, residents: Residents) -> bool:
        """Serve one connection; whether the program is to end with it."""
        session = self._session = Session(self._config, residents, Connection(sock, self._config.max_body))
        try:
            session.serve()
        except WireError as error:  # a stranger; ours is yet to come
            print(error, file=sys.stderr, flush=True)  # noqa: T201 - for logs
            return False
        finally:
            self._session = None
        if self._config.parent_pid or session.drained or session.stopped:
            return True
        session.settle()
        return False

    def _drain_on_sigterm(self) -> None:
        # A handler may not take the locks that the code it interrupts may hold; a thread that waits for a byte may.
        wakeup, alarm = os.pipe()
        os.set_blocking(alarm, False)
        signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: None)
        threading.Thread(target=self._terminate, args=(wakeup,), name="sigterm", daemon=True).start()

    def _terminate(self, wakeup: int) -> None:
        while os.read(wakeup, 1)[0] != signal.SIGTERM:
            pass  # a signal that a model handles
        self._terminating = True
        if self._session is None:
            os._exit(0)
        self._session.drain()

    def _give_up(self, listener: socket.socket, error: TriscaleError) -> int:
        """Say why the replica did not start: to the log, and to a server that is waiting for it."""
        print(error, file=sys.stderr, flush=True)  # noqa: T201 - for logs
        if select.select([listener], [], [], _GRACE_FOR_A_WAITING_SERVER)[0]:
            connection = Connection(listener.accept()[0])
            try:
                connection.greet(self._config.token)
                connection.send(Fatal(str(error)))
            except (OSError, WireError):
                pass
            connection.hang_up()
        return 1


def main() -> None:
    """Run, and end without waiting for threads that are inside a model."""
    code = 1
    try:
        config = msgspec.json.decode(sys.stdin.buffer.read(), type=ReplicaConfig)
        code = Program(config).run()
    except (OSError, TriscaleError, msgspec.DecodeError) as error:
        print(f"the replica cannot start: {error}", file=sys.stderr)  # noqa: T201 - for logs
    except BaseException:  # noqa: BLE001 - the process ends either way
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
