"""What reading and writing images raise, and how."""

from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path

from wne_jax._internal.limits import MAX_PIXELS


class ImageError(ValueError):
    """An image cannot be read or written; the message is one line: the path, then the reason."""


def image_error(path: Path, reason: object) -> ImageError:
    """The error of one file: its path, then the reason, in one line."""
    return ImageError(f"{path}: {' '.join(str(reason).split())}")


@contextmanager
def decoding(path: Path, suffixes: Set[str]) -> Iterator[str]:
    """Read a file inside: it is there, it is not empty, and whatever a decoder raises is an `ImageError`.

    Args:
        path: the file.
        suffixes: those that the decoder knows.

    Yields:
        The file's suffix, in lower case.
    """
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        known = ", ".join(sorted(suffixes))
        raise image_error(path, f"unknown suffix {suffix!r}; expected one of {known}")
    if not path.is_file():
        raise image_error(path, "is a folder" if path.is_dir() else "no such file")
    try:
        if path.stat().st_size == 0:
            raise image_error(path, "the file is empty (zero bytes)")
        yield suffix
    except ImageError:
        raise
    except Exception as err:  # decoders of damaged files raise anything, struct.error included
        raise image_error(path, f"cannot be decoded: {err or type(err).__name__}") from err


def check_size(path: Path, height: int, width: int) -> None:
    """Refuse an image without pixels, and one of more than `MAX_PIXELS`."""
    if height * width == 0:
        raise image_error(path, f"the image is {height} x {width}: it has no pixels")
    if height * width > MAX_PIXELS:
        raise image_error(path, f"the image is {height} x {width}: more than {MAX_PIXELS} pixels")
