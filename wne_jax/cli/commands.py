"""How a command ends: what a user did wrong is one line and an exit code, not a traceback."""

import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from tqdm import tqdm

MISTAKES = (ValueError, TypeError, OSError, ImportError)
"""What a user can mend."""


class Command(Protocol):
    """A command with its options."""

    def run(self) -> int:
        """Run it, and give the exit code."""


def run_command(command: Command) -> int:
    """Run a command; warnings and mistakes go to standard error, a line each.

    What is compiled stays on disk for the next command.

    Returns:
        The command's own exit code, 2 for a mistake, 130 when interrupted.

    Raises:
        SystemExit: SIGTERM (143) or SIGHUP (129) came; what was unfinished is cleared away.
    """
    from wne_jax._internal.compiler import keep_compiled

    keep_compiled()
    quiet_libraries()
    with warnings.catch_warnings(), _ended_by_signals():
        warnings.showwarning = lambda message, *_, **__: say("note", message)
        try:
            return command.run()
        except MISTAKES as err:
            say("error", err)
            return 2
        except KeyboardInterrupt:
            say("error", "interrupted")
            return 130


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let signals that would end the process at once raise inside, so that nothing half-written stays."""
    numbers = {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
    if threading.current_thread() is not threading.main_thread():
        numbers = set()
    defaults = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in defaults:
        signal.signal(number, _leave)
    try:
        yield
    finally:
        for number in defaults:
            signal.signal(number, signal.SIG_DFL)


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def quiet_libraries() -> None:
    """Let libraries print no tracebacks of their own: what matters of it raises."""
    for name in (
        "absl",
        "asyncio",
        "tifffile",
    ):  # Orbax logs by the first, and leaves tasks to the second
        logging.getLogger(name).setLevel(logging.CRITICAL)
    sys.unraisablehook = _unraisable


def _unraisable(event: "sys.UnraisableHookArgs") -> None:
    """Report an error that nothing can catch, but for those in the threads of TensorStore."""
    if threading.current_thread() is threading.main_thread():
        sys.__unraisablehook__(event)


def say(kind: str, message: object) -> None:
    """Print one line on standard error, past any progress bar."""
    tqdm.write(f"{kind}: {' '.join(str(message).split())}", file=sys.stderr)
