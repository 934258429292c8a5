"""Writing files so that nobody ever sees half of one, and reading small ones that may be damaged."""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A name beside the file to write to, which then takes its place in one step.

    On failure or interruption the old file stays, and nothing else does. A failed write does not say of
    which file it was; then the error is made to.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield aside
        os.replace(aside, path)
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        aside.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write the whole content beside the file, then move it into place."""
    with written_aside(path) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)


def read_json(path: Path) -> dict[str, Any]:
    """Read an object of JSON from a file.

    Raises:
        ValueError: It is damaged, or holds something else; the file is named.
    """
    try:
        values = json.loads(path.read_bytes().decode())
    except (ValueError, RecursionError) as error:  # of nested brackets, thousands deep
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is damaged: it holds no object, but {type(values).__name__}")
    return values


def free_name(path: Path) -> Path:
    """The path if nothing is there, else the first of `path-2`, `path-3`, ... that is free."""
    free, number = path, 1
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
