"""Open a file by its suffix, and make one like it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np

from wne_jax._internal.files import reserve, written_aside
from wne_jax.images._errors import ImageError, decoding, image_error
from wne_jax.images.files import _npy, _pillow
from wne_jax.images.files._image import ImageFile, Metadata
from wne_jax.images.reading import TIFF

SUFFIXES = _pillow.SUFFIXES | _npy.SUFFIXES | TIFF
"""Lower-case suffixes of the files that `open_image` opens and `creating` creates."""


def open_image(path: str | os.PathLike[str], *, axes: str | None = None) -> ImageFile:
    """Open a PNG, JPEG, BMP, TIFF or NPY file with its axes and metadata.

    Pixels are as stored: they keep their dtype, and their orientation stays a tag. NPY and uncompressed
    TIFF are mapped, others decoded. Palettes and one bit become 8 bits, CMYK becomes RGB; colour PNG of
    16 bits, which Pillow would cut to 8, is refused.

    Args:
        path: The file.
        axes: Names of the axes of a NPY or TIFF file, in place of those that it says; see `ImageFile`.

    Raises:
        ImageError: Whatever is wrong with the file, in one line that starts with its path.
    """
    path = Path(path)
    with decoding(path, SUFFIXES) as suffix:
        return _format(suffix).read(path, axes)


def fitted(path: str | os.PathLike[str], image: ImageFile) -> ImageFile:
    """The image in a form that a file of the path's suffix can hold: a view, with notes on what it cannot.

    Raises:
        ImageError: The format cannot hold the dtype, or a stack.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        known = ", ".join(sorted(SUFFIXES))
        raise image_error(path, f"unknown suffix {suffix!r} for writing; use one of {known}")
    image = _format(suffix).fit(path, image)
    for note in _unsaid(image.metadata, suffix):
        image = image.noting(note)
    return image


def _unsaid(metadata: Metadata, suffix: str) -> Iterator[str]:
    """Notes on what a file of another format cannot say; on EXIF and alpha, `fit` has its own."""
    png, jpeg, npy = suffix == ".png", suffix in (".jpg", ".jpeg"), suffix == ".npy"
    said = dict(metadata.tiff)
    described = {"description", "imagej", "ome"} & said.keys() or said.get("extratags")
    if suffix not in TIFF and (described or metadata.pages):
        yield "its TIFF description and tags are not kept"
    if not png and metadata.png:
        yield "its PNG texts and measures of colour are not kept"
    if not png and metadata.transparent is not None:
        yield f"pixels of value {metadata.transparent} are not marked as transparent any more"
    if not jpeg and metadata.comment:
        yield "its comment is not kept"
    if (npy or suffix == ".bmp") and (metadata.icc or metadata.xmp):
        yield "its colour profile and XMP are not kept"
    if npy and (metadata.exif or metadata.dpi):
        yield "its EXIF block and resolution are not kept"


@contextmanager
def creating(path: str | os.PathLike[str], image: ImageFile) -> Iterator[np.ndarray]:
    """An array to fill, which is then a file with the metadata of the image.

    The file takes its name in one step when the block ends; when it fails or is interrupted, nothing stays.
    NPY and uncompressed TIFF are written through a memory map.

    Args:
        path: The file, replaced if it is there.
        image: What the file is to be like; see `fitted`.

    Yields:
        An array of the shape and dtype of `image.pixels`.

    Raises:
        ImageError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> image = ImageFile(Path("x.png"), np.full((2, 3), 7, np.uint8), "YX")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with creating(Path(folder, "x.npy"), image) as out:
        ...         out[:] = 5 * image.pixels
        ...     np.load(Path(folder, "x.npy"))
        array([[35, 35, 35],
               [35, 35, 35]], dtype=uint8)
    """
    path = Path(path)
    try:
        with written_aside(path) as aside:
            with _encoding(path):
                out = _new_array(aside, path, image)
            yield out
            with _encoding(path):
                _format(path.suffix.lower()).finish(aside, path, image, out)
    except OSError as err:
        raise image_error(path, f"cannot be written: {err.strerror or err}") from err


@contextmanager
def _encoding(path: Path) -> Iterator[None]:
    """Whatever an encoder raises, for odd metadata, is an `ImageError`."""
    try:
        yield
    except (ImageError, OSError):
        raise
    except Exception as err:
        raise image_error(path, f"cannot be written: {err or type(err).__name__}") from err


def _new_array(aside: Path, path: Path, image: ImageFile) -> np.ndarray:
    aside.touch()  # a folder that cannot be written is to be known before any work
    array = _format(path.suffix.lower()).create(aside, image)
    if isinstance(array, np.memmap):
        try:
            reserve(aside, aside.stat().st_size)
        except OSError as err:
            reason = f"needs {array.nbytes} bytes, which the disk does not have"
            raise image_error(path, f"{reason} ({err.strerror})") from err
    return array


def _format(suffix: str) -> ModuleType:
    if suffix in TIFF:
        from wne_jax.images.files import _tiff

        return _tiff
    return _npy if suffix in _npy.SUFFIXES else _pillow
