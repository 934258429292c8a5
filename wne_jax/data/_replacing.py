"""Replacing a folder as a whole: on failure the old folder stays."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def set_aside(folder: Path) -> Iterator[None]:
    """Move an existing folder away: delete it if the block succeeds, restore it otherwise."""
    old = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.old")
    if folder.exists():
        folder.rename(old)
    try:
        yield
    except BaseException:
        if old.exists():
            shutil.rmtree(folder, ignore_errors=True)
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A new folder to write to: it replaces `folder` if the block succeeds, and is deleted otherwise."""
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    aside.mkdir(parents=True)
    try:
        yield aside
        with set_aside(folder):
            aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        with suppress(OSError):  # a folder that is not empty stays
            folder.parent.rmdir()
