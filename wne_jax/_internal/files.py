"""Writing files so that nobody ever sees half of one, and reading small ones that may be damaged."""

import contextlib
import errno
import json
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SHOWN = 40  # letters of a name in that of its temporary: names end at 255 bytes


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A name beside the file to write to, which then takes its place in one step.

    On failure or interruption the old file stays, and nothing else does. A file that is replaced leaves its
    permissions and, where that is allowed, its owner; behind a symbolic link it is the file that is replaced.
    A failed write does not say of which file it was; then the error is made to.
    """
    place = Path(os.path.realpath(path))
    aside = place.with_name(f".{place.name[:_SHOWN]}.{uuid.uuid4().hex}.tmp")
    try:
        yield aside
        _inherit(place, aside)
        os.replace(aside, place)
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        aside.unlink(missing_ok=True)


def _inherit(before: Path, after: Path) -> None:
    """Give a file the permissions and the owner of the one that it replaces."""
    if not before.exists():
        return
    old = before.stat()
    with contextlib.suppress(
        OSError, AttributeError
    ):  # to give files away takes rights; no Windows
        os.chown(after, old.st_uid, old.st_gid)
    os.chmod(after, stat.S_IMODE(old.st_mode))


def reserve(path: Path, size: int) -> None:
    """Let a file have its place on the disk before it is written through a memory map.

    Without, a disk that fills up later ends the process by a signal.

    Raises:
        OSError: The disk has no place for it.
    """
    if not hasattr(os, "posix_fallocate"):  # macOS, Windows
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # of file systems that cannot
                raise


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
