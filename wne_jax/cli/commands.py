"""Runs a command; a user error is reported as one line and an exit code, without a traceback."""

import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from tqdm import tqdm

USER_ERRORS = (ValueError, TypeError, OSError, ImportError)
"""Errors that a user can fix."""


class Command(Protocol):
    """A command with its options."""

    def run(self) -> int:
        """Run the command and return its exit code."""


def run_command(command: Command) -> int:
    """Run a command; print each warning and error as one line on standard error.

    Compiled programs are cached on disk for the next command.

    Returns:
        The command's exit code, 2 for a user error, 130 if interrupted.

    Raises:
        SystemExit: SIGTERM (143) or SIGHUP (129) arrived; unfinished files are removed.
    """
    from wne_jax._internal.compiler import keep_compiled

    keep_compiled()
    quiet_libraries()
    with warnings.catch_warnings(), _ended_by_signals():
        warnings.showwarning = lambda message, *_, **__: print_line("note", message)
        try:
            return command.run()
        except USER_ERRORS as err:
            print_line("error", err)
            return 2
        except KeyboardInterrupt:
            print_line("error", "interrupted")
            return 130


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Turn terminating signals into exceptions, so that partial files are removed."""
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
    """Stop libraries from printing tracebacks of their own; real errors are raised anyway."""
    for name in (
        "absl",
        "asyncio",
        "tifffile",
    ):  # Orbax logs to the first and leaves unfinished tasks to the second
        logging.getLogger(name).setLevel(logging.CRITICAL)
    sys.unraisablehook = _unraisable


def _unraisable(event: "sys.UnraisableHookArgs") -> None:
    """Report an error that cannot be caught, except those from threads of TensorStore."""
    if threading.current_thread() is threading.main_thread():
        sys.__unraisablehook__(event)


def print_line(kind: str, message: object) -> None:
    """Print one line on standard error without breaking a progress bar."""
    tqdm.write(f"{kind}: {' '.join(str(message).split())}", file=sys.stderr)
