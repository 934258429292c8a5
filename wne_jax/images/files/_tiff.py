"""TIFF: stacks of any rank, of integers and floats, with what the file and each of its pages say."""

import dataclasses
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from wne_jax._internal.extras import extra
from wne_jax.images._errors import image_error
from wne_jax.images.files._image import ALPHA_GUESSED, EXIF_LOST, ImageFile, check_axes
from wne_jax.images.files._tiff_metadata import (
    ASSOCIATED,
    UNASSOCIATED,
    check_ome,
    read_metadata,
    write_options,
)
from wne_jax.images.files._tiff_pages import write_pages
from wne_jax.images.files._tiff_pixels import read_pixels
from wne_jax.images.reading import TIFF
from wne_jax.images.tiff import check_ends, check_segments, open_tiff

with extra("images", "TIFF files"):
    import tifffile

SUFFIXES = TIFF


def read(path: Path, axes: str | None) -> ImageFile:
    """Map, or else decode, the one series of a TIFF."""
    flags, notes = _trusted(path)
    with open_tiff(path, **flags) as tif:
        notes += _check_structure(path, tif)
        pages = _pages(tif)
        if missing := check_segments(path, pages):
            notes.append(missing)
        pixels, names, alpha, more = read_pixels(path, tif, told=axes is not None)
        told = axes if axes is not None and axes != names else None
        kept, lost = read_metadata(tif, pages, told)
    if told is not None:
        check_axes(path, told, pixels.shape)
        names, more = told, ()
        alpha = None
        if "S" in names and pixels.shape[names.index("S")] in (2, 4):
            alpha, more = UNASSOCIATED, (ALPHA_GUESSED,)
    check_axes(path, names, pixels.shape)
    kept = dataclasses.replace(kept, premultiplied=alpha == ASSOCIATED)
    return ImageFile(path, pixels, names, alpha is not None, kept, (*notes, *more, *lost))


def fit(path: Path, image: ImageFile) -> ImageFile:
    """The same image with its axes in an order that pages can hold; a TIFF keeps its own."""
    if image.pixels.dtype.kind not in "uif" or image.pixels.dtype.itemsize > 8:
        raise image_error(path, f"TIFF cannot hold {image.pixels.dtype}; use .npy")
    own = (image.metadata.tiff.get("metadata") or {}).get("axes") == image.axes
    if not own and not image.axes.endswith(("YX", "YXS", "SYX")):
        stack = "".join(axis for axis in image.axes if axis not in "YXS")
        image = image.transposed(stack + "YX" + ("S" if "S" in image.axes else ""))
    return image.noting(EXIF_LOST) if image.metadata.exif else image


def create(aside: Path, image: ImageFile) -> np.ndarray:
    """A new file's array, to be filled; in memory where the file is to be compressed."""
    shape, dtype = image.pixels.shape, image.pixels.dtype.newbyteorder("=")
    if image.metadata.tiff.get("compression"):
        return np.empty(shape, dtype)
    with _untold():
        return tifffile.memmap(aside, shape=shape, dtype=dtype, **write_options(image))


def finish(aside: Path, path: Path, image: ImageFile, out: np.ndarray) -> None:
    """Write what is still in memory, and what each page says for itself."""
    if isinstance(out, np.memmap):
        out.flush()
    else:
        with _untold():
            tifffile.imwrite(aside, out, **write_options(image))
    if image.metadata.pages:
        write_pages(aside, image.metadata.pages)


@contextmanager
def _untold() -> Iterator[None]:
    """Without the word that stacks of ImageJ beyond 4 GB have one directory, by ImageJ's own convention."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*truncating ImageJ file")
        yield


def _trusted(path: Path) -> tuple[dict[str, bool], list[str]]:
    """Flags that leave a description unread which is of other images than there are, and a note on that."""
    with open_tiff(path) as tif:
        there = len(tif.pages)
        if tif.is_ome:
            elsewhere = check_ome(path, tif)
            if _described(tif):
                return {}, []
            kind, flag = "OME", "is_ome"
            if elsewhere:
                return {flag: False}, [elsewhere]
        elif tif.is_imagej and tif.series:
            series = tif.series[0]
            described = series.size // series.keyframe.size
            in_a_piece = there == 1 and series.dataoffset is not None
            if series.kind == "imagej" and (described == there or in_a_piece):
                return {}, []
            kind, flag = "ImageJ", "is_imagej"
        else:
            return {}, []
    note = f"its {kind} description is of other images than the {there} that there are, and is not kept"
    return {flag: False}, [note]


def _described(tif: tifffile.TiffFile) -> bool:
    """Whether an OME description has every page once, smaller copies aside."""
    found = sorted(page.index for series in tif.series for page in series if page is not None)
    pages = [page.index for page in tif.pages if not page.aspage().is_reduced]
    return all(series.kind == "ome" for series in tif.series) and found == pages


def _pages(tif: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """The pages of the first series, those that tifffile passes over for speed included."""
    series = tif.series[0]
    planes = series.size // series.keyframe.size
    skipped = len(series) < planes == len(tif.pages)
    pages: Any = tif.pages if skipped else series
    return [page.aspage() for page in pages]


def _check_structure(path: Path, tif: tifffile.TiffFile) -> list[str]:
    """Refuse what one array cannot stand for, and say what is left aside."""
    if len(tif.pages) == 0 or not tif.series:
        raise image_error(path, "holds no image")
    check_ends(path, tif)
    notes = []
    others = [s for s in tif.series[1:] if not s.keyframe.is_reduced]
    if others:
        shapes = " and ".join(str(s.shape) for s in (tif.series[0], *others[:2]))
        raise image_error(path, f"holds images of several kinds, {shapes}; split it first")
    if len(tif.series) > 1 or len(tif.series[0].levels) > 1:
        notes.append("its smaller copies (thumbnail, pyramid) are not kept")
    return notes
