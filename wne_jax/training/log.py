"""The log of a run: one JSON object a line, TensorBoard beside it."""

import json
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wne_jax._internal.files import free_name, write_atomically

_FLUSH_SECONDS = 30  # of TensorBoard's events, which cost a synchronization of the disk


class Log:
    """Appends to `metrics.jsonl` and to TensorBoard event files. A context manager.

    Args:
        workdir: The run's folder.
        start: The step that the run (re)starts from: later lines of an earlier try are dropped.

    Raises:
        OSError: A line cannot be written; the file is named.
    """

    def __init__(self, workdir: Path, *, start: int):
        self._path = workdir / "metrics.jsonl"
        kept = _read_until(self._path, start)
        with _naming(self._path):
            write_atomically(self._path, b"".join(line + b"\n" for line in kept))
            self._file = self._path.open("ab")
        self._board: _Board | None
        try:
            self._board = _Board(workdir / "tensorboard", start=start)
        except ImportError:  # the log above holds the same numbers
            self._board = None

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, kind: type | None, *exception: object) -> None:
        for file in (self._file, self._board):
            try:
                if file is not None:
                    file.close()
            except OSError:
                if kind is None:
                    raise

    def write(self, step: int, **values: float) -> None:
        """Add one line."""
        with _naming(self._path):
            self._file.write(json.dumps({"step": step, **values}).encode() + b"\n")
            self._file.flush()
        if self._board:
            self._board.write(step, **values)


class _Board:
    """Writes TensorBoard's event files, in this thread: where the disk is full, it hears of it.

    Args:
        folder: Where; made if absent.
        start: The step that the run (re)starts from: TensorBoard forgets later ones.
    """

    def __init__(self, folder: Path, *, start: int):
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._scalar, self._event, self._folder = summary.scalar, Event, folder
        self._flushed = time.monotonic()
        with _naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = EventsWriter(str(folder / "events"))
            begins = Event(step=start + 1, wall_time=time.time(), file_version="brain.Event:2")
            self._writer.write_event(begins)
            begun = SessionLog(status=SessionLog.START)
            self._writer.write_event(
                Event(step=start + 1, wall_time=time.time(), session_log=begun)
            )

    def write(self, step: int, **values: float) -> None:
        """Add one number for each name."""
        now = time.time()
        with _naming(self._folder):
            for name, value in values.items():
                scalar = self._scalar(name, value)
                self._writer.write_event(self._event(step=step, wall_time=now, summary=scalar))
            if time.monotonic() - self._flushed > _FLUSH_SECONDS:
                self._writer.flush()
                self._flushed = time.monotonic()

    def close(self) -> None:
        """Write what is left."""
        with _naming(self._folder):
            self._writer.close()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say which file cannot be written; an open file does not say so by itself."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror or error}") from error


def _read_until(path: Path, last: int) -> list[bytes]:
    """The lines of a log up to a step.

    A crash cuts the last line short. Where others cannot be read, either, the file is kept aside as it is,
    and a warning says so.
    """
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    steps = [_step(line) for line in lines]
    garbled = [n for n, step in enumerate(steps[:-1], 1) if step is None]
    if garbled:
        aside = free_name(path.with_name(f"{path.name}.damaged"))
        shutil.copy2(path, aside)
        more = f" and {len(garbled) - 1} more" if len(garbled) > 1 else ""
        warnings.warn(
            f"{path}: line {garbled[0]}{more} cannot be read and is left out; the file as it was is "
            f"{aside.name}",
            stacklevel=4,
        )
    return [line for line, step in zip(lines, steps) if step is not None and step <= last]


def _step(line: bytes) -> int | None:
    """The step of a line, or None for one that cannot be read."""
    try:
        step = json.loads(line)["step"]
    except (LookupError, RecursionError, TypeError, ValueError):
        return None
    return step if type(step) is int else None
