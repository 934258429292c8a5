"""How a run is stopped from outside: one signal ends it after the step, a second Ctrl-C at once."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what a cluster sends before it takes the machine away."""

_SAVING = b"\nfinishing the step, then saving; Ctrl-C once more leaves at once\n"
_AT_ONCE = b"\nstopped at once; --resume goes on from the last checkpoint\n"


class Interrupted(SystemExit):
    """The run was asked to stop and has saved its state; exit code 130 for Ctrl-C, 143 for SIGTERM."""


@dataclass
class Stop:
    """Whether a run is asked to stop.

    Attributes:
        code: The exit code that follows, 128 + the number of the signal; 0 before a signal has come.
    """

    code: int = 0


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """Note SIGINT and SIGTERM in place of ending the process; a SIGINT after either ends it at once.

    Handlers of Python wait for compiled code to return, which takes minutes while a network is compiled. So
    a thread reads the signals, too, and ends the process even then. What had been saved stays intact, since
    checkpoints and files take their names when they are whole.

    Only the main thread may set handlers; elsewhere signals do what they did before. A signal that the
    process ignores, as background jobs of a shell script ignore SIGINT, stays ignored.

    Yields:
        What has been asked so far.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    ours, watched = socket.socketpair()
    ours.setblocking(False)
    watcher = threading.Thread(target=_watch, args=(watched, stop), name="signals", daemon=True)
    before = signal.set_wakeup_fd(ours.fileno(), warn_on_full_buffer=False)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        watcher.start()
        for number, handler in handlers.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, _leave_to_the_watcher)
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(before)
        ours.close()  # ends the watcher
        watcher.join()
        watched.close()


def _leave_to_the_watcher(*_: object) -> None:
    """A handler must be there for a signal to reach the watcher."""


def _watch(watched: socket.socket, stop: Stop) -> None:
    """Note each signal; end the process on Ctrl-C if it has been asked to stop before."""
    while numbers := watched.recv(64):
        for number in numbers:
            if number == signal.SIGINT and stop.code:
                os.write(2, _AT_ONCE)
                os._exit(128 + number)
            if number in SIGNALS and not stop.code:
                stop.code = 128 + number
                if number == signal.SIGINT:
                    os.write(2, _SAVING)
