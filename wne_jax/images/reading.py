"""Image files in and out, as NumPy arrays [H, W, C] in the units of `wne_jax.images.units`."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from wne_jax._internal.extras import extra
from wne_jax._internal.files import write_atomically
from wne_jax._internal.limits import excess
from wne_jax.images._errors import ImageError as ImageError
from wne_jax.images._errors import check_size, decoding, image_error
from wne_jax.images.tiff import check_segments, open_tiff

with extra("images", "image files"):
    from PIL import Image

    from wne_jax.images import jpeg_data, png

if TYPE_CHECKING:
    import tifffile

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
"""Lower-case suffixes of the files that `read_image` reads."""

TIFF = frozenset({".tif", ".tiff"})
"""The suffixes among them that are TIFF."""

ORIENTATION = 274
"""Number of the orientation tag, in EXIF and in TIFF."""

UPRIGHT = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
"""Views `[H, W, ...]` the right way up, by the value of the orientation tag; 1 is upright already."""

JPEG = ("JPEG", "MPO")
"""Pillow's names of the format, by whether a file holds one image or several."""

_CONVERTED = 2**20  # pixels that Pillow converts at a time

_AS_MODE = {"1": "L", "L": "L", "LA": "L", "I;16": "I;16"} | dict.fromkeys(
    ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"), "RGB"
)


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read one PNG, JPEG, BMP or TIFF file, keeping its depth.

    Palettes, CMYK and YCbCr become RGB; one-bit images become 0 and 255; an alpha channel is
    dropped, not composited; the orientation tag is applied; half and double precision become
    `float32`. What cannot be kept is refused rather than degraded: stacks, signed integers, NaN, and
    16-bit colour PNG without imagecodecs (Pillow cuts it to 8 bits without a word).

    Args:
        path: a file whose suffix is in `SUFFIXES`.

    Returns:
        The pixels, `[H, W, C]`, C in {1, 3}, `uint8`, `uint16` or `float32`, contiguous.

    Raises:
        ImageError: whatever is wrong with the file, in one line that starts with its path.
    """
    path = Path(path)
    with decoding(path, SUFFIXES) as suffix:
        pixels = _read_tiff(path) if suffix in TIFF else _read_pillow(path, ("PNG", "JPEG", "BMP"))
    return np.ascontiguousarray(pixels)


def write_image(path: str | os.PathLike[str], image: ArrayLike) -> None:
    """Write one image losslessly, as PNG or TIFF by the suffix; a reader never sees half a file.

    The bytes go to a temporary file in the same folder, which then takes the name in one step.

    Args:
        path: ends in `.png` (`uint8`, or gray `uint16`), or in `.tif` or `.tiff` (every dtype).
        image: `[H, W, C]`, C in {1, 3}, `uint8`, `uint16` or `float32`.

    Raises:
        ImageError: the suffix, the dtype or the shape cannot be written, or the folder cannot.
    """
    path, image = Path(path), np.asarray(image)
    suffix = path.suffix.lower()
    if image.ndim != 3 or image.shape[-1] not in (1, 3) or image.size == 0:
        raise image_error(path, f"image has shape {image.shape}; expected [H, W, 1] or [H, W, 3]")
    if image.dtype not in (np.uint8, np.uint16, np.float32):
        raise image_error(path, f"image has dtype {image.dtype}; expected uint8, uint16 or float32")
    if image.dtype == np.float32 and not np.isfinite(image).all():
        raise image_error(path, "image holds NaN or infinite values")
    plane = image[..., 0] if image.shape[-1] == 1 else image
    encoded = io.BytesIO()
    if suffix in TIFF:
        with extra("images", "TIFF files"):
            import tifffile

        photometric = "minisblack" if plane.ndim == 2 else "rgb"
        tifffile.imwrite(encoded, plane, photometric=photometric, metadata=None)
    elif suffix != ".png":
        raise image_error(path, f"unknown suffix {suffix!r} for writing; use .png, .tif or .tiff")
    elif image.dtype == np.float32 or (image.dtype == np.uint16 and plane.ndim == 3):
        kind = f"{'colour' if plane.ndim == 3 else 'gray'} {image.dtype}"
        raise image_error(path, f"{kind} cannot be written as PNG; use .tif, or uint8 by from_unit")
    else:
        Image.fromarray(plane).save(encoded, "PNG")
    try:
        write_atomically(path, encoded.getvalue())
    except OSError as err:
        raise image_error(path, f"cannot be written: {err.strerror or err}") from err


@contextmanager
def open_pillow(path: Path, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """Open one image with Pillow, and decode it, after what it would choke on is refused.

    A PNG of 16 bits with colour or alpha is decoded to 8: `png` has its pixels. What ends early is refused.

    Args:
        path: the file.
        formats: those among Pillow's that its content may have.

    Yields:
        The image (the first frame), in a mode that becomes 8-bit gray or RGB, or 16-bit gray.
    """
    # An open file, not its name: by name, Pillow memory-maps an uncompressed TIFF and garbles a rotated one.
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # it refuses real bombs
        try:
            image = Image.open(file, formats=formats)
        except Image.UnidentifiedImageError as err:
            raise image_error(path, f"the content is not {' or '.join(formats)}") from err
        check_size(path, image.height, image.width)
        if image.mode not in _AS_MODE:
            raise image_error(path, f"pixels of mode {image.mode!r} have no stated unit")
        if image.format == "PNG" and png.lacks_rows(path):
            raise image_error(path, "is cut off: its last rows are missing")
        image.load()
        if image.format in JPEG and jpeg_data.lacks_data(path.read_bytes(), image):
            raise image_error(path, "is cut off: data of its last rows or scans are missing")
        try:
            yield image
        finally:
            image.close()  # gives its pixels back, whoever still has the name


def to_array(image: Image.Image, mode: str) -> np.ndarray:
    """The pixels of a decoded image in a mode of Pillow, u8 or u16 [H, W] or [H, W, S].

    Pillow holds several copies of what it converts, so it is given some rows at a time.
    """
    samples = Image.getmodebands(mode)
    shape = (image.height, image.width) + ((samples,) if samples > 1 else ())
    pixels = np.empty(shape, np.uint16 if mode == "I;16" else np.uint8)
    rows = max(1, _CONVERTED // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        pixels[top : top + rows] = strip if strip.mode == mode else strip.convert(mode)
    return pixels


def _read_pillow(path: Path, formats: tuple[str, ...]) -> np.ndarray:
    beside = "PNG" in formats and png.is_for_imagecodecs(path)
    with open_pillow(path, formats) as image:
        upright = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
        pixels = None if beside else to_array(image, _AS_MODE[image.mode])
    if pixels is None:
        pixels = png.decode(path.read_bytes())
        pixels = pixels[..., : 3 if pixels.shape[-1] > 2 else 1]
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return upright(pixels) if upright else pixels


def _read_tiff(path: Path) -> np.ndarray:
    with open_tiff(path) as tif:
        page = tif.pages[0].aspage()
        if len(tif.pages) != 1 or tif.series[0].size != page.size:
            raise image_error(path, "holds several pages, or a stack; expected one image")
        check_size(path, page.imagelength, page.imagewidth)
        if missing := check_segments(path, [page]):
            raise image_error(path, missing)
        if page.dtype in (np.bool_, np.uint8):  # Pillow knows more colour spaces and compressions
            return _read_pillow(path, ("TIFF",))
        _check_deep_page(path, page)
        if reason := excess(page.nbytes, path):
            raise image_error(path, reason)
        pixels = page.asarray()
        upright = UPRIGHT.get(page.tags.valueof(ORIENTATION, 1))
    if page.axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    colours = pixels.shape[-1] - len(page.extrasamples)
    if colours not in (1, 3) or len(page.extrasamples) > 1:
        raise image_error(
            path, f"has {pixels.shape[-1]} channels; expected gray or RGB, with alpha at most"
        )
    pixels = pixels[..., :colours]
    if pixels.dtype != np.uint16:
        with np.errstate(over="ignore"):
            pixels = pixels.astype(np.float32)
        if not np.isfinite(pixels).all():
            raise image_error(path, "holds NaN or infinite values")
    return upright(pixels) if upright else pixels


def _check_deep_page(path: Path, page: tifffile.TiffPage) -> None:
    """Refuse what is neither plain 16-bit nor plain floating-point gray or RGB."""
    if page.dtype is None or (page.dtype != np.uint16 and page.dtype.kind != "f"):
        raise image_error(path, f"pixels of dtype {page.dtype}; expected uint8, uint16 or floating")
    if page.bitspersample != 8 * page.dtype.itemsize:
        raise image_error(path, f"{page.bitspersample}-bit samples; expected 8, 16 or 32 bits")
    if page.axes not in ("YX", "YXS", "SYX"):
        raise image_error(path, f"axes {page.axes!r}; expected rows, columns and channels")
    if page.photometric not in (1, 2):  # minimum is black, RGB
        raise image_error(
            path, f"{page.dtype} pixels in {page.photometric!r}; expected gray or RGB"
        )
