"""The pixels of a TIFF as one array, mapped where they lie in a piece, else decoded."""

from importlib import util
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wne_jax._internal.extras import extra
from wne_jax._internal.limits import excess
from wne_jax.images._errors import check_size, image_error
from wne_jax.images.files._image import ALPHA_GUESSED
from wne_jax.images.files._pillow import decode
from wne_jax.images.files._tiff_metadata import UNASSOCIATED, has_bands
from wne_jax.images.reading import ORIENTATION, UPRIGHT, open_pillow

with extra("images", "TIFF files"):
    import tifffile

_MINISWHITE, _MINISBLACK, _RGB = 0, 1, 2
_NARROW = 16
"""Sides up to which the last axis of an array without names is rather channels than columns."""


class Pixels(NamedTuple):
    """The array, its axes, of which kind its last sample is if that is alpha, and notes."""

    array: np.ndarray
    axes: str
    alpha: int | None = None
    notes: tuple[str, ...] = ()


def read_pixels(path: Path, tif: tifffile.TiffFile, *, told: bool) -> Pixels:
    """Map, or else decode, the first series of a file.

    Args:
        path: The file.
        tif: It, open.
        told: Whether the caller knows the axes, which then need not be clear from the file.
    """
    series, page = tif.series[0], _checked_page(path, tif.series[0])
    whole = page.dtype.kind != "b" and page.bitspersample == 8 * page.dtype.itemsize
    if page.photometric not in (_MINISWHITE, _MINISBLACK, _RGB) or not whole:
        return _by_pillow(path, series, page)
    if series.dataoffset is not None and page.photometric != _MINISWHITE:
        array = _mapped(path, tif)
    else:
        check_size(path, page.imagelength, page.imagewidth)
        _check_claim(path, series.nbytes)
        try:
            array = series.asarray().reshape(series.shape)
        except (ImportError, ValueError) as err:
            if not isinstance(err, ImportError) and "imagecodecs" not in str(err):
                raise
            return _by_pillow(path, series, page)
    if page.photometric == _MINISWHITE:
        array = np.iinfo(array.dtype).max - array
    if "S" in series.axes:
        return _samples(array, _unique(series.axes), page)
    return _unnamed(path, array, series.axes, told=told)


def _checked_page(path: Path, series: tifffile.TiffPageSeries) -> Any:
    page = series.keyframe
    if page.imagelength * page.imagewidth == 0:
        check_size(path, page.imagelength, page.imagewidth)
    if page.dtype is None or page.dtype.kind not in "buif":
        raise image_error(path, f"holds pixels of dtype {page.dtype}; expected real numbers")
    if page.photometric == _MINISWHITE and page.dtype.kind not in "bu":
        raise image_error(path, f"holds {page.dtype} where the smallest is white; save it anew")
    return page


def _mapped(path: Path, tif: tifffile.TiffFile) -> np.ndarray:
    """A map of pixels that lie in one piece, where no page lies among them."""
    series, start, size = tif.series[0], tif.series[0].dataoffset or 0, path.stat().st_size
    end = start + series.nbytes
    if end > size:
        raise image_error(path, f"is cut off: it holds {size} bytes and claims {end}")
    if len(series) == 1 and any(start < page.offset < end for page in tif.pages):
        planes = series.size // series.keyframe.size
        raise image_error(path, f"claims {planes} planes, and has {len(tif.pages)}")
    dtype = series.dtype.newbyteorder(tif.byteorder)
    return np.memmap(path, dtype, "r", start, tuple(series.shape))


def _check_claim(path: Path, claimed: int) -> None:
    if reason := excess(claimed, path):
        raise image_error(path, f"{reason}; save it uncompressed, which is read piece by piece")


def _samples(array: np.ndarray, axes: str, page: Any) -> Pixels:
    """Pixels of several samples, the last of which is alpha if the file says so."""
    if not has_bands(page):
        alpha = int(page.extrasamples[0]) if page.extrasamples else None
        apart = "S" in axes[: axes.index("Y")]
        kind = "colour" if alpha is None else "colour with alpha, which is kept"
        planar = (
            f"its {page.samplesperpixel} planes are read as {kind}; for a stack give --axes ZYX"
        )
        return Pixels(array, axes, alpha, (planar,) if apart else ())
    note = (
        "what follows RGB in a pixel is not said to be alpha alone: bands, denoised by themselves"
    )
    return Pixels(array, axes, None, (note,) if page.photometric == _RGB else ())


def _unnamed(path: Path, array: np.ndarray, axes: str, *, told: bool) -> Pixels:
    """An array, whose axes a writer may not have named: three or four at the end are samples."""
    if told or "Q" not in axes or array.shape[-1] > _NARROW:
        return Pixels(array, _unique(axes))
    if array.ndim == 3 and array.shape[-1] in (1, 3, 4):
        alpha = UNASSOCIATED if array.shape[-1] == 4 else None
        return Pixels(array, "YXS", alpha, (ALPHA_GUESSED,) if alpha else ())
    raise image_error(
        path,
        f"an array of shape {array.shape} does not say what its axes are: use --axes (YXC or ZYX, say)",
    )


def _unique(axes: str) -> str:
    """Stack axes without a name are all Q to tifffile: other letters for all but the first."""
    free = iter("ABDEFGHIJKLMNOPRUVW")
    return "".join(
        next(a for a in free if a not in axes) if axis in axes[:i] else axis
        for i, axis in enumerate(axes)
    )


def _by_pillow(path: Path, series: tifffile.TiffPageSeries, page: Any) -> Pixels:
    """Palettes, CMYK, YCbCr, single bits, and the compressions that tifffile leaves to imagecodecs."""
    codec = f"{page.dtype} in {page.photometric.name} by {page.compression.name}"
    mend = "pip install imagecodecs; or save it uncompressed"
    if page.dtype not in (np.bool_, np.uint8) and not (
        page.dtype == np.uint16 and page.samplesperpixel == 1
    ):
        raise image_error(path, f"{codec} needs imagecodecs: {mend}")
    _check_claim(path, series.nbytes)
    try:
        frames = _frames(path, page.tags.valueof(ORIENTATION, 1))
    except OSError as err:  # of a decoder that Pillow does not have, or of damaged data
        if util.find_spec("imagecodecs") is not None:
            raise
        raise image_error(path, f"{codec} cannot be decoded by Pillow ({err}): {mend}") from err
    shapes = {(frame.shape, frame.dtype, alpha) for frame, alpha in frames}
    if len(shapes) > 1 or len(frames) != series.size // page.size:
        raise image_error(path, f"holds {len(frames)} images of several kinds; split it first")
    pixels, alpha = np.stack([frame for frame, _ in frames]), frames[0][1]
    kind = UNASSOCIATED if alpha else None  # Pillow divides by alpha
    axes = "YXS"[: pixels.ndim - 1]
    return Pixels(pixels[0], axes, kind) if len(frames) == 1 else Pixels(pixels, "I" + axes, kind)


def _frames(path: Path, turn: int) -> list[tuple[np.ndarray, bool]]:
    """Every image of a file as it is stored, and whether it has alpha.

    Pillow turns images upright, and metadata is about stored ones; quarter turns undo each other.
    """
    back = UPRIGHT.get({6: 8, 8: 6}.get(turn, turn), lambda a: a)
    frames = []
    with open_pillow(path, ("TIFF",)) as image:
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            colours, alpha = decode(image)
            frames.append((back(colours), alpha))
    return frames
