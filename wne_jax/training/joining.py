"""Being one of several processes, and ending together: a mistake of one is a mistake of all."""

import atexit
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax._src import distributed  # the public face has no messages between processes

from wne_jax.training.processes import is_of_a_connection, wait_for_all
from wne_jax.training.stopping import Interrupted

_PATIENCE = 10
"""Seconds that a process waits at its end for the others."""

_SILENCE = 10
"""Seconds without a sign of life after which a process counts as dead."""

_GRACE = 2
"""Seconds for which the lead, whose end is the end of all messages, outlives a mistake, and for which a
process whose connection breaks waits to hear why."""

_MISTAKE = 2  # exit code


@contextmanager
def joined(
    coordinator: str | None, *, processes: int | None = None, process_id: int | None = None
) -> Iterator[None]:
    """Be one of several processes, from before JAX is first used until the work is done.

    What one of them raises ends the others, too, within seconds: each prints it in one line, and exits with
    code 2. So it is where one is killed, as soon as the connection to it breaks, or after ten seconds of
    silence.

    Args:
        coordinator: `HOST:PORT` of process 0; "auto" where JAX knows the cluster (SLURM, Open MPI, TPU,
            Kubernetes); None for one process by itself.
        processes: How many there are; known to a cluster.
        process_id: Number of this one, from 0; known to a cluster.

    Raises:
        ValueError: A coordinator without numbers, numbers without a coordinator, or no known cluster.
    """
    if coordinator is None:
        if processes is not None or process_id is not None:
            raise ValueError("processes and process-id need a coordinator, HOST:PORT of process 0")
        yield
        return
    if coordinator != "auto" and None in (processes, process_id):
        raise ValueError("a coordinator needs processes and process-id too")
    address = None if coordinator == "auto" else coordinator
    try:
        jax.distributed.initialize(
            address,
            processes,
            process_id,
            heartbeat_timeout_seconds=_SILENCE,
            shutdown_timeout_seconds=_PATIENCE,
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"cannot join at coordinator = {coordinator!r}: {error}") from error
    news = _News()
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Interrupted):  # which all have agreed on
            _leave(news, error)
            raise
        _end(news)
        raise
    _end(news)


class _News:
    """Hears in a thread of what has ended another process, and ends this one.

    The thread waits for a message under the number of this process. Whoever is first, it or the main thread,
    ends the process.
    """

    def __init__(self) -> None:
        self._client: Any = distributed.global_state.client
        self._me = distributed.global_state.process_id
        self.leads = self._me == 0  # JAX's own number of this process would have its devices found
        self._number = distributed.global_state.num_processes or 1
        self._first = threading.Lock()
        self._thread = threading.Thread(target=self._listen, name="news", daemon=True)
        self._thread.start()

    def take_over(self) -> None:
        """Let this thread end the process; where the other one does so already, wait for that."""
        if not self._first.acquire(blocking=False):
            time.sleep(10 * _GRACE)

    def tell(self, text: str) -> None:
        """Send all others a line, and this thread's listener home."""
        for number in range(self._number):
            try:
                line = "" if number == self._me else f"process {self._me}: {text}"
                self._client.key_value_set(_key(number), line)
            except Exception:  # it has a message already, or the coordinator is gone
                continue

    def close(self) -> None:
        """Send the listener home."""
        self._client.key_value_set(_key(self._me), "")
        self._thread.join(_PATIENCE)

    def _listen(self) -> None:
        try:
            while (line := self._receive()) is None:
                continue
        except Exception:
            line = "the connection to process 0 is lost"
        if line and self._first.acquire(blocking=False):
            print(f"\nerror: {line}", file=sys.stderr, flush=True)
            if self.leads:
                time.sleep(_GRACE)
            os._exit(_MISTAKE)

    def _receive(self) -> str | None:
        try:
            return self._client.blocking_key_value_get(_key(self._me), 86_400_000)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" in str(error):  # a day without a message
                return None
            raise


def _key(number: int) -> str:
    return f"wne_jax/mistake/{number}"


def _end(news: _News) -> None:
    """The end of work that all processes have done."""
    wait_for_all("the work is done")
    news.take_over()
    news.close()
    jax.distributed.shutdown()


def _leave(news: _News, error: BaseException) -> None:
    """The end of this process, which tells the others why.

    JAX would bid them farewell, wait for their answers and abort without. So the process ends before that:
    at once where another is gone, which this thread or Orbax's may wait for; else when Python is done.
    """
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    if gone := is_of_a_connection(error):
        time.sleep(_GRACE)  # a message that says why may be on its way
        line = f"another process is gone: {line}"
    news.take_over()
    news.tell(line)
    if gone:
        print(f"\nerror: {line}", file=sys.stderr)
    if news.leads:
        time.sleep(_GRACE)
    if gone:
        _exit_at_once(error)
    atexit.register(_exit_at_once, error)


def _exit_at_once(error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt):
        code = 130
    elif isinstance(error, SystemExit) and isinstance(error.code, int):
        code = error.code
    else:
        code = _MISTAKE
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
