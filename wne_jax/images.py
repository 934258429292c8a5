"""Images as NumPy arrays: files in and out, and the change of units.

An image is `[H, W, C]` with C = 1 (gray) or 3 (red, green, blue), and its dtype says its unit:
`uint8` is 0..255, `uint16` is 0..65535, floats are in the unit range. Nothing here guesses a unit
from the values.
"""

import io
import os
import uuid
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import ArrayLike, DTypeLike
from PIL import Image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
"""Lower-case suffixes of the files that `read_image` reads."""

MAX_PIXELS = 2**28
"""Larger images are refused before they are decoded."""

_TIFF = frozenset({".tif", ".tiff"})
_BT601 = np.array([0.299, 0.587, 0.114])
_ORIENTATION = 274  # the tag's number, in EXIF and in TIFF
_UPRIGHT = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
_AS_MODE = {"1": "L", "L": "L", "LA": "L", "I;16": "I;16"} | dict.fromkeys(
    ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"), "RGB"
)


class ImageError(ValueError):
    """An image cannot be read or written; the message is one line: the path, then the reason."""


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read one PNG, JPEG, BMP or TIFF file, keeping its depth.

    Palettes, CMYK and YCbCr become RGB; one-bit images become 0 and 255; an alpha channel is
    dropped, not composited; the orientation tag is applied; half and double precision become
    `float32`. What cannot be kept is refused rather than degraded: 16-bit colour PNG (which Pillow
    cuts to 8 bits without a word; save it as TIFF), stacks, signed integers, NaN.

    Args:
        path: a file whose suffix is in `SUFFIXES`.

    Returns:
        The pixels, `[H, W, C]`, C in {1, 3}, `uint8`, `uint16` or `float32`, contiguous.

    Raises:
        ImageError: whatever is wrong with the file, in one line that starts with its path.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        known = ", ".join(sorted(SUFFIXES))
        raise _error(path, f"unknown suffix {suffix!r}; expected one of {known}")
    if not path.is_file():
        raise _error(path, "is a folder" if path.is_dir() else "no such file")
    try:
        if path.stat().st_size == 0:
            raise _error(path, "the file is empty (zero bytes)")
        pixels = _read_tiff(path) if suffix in _TIFF else _read_pillow(path, ("PNG", "JPEG", "BMP"))
    except ImageError:
        raise
    except Exception as err:  # decoders of damaged files raise anything, struct.error included
        raise _error(path, f"cannot be decoded: {err or type(err).__name__}") from err
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
        raise _error(path, f"image has shape {image.shape}; expected [H, W, 1] or [H, W, 3]")
    if image.dtype not in (np.uint8, np.uint16, np.float32):
        raise _error(path, f"image has dtype {image.dtype}; expected uint8, uint16 or float32")
    if image.dtype == np.float32 and not np.isfinite(image).all():
        raise _error(path, "image holds NaN or infinite values")
    plane = image[..., 0] if image.shape[-1] == 1 else image
    encoded = io.BytesIO()
    if suffix in _TIFF:
        photometric = "minisblack" if plane.ndim == 2 else "rgb"
        tifffile.imwrite(encoded, plane, photometric=photometric, metadata=None)
    elif suffix != ".png":
        raise _error(path, f"unknown suffix {suffix!r} for writing; use .png, .tif or .tiff")
    elif image.dtype == np.float32 or (image.dtype == np.uint16 and plane.ndim == 3):
        kind = f"{'colour' if plane.ndim == 3 else 'gray'} {image.dtype}"
        raise _error(path, f"{kind} cannot be written as PNG; use .tif, or uint8 by from_unit")
    else:
        Image.fromarray(plane).save(encoded, "PNG")
    try:
        _replace(path, encoded.getvalue())
    except OSError as err:
        raise _error(path, f"cannot be written: {err.strerror or err}") from err


def full_scale(dtype: DTypeLike) -> float:
    """The value of white: 255 for `uint8`, 65535 for `uint16`, 1 for floats.

    Raises:
        TypeError: another dtype, whose unit nobody has stated.
    """
    dtype = np.dtype(dtype)
    if dtype in (np.uint8, np.uint16):
        return float(np.iinfo(dtype).max)
    if np.issubdtype(dtype, np.floating):
        return 1.0
    raise TypeError(f"dtype is {dtype}; images are uint8, uint16 or floating")


def to_unit(image: ArrayLike) -> np.ndarray:
    """Divide by full scale: integers go to [0, 1], floats keep their values.

    >>> to_unit(np.array([[[0], [51], [255]]], np.uint8)).ravel().tolist()
    [0.0, 0.20000000298023224, 1.0]

    Args:
        image: any shape, `uint8`, `uint16` or floating.

    Returns:
        `float32`, of the same shape.
    """
    image = np.asarray(image)
    return image.astype(np.float32) / np.float32(full_scale(image.dtype))


def from_unit(x: ArrayLike, dtype: DTypeLike) -> np.ndarray:
    """Multiply by full scale; integers are rounded and saturated, floats are never clipped.

    The inverse of `to_unit` on every `uint8` and `uint16` image.

    >>> from_unit([-0.1, 0.5, 1.2], np.uint8).tolist()
    [0, 128, 255]

    Args:
        x: any shape, floating, unit range.
        dtype: `uint8`, `uint16` or floating.

    Raises:
        TypeError: `dtype` is none of these, or `x` is not floating.
        ValueError: NaN has no integer.
    """
    x, scale = np.asarray(x), full_scale(dtype)
    if x.dtype.kind in "biu":
        raise TypeError(f"x has dtype {x.dtype}; expected floats in the unit range (see to_unit)")
    return saturate(x.astype(np.float64) * scale, dtype)


def saturate(x: ArrayLike, dtype: DTypeLike) -> np.ndarray:
    """Cast floats to a dtype: integers are rounded and held to their limits, floats are never clipped.

    >>> saturate([-3.0, 2.5, 3.6, 300.0], np.uint8).tolist()
    [0, 2, 4, 255]

    Args:
        x: any shape, floating.
        dtype: integer or floating.

    Raises:
        ValueError: NaN has no integer.
    """
    x = np.asarray(x)
    if np.issubdtype(dtype, np.floating):
        return x.astype(dtype)
    if np.isnan(x).any():
        raise ValueError(f"x holds NaN, which {np.dtype(dtype)} cannot hold; replace it first")
    limits = np.iinfo(dtype)
    # Casting the clipped float would overflow where the limit has no float64 (64-bit integers).
    inside = np.rint(np.clip(x, limits.min, np.nextafter(float(limits.max), 0)))
    return np.where(x >= limits.max, limits.max, inside.astype(dtype)).astype(dtype)


def to_gray(image: ArrayLike) -> np.ndarray:
    """Luma, 0.299 R + 0.587 G + 0.114 B, weighed in floating point and rounded once for integers.

    Args:
        image: `[H, W, C]`, C in {1, 3}; one channel passes through.

    Returns:
        `[H, W, 1]`, of the same dtype.

    References:
        Recommendation ITU-R BT.601.
    """
    image = _checked(image)
    if image.shape[-1] == 1:
        return image
    luma = image @ _BT601
    if np.issubdtype(image.dtype, np.integer):
        luma = np.rint(luma)
    return luma[..., None].astype(image.dtype)


def with_channels(image: ArrayLike, channels: int) -> np.ndarray:
    """Make an image gray (1, by `to_gray`) or colour (3, a gray one repeated).

    Args:
        image: `[H, W, C]`, C in {1, 3}.
        channels: 1 or 3.

    Returns:
        `[H, W, channels]`, of the same dtype.

    Raises:
        ValueError: `channels`, or the shape of `image`, is another.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels is {channels!r}; an image has 1 or 3")
    image = _checked(image)
    if channels == 1:
        return to_gray(image)
    return image if image.shape[-1] == 3 else np.repeat(image, 3, axis=-1)


def _checked(image: ArrayLike) -> np.ndarray:
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] not in (1, 3):
        raise ValueError(f"image has shape {image.shape}; expected [H, W, 1] or [H, W, 3]")
    return image


def _error(path: Path, reason: object) -> ImageError:
    return ImageError(f"{path}: {' '.join(str(reason).split())}")


def _check_size(path: Path, height: int, width: int) -> None:
    if height * width == 0:
        raise _error(path, f"the image is {height} x {width}: it has no pixels")
    if height * width > MAX_PIXELS:
        raise _error(path, f"the image is {height} x {width}: more than {MAX_PIXELS} pixels")


def _read_pillow(path: Path, formats: tuple[str, ...]) -> np.ndarray:
    if "PNG" in formats and _is_deep_colour_png(path):
        raise _error(
            path, "16-bit PNG with colour or alpha would be cut to 8 bits; save it as TIFF"
        )
    # An open file, not its name: by name, Pillow memory-maps an uncompressed TIFF and garbles a rotated one.
    with path.open("rb") as file:
        try:
            image = Image.open(file, formats=formats)
        except Image.UnidentifiedImageError as err:
            raise _error(path, f"the content is not {' or '.join(formats)}") from err
        _check_size(path, image.height, image.width)
        if image.mode not in _AS_MODE:
            raise _error(path, f"pixels of mode {image.mode!r} have no stated unit")
        image.load()
        mode = _AS_MODE[image.mode]
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
        upright = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return upright(pixels) if upright else pixels


def _is_deep_colour_png(path: Path) -> bool:
    # Behind the signature: length, "IHDR", width, height, bit depth (byte 24), colour type (25).
    with path.open("rb") as file:
        head = file.read(26)
    return len(head) == 26 and head[:8] == b"\x89PNG\r\n\x1a\n" and head[24] == 16 and head[25] != 0


def _read_tiff(path: Path) -> np.ndarray:
    try:
        tif = tifffile.TiffFile(path)
    except tifffile.TiffFileError as err:
        raise _error(path, f"the content is not TIFF ({err})") from err
    with tif:
        page = tif.pages[0].aspage()
        if len(tif.pages) != 1 or tif.series[0].size != page.size:
            raise _error(path, "holds several pages, or a stack; expected one image")
        _check_size(path, page.imagelength, page.imagewidth)
        if page.dtype in (np.bool_, np.uint8):  # Pillow knows more colour spaces and compressions
            return _read_pillow(path, ("TIFF",))
        _check_deep_page(path, page)
        pixels = page.asarray()
        upright = _UPRIGHT.get(page.tags.valueof(_ORIENTATION, 1))
    if page.axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    colours = pixels.shape[-1] - len(page.extrasamples)
    if colours not in (1, 3) or len(page.extrasamples) > 1:
        raise _error(
            path, f"has {pixels.shape[-1]} channels; expected gray or RGB, with alpha at most"
        )
    pixels = pixels[..., :colours]
    if pixels.dtype != np.uint16:
        with np.errstate(over="ignore"):
            pixels = pixels.astype(np.float32)
        if not np.isfinite(pixels).all():
            raise _error(path, "holds NaN or infinite values")
    return upright(pixels) if upright else pixels


def _check_deep_page(path: Path, page: tifffile.TiffPage) -> None:
    """Refuse what is neither plain 16-bit nor plain floating-point gray or RGB."""
    if page.dtype is None or (page.dtype != np.uint16 and page.dtype.kind != "f"):
        raise _error(path, f"pixels of dtype {page.dtype}; expected uint8, uint16 or floating")
    if page.bitspersample != 8 * page.dtype.itemsize:
        raise _error(path, f"{page.bitspersample}-bit samples; expected 8, 16 or 32 bits")
    if page.axes not in ("YX", "YXS", "SYX"):
        raise _error(path, f"axes {page.axes!r}; expected rows, columns and channels")
    if page.photometric not in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB):
        raise _error(path, f"{page.dtype} pixels in {page.photometric!r}; expected gray or RGB")


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
