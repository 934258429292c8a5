"""Writing files atomically, and reading small files that may be damaged."""

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

from wne_jax._internal.limits import MAX_JSON

_SHOWN = 40  # letters of a name used for its temporary file, since names have at most 255 bytes


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A temporary path beside the file to write to; it then replaces the file in one step.

    On failure or interruption the old file stays, and the temporary file is deleted. The new file keeps the
    permissions of the old one and, if allowed, its owner. For a symbolic link, its target is replaced. If a
    write fails without naming the file, the path is added to the error.
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
    """Give a file the permissions and the owner of the file that it replaces."""
    if not before.exists():
        return
    old = before.stat()
    with contextlib.suppress(
        OSError, AttributeError
    ):  # changing the owner needs privileges, and does not exist on Windows
        os.chown(after, old.st_uid, old.st_gid)
    os.chmod(after, stat.S_IMODE(old.st_mode))


def reserve(path: Path, size: int) -> None:
    """Reserve disk space for a file before it is written through a memory map.

    Otherwise, if the disk fills up later, a signal ends the process.

    Raises:
        OSError: There is not enough space on the disk.
    """
    if not hasattr(os, "posix_fallocate"):  # macOS, Windows
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (
                errno.EINVAL,
                errno.EOPNOTSUPP,
            ):  # file systems without this feature
                raise


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write the content to a temporary file beside the file, then move it into place."""
    with written_aside(path) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        ValueError: It is damaged, or has another type; the message has the path.
    """
    if (size := path.stat().st_size) > MAX_JSON:
        raise ValueError(f"{path} is damaged: it has {size:,} bytes, more than {MAX_JSON:,}")
    try:
        values = json.loads(path.read_bytes().decode())
    except (ValueError, RecursionError) as error:  # for thousands of nested brackets
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} is damaged: it must be a JSON object, not {type(values).__name__}"
        )
    return values


def free_name(path: Path) -> Path:
    """The path if it does not exist, else the first of `path-2`, `path-3`, ... that does not exist."""
    free, number = path, 1
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
